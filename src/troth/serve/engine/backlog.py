"""How fast waiting prompts have been worked off lately, and so how long a new one would wait. Imports no torch."""

import math

MEMORY_SECONDS = 20.0


class Backlog:
    """Prompt tokens over the time in which prompts were waiting, with a memory that fades (a factor of e in
    MEMORY_SECONDS). Time that went to other requests' answers counts too: that is what makes a prompt wait.
    """

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """A step of `seconds` in which prompts were waiting computed `tokens` of them."""
        fade = math.exp(-seconds / MEMORY_SECONDS)
        self._tokens = self._tokens * fade + tokens
        self._seconds = self._seconds * fade + seconds

    def seconds(self, tokens: int) -> float:
        """Time that this many tokens will take; 0 before anything is known."""
        return tokens * self._seconds / self._tokens if self._tokens else 0.0
