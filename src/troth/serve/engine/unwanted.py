"""Tokens that a request does not want: all but those it allows, and the last ones of words that it calls bad."""

from collections.abc import Iterable

import torch

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.sampling_params import SamplingParams

# So much less that none is drawn beside one that is wanted, and yet before what a grammar forbids.
_AGAINST = 1e4


class Unwanted:
    """Speaks against these tokens. A bad word is barred behind a space and without one; of one of several tokens the
    last is, where the others have just been written."""

    def __init__(self, tokenizer: Tokenizer, allowed: Iterable[int], bad_words: Iterable[str]):
        self._allowed_A = torch.tensor(sorted(set(allowed)), dtype=torch.long)
        self._bad: list[tuple[list[int], int]] = []
        for word in bad_words:
            for spelt in (word, " " + word.lstrip()):
                if ids := tokenizer.encode(spelt, behind="text"):
                    self._bad.append((ids[:-1], ids[-1]))

    @classmethod
    def of(cls, params: SamplingParams, tokenizer: Tokenizer) -> "Unwanted | None":
        """None where a request has none."""
        named = params.allowed_token_ids or params.bad_words
        return cls(tokenizer, params.allowed_token_ids, params.bad_words) if named else None

    def avoid(self, logits_V: torch.Tensor, tokens: list[int], start: int) -> None:
        """Lower, in place, the scores of what is unwanted behind `tokens`, generated from `start` on."""
        if len(self._allowed_A):
            self._allowed_A = self._allowed_A.to(logits_V.device)
            kept_A = logits_V[self._allowed_A]
            logits_V -= _AGAINST
            logits_V[self._allowed_A] = kept_A
        ends = {
            last for before, last in self._bad
            if len(before) <= len(tokens) - start and tokens[len(tokens) - len(before) :] == before
        }  # fmt: skip
        if ends:
            logits_V[list(ends)] -= _AGAINST
