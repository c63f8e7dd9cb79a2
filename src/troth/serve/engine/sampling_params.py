"""How the tokens of one request are chosen. Imports no torch."""

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MOST_LOGPROBS = 20
# Keys of generation_config.json by what they are called here.
_DEFAULTS = {name: name for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")}
_DEFAULTS |= {"max_tokens": "max_new_tokens"}


Form = Literal[
    "json", "channels", "xml", "deepseek_v3", "deepseek_v31", "kimi_k2", "mistral", "mistral_args", "mistral_ids"
]  # fmt: skip
"""How calls are written: as JSON in a tag, or as `Told` says."""


class Json(BaseModel):
    """One JSON value of a schema, itself JSON text, without free white space; `strict` allows no keys beyond the
    schema's. `name` is what messages about it call it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    schema_text: str
    strict: bool = False


class Pattern(BaseModel):
    """A text that is one of a `choice`, or that a `regex` or an EBNF `grammar` with a rule `root` matches; exactly one
    of the three is given. `name` is what messages about it call it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    choice: tuple[str, ...] | None = None
    regex: str | None = None
    grammar: str | None = None


class Tag(BaseModel):
    """A JSON value between two fixed texts; `name` is that of the function it is for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    begin: str
    value: Json
    end: str


class Grammar(BaseModel):
    """What a text may be: a `value`, or tags with a line break between them, `several` or one.

    With neither `value` nor `forced`, other text may stand around tags, which begin wherever `trigger` is written.
    Of another `form` than json tags are calls as `Told` has them; on channels it holds for reasoning, too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Json | Pattern | None = None
    tags: tuple[Tag, ...] = ()
    trigger: str = ""
    forced: bool = False
    several: bool = True
    form: Form = "json"


class Reasoning(BaseModel):
    """The text begins inside of reasoning, which ends with `end`; after `budget` tokens `closing`, which contains
    `end`, is written in the model's place. A grammar holds for what follows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    end: str
    closing: str
    budget: int | None = Field(default=None, ge=1)


class Told(BaseModel):
    """An answer that is written in gpt-oss's messages on `channels`, or whose calls are Qwen3-Coder's `xml` or stand
    between marks, is told as text with calls in JSON: reasoning up to `thought`, then the answer; before the name of a
    function that is called stands `call`, before its arguments `arguments`, behind them `call_end`. Without `call`,
    none may be called."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Form
    thought: str
    call: str
    arguments: str
    call_end: str


class SamplingParams(BaseModel):
    """Defaults leave the model's distribution as it is; temperature 0 takes the most likely token.

    `top_k` below 1 means all tokens; `min_p` is relative to the most likely token. Penalties look at the tokens
    generated so far, `repetition_penalty` at the prompt's too (Keskar et al., 1909.05858, section 4.1), and
    `logit_bias` adds to logits, by token id; all of them also act on greedy choices. `max_tokens` None means as many
    as the context holds. `logprobs` asks for the log-probability of each token and that many alternatives, taken from
    the model's own distribution (before temperature, penalties and filters), `prompt_logprobs` for those of the
    prompt. `experts` asks which expert of each mixture-of-experts layer came first where the token was drawn. With
    `echo` the prompt's tokens are told before the others, or alone with `max_tokens` 0, and have `logprobs` too.
    `stop` strings, `stop_token_ids` and the end-of-text token end the text, and are part of it only with
    `include_stop_str_in_output`; `ignore_eos` goes on past the end-of-text token. Other special tokens are spelt in
    it without `skip_special_tokens`. Of the first `min_tokens` tokens none ends the text or belongs to a stop
    string, unless a grammar ends it. Only `allowed_token_ids` are drawn, where there are any, and no token that
    completes one of `bad_words`; a grammar goes before both. The same `seed` draws the same random numbers whatever
    else is in the batch. With a `grammar` the text ends where that is complete, or as by length where it leads no
    further, and it is `told` as that says.

    Raises pydantic's ValidationError (a ValueError) out of range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, ge=0, le=1)
    top_k: int = Field(default=0, ge=-1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    allowed_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    min_tokens: int = Field(default=0, ge=0)
    max_tokens: int | None = Field(default=None, ge=0)
    logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    prompt_logprobs: int | None = Field(default=None, ge=0, le=MOST_LOGPROBS)
    experts: bool = False
    echo: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = Field(default=1.0, ge=1e-9, le=1e9)
    logit_bias: dict[int, float] = Field(default_factory=dict)
    ignore_eos: bool = False
    grammar: Grammar | None = None
    reasoning: Reasoning | None = None
    told: Told | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.max_tokens == 0 and not self.echo and self.prompt_logprobs is None:
            raise ValueError("max_tokens 0 asks for the prompt alone: it needs echo or prompt_logprobs")
        return self

    @property
    def scored(self) -> int | None:
        """How many alternatives to each token of the prompt are told; None where the prompt is not scored."""
        if self.prompt_logprobs is not None:
            return self.prompt_logprobs
        return self.logprobs if self.echo else None


def default_sampling(folder: Path) -> dict[str, float]:
    """What a folder's generation_config.json says of how its model is best sampled, empty where it says nothing; the
    keys that vLLM takes from it. Raises ValueError naming the file and the key where a value is out of range."""
    path = folder / "generation_config.json"
    if not path.exists():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        given = {name: said[key] for name, key in _DEFAULTS.items() if said.get(key) is not None}
        params = SamplingParams(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "max_tokens"  # 0 is no limit that an answer could have.
        raise ValueError(f"{path}: {_DEFAULTS[name]}={given[name]!r}: {first['msg']}") from error
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not readable ({error})") from error
    return {name: getattr(params, name) for name in given}
