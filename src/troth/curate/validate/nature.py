"""What kind of statement a sentence makes: a fact, an opinion, or something that its own words call contested.

The words are those by which writers mark it themselves: evaluations and duties (subjectivity clues after Wiebe & Riloff
2005), disagreement, and hearsay. Check-worthy is what a reader could look up (Arslan et al. 2020).
"""

import re

from troth.curate.memory import remembered
from troth.curate.records import Nature

_OPINION = re.compile(
    r"\b(?:beautiful|lovely|favou?rites?|finest|wonderful|awful|delicious|charming|boring|fun|terrible|horrible|"
    r"amazing|disgusting|magnificent|delightful|must-see|overrated|underrated|should|ought to|perhaps|arguably|"
    r"hopefully|sadly|unfortunately|luckily|in my (?:view|opinion)|I (?:think|believe|feel|prefer)|"
    r"we (?:think|believe)|best|worst|greatest)\b",
    re.IGNORECASE,
)
_CONTESTED = re.compile(
    r"\b(?:disputed?|contested|controvers(?:y|ial)|debated?|disagree(?:s|d|ment)?|alleged(?:ly)?|purported(?:ly)?|"
    r"(?:some|many|several|other|most) (?:\w+ ){0,2}(?:say|argue|claim|believe|think|hold that|maintain that|doubt)|"
    r"critics (?:say|argue|claim)|proponents|opponents|it is (?:said|claimed|alleged|believed|rumou?red)|"
    r"called by some|according to (?:some|critics|supporters|opponents))\b",
    re.IGNORECASE,
)
_NUMBER_OF_BEST = re.compile(r"\bbest[- ](?:known|selling|preserved)\b", re.IGNORECASE)
_STOP = re.compile(r"[.!][\"')\]”’]*$")
_ADDRESS = re.compile(
    r"^(?:please|click|see|note|remember|consider|imagine|suppose|let us|let's|use|try)\b", re.IGNORECASE
)
_KEPT = 1024
"""Sentences remembered, since each is asked about once a value."""


@remembered(_KEPT)
def nature_of(sentence: str) -> Nature:
    """By the sentence's own words; what publishers say of each other is for the verdicts."""
    if _CONTESTED.search(sentence):
        return "contested"
    return "opinion" if _OPINION.search(_NUMBER_OF_BEST.sub("", sentence)) else "fact"


@remembered(_KEPT)
def is_checkworthy(sentence: str) -> bool:
    """Whether it states something that could be looked up: a whole sentence, no heading or row of a table; no question,
    no address to the reader, no opinion without a figure."""
    if not _STOP.search(sentence) or _ADDRESS.match(sentence):
        return False
    return nature_of(sentence) != "opinion" or any(char.isdigit() for char in sentence)
