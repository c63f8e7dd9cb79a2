"""Arrays from the pickles of Grok-1's release (xai-org/grok-1, checkpoint.py), read as data.

A pickle is a program, and an unpickler runs it. This reader knows the few instructions that spell an array or a
quantised weight, has nothing in it that could be called, and refuses every other instruction and name. What the
instructions mean: Python's pickletools.
"""

import mmap
import pickle  # for the names of the instructions; nothing is loaded with it
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from troth.model.families.arrays import Array, Quantised

_MOST_STEPS = 1000
"""A quantised weight takes about a hundred instructions."""
_MARK = object()
_OPCODES = {code.code: code.name for code in pickletools.opcodes}
_NAMES = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("ml_dtypes", "bfloat16"): "bfloat16",
    ("__main__", "QuantizedWeight8bit"): "quantised",
    ("model", "QuantizedWeight8bit"): "quantised",
}
"""All that a pickle may ask for by name. Each is a word here, and stays one."""
_DTYPES = {"f4": torch.float32, "i1": torch.int8}
_WIDTH = {
    pickle.BININT1: 1, pickle.BININT2: 2, pickle.SHORT_BINUNICODE: 1, pickle.BINUNICODE: 4,
    pickle.SHORT_BINBYTES: 1, pickle.BINBYTES: 4, pickle.BINBYTES8: 8,
    pickle.BINPUT: 1, pickle.LONG_BINPUT: 4, pickle.BINGET: 1, pickle.LONG_BINGET: 4,
}  # fmt: skip
"""Bytes of the number that follows an instruction: a value, a length or a place in the memo."""


def read_array(path: Path) -> Array | Quantised:
    """What the pickle at `path` holds. Only its instructions are read; numbers are read when they are used.

    Raises ValueError naming the file and what in it does not belong to an array, or that it ends early.
    """
    try:
        with path.open("rb") as file:
            # A private copy that is never written: torch asks for memory that could be.
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        return _Reader(data).read()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


@dataclass(frozen=True)
class _Name:
    word: str


@dataclass(eq=False)
class _Made:
    """An object that the pickle has begun to make; `value` is there once it is complete."""

    word: str
    value: Any = None


class _Reader:
    def __init__(self, data: memoryview):
        self._data, self._at = data, 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> Array | Quantised:
        for _ in range(_MOST_STEPS):
            opcode = bytes(self._take(1))
            if opcode == pickle.STOP:
                break
            self._step(opcode)
        else:
            raise ValueError("holds more than an array")
        made = self._pop()
        held = made.value if isinstance(made, _Made) else None
        if self._stack or self._at != len(self._data) or not isinstance(held, Array | Quantised):
            raise ValueError("does not hold an array, or not an array alone")
        return held

    def _step(self, opcode: bytes) -> None:
        match opcode:
            case pickle.PROTO:
                self._expect(self._number(1) <= 4, "a pickle of a protocol above 4")
            case pickle.FRAME:
                self._number(8)
            case pickle.MARK:
                self._stack.append(_MARK)
            case pickle.NONE:
                self._stack.append(None)
            case pickle.NEWTRUE | pickle.NEWFALSE:
                self._stack.append(opcode == pickle.NEWTRUE)
            case pickle.BININT1 | pickle.BININT2:
                self._stack.append(self._number(_WIDTH[opcode]))
            case pickle.BININT:
                self._stack.append(self._number(4, signed=True))
            case pickle.SHORT_BINUNICODE | pickle.BINUNICODE:
                self._stack.append(self._text(self._number(_WIDTH[opcode])))
            case pickle.SHORT_BINBYTES | pickle.BINBYTES | pickle.BINBYTES8:
                self._stack.append(self._take(self._number(_WIDTH[opcode])))
            case pickle.EMPTY_TUPLE:
                self._stack.append(())
            case pickle.TUPLE1 | pickle.TUPLE2 | pickle.TUPLE3:
                self._stack.append(self._last(1 + opcode[0] - pickle.TUPLE1[0]))
            case pickle.TUPLE:
                self._stack.append(self._marked())
            case pickle.EMPTY_DICT:
                self._stack.append({})
            case pickle.SETITEM:
                self._set(self._last(2))
            case pickle.SETITEMS:
                self._set(self._marked())
            case pickle.MEMOIZE:
                self._memo[len(self._memo)] = self._top()
            case pickle.BINPUT | pickle.LONG_BINPUT:
                self._memo[self._number(_WIDTH[opcode])] = self._top()
            case pickle.BINGET | pickle.LONG_BINGET:
                self._recall(self._number(_WIDTH[opcode]))
            case pickle.GLOBAL:
                self._name(self._line(), self._line())
            case pickle.STACK_GLOBAL:
                self._name(*self._last(2))
            case pickle.REDUCE:
                self._stack.append(_called(*self._last(2)))
            case pickle.NEWOBJ:
                name, arguments = self._last(2)
                self._expect(name == _Name("quantised") and arguments == (), "an object that is no weight")
                self._stack.append(_Made("quantised"))
            case pickle.BUILD:
                state = self._pop()
                _complete(self._top(), state)
            case _:
                known = _OPCODES.get(opcode.decode("latin-1"), ascii(opcode))
                raise ValueError(f"instruction {known} at byte {self._at - 1} has no place in an array")

    def _take(self, size: int) -> memoryview:
        end = self._at + size
        self._expect(end <= len(self._data), "ends early")
        taken, self._at = self._data[self._at : end], end
        return taken

    def _number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "little", signed=signed)

    def _text(self, size: int) -> str:
        self._expect(size < 256, "a long text")
        return bytes(self._take(size)).decode()

    def _line(self) -> str:
        size = bytes(self._data[self._at : self._at + 256]).find(b"\n")
        self._expect(size >= 0, "a long name, or none")
        return bytes(self._take(size + 1))[:-1].decode()

    def _pop(self) -> Any:
        return self._last(1)[0]

    def _top(self) -> Any:
        self._expect(bool(self._stack), "an instruction without an object")
        return self._stack[-1]

    def _last(self, count: int) -> tuple[Any, ...]:
        values = tuple(self._stack[-count:])
        self._expect(len(values) == count and _MARK not in values, "an instruction without its objects")
        del self._stack[-count:]
        return values

    def _marked(self) -> tuple[Any, ...]:
        values: list[Any] = []
        while self._top() is not _MARK:
            values.append(self._stack.pop())
        self._stack.pop()
        return tuple(reversed(values))

    def _set(self, items: tuple[Any, ...]) -> None:
        target, keys = self._top(), items[::2]
        self._expect(isinstance(target, dict) and len(items) % 2 == 0, "items of no dictionary")
        self._expect(all(isinstance(key, str) for key in keys), "keys that are no text")
        target.update(zip(keys, items[1::2], strict=True))

    def _recall(self, index: int) -> None:
        self._expect(index in self._memo, "an object that was not kept")
        self._stack.append(self._memo[index])

    def _name(self, module: Any, name: Any) -> None:
        self._expect(isinstance(module, str) and isinstance(name, str), "a name that is no text")
        word = _NAMES.get((module, name))
        if word is None:
            asked = ascii(f"{module}.{name}")
            raise ValueError(f"asks for {asked}, which has no place in an array; nothing of the file was run")
        self._stack.append(_Name(word))

    def _expect(self, true: bool, told: str) -> None:
        if not true:
            raise ValueError(f"{told}, at byte {self._at}")


def _called(name: Any, arguments: Any) -> _Made:
    """What one of the two known calls would return: an empty array, or a type of numbers."""
    match name, arguments:
        case _Name("reconstruct"), (_Name("ndarray"), (0,), memoryview()):
            return _Made("array")
        case _Name("dtype"), (_Name("bfloat16"), False, True):
            return _Made("dtype", torch.bfloat16)
        case _Name("dtype"), (str(code), False, True) if code in _DTYPES:
            return _Made("dtype", _DTYPES[code])
        case _Name("dtype"), (str(code), *_):
            raise ValueError(f"numbers of type {code!a}: only {', '.join(_DTYPES)} and bfloat16 are known")
    raise ValueError("a call that makes no array")


def _complete(made: Any, state: Any) -> None:
    """Give an object that was begun its state, as its class would have."""
    match made, state:
        case _Made("array", None), (1, tuple(shape), _Made("dtype", dtype), False, memoryview() as data):
            made.value = Array(shape, dtype, data)
        case _Made("dtype"), (3, "<" | "|", None, None, None, int(), int(), int()):
            pass
        case _Made("quantised", None), {"weight": _Made("array", Array()), "scales": _Made("array", Array())}:
            if len(state) != 2:
                raise ValueError("a weight with more than numbers and scales")
            made.value = Quantised(state["weight"].value, state["scales"].value)
        case _:
            raise ValueError("an object that is neither an array nor a weight")
