"""How many prompt tokens a step may take beside sequences that decode, learned from the times of steps.

Sarathi-Serve (2403.02310, section 4.3) chooses the token budget of a step from the time between tokens that is wanted.
"""

_FIRST = 64
"""Prompt tokens before anything is measured."""
_LEAST = 16
"""Prompts go on by so many at least, however slow decoding alone may be."""
_WEIGHT = 0.2
"""Of a new measurement, against those before."""


class Pace:
    """Keeps steps with decoding sequences near `seconds`: a step takes a time of its own and one for each prompt
    token, both averaged over the latest steps."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._decoding = 0.0
        self._per_token: float | None = None

    @property
    def prompt_tokens(self) -> int:
        """The prompt tokens of a step beside decoding sequences."""
        if self._per_token is None:
            return _FIRST
        return max(_LEAST, int((self.seconds - self._decoding) / self._per_token))

    def observe(self, prompt_tokens: int, decoding: int, seconds: float) -> None:
        """Learn from a step that computed tokens of prompts beside `decoding` sequences."""
        if prompt_tokens == 0:
            self._decoding += _WEIGHT * (seconds - self._decoding)
            return
        per_token = max(seconds - (self._decoding if decoding else 0.0), 1e-7) / prompt_tokens
        before = per_token if self._per_token is None else self._per_token
        self._per_token = before + _WEIGHT * (per_token - before)
