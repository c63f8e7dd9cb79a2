"""gpt-oss's messages, told as one text (OpenAI's "harmony" format, https://github.com/openai/harmony).

An answer there is several messages: reasoning on the channel `analysis`, the answer on `final`, calls of functions on
`commentary`, each between special tokens, with its channel and receiver in a header.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.sampling_params import Told

START, CHANNEL, CONSTRAIN, MESSAGE, END = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>"
ENDS = "<|return|>", "<|call|>"
"""What ends an answer, and a call; `END` ends a message that another follows."""
MARKS = (START, CHANNEL, CONSTRAIN, MESSAGE, END, *ENDS)
_BEGINS = "assistant to="
_RECEIVER = re.compile(r"\bto=functions\.([\w.-]+)")


def has_channels(special: Mapping[str, int]) -> bool:
    """Whether a tokenizer has the special tokens of such messages."""
    return all(mark in special for mark in MARKS)


def ends_on_channels(ends: frozenset[int], special: Mapping[str, int]) -> frozenset[int]:
    """End tokens that are right for such messages too, where the tokenizer has them: not all folders name them all."""
    if not has_channels(special):
        return ends
    return ends - {special[END]} | {special[mark] for mark in ENDS}


class OneText:
    """The text of an answer, token by token; where it stands when it begins follows from its `prompt`."""

    def __init__(self, tokenizer: Tokenizer, told: Told, prompt: Sequence[int]):
        self._marks = {tokenizer.special[mark]: mark for mark in MARKS}
        self._told = told
        self._header = ""
        self._kind: str | None = None
        self._thinking, self._thought_before = True, False
        start = tokenizer.special[START]
        begun = prompt[::-1].index(start) if start in prompt else 0
        for token in prompt[len(prompt) - begun :]:
            self.take(token, tokenizer.decode_bytes([token]))

    def take(self, token: int, data: bytes) -> bytes:
        """What a token adds to the text, of which `data` are the bytes; nothing while it belongs to a header."""
        mark = self._marks.get(token)
        if self._kind is None:
            if mark == MESSAGE:
                return self._open().encode()
            self._header = "" if mark == START else self._header + (mark or data.decode("utf-8", "replace"))
            if mark or CHANNEL in self._header or self._header[: len(_BEGINS)] == _BEGINS[: len(self._header)]:
                return b""
            # No header: a model that was not trained to write any.
            self._kind = "final"
            return (self._thought() + self._header.removeprefix("assistant")).encode()
        if mark is None:
            return data
        ended, self._kind, self._header = self._kind, None, ""
        return self._told.call_end.encode() if ended == "call" else b""

    def close(self) -> bytes:
        """Nothing is held back."""
        return b""

    def _open(self) -> str:
        receiver = _RECEIVER.search(self._header) if self._told.call else None
        if receiver is not None:
            self._kind = "call"
            return self._thought() + self._told.call + json.dumps(receiver[1]) + self._told.arguments
        if f"{CHANNEL}final" in self._header:
            self._kind = "final"
            return self._thought()
        # What goes to no function of the request, too, is part of how the model came to its answer.
        self._kind = "analysis"
        again, self._thought_before = self._thought_before, True
        return "\n\n" if again else ""

    def _thought(self) -> str:
        thinking, self._thinking = self._thinking, False
        return self._told.thought if thinking else ""


def messages(
    special: Mapping[str, int], silent: Collection[int], value: dict[str, Any] | None,
    calls: Mapping[str, dict[str, Any]], forced: bool,
) -> dict[str, Any]:  # fmt: skip
    """XGrammar's description of what may follow `<|start|>assistant`: reasoning, then an answer, which is a `value` if
    one is given, or one of `calls`, by the functions' names; with `forced`, a call. No text has `silent` tokens."""

    def token(mark: str) -> dict[str, Any]:
        return {"type": "token", "token": special[mark]}

    def written(text: str) -> dict[str, Any]:
        return {"type": "const_string", "value": text}

    def row(*elements: dict[str, Any]) -> dict[str, Any]:
        return {"type": "sequence", "elements": list(elements)}

    def one_of(*elements: dict[str, Any]) -> dict[str, Any]:
        return {"type": "or", "elements": list(elements)}

    def maybe(element: dict[str, Any]) -> dict[str, Any]:
        return {"type": "optional", "content": element}

    plain = {"type": "any_tokens", "exclude_tokens": sorted(silent)}
    thought = row(
        token(CHANNEL), one_of(written("analysis"), written("commentary")), token(MESSAGE), plain, token(END),
        token(START), written("assistant"),
    )  # fmt: skip
    last = [] if forced else [row(token(CHANNEL), written("final"), token(MESSAGE), value or plain)]
    form = row(
        one_of(row(written(" "), maybe(token(CONSTRAIN))), token(CONSTRAIN)), written("json"), token(MESSAGE)
    )  # fmt: skip
    for name, arguments in calls.items():
        receiver = written(f" to=functions.{name}")
        last += [
            row(token(CHANNEL), written("commentary"), receiver, form, arguments),
            row(receiver, token(CHANNEL), written("commentary"), form, arguments),
        ]
    return row({"type": "star", "content": thought}, one_of(*last))
