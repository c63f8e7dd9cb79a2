"""Calls of functions as Qwen3-Coder writes them, in XML tags, told as JSON.

<tool_call>, <function=name>, for each argument a <parameter=key> with its value on lines between, and their ends.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from troth.serve.engine.sampling_params import Grammar, Reasoning, Told
from troth.serve.engine.text_stream import overlap
from troth.serve.engine.thoughts import Thoughts

BEGIN, END = "<tool_call>\n<function=", "\n</function>\n</tool_call>"
_PARAMETER, _BEHIND = b"<parameter=", b"</parameter>"


class XmlCalls:
    """The text of an answer, token by token. A grammar holds its calls; what type an argument has, the schemas of its
    tags say, for the text of a number may be one. Of `reasoning`, which no grammar holds, all stays as it is."""

    def __init__(self, told: Told, grammar: Grammar, reasoning: Reasoning | None = None):
        self._told = told
        self._thoughts = Thoughts(reasoning)
        self._schemas = {tag.name: json.loads(tag.value.schema_text) for tag in grammar.tags}
        self._held = b""
        self._properties: Mapping[str, Any] | None = None
        self._between = b""

    def take(self, token: int, data: bytes) -> bytes:
        """What more of the text is certain; an argument is when it is complete."""
        text, behind = self._thoughts.split(data)
        self._held += behind
        while (more := self._outside() if self._properties is None else self._inside()) is not None:
            text += more
        if self._properties is None:
            before, begins, after = self._held.partition(BEGIN.encode())
            # Marks are of ASCII, so that halves of characters are none of them.
            keep = 0 if begins else overlap(before.decode("latin-1"), BEGIN)
            text += before[: len(before) - keep]
            self._held = before[len(before) - keep :] + begins + after
        return text

    def close(self) -> bytes:
        """What was held back, where nothing follows; a call that was cut short is none."""
        held, self._held = self._held, b""
        return held if self._properties is None else b""

    def _outside(self) -> bytes | None:
        before, begins, after = self._held.partition(BEGIN.encode())
        name, named, rest = after.partition(b">")
        if not begins or not named:
            return None
        self._held, self._between = rest, b""
        self._properties = self._schemas.get(name.decode("utf-8", "replace"), {}).get("properties", {})
        told = self._told.call + json.dumps(name.decode("utf-8", "replace")) + self._told.arguments + "{"
        return before + told.encode()

    def _inside(self) -> bytes | None:
        self._held = self._held.lstrip()
        if self._held.startswith(_PARAMETER) and _BEHIND in self._held:
            whole, _, self._held = self._held.partition(_BEHIND)
            key, _, value = (part.decode("utf-8", "replace") for part in whole[len(_PARAMETER) :].partition(b">"))
            between, self._between = self._between, b", "
            assert self._properties is not None
            said = json.dumps(argument(value, self._properties.get(key)), ensure_ascii=False)
            return between + f"{json.dumps(key)}: {said}".encode()
        if self._held.startswith(END.strip().encode()):
            self._held, self._properties = self._held[len(END.strip()) :], None
            return b"}" + self._told.call_end.encode()
        return None


def argument(text: str, schema: Any) -> Any:
    """An argument by its text, which is JSON but for strings, and stands on lines of its own."""
    said = schema if isinstance(schema, dict) else {}
    if (bare := text.strip()) in said.get("enum", ()):
        return bare
    text = text.removeprefix("\n").removesuffix("\n")
    if said.get("type") == "string":
        return text
    with suppress(ValueError, RecursionError):
        return json.loads(bare, parse_constant=_no_json)
    return text


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is none, though Python reads it")
