"""How many prompt tokens a step may take beside sequences that decode, learned from the times of steps.

Sarathi-Serve (2403.02310, section 4.3) chooses the token budget of a step from the time between tokens that is wanted;
what makes it grow is the response ratio of prompts, after highest-response-ratio-next scheduling (Hansen, 1971).
"""

from collections.abc import Iterable

_FIRST = 64
"""Prompt tokens before anything is measured."""
_LEAST = 16
"""Prompts go on by so many at least, however slow decoding alone may be."""
_WEIGHT = 0.2
"""Of a new measurement, against those before."""
_MOST = 4.0
"""Times `seconds` that a step may last where a prompt is late."""


class Pace:
    """Keeps steps with decoding sequences near `seconds`, and at four times that where prompts wait.

    A step is taken to last a time for the sequences that decode, known by the power of two of their number, and one for
    each prompt token; both follow the latest steps.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._decoding: dict[int, float] = {}
        self._per_token: float | None = None

    def prompt_tokens(self, decoding: int, waits: Iterable[tuple[float, int]] = ()) -> int:
        """The prompt tokens of a step beside `decoding` sequences, given for each prompt how many seconds it has waited
        and of how many tokens it is.

        A prompt's response ratio is what it has waited over what it takes alone, or over `seconds` where that is more:
        at 1 it is in time. The step may last as many times `seconds` as the largest is above that, from once to four
        times.
        """
        if self._per_token is None:
            return _FIRST
        ratio = max((wait / max(count * self._per_token, self.seconds) for wait, count in waits), default=0.0)
        lasting = self.seconds * min(max(ratio - 1, 1.0), _MOST)
        return max(_LEAST, int((lasting - self._expected(decoding)) / self._per_token))

    def observe(self, prompt_tokens: int, decoding: int, seconds: float) -> None:
        """Learn from a step that computed tokens of prompts beside `decoding` sequences."""
        if self._per_token is None and prompt_tokens:
            self._per_token = max(seconds - self._expected(decoding), 1e-7) / prompt_tokens
        per_token = self._per_token or 0.0
        of_prompts = per_token * prompt_tokens
        if decoding:
            self._decoding.setdefault(decoding.bit_length(), max(seconds - of_prompts, 0.0))
        of_decoding = self._expected(decoding)
        # The larger part is the likelier one to be wrong: each is corrected by the square of its share (least mean
        # squares), so that steps with few tokens of prompts tell about decoding, and those with many about prompts.
        squares = of_prompts**2 + of_decoding**2
        wrong = _WEIGHT * (seconds - of_prompts - of_decoding) / squares if squares else 0.0
        if prompt_tokens:
            self._per_token = max(per_token + wrong * of_prompts**2 / prompt_tokens, 1e-7)
        if decoding:
            self._decoding[decoding.bit_length()] = of_decoding + wrong * of_decoding**2

    def _expected(self, decoding: int) -> float:
        """Seconds of decoding; where nothing is known of so many sequences, those of the next fewer."""
        known = [number for number in self._decoding if number <= decoding.bit_length()]
        return self._decoding[max(known)] if known and decoding else 0.0
