"""The language of a text, by py3langid (Lui and Baldwin 2012), whose model comes with the package."""

from collections.abc import Iterable
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from troth.curate.filter.finding import Finding

MIN_PROBABILITY = 0.5
"""Of the languages that are kept, together; ours, as FineWeb's 0.65 is for another classifier."""
MIN_CHARACTERS = 80
"""Of a shorter text the language cannot be told: one in four English sentences of 5 to 9 words is taken for another
language, one in a hundred of 15 words or more."""
_WINDOWS, _WINDOW = 4, 160
"""Pieces spread over the text, and the characters of each."""


def language(text: str) -> dict[str, float]:
    """ISO 639-1 codes and their probabilities, the likeliest first."""
    return dict(_identifier().rank(_sample(text)))


def kept_language(ranked: dict[str, float], languages: Iterable[str]) -> Finding | None:
    """The probability that the text is in one of the languages; None where all are welcome."""
    wanted = frozenset(languages)
    if not wanted:
        return None
    return Finding("language", float(sum(ranked.get(code, 0.0) for code in wanted)), MIN_PROBABILITY, least=True)


def known_languages() -> list[str]:
    """The codes that can be told."""
    return sorted(_identifier().labels)


def _sample(text: str) -> str:
    if len(text) <= _WINDOWS * _WINDOW:
        return text
    step = (len(text) - _WINDOW) // (_WINDOWS - 1)
    return "\n".join(text[at * step : at * step + _WINDOW] for at in range(_WINDOWS))


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
