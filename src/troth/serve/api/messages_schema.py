"""Request body of POST /v1/messages, Anthropic's dialect."""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from troth.serve.api.body import Body
from troth.serve.api.messages_blocks import (
    Block,
    ContentBlock,
    DocumentBlock,
    SearchResultBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    joined,
)
from troth.serve.api.question import Question, tool
from troth.serve.api.schema import MOST_TOOLS, MOST_TURNS, Name
from troth.serve.engine.sampling_params import Json, SamplingParams

_CHOICES: dict[str, Literal["none", "auto", "required"]] = {
    "none": "none", "auto": "auto", "any": "required", "tool": "required",
}  # fmt: skip


class Message(Body):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[ContentBlock]


class Tool(Block):
    """A function that may be called, its arguments as a JSON schema. All are shown to the model, and all arguments come
    as they are written: `defer_loading` and `eager_input_streaming` change nothing."""

    type: Literal["custom"] | None = None
    name: Name
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool = False
    defer_loading: bool | None = None
    eager_input_streaming: bool | None = None


class ToolChoice(Body):
    """Whether tools may or must be called, and whether several at once."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False

    @model_validator(mode="after")
    def _names_its_tool(self) -> "ToolChoice":
        if self.type == "tool" and self.name is None:
            raise ValueError("type 'tool' needs a name")
        return self


class Thinking(Body):
    """Whether to reason, and for how many tokens; reasoning is always shown in full."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(default=None, ge=1)
    display: Literal["summarized", "omitted"] | None = None

    @model_validator(mode="after")
    def _has_a_budget(self) -> "Thinking":
        if self.type == "enabled" and self.budget_tokens is None:
            raise ValueError("type 'enabled' needs budget_tokens")
        return self


class Format(Body):
    """JSON of one schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Body):
    """What the answer has to be, and how much to reason for it."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


def _list_of_text(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


class CountRequest(Body):
    """POST /v1/messages/count_tokens: what of a request makes its prompt. `context_management` lets a server leave out
    some of the conversation; this one does not."""

    model: str
    messages: list[Message] = Field(min_length=1, max_length=MOST_TURNS)
    system: Annotated[list[TextBlock], BeforeValidator(_list_of_text)] = Field(default=[])
    tools: list[Tool] = Field(default=[], max_length=MOST_TOOLS)
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: dict[str, Any] | None = None
    context_management: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _can_go_on(self) -> "CountRequest":
        if self.goes_on:
            last = _turns(self.messages[-1])[-1]
            if last.get("tool_calls"):
                raise ValueError("messages: the last one has tool_use blocks; their tool_result blocks come next")
            if not last["content"] or last["content"] != last["content"].rstrip():
                raise ValueError("messages: the assistant's text to go on from is empty or ends with white space")
        return self

    @property
    def goes_on(self) -> bool:
        """Whether the answer goes on from the last message."""
        return self.messages[-1].role == "assistant"

    def question(self) -> Question:
        """What is asked."""
        system = "\n\n".join(block.text for block in self.system)
        choice, thinking, output = self.tool_choice, self.thinking, self.output_config
        value = None
        if output is not None and output.format is not None:
            text = json.dumps(output.format.schema_)
            value = Json(name="output_config.format.schema", schema_text=text, strict=True)
        effort = "none"
        if thinking is not None and thinking.type != "disabled":
            asked = (output.effort if output else None) or "high"
            effort = "xhigh" if asked == "max" else asked
        return Question(
            messages=([{"role": "system", "content": system}] if system else [])
            + [turn for message in self.messages for turn in _turns(message)],
            param="messages",
            tools=tuple(
                tool(f"tools[{i}].input_schema", given.name, given.description, given.input_schema, given.strict)
                for i, given in enumerate(self.tools)
            ),
            choice="auto" if choice is None else _CHOICES[choice.type],
            named=choice.name if choice is not None and choice.type == "tool" else None,
            several=not (choice and choice.disable_parallel_tool_use),
            value=value,
            effort=effort,
            budget=thinking.budget_tokens if thinking is not None else None,
            goes_on=self.goes_on,
        )


class MessageRequest(CountRequest):
    """POST /v1/messages. No conversation is kept for a `thread`: clients that ask for one are told so."""

    max_tokens: int = Field(ge=1)
    stream: bool = False
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    stop_sequences: list[str] = Field(default=[], max_length=16)
    metadata: dict[str, Any] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    thread: dict[str, Any] | None = None

    def params(self) -> SamplingParams:
        """Sampling parameters of the answer."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        return SamplingParams(
            max_tokens=self.max_tokens,
            stop=tuple(self.stop_sequences),
            **{key: value for key, value in given.items() if value is not None},
        )


def _turns(message: Message) -> list[dict[str, Any]]:
    """A message as turns for the chat template: results of calls are turns of their own, before the text."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    results: list[dict[str, Any]] = []
    turn: dict[str, Any] = {"role": message.role, "content": ""}
    for block in message.content:
        match block:
            case TextBlock() | DocumentBlock() | SearchResultBlock():
                turn["content"] += block.text
            case ThinkingBlock():
                turn["reasoning_content"] = turn.get("reasoning_content", "") + block.thinking
            case ToolUseBlock():
                call = {"name": block.name, "arguments": block.input}
                turn.setdefault("tool_calls", []).append({"id": block.id, "type": "function", "function": call})
            case ToolResultBlock():
                turned = {"role": "tool", "content": joined(block.content), "tool_call_id": block.tool_use_id}
                results.append(turned)
    says = turn["content"] or turn.get("tool_calls") or not results
    return [*results, turn] if says else results
