"""Viewpoints: within a topic, texts that judge in the same words.

A text's viewpoint is read from the words that praise, blame or take a stand (the lexicon of `filter/loaded.py`, and the
verbs and nouns of stance below). Texts with fewer than three of them are plain: they have none. The rest of a topic is
clustered by which of these words they use, so a viewpoint says how a matter is spoken of, not who is right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from troth.curate.balance.clusters import Rows, k_means, unit
from troth.curate.balance.topics import Topics
from troth.curate.filter.loaded import BLAME, PRAISE
from troth.curate.filter.words import Words, among, hash_words

STANCE = (
    "advocate advocates against agree agrees argue argues ban banned benefit benefits blame blamed burden condemn "
    "condemned condemns costly critics criticise criticised criticize criticized danger dangerous defend defended "
    "defends demand demands deny denies disagree disagrees endanger endorse endorsed equality fair fairness favour "
    "favor fear fears freedom harm harmful harms helpful illegal illegitimate injustice justice "
    "justified legitimate liberty obligation oppose opposed opposes opposition ought "
    "oppression overdue preserve promote protest reform reject rejected rejects "
    "resist rights risk risks should succeed success support supported supporters supports "
    "threat threaten threatens unacceptable unfair unjust unnecessary unsafe urge urges urgent victim victims "
    "violate violates violation wasteful welcome welcomed wrong"
)
_WORDS = tuple(sorted(set(f"{PRAISE} {BLAME} {STANCE}".split())))
_HASHES = hash_words(_WORDS)
_SPELLED = {int(Words(word).lower[0]): word for word in _WORDS}
FEWEST = 3
"""Judging words in the head of a text that has a viewpoint."""
MOST = 4
"""Viewpoints of a topic at most."""
_A_VIEWPOINT = 20
"""Texts for each viewpoint that is looked for."""
PLAIN = "plain"


_SURE_OF = 10
"""Documents from which what becomes of a viewpoint is no accident."""


@dataclass(frozen=True)
class Viewpoints:
    """Of each topic, `centres` of shape [viewpoints, words] and `names`, the words that mark them."""

    centres: tuple[Rows, ...]
    names: tuple[tuple[str, ...], ...]

    def of(self, topic: int, words: Words) -> str:
        """The cluster of a text: `topic.number`, `topic.plain`, or `none` where it has no topic."""
        if topic < 0:
            return "none"
        row = _judging(words)
        if row.sum() < FEWEST or not len(self.centres[topic]):
            return f"{topic}.{PLAIN}"
        return f"{topic}.{int(np.argmax(self.centres[topic] @ np.sqrt(row)))}"


@dataclass(frozen=True)
class Retained:
    """How many documents of a viewpoint there were, copies of others aside, and how many are left."""

    viewpoint: str
    before: int
    after: int

    @property
    def share(self) -> float:
        """Of the documents that are left."""
        return self.after / self.before


def fit_viewpoints(heads: Sequence[str], topics: Topics, seed: int) -> Viewpoints:
    """Viewpoints of a sample of texts, topic by topic."""
    found: list[list[Rows]] = [[] for _ in topics.names]
    for head in heads:
        words = Words(head)
        topic, row = topics.of(words), _judging(words)
        if topic >= 0 and row.sum() >= FEWEST:
            found[topic].append(np.sqrt(row))
    centres: list[Rows] = []
    for rows in found:
        k = min(MOST, len(rows) // _A_VIEWPOINT)
        centres.append(k_means(unit(np.stack(rows)), k, seed) if k else np.zeros((0, len(_HASHES)), np.float32))
    return Viewpoints(tuple(centres), tuple(tuple(_name(centre) for centre in some) for some in centres))


def retention(before: Mapping[str, int], after: Mapping[str, int]) -> list[Retained]:
    """What is left of each viewpoint's documents, the least retained first; plain texts and those without a topic take
    part in no view."""
    rows = [
        Retained(name, count, after.get(name, 0))
        for name, count in before.items()
        if count and not name.endswith(PLAIN) and name != "none"
    ]
    return sorted(rows, key=lambda row: (row.share, row.viewpoint))


def lost_viewpoint(kept: Sequence[Retained], most: float) -> str:
    """Why a policy that keeps these is refused: it loses more than `most` of a viewpoint; empty where it does not."""
    for row in kept:
        if row.before >= _SURE_OF and 1 - row.share > most:
            return (
                f"of the viewpoint {row.viewpoint} ({row.before} documents) {1 - row.share:.0%} went; at most "
                f"{most:.0%} may go (curate.max_viewpoint_loss)"
            )
    return ""


def _judging(words: Words) -> Rows:
    """How often each judging word stands in a text's head, shape [words]."""
    lower = words.lower
    found = lower[among(lower, _HASHES)]
    return np.bincount(np.searchsorted(_HASHES, found), minlength=len(_HASHES)).astype(np.float32)


def _name(centre: Rows) -> str:
    tops = [place for place in np.argsort(-centre, kind="stable").tolist()[:4] if centre[place] > 0]
    return ", ".join(_SPELLED[int(_HASHES[place])] for place in tops)
