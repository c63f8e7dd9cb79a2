"""Code that must run: `>>>` examples print what the text says they print (as Python's doctest has it), asserts hold.

Both are run twice with different seeds of hashing; what differs between the runs is not judged, nor is anything after
an error that may come from a missing library, another version, or the sandbox itself.
"""

import ast
import doctest
import math
import re
from collections.abc import Iterator

from troth.curate.validate.verifiers.exact import Checked, agree, differ
from troth.curate.validate.verifiers.sandbox import Ran, Sandbox
from troth.curate.validate.verifiers.sandboxed import examples_of

_FENCED = re.compile(
    r"^(?P<fence>```+|~~~+)[ \t]*(?:python3?|py)[^\n]*\n(?P<code>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL
)
_SEEDS = 1, 2
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+|<[^>]* object|\b\d{4}-\d\d-\d\d")


def code_findings(text: str, sandbox: Sandbox) -> Iterator[Checked]:
    """What the examples and asserts of a document come to. Raises ValueError where nothing can be run safely."""
    if ">>> " in text:
        yield from _examples(text, sandbox)
    if "assert " in text:
        program = _parse(text)
        if program is not None:
            yield from _asserts(text, 0, program, sandbox)
        else:
            for match in _FENCED.finditer(text):
                inside = _parse(match["code"])
                if inside is not None and ">>> " not in match["code"]:
                    yield from _asserts(match["code"], match.start("code"), inside, sandbox)


def _examples(text: str, sandbox: Sandbox) -> Iterator[Checked]:
    try:
        examples = examples_of(text)
    except ValueError:
        return
    is_program = _parse(text) is not None
    runs = [sandbox.run(text, "examples", seed) for seed in _SEEDS]
    if not examples or None in runs:
        return
    starts = _line_starts(text)
    for example, *ran in zip(examples, *(run or [] for run in runs), strict=False):
        first, second = ran
        if not example.exc_msg and (first.failed or second.failed):
            return
        if is_program and "\\" in example.source + example.want:
            return  # It means one thing here and may mean another in its docstring.
        if not example.want or example.options.get(doctest.SKIP) or first != second:
            continue
        line = example.lineno + example.source.count("\n")
        past = line + example.want.count("\n")
        piece = text[starts[line] : starts[past] if past < len(starts) else len(text)]
        start = starts[line] + len(piece) - len(piece.lstrip())
        yield from _judged(example, first, start, starts[line] + len(piece.rstrip()))


def _judged(example: doctest.Example, ran: Ran, start: int, end: int) -> Iterator[Checked]:
    code = example.source.strip()
    if example.exc_msg:
        if ran.failed.partition(":")[0] == example.exc_msg.partition(":")[0].strip():
            yield agree(start, end, f"{code} raises {ran.failed}")
    elif ran.same or _alike(example.want, ran.got):
        yield agree(start, end, f"{code} prints this")
    elif ran.got.strip() and not _ADDRESS.search(ran.got + example.want):
        yield differ(start, end, ran.got.rstrip("\n"), f"{code} prints {ran.got.strip()}")


def _asserts(code: str, at: int, program: ast.Module, sandbox: Sandbox) -> Iterator[Checked]:
    asserts = {node.lineno - 1: node for node in program.body if isinstance(node, ast.Assert)}
    if not asserts:
        return
    first, second = (sandbox.run(code, "program", seed) for seed in _SEEDS)
    if not first or first != second:
        return
    ran, starts = first[0], _line_starts(code)
    failed_at = ran.line if ran.failed else len(starts)
    for line, node in asserts.items():
        last = (node.end_lineno or node.lineno) - 1
        start = at + starts[line]
        end = at + starts[last] + len(code[starts[last] :].partition("\n")[0])
        if line < failed_at:
            yield agree(start, end, "the assertion holds")
        elif line == failed_at and ran.failed.startswith("AssertionError"):
            yield differ(start, end, "", "the assertion fails", 0.9)


def _parse(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


def _alike(want: str, got: str) -> bool:
    """The same value written in another way: another order of a set, another precision of a float."""
    try:
        first, second = ast.literal_eval(want.strip()), ast.literal_eval(got.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    if isinstance(first, float) and isinstance(second, int | float):
        return math.isclose(first, second, rel_tol=1e-6)
    return bool(first == second)
