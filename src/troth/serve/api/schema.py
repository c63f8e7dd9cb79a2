"""Request bodies of the OpenAI API, and what of them this server takes.

Fields that clients commonly send and that change nothing here are accepted; those that would have to change the
answer and cannot are refused, rather than ignored.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from troth.serve.engine.sampling_params import MOST_LOGPROBS, SamplingParams

_MOST_CHOICES = 128
_MOST_STOPS = 16


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(_Body):
    """A piece of a message's content; text is the only kind."""

    type: Literal["text"]
    text: str


class Message(_Body):
    """One turn of a conversation. The fields after `name` are those of earlier answers, which clients send back."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    @model_validator(mode="after")
    def _has_content(self) -> "Message":
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a {self.role} message needs content")
        return self


class StreamOptions(_Body):
    """`include_usage` sends one more event, with the counts, at the end. `include_obfuscation` changes nothing."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class _Sampling(_Body):
    """What chat and plain completions share. `top_k`, `min_p` and `ignore_eos` are extensions that others have too."""

    model: str | None = None
    n: int = Field(default=1, ge=1, le=_MOST_CHOICES)
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = None
    ignore_eos: bool = False
    user: str | None = None
    prompt_cache_key: str | None = None

    @field_validator("n", "stream", "ignore_eos", mode="before")
    @classmethod
    def _null_is_default(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value is None else value

    @field_validator("stop")
    @classmethod
    def _stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and len(stop) > _MOST_STOPS:
            raise ValueError(f"{len(stop)} stop strings, at most {_MOST_STOPS} are allowed")
        return stop

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> "_Sampling":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

    def sampling(self, choice: int, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """Parameters of the choice with this index; each choice has a seed of its own, following from `seed`."""
        given: dict[str, Any] = {
            "temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k, "min_p": self.min_p,
            "presence_penalty": self.presence_penalty, "frequency_penalty": self.frequency_penalty,
            "logit_bias": self.logit_bias,
        }  # fmt: skip
        seed = None if self.seed is None else (self.seed + choice + 2**63) % 2**64 - 2**63
        return SamplingParams(
            seed=seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            max_tokens=max_tokens,
            logprobs=logprobs,
            ignore_eos=self.ignore_eos,
            **{key: value for key, value in given.items() if value is not None},
        )


class ChatRequest(_Sampling):
    """POST /v1/chat/completions. `reasoning_effort` is handed to the chat template.

    `experts`, an extension, has each event of a stream tell which experts came first where its tokens were drawn.
    """

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    verbosity: str | None = None
    experts: bool = False

    @field_validator("response_format")
    @classmethod
    def _text_only(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and value.get("type") != "text":
            raise ValueError(f"type {value.get('type')!r} is not supported, only 'text'")
        return value

    @field_validator("tools")
    @classmethod
    def _no_tools(cls, value: list[Any] | None) -> list[Any] | None:
        if value:
            raise ValueError("tools are not supported")
        return value

    @field_validator("tool_choice")
    @classmethod
    def _no_tool_choice(cls, value: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        if value not in (None, "none", "auto"):
            raise ValueError("tools are not supported, so only 'none' and 'auto' can be chosen")
        return value

    @model_validator(mode="after")
    def _logprobs_first(self) -> "ChatRequest":
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs is only allowed when logprobs is true")
        return self

    @model_validator(mode="after")
    def _experts_need_a_stream(self) -> "ChatRequest":
        if self.experts and not self.stream:
            raise ValueError("experts is only allowed when stream is true")
        return self

    def params(self, choice: int) -> SamplingParams:
        """Sampling parameters of one choice; without a limit the answer may fill the context."""
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        params = self.sampling(choice, self.max_completion_tokens or self.max_tokens, logprobs)
        return params.model_copy(update={"experts": self.experts})


class CompletionRequest(_Sampling):
    """POST /v1/completions. A prompt is text or token ids, or a list of these; `suffix` fills in the middle."""

    prompt: str | list[int] | list[str] | list[list[int]]
    suffix: str | None = None
    logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    echo: bool | None = None
    best_of: int | None = None

    @field_validator("echo")
    @classmethod
    def _no_echo(cls, value: bool | None) -> bool | None:
        if value:
            raise ValueError("echo is not supported")
        return value

    @model_validator(mode="after")
    def _best_of_n(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of != self.n:
            raise ValueError(f"best_of={self.best_of} is not supported other than equal to n={self.n}")
        return self

    def params(self, choice: int) -> SamplingParams:
        """Sampling parameters of one choice; without a limit OpenAI's default of 16 tokens."""
        return self.sampling(choice, self.max_tokens or 16, self.logprobs)
