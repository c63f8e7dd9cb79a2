"""What each character is to the splitting of words: tables over Unicode's first planes, made once."""

import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

SPACE, WORD, PUNCTUATION, SYMBOL = range(4)
_KNOWN = 0x20000
_MARKS = frozenset("$+<=>^`|~")
"""Punctuation besides what Unicode calls so."""
_ROLES = ("/\\-+@~^|", "-–—~,", ":<>=/")
"""Marks that a word keeps at its ends; that part two letters; that part a letter from what stands before."""
LOWER, UPPER, DIGIT, LETTER, ENDS, CLOSES = (1 << bit for bit in range(6))
"""Kinds of characters; `ENDS` are marks that end a sentence, `CLOSES` those that may stand behind them."""


@dataclass(frozen=True)
class Characters:
    """Tables over characters: class, kind and lower case of each, and which marks play which role."""

    classes: npt.NDArray[np.uint8]
    kinds: npt.NDArray[np.uint8]
    lower: npt.NDArray[np.uint32]
    holds: npt.NDArray[np.bool_]
    dashes: npt.NDArray[np.bool_]
    joints: npt.NDArray[np.bool_]


@cache
def characters() -> Characters:
    """Class, kind and lower case of each character; those beyond the second plane count as its last, a letter."""
    known = [chr(point) for point in range(_KNOWN)]
    classes = np.fromiter((_class(char) for char in known), np.uint8, _KNOWN)
    kinds = np.fromiter((_kind(char) for char in known), np.uint8, _KNOWN)
    lower = np.fromiter((ord(low) if len(low := char.lower()) == 1 else ord(char) for char in known), np.uint32)
    classes[-1], kinds[-1] = WORD, LETTER
    holds, dashes, joints = (np.isin(np.arange(256 << 6), [ord(char) for char in some]) for some in _ROLES)
    return Characters(classes, kinds, lower, holds, dashes, joints)


def _class(char: str) -> int:
    if char.isspace():
        return SPACE
    category = unicodedata.category(char)
    if char in _MARKS or (category[0] == "P" and char != "•") or category == "Cc":
        return PUNCTUATION
    return WORD if char.isalnum() or category[0] == "M" else SYMBOL


def _kind(char: str) -> int:
    kind = DIGIT if char.isdigit() else ENDS if char in ".!?。\uff01\uff1f" else CLOSES if char in "\"'”’)]»" else 0
    if char.isalpha():
        kind |= LETTER | (LOWER if char.islower() else UPPER if char.isupper() else 0)
    return kind
