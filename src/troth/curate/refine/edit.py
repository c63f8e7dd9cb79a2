"""The smallest edit of one sentence: another object, its date, who says so, a label, or nothing at all."""

import re

LABEL = "(Other sources do not confirm this.)"
_ORDINARY = frozenset("The A An In At Its It Of On There Among This These Those Every Each Most Some Many".split())  # noqa: SIM905
_STOP = re.compile(r"[.!?][\"')\]”’]*$")


def corrected(sentence: str, start: int, end: int, answer: str) -> str:
    """The sentence with `answer` in the place of its characters `start` to `end`."""
    return sentence[:start] + answer + sentence[end:]


def dated(sentence: str, at: int, published: str, newer_on: str, newer_text: str) -> str:
    """The sentence with the year in which it was said, unless it tells that year, followed by what newer text says in
    its own words.

    `at` is where the object stands, since a name that opens the sentence keeps its capital; dates are ISO.
    """
    newer = f" By {newer_on[:4]}: {_stopped(newer_text)}" if newer_on and newer_text else ""
    if re.search(rf"\b{published[:4]}\b", sentence):
        return f"{_stopped(sentence)}{newer}" if newer else sentence
    return f"As of {published[:4]}, {_stopped(_inside(sentence, at))}{newer}"


def attributed(sentence: str, at: int, who: str) -> str:
    """The sentence as the word of a publisher."""
    return f"According to {who}, {_inside(sentence, at)}"


def labelled(sentence: str) -> str:
    """The sentence, followed by the remark that nobody confirms it."""
    return f"{sentence} {LABEL}"


def _inside(sentence: str, at: int) -> str:
    """How the sentence goes on after other words: an ordinary first word loses its capital."""
    word = re.match(r"\w+", sentence)
    return sentence[0].lower() + sentence[1:] if at > 0 and word and word.group() in _ORDINARY else sentence


def _stopped(sentence: str) -> str:
    return sentence if _STOP.search(sentence) else f"{sentence}."
