"""Earlier calls of functions as a chat template takes them, which none says of itself, so that it is tried out.

Arguments are an object or its JSON text; a message of calls alone has an empty content or none; and some templates want
ids of nine letters and digits (Mistral's), or such as name the function and count the calls (Kimi's).
"""

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Messages = list[dict[str, Any]]
_COUNTS = "<|tool_call_argument_begin|>"
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_NAME, _KEY = "needle", "thread"
_QUOTED_TWICE = re.compile(rf"""(?:'|\\")(?={_KEY})""")
"""Before a key of an object that was printed as Python does, or of text that was made JSON once more."""


@dataclass(frozen=True)
class EarlierCalls:
    """`as_text` are arguments; `alone` is the content of a message that has calls only."""

    as_text: bool = False
    alone: str | None = ""
    ids: Literal["given", "nine", "counted"] = "given"

    def fit(self, messages: Messages) -> Messages:
        """The messages in this form, where there are calls. A result whose id no call has belongs to the next call."""
        known: dict[Any, str] = {}
        waiting: list[str] = []
        fitted = []
        count = 0
        for message in messages:
            if message.get("tool_calls"):
                calls = []
                waiting = []
                for call in message["tool_calls"]:
                    function = call["function"]
                    text = function["arguments"]
                    if self.as_text and not isinstance(text, str):
                        text = json.dumps(text, ensure_ascii=False)
                    calls.append({**call, "function": {**function, "arguments": text}})
                    if self.ids != "given":
                        made = self._id(call.get("id"), function["name"], count)
                        calls[-1]["id"] = made
                        waiting.append(made)
                        if call.get("id"):
                            known[call["id"]] = made
                    count += 1
                message = {**message, "tool_calls": calls, "content": message.get("content") or self.alone}
            elif message["role"] == "tool" and self.ids != "given":
                answered = known.get(message.get("tool_call_id")) or next(iter(waiting), "")
                waiting = [made for made in waiting if made != answered]
                message = {**message, "tool_call_id": answered}
            fitted.append(message)
        return fitted

    def _id(self, given: str | None, name: str, count: int) -> str:
        if self.ids == "counted":
            return f"functions.{name}:{count}"
        if given is not None and _NINE.fullmatch(given):
            return given
        return hashlib.blake2b((given or str(count)).encode(), digest_size=5).hexdigest()[:9]


def tried_out(source: str, render: Callable[[Messages], str]) -> EarlierCalls:
    """The form in which a template writes a call with its arguments, the first of those that do; the plain one where
    none does. `render` raises ValueError for messages that the template refuses."""
    function = {"name": _NAME, "arguments": {_KEY: "1 2"}}
    call = {"id": "call_1", "type": "function", "function": function}
    messages: Messages = [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "2"},
    ]
    ids: tuple[Literal["given", "nine", "counted"], ...] = ("counted",) if _COUNTS in source else ("given", "nine")
    for kind, alone, as_text in itertools.product(ids, ("", None), (False, True)):
        form = EarlierCalls(as_text, alone, kind)
        try:
            text = render(form.fit(messages))
        except ValueError:
            continue
        if _NAME in text and _KEY in text and not _QUOTED_TWICE.search(text):
            return form
    return EarlierCalls()
