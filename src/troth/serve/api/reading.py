"""From the text of an answer, as it grows, to its parts: reasoning, content, calls of functions."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from troth.serve.api import trained_format as form
from troth.serve.engine.json_object import JsonObject
from troth.serve.engine.request import FinishReason, Output, SampledToken
from troth.serve.engine.text_stream import overlap

_NAME = re.compile(r'"([^"]*)"' + re.escape(form.CALL_ARGUMENTS))

Kind = Literal["reasoning", "content", "call"]


@dataclass
class Block:
    """A stretch of one kind as far as it has come, the `index`-th of its answer; `text` of a call is its arguments."""

    kind: Kind
    index: int
    text: str = ""
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True)
class Part:
    """More text of a block, and whether it begins by it."""

    block: Block
    text: str
    begins: bool


def generated(tokens: Sequence[SampledToken], output: Output | None) -> list[int]:
    """Ids of those of the last tokens up to an output that are not of the prompt, which it may repeat."""
    count = 0 if output is None else min(len(tokens), output.output_tokens)
    return [token.id for token in tokens[len(tokens) - count :]]


@dataclass
class Reading:
    """One answer, read output by output.

    `reasons` says that the model knows reasoning, `inside` that the prompt has begun it, `calls` that functions may be
    called; their form is then sure, because a grammar holds it.
    """

    reasons: bool = False
    inside: bool = False
    calls: bool = False
    blocks: list[Block] = field(default_factory=list)
    tokens: list[SampledToken] = field(default_factory=list)
    prompt: tuple[SampledToken, ...] = ()
    reasoning_tokens: int = 0
    last: Output | None = None

    def __post_init__(self) -> None:
        self._held = ""
        self._parts: list[Part] = []
        self._object = JsonObject()
        self._state = self._in_reasoning if self.inside else self._at_start if self.reasons else self._in_content

    def take(self, output: Output) -> list[Part]:
        """The parts that are certain by this output."""
        self.last = output
        self.prompt = self.prompt or output.prompt
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
        cut_short = self._state == self._in_arguments
        return "tool_calls" if reason == "stop" and self.called and not cut_short else reason

    @property
    def called(self) -> list[Block]:
        """The calls."""
        return [block for block in self.blocks if block.kind == "call"]

    @property
    def token_ids(self) -> list[int]:
        """Ids of the generated tokens."""
        return generated(self.tokens, self.last)

    def text(self, kind: Kind) -> str:
        """All text of one kind."""
        return "".join(block.text for block in self.blocks if block.kind == kind)

    def _begin(self, kind: Kind, **of_call: str) -> Block:
        block = Block(kind, len(self.blocks), **of_call)
        self.blocks.append(block)
        return block

    def _add(self, kind: Kind, text: str) -> None:
        if text:
            begins = kind != "call" and not (self.blocks and self.blocks[-1].kind == kind)
            block = self._begin(kind) if begins else self.blocks[-1]
            block.text += text
            self._parts.append(Part(block, text, begins))

    # What each state does with the text held, which it takes from the front.

    def _at_start(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(form.THINK):
            self._held = begun[len(form.THINK) :]
            self._state = self._in_reasoning
        elif begun and not form.THINK.startswith(begun):
            self._state = self._in_content

    def _in_reasoning(self) -> None:
        if not self.blocks:
            self._held = self._held.lstrip("\n")
        before, end, after = self._held.partition(form.THOUGHT)
        if end:
            self._add("reasoning", before.rstrip("\n"))
            self._held = after
            self._state = self._behind_reasoning
        else:
            self._add("reasoning", self._shown(form.THOUGHT))

    def _behind_reasoning(self) -> None:
        self._held = self._held.lstrip("\n")
        if self._held:
            self._state = self._in_content

    def _in_content(self) -> None:
        before, begins, after = self._held.partition(form.CALL_NAME) if self.calls else (self._held, "", "")
        if begins:
            self._add("content", before.removesuffix("\n"))
            self._held = after
            self._state = self._in_name
        elif self.calls:
            self._add("content", self._shown(form.CALL_NAME))
        else:
            self._add("content", before)
            self._held = ""

    def _in_name(self) -> None:
        if found := _NAME.match(self._held):
            call = self._begin("call", call_id=f"call_{uuid.uuid4().hex[:24]}", name=found[1])
            self._parts.append(Part(call, "", True))
            self._held = self._held[found.end() :]
            self._object = JsonObject()
            self._state = self._in_arguments

    def _in_arguments(self) -> None:
        text = self._held[: self._object.read(self._held)]
        self._held = self._held[len(text) :]
        self._add("call", text)
        if self._object.ended:
            self._state = self._behind_arguments

    def _behind_arguments(self) -> None:
        if self._held.startswith(form.CALL_END):
            self._held = self._held[len(form.CALL_END) :]
            self._state = self._in_content

    def _close(self) -> None:
        """Give what was held back, now that nothing follows; marks that were cut short are no text."""
        text, self._held = self._held, ""
        if self._state == self._in_reasoning:
            self._add("reasoning", text[: len(text) - overlap(text, form.THOUGHT)].rstrip("\n"))
        elif self._state in (self._at_start, self._in_content):
            before, begun, _ = text.partition(form.CALL)
            self._add("content", before.removesuffix("\n") if begun and self.calls else text)

    def _shown(self, mark: str) -> str:
        """Take what is held, but for an end that may become the mark or a line break before it."""
        keep = len(self._held) - max(overlap(self._held, mark), overlap(self._held, "\n" + mark))
        text, self._held = self._held[:keep], self._held[keep:]
        return text
