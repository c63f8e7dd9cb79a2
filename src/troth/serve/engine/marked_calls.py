"""Calls of functions between marks, as DeepSeek-V3, Kimi-K2 and Mistral write them, told as JSON.

Their forms differ in the texts around names and arguments only, which their chat templates show. A mark that is a token
of its own is meant as such: however else its letters come about, they are text.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.json_object import JsonObject
from troth.serve.engine.sampling_params import Form, Grammar, Reasoning, Told
from troth.serve.engine.text_stream import overlap
from troth.serve.engine.thoughts import Thoughts

Pieces = tuple[str | re.Pattern[str], ...]
"""Fixed texts, and what a model fills in that nobody has to know."""


@dataclass(frozen=True)
class Marks:
    """One form: `begin` stands before all calls and nowhere else, then `opening`; each call is `call`, its name,
    `naming`, its arguments and `end`; `between` two of them; `close` behind all. A template that has all of `known`
    in it writes this form."""

    known: tuple[str, ...]
    begin: str
    call: str
    naming: Pieces
    end: Pieces
    opening: Pieces = ()
    between: str = ""
    close: str = ""


_SECTION, _SECTION_END, _CALL, _CALL_END, _SEP = _DEEPSEEK = tuple(
    f"<\uff5ctool\u2581{name}\uff5c>"
    for name in ("calls\u2581begin", "calls\u2581end", "call\u2581begin", "call\u2581end", "sep")
)
_KIMI_SECTION, _KIMI_SECTION_END, _KIMI_CALL, _KIMI_CALL_END, _KIMI_ARGUMENTS = _KIMI = tuple(
    f"<|tool_{name}|>"
    for name in ("calls_section_begin", "calls_section_end", "call_begin", "call_end", "call_argument_begin")
)
_CALLS, _CALL_ID, _ARGS = _MISTRAL = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
MARKS = (*_DEEPSEEK, *_KIMI, *_MISTRAL)
_MARK = re.compile("|".join(map(re.escape, MARKS)))
_ID = re.compile(r"[a-zA-Z0-9]{9}")
FORMS: Mapping[Form, Marks] = {
    "deepseek_v3": Marks(
        (_SEP, "```json"), _SECTION, f"{_CALL}function{_SEP}", ("\n```json\n",), (f"\n```{_CALL_END}",),
        between="\n", close=_SECTION_END,
    ),
    "deepseek_v31": Marks((_SEP,), _SECTION, _CALL, (_SEP,), (_CALL_END,), close=_SECTION_END),
    "kimi_k2": Marks(
        (_KIMI_ARGUMENTS,), _KIMI_SECTION, f"{_KIMI_CALL}functions.",
        (":", re.compile(r"[0-9]{1,4}"), _KIMI_ARGUMENTS), (_KIMI_CALL_END,), close=_KIMI_SECTION_END,
    ),
    "mistral_ids": Marks(_MISTRAL, _CALLS, "", (_CALL_ID, _ID, _ARGS), (), between=_CALLS),
    "mistral_args": Marks((_CALLS, _ARGS), _CALLS, "", (_ARGS,), (), between=_CALLS),
    "mistral": Marks(
        (_CALLS,), _CALLS, '{"name": "', ('", "arguments": ',), (re.compile(rf'(, "id": "{_ID.pattern}")?'), "}"),
        opening=(re.compile(" ?"), "["), between=", ", close="]",
    ),
}  # fmt: skip


def form_in(source: str) -> Form | None:
    """The form that a chat template writes calls in, if it is one of these; the strictest comes first."""
    return next((form for form, marks in FORMS.items() if all(mark in source for mark in marks.known)), None)


def mark_tokens(special: Mapping[str, int]) -> dict[int, str]:
    """The marks that are tokens of a tokenizer."""
    return {special[text]: text for text in MARKS if text in special}


class MarkedCalls:
    """The text of an answer, token by token. A grammar holds its calls, but not its `reasoning`, which stays as it is;
    so does text that only looks like a mark."""

    def __init__(self, tokenizer: Tokenizer, told: Told, grammar: Grammar, reasoning: Reasoning | None = None):
        marks = FORMS[grammar.form]
        self._told = told
        self._thoughts = Thoughts(reasoning)
        self._tokens = mark_tokens(tokenizer.special)
        self._begin = marks.begin.encode()
        self._begins = tokenizer.special.get(marks.begin)
        names = "|".join(re.escape(tag.name) for tag in grammar.tags)
        self._header = re.compile(f"{re.escape(marks.call)}({names}){''.join(map(_pattern, marks.naming))}".encode())
        self._held = b""
        self._calling = False
        self._arguments: JsonObject | None = None

    def take(self, token: int, data: bytes) -> bytes:
        """What more of the text is certain."""
        text, behind = self._thoughts.split(data)
        if not self._thoughts.over:
            return text
        if token == self._begins and not self._calling:
            text, self._held, self._calling = text + self._held, b"", True
            return text
        self._held += self._tokens[token].encode() if token in self._tokens and self._calling else behind
        while (more := self._in_call() if self._calling else self._outside()) is not None:
            text += more
        return text

    def close(self) -> bytes:
        """What was held back, where nothing follows; a call that was cut short is none."""
        held, self._held = self._held, b""
        return b"" if self._calling else held

    def _outside(self) -> bytes | None:
        if self._begins is not None:
            text, self._held = self._held, b""
            return text or None
        # Marks may have letters of several bytes, of which a token may bring a part.
        text, begins, after = self._held.partition(self._begin)
        keep = 0 if begins else overlap(text.decode("latin-1"), self._begin.decode("latin-1"))
        self._held, self._calling = after if begins else text[len(text) - keep :], bool(begins)
        return text[: len(text) - keep] or (b"" if begins else None)

    def _in_call(self) -> bytes | None:
        if self._arguments is None:
            header = self._header.search(self._held)
            if header is None:
                return None
            self._held, self._arguments = self._held[header.end() :], JsonObject()
            return (self._told.call + json.dumps(header[1].decode()) + self._told.arguments).encode()
        if not self._held:
            return None
        read = self._arguments.read(self._held.decode("latin-1"))
        text, self._held = self._held[:read], self._held[read:]
        if self._arguments.ended:
            self._arguments = None
            text += self._told.call_end.encode()
        return text


def calls(
    form: Form, special: Mapping[str, int], silent: Collection[int], value: dict[str, Any] | None,
    called: Mapping[str, dict[str, Any]], forced: bool, several: bool,
) -> dict[str, Any]:  # fmt: skip
    """XGrammar's description of a text with calls of functions, `called` by their names, at its end, or of a `value` in
    place of them, if one is given; with `forced`, of calls alone. Other text has no `silent` tokens."""
    marks = FORMS[form]

    def row(*pieces: str | re.Pattern[str] | dict[str, Any]) -> dict[str, Any]:
        return {"type": "sequence", "elements": [element for piece in pieces for element in _elements(piece, special)]}

    one = {
        "type": "or",
        "elements": [
            row(marks.call + name, *marks.naming, arguments, *marks.end) for name, arguments in called.items()
        ],
    }
    more = [{"type": "star", "content": row(marks.between, one)}] if several else []
    behind = row(*marks.opening, one, *more, marks.close)
    if forced:
        return row(marks.begin, behind)
    if value is not None:
        return {"type": "or", "elements": [value, row(marks.begin, behind)]}
    if (begin := special.get(marks.begin)) is None:
        return {"type": "dispatch", "rules": [[marks.begin, behind]], "loop": False}
    barred = sorted({*silent, *mark_tokens(special)} - {begin})
    return {"type": "token_dispatch", "rules": [[begin, behind]], "loop": False, "exclude_tokens": barred}


def _elements(piece: str | re.Pattern[str] | dict[str, Any], special: Mapping[str, int]) -> list[dict[str, Any]]:
    if isinstance(piece, dict):
        return [piece]
    if isinstance(piece, re.Pattern):
        return [{"type": "regex", "pattern": piece.pattern}]
    parts = [part for part in re.split(f"({_MARK.pattern})", piece) if part]
    return [
        {"type": "token", "token": special[part]} if part in special else {"type": "const_string", "value": part}
        for part in parts
    ]


def _pattern(piece: str | re.Pattern[str]) -> str:
    return piece.pattern if isinstance(piece, re.Pattern) else re.escape(piece)
