"""The language of a text, by py3langid (Lui and Baldwin 2012), whose model comes with the package."""

import re
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

_FIGURE = re.compile(r"\S*\d\S*")


def language(text: str) -> dict[str, float]:
    """ISO 639-1 codes and their probabilities, the likeliest first."""
    return dict(_identifier().rank(_sample(text)))


def judged_language(text: str, languages: Iterable[str]) -> tuple[dict[str, float], Finding | None]:
    """What `language` says of a text, and the probability that it is in one of `languages`; None where all are welcome.

    Figures and capitals are of no language: a text that is in none of these is asked again without them, if enough is
    left.
    """
    wanted = frozenset(languages)
    ranked = language(text)
    found = _kept(ranked, wanted) if wanted else None
    if found and found.broken and len(rest := _plain(_sample(text))) >= MIN_CHARACTERS:
        anew = language(rest)
        if not (second := _kept(anew, wanted)).broken:
            return anew, second
    return ranked, found


def _kept(ranked: dict[str, float], wanted: frozenset[str]) -> Finding:
    return Finding("language", float(sum(ranked.get(code, 0.0) for code in wanted)), MIN_PROBABILITY, least=True)


def _plain(text: str) -> str:
    """A text in small letters, without figures."""
    return re.sub(r"[^\S\n]+", " ", _FIGURE.sub("", text)).lower()


def known_languages() -> list[str]:
    """The codes that can be told."""
    return sorted(_identifier().labels)


def forget() -> None:
    """Free the model, some 70 MB, until a language is asked for again, which takes about half a second."""
    _identifier.cache_clear()


def _sample(text: str) -> str:
    if len(text) <= _WINDOWS * _WINDOW:
        return text
    step = (len(text) - _WINDOW) // (_WINDOWS - 1)
    return "\n".join(text[at * step : at * step + _WINDOW] for at in range(_WINDOWS))


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
