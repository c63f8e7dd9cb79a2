"""Cross-examination: what a model that never saw a sentence puts into its blank."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Cloze:
    """A sentence with a blank: `options` are the texts that may stand between `prefix` and `suffix`. `source` is the
    document of the sentence; who is asked must not have learned from it."""

    source: str
    prefix: str
    suffix: str
    options: tuple[str, ...]


class Examiner(Protocol):
    """Anything that gives log-probabilities of answers to questions."""

    def ask(self, clozes: Sequence[Cloze]) -> list[list[float]]:
        """For each cloze the natural logarithm of each option's probability in the blank."""
        ...
