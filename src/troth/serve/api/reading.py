"""From the text of an answer, as it grows, to its parts: reasoning, content, calls of functions."""

import re
import uuid
from dataclasses import dataclass, field
from typing import Literal

from troth.serve.api import trained_format as form
from troth.serve.engine.request import FinishReason, Output, SampledToken
from troth.serve.engine.text_stream import overlap

_NAME = re.compile(r'"([^"]*)"' + re.escape(form.CALL_ARGUMENTS))


@dataclass(frozen=True)
class Reasoning:
    """More of the reasoning."""

    text: str


@dataclass(frozen=True)
class Content:
    """More of what is said."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call begins: the `index`-th of its answer."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class Arguments:
    """More of the arguments of a call, JSON text."""

    index: int
    text: str


Part = Reasoning | Content | Call | Arguments


@dataclass
class Called:
    """A call as far as it has come."""

    id: str
    name: str
    arguments: str = ""


@dataclass
class Reading:
    """One answer, read output by output.

    `reasons` says that the model knows reasoning, `inside` that the prompt has begun it, `calls` that functions may be
    called; their form is then sure, because a grammar holds it.
    """

    reasons: bool = False
    inside: bool = False
    calls: bool = False
    reasoning: str = ""
    content: str = ""
    called: list[Called] = field(default_factory=list)
    tokens: list[SampledToken] = field(default_factory=list)
    reasoning_tokens: int = 0
    last: Output | None = None

    def __post_init__(self) -> None:
        self._held = ""
        self._parts: list[Part] = []
        self._object = _Object()
        self._state = self._in_reasoning if self.inside else self._at_start if self.reasons else self._in_content

    def take(self, output: Output) -> list[Part]:
        """The parts that are certain by this output."""
        self.last = output
        self.tokens += output.tokens
        self._held += output.text
        self._parts = []
        reasoned = self._state == self._in_reasoning
        while True:
            state = self._state
            state()
            if state == self._state:
                break
        if reasoned or self._state == self._in_reasoning:
            self.reasoning_tokens = output.output_tokens
        if output.finish_reason is not None:
            self._close()
        return self._parts

    @property
    def finish_reason(self) -> FinishReason | Literal["tool_calls"]:
        """OpenAI's word for why the answer has ended."""
        reason = (self.last and self.last.finish_reason) or "stop"
        return "tool_calls" if self.called and reason == "stop" else reason

    def _reason(self, text: str) -> None:
        if text:
            self.reasoning += text
            self._parts.append(Reasoning(text))

    def _say(self, text: str) -> None:
        if text:
            self.content += text
            self._parts.append(Content(text))

    # What each state does with the text held, which it takes from the front.

    def _at_start(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(form.THINK):
            self._held = begun[len(form.THINK) :]
            self._state = self._in_reasoning
        elif begun and not form.THINK.startswith(begun):
            self._state = self._in_content

    def _in_reasoning(self) -> None:
        if not self.reasoning:
            self._held = self._held.lstrip("\n")
        before, end, after = self._held.partition(form.THOUGHT)
        if end:
            self._reason(before.rstrip("\n"))
            self._held = after
            self._state = self._behind_reasoning
        else:
            self._reason(self._shown(form.THOUGHT))

    def _behind_reasoning(self) -> None:
        self._held = self._held.lstrip("\n")
        if self._held:
            self._state = self._in_content

    def _in_content(self) -> None:
        before, begins, after = self._held.partition(form.CALL_NAME) if self.calls else (self._held, "", "")
        if begins:
            self._say(before.removesuffix("\n"))
            self._held = after
            self._state = self._in_name
        elif self.calls:
            self._say(self._shown(form.CALL_NAME))
        else:
            self._say(before)
            self._held = ""

    def _in_name(self) -> None:
        if found := _NAME.match(self._held):
            call = Call(len(self.called), f"call_{uuid.uuid4().hex[:24]}", found[1])
            self.called.append(Called(call.id, call.name))
            self._parts.append(call)
            self._held = self._held[found.end() :]
            self._object = _Object()
            self._state = self._in_arguments

    def _in_arguments(self) -> None:
        text = self._held[: self._object.read(self._held)]
        self._held = self._held[len(text) :]
        if text:
            self.called[-1].arguments += text
            self._parts.append(Arguments(len(self.called) - 1, text))
        if self._object.ended:
            self._state = self._behind_arguments

    def _behind_arguments(self) -> None:
        if self._held.startswith(form.CALL_END):
            self._held = self._held[len(form.CALL_END) :]
            self._state = self._in_content

    def _close(self) -> None:
        """Give what was held back, now that nothing follows."""
        text, self._held = self._held, ""
        if self._state == self._in_reasoning:
            self._reason(text.rstrip("\n"))
        elif self._state in (self._at_start, self._in_content):
            self._say(text)

    def _shown(self, mark: str) -> str:
        """Take what is held, but for an end that may become the mark or a line break before it."""
        keep = len(self._held) - max(overlap(self._held, mark), overlap(self._held, "\n" + mark))
        text, self._held = self._held[:keep], self._held[keep:]
        return text


class _Object:
    """Finds the end of a JSON object in text that is still growing."""

    def __init__(self) -> None:
        self.ended = False
        self._depth = 0
        self._quoted = self._escaped = False

    def read(self, text: str) -> int:
        """How much more of the text belongs to the object."""
        for place, char in enumerate(text):
            if self._quoted:
                self._quoted = char != '"' or self._escaped
                self._escaped = char == "\\" and not self._escaped
            elif char == '"':
                self._quoted = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.ended = True
                    return place + 1
        return len(text)
