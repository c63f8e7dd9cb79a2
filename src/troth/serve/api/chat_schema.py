"""Request body of POST /v1/chat/completions."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from troth.serve.api.body import Body, refusal_as_text
from troth.serve.api.question import Question, Tool, call_message, tool
from troth.serve.api.schema import MOST_TOOLS, MOST_TURNS, Metadata, Name, Sampling
from troth.serve.engine.sampling_params import MOST_LOGPROBS, SamplingParams

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class TextPart(Body):
    """A piece of a message's content; text is the only kind, though it may be a refusal."""

    type: Literal["text"]
    text: str


Part = Annotated[TextPart, BeforeValidator(refusal_as_text)]


class CalledFunction(Body):
    """A function by name, and JSON text of its arguments."""

    name: str
    arguments: str


class ToolCall(Body):
    """A call in an earlier answer; `index` is left over from streams."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class Message(Body):
    """One turn of a conversation. The fields after `tool_call_id` are those of earlier answers, which clients send
    back; `reasoning` is vLLM's name, and LiteLLM keeps what it does not know in `provider_specific_fields`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=MOST_TOOLS)
    reasoning_content: str | None = None
    reasoning: str | None = None
    provider_specific_fields: dict[str, Any] | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> "Message":
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a {self.role} message needs content")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls in a {self.role} message; only the assistant calls")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a tool message needs a tool_call_id")
        return self

    def for_template(self) -> dict[str, Any]:
        """The message as chat templates take it. OpenAI renamed `system` to `developer`; templates know the first."""
        parts = self.content if isinstance(self.content, list) else []
        text = "".join(part.text for part in parts) if parts else self.content or self.refusal or ""
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": text}
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if reasoning := self.reasoning_content or self.reasoning:
            message["reasoning_content"] = reasoning
        if self.tool_calls:
            message["tool_calls"] = [
                call_message(call.function.name, call.function.arguments, call.id) for call in self.tool_calls
            ]
        return message


class Function(Body):
    """A function that may be called, its arguments as a JSON schema; `strict` allows no others."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Body):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class FunctionName(Body):
    """A function by its name."""

    name: str


class ChosenFunction(Body):
    """The function that has to be called."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(Body):
    """Some of the tools, of which one may or must be called."""

    mode: Literal["auto", "required"] = "auto"
    tools: list[ChosenFunction] = Field(min_length=1)


class ChosenTools(Body):
    """The tools that may be called."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


_GIVEN = {"messages", "tools", "add_generation_prompt", "goes_on", "self"}
"""Variables of a template that follow from the rest of a request, or that Jinja has."""


class ReasoningOptions(Body):
    """How much to reason: by a word, or at most so many tokens. Reasoning is given in full, so `summary` changes
    nothing."""

    effort: Effort | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    summary: Literal["auto", "concise", "detailed"] | None = None


class ChatRequest(Sampling):
    """POST /v1/chat/completions.

    `chat_template_kwargs`, which vLLM and others have too, are variables of the template, such as `enable_thinking`.
    With `continue_final_message`, theirs too, the answer goes on from the last message.
    `experts`, an extension, has each event of a stream tell which experts came first where its tokens were drawn.
    """

    model: str
    messages: list[Message] = Field(min_length=1, max_length=MOST_TURNS)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    reasoning_effort: Effort | None = None
    reasoning: ReasoningOptions | None = None
    tools: list[FunctionTool] | None = Field(default=None, max_length=MOST_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | ChosenFunction | ChosenTools | None = None
    parallel_tool_calls: bool | None = None
    search_parameters: Any = None
    modalities: list[Literal["text"]] | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
    prediction: dict[str, Any] | None = None
    safety_identifier: str | None = None
    verbosity: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    add_special_tokens: Literal[False] = False
    continue_final_message: bool = False
    deferred: bool = False
    experts: bool = False

    @field_validator("chat_template_kwargs")
    @classmethod
    def _own_variables(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        if taken := _GIVEN & (given or {}).keys():
            raise ValueError(f"{min(taken)} is given to the template already")
        return given

    @model_validator(mode="after")
    def _one_way_to_begin(self) -> "ChatRequest":
        if self.add_generation_prompt is not None and self.add_generation_prompt is self.continue_final_message:
            raise ValueError("exactly one of add_generation_prompt and continue_final_message can be true")
        last = self.messages[-1].for_template()
        if self.continue_final_message and (last["role"] != "assistant" or not last["content"]):
            raise ValueError("continue_final_message needs an assistant message with content as the last one")
        if self.continue_final_message and last.get("tool_calls"):
            raise ValueError("continue_final_message: the last message has tool_calls, which end it")
        return self

    @model_validator(mode="after")
    def _deferred_is_whole(self) -> "ChatRequest":
        if self.deferred and self.stream:
            raise ValueError("deferred is only allowed when stream is false")
        return self

    @model_validator(mode="after")
    def _experts_need_a_stream(self) -> "ChatRequest":
        if self.experts and not self.stream:
            raise ValueError("experts is only allowed when stream is true")
        return self

    @model_validator(mode="after")
    def _logprobs_first(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs is only allowed when logprobs is true")
        return self

    @property
    def limit(self) -> int | None:
        """Most tokens of an answer; without a limit it may fill the context."""
        return self.max_completion_tokens or self.max_tokens

    def params(self, choice: int) -> SamplingParams:
        """Sampling parameters of one choice. The prompt, which all share, is scored with the first."""
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        scored = self.prompt_logprobs if choice == 0 else None
        return self.sampling(choice, self.limit, logprobs, experts=self.experts, prompt_logprobs=scored)

    def question(self) -> Question:
        """What is asked."""
        choice, tools = self.tool_choice, self._tools()
        if isinstance(choice, ChosenTools):
            allowed = {chosen.function.name for chosen in choice.allowed_tools.tools}
            tools, choice = [offered for offered in tools if offered.name in allowed], choice.allowed_tools.mode
        reasoning = self.reasoning or ReasoningOptions()
        return Question(
            messages=[message.for_template() for message in self.messages],
            param="messages",
            tools=tuple(tools),
            choice="required" if isinstance(choice, ChosenFunction) else choice or "auto",
            named=choice.function.name if isinstance(choice, ChosenFunction) else None,
            several=self.parallel_tool_calls is not False,
            value=self.value(),
            effort=self.reasoning_effort or reasoning.effort,
            budget=reasoning.max_tokens,
            variables=self.chat_template_kwargs or {},
            goes_on=self.continue_final_message,
            truncate=self.truncate_prompt_tokens,
        )

    def _tools(self) -> list[Tool]:
        return [
            tool(f"tools[{i}].function.parameters", f.name, f.description, f.parameters, bool(f.strict))
            for i, f in enumerate(given.function for given in self.tools or ())
        ]
