"""What request bodies share, and that of plain completions.

Fields that clients commonly send and that change nothing here are accepted; those that would have to change the
answer and cannot are refused, rather than ignored.
"""

import json
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, field_validator, model_validator

from troth.serve.api.body import Body
from troth.serve.engine.sampling_params import MOST_LOGPROBS, Grammar, Json, Pattern, SamplingParams

ANY_OBJECT = json.dumps({"type": "object"})
Name = Annotated[str, Field(pattern=r"^[\w.:-]+$", max_length=128)]
UsageTold = Literal["never", "last", "always"]
_MOST_CHOICES = 128
_MOST_STOPS = 16
_MOST_STOP_TOKENS = 1024
_MOST_TEXTS = 2048
# Of a conversation: each is an object to be read, while nothing else is answered.
MOST_TURNS = 16_384
MOST_TOOLS = 1024
# Over all texts: each has them checked and copied, while nothing else is answered.
_MOST_NAMED = 1_000_000


def _within_bounds(metadata: dict[str, str]) -> dict[str, str]:
    if len(metadata) > 16 or any(len(key) > 64 or len(value) > 512 for key, value in metadata.items()):
        raise ValueError("at most 16 pairs, keys of at most 64 characters and values of at most 512")
    return metadata


# Pydantic's own bounds of texts refuse half of a surrogate pair.
Metadata = Annotated[dict[str, str], AfterValidator(_within_bounds)]
"""What a client keeps with a request, within OpenAI's bounds."""


class StreamOptions(Body):
    """`include_usage` sends one more event, with the counts, at the end, and `continuous_usage_stats`, which vLLM has
    too, has the other events tell those so far. `include_obfuscation` changes nothing."""

    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: bool | None = None


class StructuredOutputs(Body):
    """What a text has to be, by exactly one of these: JSON of a schema (`json`) or any object (`json_object`), what a
    `regex` or an EBNF `grammar` matches, or one of a `choice`."""

    json_: dict[str, Any] | str | None = Field(default=None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = Field(default=None, min_length=1)
    grammar: str | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "StructuredOutputs":
        given = sum(value not in (None, False) for value in self.model_dump().values())
        if given != 1:
            raise ValueError(f"exactly one of json, json_object, regex, choice and grammar is needed, not {given}")
        for text in (self.regex or "", self.grammar or "", *(self.choice or ())):
            text.encode()  # Half of a surrogate pair is no text that could be written.
        return self

    def value(self) -> Json | Pattern:
        """The same for the engine."""
        if self.json_ is not None or self.json_object:
            text = ANY_OBJECT if self.json_ is None else self.json_
            text = text if isinstance(text, str) else json.dumps(text)
            return Json(name="structured_outputs.json", schema_text=text)
        kind = "regex" if self.regex is not None else "grammar" if self.grammar is not None else "choice"
        choice = None if self.choice is None else tuple(self.choice)
        return Pattern(name=f"structured_outputs.{kind}", choice=choice, regex=self.regex, grammar=self.grammar)


class JsonSchema(Body):
    """What JSON the answer has to be; `strict` allows no keys beyond the schema's."""

    name: Name
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class AnyFormat(Body):
    """Text as it comes, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(Body):
    """JSON of one schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class Sampling(Body):
    """What chat and plain completions share. What is not OpenAI's are extensions that vLLM has too; of these
    `spaces_between_special_tokens` changes nothing. Of `priority` lower goes first."""

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
    stop_token_ids: list[int] | None = Field(default=None, max_length=_MOST_STOP_TOKENS)
    min_tokens: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    priority: int = Field(default=0, ge=-(2**31), lt=2**31)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, ge=1e-9, le=1e9)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = None
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    allowed_token_ids: list[int] | None = Field(default=None, min_length=1)
    bad_words: list[Annotated[str, Field(min_length=1, max_length=256)]] | None = Field(default=None, max_length=256)
    prompt_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1)
    return_token_ids: bool = False
    response_format: Annotated[AnyFormat | SchemaFormat, Field(discriminator="type")] | None = None
    structured_outputs: StructuredOutputs | None = None
    user: str | None = None
    cache_salt: str | None = Field(default=None, min_length=1, max_length=1024)
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    @field_validator("stop")
    @classmethod
    def _stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and len(stop) > _MOST_STOPS:
            raise ValueError(f"{len(stop)} stop strings, at most {_MOST_STOPS} are allowed")
        return stop

    @property
    def told_usage(self) -> UsageTold:
        """Which events of a stream have the counts."""
        options = self.stream_options
        if options is None or not options.include_usage:
            return "never"
        return "always" if options.continuous_usage_stats else "last"

    @field_validator("truncate_prompt_tokens")
    @classmethod
    def _not_to_nothing(cls, count: int | None) -> int | None:
        if count == 0:
            raise ValueError("nothing would be left of the prompt; -1 is as many tokens as fit")
        return count

    @property
    def texts(self) -> int:
        """How many are asked for."""
        return self.n

    @model_validator(mode="after")
    def _names_few_tokens(self) -> "Sampling":
        named = len(self.logit_bias or ()) + len(self.allowed_token_ids or ())
        if named * self.texts > _MOST_NAMED:
            raise ValueError(
                f"logit_bias and allowed_token_ids name {named:,} tokens for each of {self.texts:,} texts, at most "
                f"{_MOST_NAMED:,} in all can be"
            )
        return self

    @model_validator(mode="after")
    def _prompt_is_scored_whole(self) -> "Sampling":
        if self.prompt_logprobs is not None and self.stream:
            raise ValueError("prompt_logprobs is only allowed when stream is false")
        return self

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> "Sampling":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

    @model_validator(mode="after")
    def _one_form(self) -> "Sampling":
        if self.structured_outputs is not None and self.response_format is not None:
            raise ValueError("only one of structured_outputs and response_format is allowed")
        return self

    def value(self) -> Json | Pattern | None:
        """What the text has to be, if anything."""
        if self.structured_outputs is not None:
            return self.structured_outputs.value()
        given = self.response_format
        if isinstance(given, SchemaFormat):
            schema = given.json_schema
            return Json(
                name="response_format.json_schema.schema",
                schema_text=json.dumps({} if schema.schema_ is None else schema.schema_),
                strict=bool(schema.strict),
            )
        if given is not None and given.type == "json_object":
            return Json(name="response_format", schema_text=ANY_OBJECT)
        return None

    def sampling(self, choice: int, max_tokens: int | None, logprobs: int | None, **more: Any) -> SamplingParams:
        """Parameters of the choice with this index; each choice has a seed of its own, following from `seed`. What
        `more` has goes before what the request says."""
        given: dict[str, Any] = {
            "max_tokens": max_tokens, "temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k,
            "min_p": self.min_p, "presence_penalty": self.presence_penalty, "frequency_penalty": self.frequency_penalty,
            "stop_token_ids": self.stop_token_ids and tuple(self.stop_token_ids), "min_tokens": self.min_tokens,
            "repetition_penalty": self.repetition_penalty, "logit_bias": self.logit_bias,
            "allowed_token_ids": self.allowed_token_ids and tuple(self.allowed_token_ids),
            "bad_words": self.bad_words and tuple(self.bad_words), "prompt_logprobs": self.prompt_logprobs,
        }  # fmt: skip
        seed = None if self.seed is None else (self.seed + choice + 2**63) % 2**64 - 2**63
        return SamplingParams(
            seed=seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            logprobs=logprobs,
            ignore_eos=self.ignore_eos,
            include_stop_str_in_output=self.include_stop_str_in_output,
            skip_special_tokens=self.skip_special_tokens,
            **({key: value for key, value in given.items() if value is not None} | more),
        )


class CompletionRequest(Sampling):
    """POST /v1/completions. A prompt is text or token ids, or a list of these; `suffix` fills in the middle. With
    `echo` texts begin with their prompts, and log-probabilities are told of these too; with `max_tokens` 0 there is
    nothing more. With `add_special_tokens` a text stands behind the token that its tokenizer sets before one, if it
    does."""

    prompt: str | list[int] | list[str] | list[list[int]]
    suffix: str | None = None
    logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    echo: bool | None = None
    add_special_tokens: bool = True
    max_tokens: int | None = Field(default=None, ge=0)
    best_of: int | None = None

    @model_validator(mode="after")
    def _best_of_n(self) -> "CompletionRequest":
        if self.best_of is not None and self.best_of != self.n:
            raise ValueError(f"best_of={self.best_of} is not supported other than equal to n={self.n}")
        return self

    @model_validator(mode="after")
    def _bounded(self) -> "CompletionRequest":
        if self.texts > _MOST_TEXTS:
            raise ValueError(f"{self.texts:,} texts are asked for at once, at most {_MOST_TEXTS:,} can be")
        return self

    @model_validator(mode="after")
    def _asks_for_something(self) -> "CompletionRequest":
        if self.max_tokens == 0 and not self.echo and self.prompt_logprobs is None:
            raise ValueError("max_tokens 0 asks for the prompt alone: it needs echo or prompt_logprobs")
        return self

    @property
    def texts(self) -> int:
        """How many are asked for, over all prompts."""
        return len(self.prompts) * self.n

    @property
    def prompts(self) -> list[str | list[int]]:
        """All prompts, also where there is one."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        one = self.prompt and isinstance(self.prompt[0], int)
        return [cast(list[int], self.prompt)] if one else cast(list[str | list[int]], self.prompt)

    @property
    def limit(self) -> int:
        """Most tokens of an answer, OpenAI's default where none is given."""
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def grammar(self) -> Grammar | None:
        """What the text has to be, if anything."""
        value = self.value()
        return None if value is None else Grammar(value=value)

    def params(self, choice: int) -> SamplingParams:
        """Sampling parameters of one choice."""
        return self.sampling(choice, self.limit, self.logprobs, echo=bool(self.echo), grammar=self.grammar)
