"""Request body of POST /v1/responses, and its items as turns of a conversation."""

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from troth.serve.api.body import Body, refusal_as_text
from troth.serve.api.chat_schema import ReasoningOptions
from troth.serve.api.question import Question, Tool, call_message, tool
from troth.serve.api.schema import ANY_OBJECT, MOST_TOOLS, MOST_TURNS, AnyFormat, Metadata, Name
from troth.serve.engine.sampling_params import MOST_LOGPROBS, Json, SamplingParams


class TextContent(Body):
    """Text of an item; the fields after `text` are those of earlier answers, which clients send back."""

    type: Literal["input_text", "output_text", "text", "reasoning_text", "summary_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


Content = str | list[Annotated[TextContent, BeforeValidator(refusal_as_text)]]


class Item(Body):
    """What items share; the server gives `id` and `status`."""

    id: str | None = None
    status: str | None = None


class MessageItem(Item):
    """One turn."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    phase: Literal["commentary", "final_answer"] | None = None


class ReasoningItem(Item):
    """Reasoning before the answer that follows."""

    type: Literal["reasoning"]
    summary: list[TextContent] = Field(default=[])
    content: list[TextContent] | None = None


class CallItem(Item):
    """A call in an earlier answer."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class CallOutputItem(Item):
    """What a call gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: Content


def _typed(item: Any) -> Any:
    """Messages may leave out what they are."""
    return {"type": "message"} | item if isinstance(item, dict) else item


InputItem = Annotated[
    Annotated[MessageItem | ReasoningItem | CallItem | CallOutputItem, Field(discriminator="type")],
    BeforeValidator(_typed),
]
ITEMS: TypeAdapter[list[InputItem]] = TypeAdapter(list[InputItem])


class FunctionTool(Body):
    """A function that may be called; without `strict` false its arguments have no keys beyond the schema's."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = True


class ChosenFunction(Body):
    """A function by its name."""

    type: Literal["function"]
    name: str


class AllowedTools(Body):
    """Some of the tools, of which one may or must be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"] = "auto"
    tools: list[ChosenFunction] = Field(min_length=1)


class SchemaFormat(Body):
    """JSON of one schema."""

    type: Literal["json_schema"]
    name: Name
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class TextOptions(Body):
    """What the text of the answer has to be."""

    format: Annotated[AnyFormat | SchemaFormat, Field(discriminator="type")] = AnyFormat(type="text")
    verbosity: Literal["low", "medium", "high"] | None = None


class StreamOptions(Body):
    """Changes nothing."""

    include_obfuscation: bool | None = None


class ResponseRequest(Body):
    """POST /v1/responses."""

    model: str
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=MOST_TURNS)]
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = True
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    tools: list[FunctionTool] | None = Field(default=None, max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | ChosenFunction | AllowedTools | None = None
    parallel_tool_calls: bool | None = True
    max_tool_calls: int | None = Field(default=None, ge=1)
    truncation: Literal["disabled", "auto"] | None = None
    background: Literal[False] | None = None
    metadata: Metadata | None = None
    client_metadata: dict[str, str] | None = None
    user: str | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    @property
    def items(self) -> list[InputItem]:
        """The input as items."""
        if isinstance(self.input, str):
            return [MessageItem(role="user", content=self.input)]
        return self.input

    @property
    def logprobs(self) -> int | None:
        """How many alternatives to each token are told; None where no log-probabilities are."""
        asked = "message.output_text.logprobs" in (self.include or ()) or self.top_logprobs
        return (self.top_logprobs or 0) if asked else None

    def params(self) -> SamplingParams:
        """Sampling parameters of the answer."""
        given = {
            "temperature": self.temperature, "top_p": self.top_p, "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty, "max_tokens": self.max_output_tokens,
            "logprobs": self.logprobs,
        }  # fmt: skip
        return SamplingParams(**{key: value for key, value in given.items() if value is not None})

    def question(self, earlier: Iterable[dict[str, Any]]) -> Question:
        """What is asked, behind items of earlier responses."""
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        choice, reasoning = self.tool_choice, self.reasoning or ReasoningOptions()
        tools = list(self._tools())
        if isinstance(choice, AllowedTools):
            allowed = {chosen.name for chosen in choice.tools}
            tools, choice = [offered for offered in tools if offered.name in allowed], choice.mode
        return Question(
            messages=system + _turns([*ITEMS.validate_python(list(earlier)), *self.items]),
            param="input",
            tools=tuple(tools),
            choice="required" if isinstance(choice, ChosenFunction) else choice or "auto",
            named=choice.name if isinstance(choice, ChosenFunction) else None,
            several=self.parallel_tool_calls is not False,
            value=self._value(),
            effort=reasoning.effort,
            budget=reasoning.max_tokens,
            forgets=self.truncation == "auto",
        )

    def _tools(self) -> Iterable[Tool]:
        for i, given in enumerate(self.tools or ()):
            strict = given.strict is not False
            yield tool(f"tools[{i}].parameters", given.name, given.description, given.parameters, strict)

    def _value(self) -> Json | None:
        given = self.text.format if self.text is not None else None
        if isinstance(given, SchemaFormat):
            text = json.dumps(given.schema_)
            return Json(name="text.format.schema", schema_text=text, strict=bool(given.strict))
        if given is not None and given.type == "json_object":
            return Json(name="text.format", schema_text=ANY_OBJECT)
        return None


def _turns(items: Iterable[InputItem]) -> list[dict[str, Any]]:
    """Items as messages for the chat template: reasoning, text and calls of one answer are one turn."""
    turns: list[dict[str, Any]] = []
    for item in items:
        match item:
            case MessageItem(role="assistant"):
                turn = _assistant(turns, goes_on="content" not in (turns[-1] if turns else {}))
                turn["content"] = _text(item.content)
            case MessageItem():
                role = "system" if item.role == "developer" else item.role
                turns.append({"role": role, "content": _text(item.content)})
            case ReasoningItem():
                _assistant(turns, goes_on=False)["reasoning_content"] = _text(item.content or item.summary)
            case CallItem():
                turn = _assistant(turns, goes_on=True)
                turn.setdefault("tool_calls", []).append(call_message(item.name, item.arguments, item.call_id))
            case CallOutputItem():
                turns.append({"role": "tool", "content": _text(item.output), "tool_call_id": item.call_id})
    return [{"content": ""} | turn for turn in turns]


def _assistant(turns: list[dict[str, Any]], goes_on: bool) -> dict[str, Any]:
    """The last turn where it is the assistant's and goes on, else a new one."""
    if not (goes_on and turns and turns[-1]["role"] == "assistant"):
        turns.append({"role": "assistant"})
    return turns[-1]


def _text(content: Content) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
