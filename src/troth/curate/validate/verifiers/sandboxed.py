"""Runs inside the sandbox, as a script of its own that needs nothing but the standard library.

It takes away what it can reach (namespaces(7), pivot_root(2), setrlimit(2), seccomp(2)), then runs pieces of code and
writes what came of them as JSON to the descriptor that it was started with.
"""

import ctypes
import doctest
import io
import json
import os
import platform
import re
import resource
import signal
import struct
import sys
import sysconfig
import traceback
from typing import Any

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_NUMBERS = {  # pivot_root and what seccomp refuses, by machine: asm/unistd.h
    "x86_64": (155, 0xC000003E, {
        "socket": 41, "socketpair": 53, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101, "mount": 165,
        "umount2": 166, "unshare": 272, "setns": 308, "execveat": 322, "bpf": 321, "keyctl": 250, "add_key": 248,
        "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425, "clone3": 435, "open_by_handle_at": 304,
        "process_vm_readv": 310, "process_vm_writev": 311, "tkill": 200, "pivot_root": 155, "chroot": 161,
        "init_module": 175, "finit_module": 313, "kexec_load": 246, "memfd_create": 319, "pidfd_open": 434,
        "mount_setattr": 442,
    }, 56),
    "aarch64": (41, 0xC00000B7, {
        "socket": 198, "socketpair": 199, "execve": 221, "kill": 129, "ptrace": 117, "mount": 40, "umount2": 39,
        "unshare": 97, "setns": 268, "execveat": 281, "bpf": 280, "keyctl": 219, "add_key": 217, "perf_event_open": 241,
        "userfaultfd": 282, "io_uring_setup": 425, "clone3": 435, "open_by_handle_at": 265, "process_vm_readv": 270,
        "process_vm_writev": 271, "tkill": 130, "pivot_root": 41, "chroot": 51, "init_module": 105, "finit_module": 273,
        "kexec_load": 104, "memfd_create": 279, "pidfd_open": 434, "mount_setattr": 442,
    }, 220),
}  # fmt: skip
_CLONE_THREAD = 0x10000
_SCRATCH = "size=8m,mode=777"


def isolate(limits: dict[str, int], root: str) -> None:
    """Leave nothing within reach but the standard library, read-only, and an empty folder. Raises OSError where the
    system refuses. Returns in a child that is the first process of its own namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    _check(libc.unshare(_NEWUSER | _NEWNS | _NEWNET | _NEWIPC | _NEWUTS | _NEWPID), "unshare")
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/self/{file}", "w", encoding="ascii") as out:
            out.write(text)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: dies with the process that started it.
    _shut_in(libc, root)
    limit(limits)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    _drop_capabilities(libc)
    _refuse_calls(libc)


def _shut_in(libc: Any, root: str) -> None:
    """A root file system in memory with the interpreter's own files, read-only, and nothing else."""
    mount = libc.mount
    mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    _check(mount(None, b"/", None, _REC | _PRIVATE, None), "mount")
    _check(mount(b"tmpfs", root.encode(), b"tmpfs", _NOSUID | _NODEV, b"size=1m"), "mount")
    for folder in _needed():
        place = root + folder
        os.makedirs(place, exist_ok=True)
        _check(mount(folder.encode(), place.encode(), None, _BIND, None), "mount")
        _check(mount(None, place.encode(), None, _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV, None), "mount")
    for folder in ("old", "work"):
        os.mkdir(f"{root}/{folder}")
    _check(mount(b"tmpfs", f"{root}/work".encode(), b"tmpfs", _NOSUID | _NODEV, _SCRATCH.encode()), "mount")
    pivot_root = _NUMBERS[platform.machine()][0]
    _check(libc.syscall(pivot_root, root.encode(), f"{root}/old".encode()), "pivot_root")
    os.chdir("/work")
    _check(libc.umount2(b"/old", 2), "umount")
    _check(mount(None, b"/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV, None), "mount")


def _needed() -> list[str]:
    """The standard library, and the folders of the shared objects that it may load."""
    paths = sysconfig.get_paths()
    found = {os.path.realpath(paths["stdlib"]), os.path.realpath(paths["platstdlib"])}
    found |= {path for path in ("/lib", "/lib64", "/usr/lib", "/usr/lib64") if os.path.isdir(path)}
    return sorted(found)


def limit(limits: dict[str, int]) -> None:
    """Bounds on processor seconds, bytes of memory and of files, open files."""
    for name, value in (
        ("CPU", limits["seconds"]), ("AS", limits["memory"]), ("FSIZE", 1 << 20), ("NOFILE", 64), ("CORE", 0),
    ):  # fmt: skip
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (bound, bound))
        except ValueError:  # macOS knows no bound of memory.
            continue


def _drop_capabilities(libc: Any) -> None:
    header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    _check(libc.capset(header, nothing), "capset")


def _refuse_calls(libc: Any) -> None:
    """A seccomp filter: no sockets, no new processes, no other programs, no way back to the file system outside."""
    _, machine, numbers, clone = _NUMBERS[platform.machine()]
    load, equal, above, both, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, missing, kill = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38, 0x80000000
    rules = [
        (load, 0, 0, 4), (equal, 1, 0, machine), (give, 0, 0, kill),
        (load, 0, 0, 0), (above, 0, 1, 0x40000000), (give, 0, 0, kill),  # The other table of x86.
        (equal, 0, 4, clone), (load, 0, 0, 16), (both, 1, 0, _CLONE_THREAD), (give, 0, 0, refuse), (load, 0, 0, 0),
    ]  # fmt: skip
    for name, number in numbers.items():
        rules += [(equal, 0, 1, number), (give, 0, 0, missing if name == "clone3" else refuse)]
    rules.append((give, 0, 0, allow))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("rules", ctypes.c_void_p))

    program = Program(len(rules), ctypes.addressof(code))
    _check(libc.prctl(22, 2, ctypes.byref(program), 0, 0), "seccomp")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def examples_of(text: str) -> list[doctest.Example]:
    """The `>>>` examples of a text. Raises ValueError where their prompts or indents are not doctest's.

    In the source of a program, what an example prints ends where its docstring does.
    """
    masked = re.sub(r"^[ \t]*(?:\"{3}|'{3})[ \t]*$", lambda match: " " * len(match.group()), text, flags=re.MULTILINE)
    return doctest.DocTestParser().get_examples(masked)


def run_examples(source: str, output: int) -> list[dict[str, Any]]:
    """Run `>>>` examples one after another: what each printed, or the exception that it raised. Where the whole text is
    a program, it runs first, so that its examples know what it defines."""
    results = []
    names: dict[str, Any] = {"__name__": "examples"}
    try:
        program = compile(source, "<program>", "exec")
    except (SyntaxError, ValueError):
        program = None
    if program is not None:
        sys.stdout = io.StringIO()
        exec(program, names)
        sys.stdout = sys.__stdout__
    for example in examples_of(source):
        caught = io.StringIO()
        sys.stdout = caught
        failed = ""
        try:
            exec(compile(example.source, "<example>", "single"), names)
        except BaseException as error:
            failed = traceback.format_exception_only(error)[-1].strip()[:output]
        finally:
            sys.stdout = sys.__stdout__
        got = caught.getvalue()
        same = doctest.OutputChecker().check_output(example.want, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        results.append({"line": example.lineno, "got": got[:output], "failed": failed, "same": same})
        if len(got) > output:
            break
    return results


def run_program(source: str, output: int) -> list[dict[str, Any]]:
    """Run a program; the line and the words of the exception that ended it."""
    sys.stdout = io.StringIO()
    line, failed = -1, ""
    try:
        exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})
    except BaseException as error:
        failed = traceback.format_exception_only(error)[-1].strip()[:output]
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<program>"]
        line = (frames[0].lineno or 0) - 1 if frames else -1
    finally:
        sys.stdout = sys.__stdout__
    return [{"line": line, "got": "", "failed": failed, "same": not failed}]


def main() -> None:
    """Read the task from standard input, write the result to the descriptor that the arguments name."""
    result = os.fdopen(int(sys.argv[1]), "w")
    task = json.load(sys.stdin)
    try:
        if task["isolated"]:
            isolate(task["limits"], task["root"])
        else:
            limit(task["limits"])
    except OSError as error:
        json.dump({"refused": str(error)}, result)
        result.flush()
        os._exit(3)
    run = run_examples if task["kind"] == "examples" else run_program
    json.dump({"results": run(task["source"], task["limits"]["output"])}, result)
    result.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
