"""A grammar tried in a process of its own before the server compiles it: XGrammar's compiler cannot be stopped, and a
schema that takes it minutes to compile slows every step that has to follow it, too.

One process waits with the tokenizer at hand and forks for each trial, so that a trial begins at once, and its end, also
by a crash, touches nobody. What was compiled stays there: as text it would be up to 40 times as large as in memory.
"""

import asyncio
import json
import os
import pickle
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable

import torch

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.grammar import Grammars, Matcher, name_of
from troth.serve.engine.sampling_params import Grammar

MOST_SECONDS = 5
"""Of a processor, for compiling a grammar and writing a text of `TEXT_TOKENS` by it."""
TEXT_TOKENS = 100
_AT_ONCE, _REMEMBERED, _NICE = 4, 64, 5


class Rehearsals:
    """Trials of grammars for one tokenizer; the process that makes them starts with the first."""

    def __init__(self, tokenizer: Tokenizer, end_tokens: Iterable[int]):
        self._known = tokenizer, sorted(end_tokens)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket
        self._refused: OrderedDict[Grammar, str] = OrderedDict()
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, grammar: Grammar) -> None:
        """Return where a grammar can be compiled and followed within `MOST_SECONDS`. A cancelled trial ends at once.

        Raises ValueError naming the part that is no schema, or one that is too large; RuntimeError where no trial can
        be made.
        """
        if grammar in self._refused:
            raise ValueError(self._refused[grammar])
        async with self._room:
            said = await self._ask(grammar.model_dump_json().encode() + b"\n")
            if not said and not self._alive:  # whoever ended the process, another one can be had
                said = await self._ask(grammar.model_dump_json().encode() + b"\n")
        if not said and not self._alive:
            raise RuntimeError("schemas cannot be tried: the process for that ends by itself")
        error = json.loads(said) if said else (
            f"{name_of(grammar)}: too large: it cannot be compiled and followed for {TEXT_TOKENS} tokens in "
            f"{MOST_SECONDS} s; fewer optional keys, choices and limits of length help"
        )  # fmt: skip
        if error is not None:
            self._refused[grammar] = error
            if len(self._refused) > _REMEMBERED:
                self._refused.popitem(last=False)
            raise ValueError(error)

    async def _ask(self, line: bytes) -> bytes:
        if not self._alive:
            self._start()
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"."], [theirs.fileno()])
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            writer.write(line)
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    @property
    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as known:
            pickle.dump(self._known, known)
            known.seek(0)
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())], stdin=known, pass_fds=[theirs.fileno()],
                start_new_session=True,
            )  # fmt: skip
        weakref.finalize(self, _end, self._process, self._control)


def _end(process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
    control.close()
    process.kill()
    process.wait()


def _serve(control: socket.socket) -> None:
    """Fork for each connection that comes over `control`, until its other end is closed."""
    tokenizer, ends = pickle.load(sys.stdin.buffer)
    grammars = Grammars(tokenizer, ends)
    grammars.warm()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while found := socket.recv_fds(control, 1, 1)[1]:
        with socket.socket(fileno=found[0]) as asker:
            if os.fork() == 0:
                try:
                    _try(grammars, asker)
                finally:
                    os._exit(0)


def _try(grammars: Grammars, asker: socket.socket) -> None:
    """Answer with JSON text, what is wrong or null; the system ends the process before that where it takes too long."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    os.nice(_NICE)
    line = asker.makefile("rb").readline()

    def leave_with_asker() -> None:
        asker.recv(1)
        os._exit(0)

    threading.Thread(target=leave_with_asker, daemon=True).start()
    error = None
    try:
        grammar = Grammar.model_validate_json(line)
        _write(name_of(grammar), grammars.matcher(grammar), grammars.vocab_size)
    except ValueError as wrong:
        error = str(wrong)
    asker.sendall(json.dumps(error).encode())


def _write(name: str, matcher: Matcher, vocab_size: int) -> None:
    """A random text. Raises ValueError where it cannot go on."""
    torch.set_num_threads(1)
    chance = random.Random(0)
    for _ in range(TEXT_TOKENS):
        logits_V = torch.zeros(vocab_size)
        matcher.mask(logits_V)
        allowed = logits_V.isfinite().nonzero()[:, 0].tolist()
        if not allowed:
            raise ValueError(f"{name}: there are texts that begin by it and cannot end by it")
        matcher.take(chance.choice(allowed))
        if matcher.complete:
            return


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
