"""What the routes share: the engine, the model's name and its text side."""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from troth.model.chat_template import ChatTemplate
from troth.model.tokenizer import Tokenizer
from troth.serve.api.errors import ApiError, first_key
from troth.serve.api.logprobs import TokenTexts
from troth.serve.engine.sampling_params import Grammar, SamplingParams
from troth.serve.engine.thread import EngineThread

_LONG = 50_000
Tokens = TypeVar("Tokens")


async def encoded(characters: int, encode: Callable[[], Tokens]) -> Tokens:
    """Tokens of texts of so many characters; long ones in a thread, since what streams would stand still meanwhile."""
    return encode() if characters < _LONG else await asyncio.to_thread(encode)


@dataclass(frozen=True)
class Served:
    """A model under the name `model_id` and its `aliases`, and LoRA adapters over it under theirs; `context` is prompt
    and answer together, in tokens. `defaults` are for what requests leave open of how to sample."""

    engine: EngineThread
    tokenizer: Tokenizer
    template: ChatTemplate | None
    model_id: str
    context: int
    created: int = field(default_factory=lambda: int(time.time()))
    adapters: tuple[str, ...] = ()
    defaults: Mapping[str, float] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def sampling(self, asked: SamplingParams) -> SamplingParams:
        """What a request asked for, with the defaults of what it did not. Raises a 400 for an unknown token."""
        for name in ("logit_bias", "stop_token_ids", "allowed_token_ids"):
            self.check_tokens(getattr(asked, name), name)
        left = {name: value for name, value in self.defaults.items() if name not in asked.model_fields_set}
        return asked.model_copy(update=left) if left else asked

    @property
    def most_tokens(self) -> int | None:
        """Most tokens of an answer for which a request sets no limit; None where it may fill the context."""
        most = self.defaults.get("max_tokens")
        return None if most is None else int(most)

    def last_tokens(self, ids: list[int], count: int | None, answer: int | None = None) -> list[int]:
        """The last `count` tokens of a prompt, -1 as many as leave room for an answer of at most `answer` tokens, None
        all. The token that the tokenizer sets before texts stays where it is."""
        if count is None:
            return ids
        most = max(1, self.context - (answer or 1)) if count == -1 else count
        if len(ids) <= most:
            return ids
        begin = [ids[0]] if most > 1 and ids[0] == self.tokenizer.begin else []
        return begin + ids[len(ids) - most + len(begin) :]

    def check_tokens(self, ids: Iterable[int], param: str) -> None:
        """Raises a 400 about `param` where one of its token ids is unknown."""
        size = self.tokenizer.vocab_size
        if unknown := [token for token in ids if not 0 <= token < size]:
            says = f"{param}: token {unknown[0]} is unknown: ids go from 0 to {size - 1}"
            raise ApiError(400, says, param, "invalid_value")

    async def prepare(self, grammar: Grammar | None) -> None:
        """Compile what a text has to be, if anything. Raises a 400 that names what of it the compiler does not take."""
        if grammar is None:
            return
        try:
            await self.engine.prepare(SamplingParams(grammar=grammar))
        except ValueError as error:
            raise ApiError(400, str(error), first_key(str(error)), "invalid_value") from error

    @property
    def token_texts(self) -> TokenTexts:
        """Spellings of tokens, for log-probabilities."""
        return TokenTexts(self.tokenizer)

    def check_model(self, name: str | None) -> str | None:
        """The adapter that a name means, None for the model itself, which is also meant where none is named.

        Raises a 404 for any other name.
        """
        if name in self.adapters:
            return name
        if name is not None and name not in (self.model_id, *self.aliases):
            known = ", ".join(f"'{known}'" for known in (self.model_id, *self.aliases, *self.adapters))
            message = f"The model '{name}' does not exist; this server has {known}"
            raise ApiError(404, message, "model", "model_not_found")
        return None


def new_id(prefix: str, between: str = "-") -> str:
    """A fresh id for an answer."""
    return f"{prefix}{between}{uuid.uuid4().hex}"
