"""What may come next in one sequence: reasoning up to its end or its budget, then what a grammar allows."""

from collections.abc import Iterable

import torch

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.grammar import Grammars, Matcher
from troth.serve.engine.sampling_params import Reasoning, SamplingParams


class Guide:
    """Masks the scores of the next token and follows the tokens that are taken. A grammar that `covers` reasoning holds
    for all of the text, another for what follows it.

    `complete` tells that the text has ended by its grammar, and `stuck` that it can neither end by it nor go on.
    """

    def __init__(
        self, tokenizer: Tokenizer, end_tokens: Iterable[int], reasoning: Reasoning | None, matcher: Matcher | None,
        covers: bool = False,
    ):  # fmt: skip
        self._tokenizer = tokenizer
        self._ends = sorted(end_tokens)
        self._reasoning = reasoning
        self._matcher = matcher
        self._covers = covers
        self._spent = 0
        self._tail = b""
        self._forced: list[int] = []

    @classmethod
    def of(
        cls, params: SamplingParams, tokenizer: Tokenizer, end_tokens: Iterable[int], grammars: Grammars
    ) -> "Guide | None":
        """None where a request's text is free."""
        grammar, reasoning = params.grammar, params.reasoning
        if grammar is None:
            return None if reasoning is None else cls(tokenizer, end_tokens, reasoning, None)
        covers = grammar.form == "channels"
        return cls(tokenizer, end_tokens, reasoning, grammars.matcher(grammar), covers)

    @property
    def complete(self) -> bool:
        """Whether the grammar has come to its end."""
        return self._reasoning is None and self._matcher is not None and self._matcher.complete

    @property
    def stuck(self) -> bool:
        """Whether the grammar has led to where nothing may follow."""
        return self._in_force and self._matcher is not None and self._matcher.stuck

    @property
    def open(self) -> bool:
        """Whether neither a grammar nor a text that is written in the model's place says what comes next."""
        return not self._forced and (self._matcher is None or not self._in_force)

    @property
    def _in_force(self) -> bool:
        return self._covers or self._reasoning is None

    def mask(self, logits_V: torch.Tensor) -> None:
        """Make impossible, in place, what may not come next."""
        if self._forced:
            kept = logits_V[self._forced[0]].item()
            logits_V.fill_(-torch.inf)
            logits_V[self._forced[0]] = kept
        elif self._reasoning is not None and not self._covers:
            # Reasoning that ended the text would be one without an answer.
            logits_V[self._ends] = -torch.inf
        elif self._matcher is not None:
            self._matcher.mask(logits_V)

    def take(self, token: int, data: bytes) -> None:
        """Follow a token and its bytes."""
        forced = bool(self._forced)
        if forced:
            self._forced.pop(0)
        reasons = self._reasoning is not None
        if self._matcher is not None and (self._covers or not (reasons or forced)):
            self._matcher.take(token)
        if self._reasoning is not None:
            self._reason(self._reasoning, data)

    def _reason(self, reasoning: Reasoning, data: bytes) -> None:
        end = reasoning.end.encode()
        self._spent += 1
        self._tail += data
        if end in self._tail:
            self._reasoning = None
            return
        self._tail = self._tail[-len(end) :]
        if self._forced:
            return
        if self._matcher is not None and not self._covers and self._tail.endswith(end[:-1]):
            # The token that completes the end could bring a beginning of the answer that no grammar has seen.
            self._force(reasoning.closing[reasoning.closing.index(reasoning.end) + len(reasoning.end) - 1 :])
        elif data and reasoning.budget is not None and self._spent >= reasoning.budget:
            # Tokens without text stand between messages, where none can be ended.
            self._force(reasoning.closing)

    def _force(self, text: str) -> None:
        self._forced = self._tokenizer.encode_special(text)
