"""All sentences that may testify, in flat files on disk: their words, stems and values, found by number or by search.

`places.bin` and `stems.bin` are what sentences are compared by, `said.bin` what they say; `ends.bin` tells where each
one's pieces of the latter two begin and end.
A stem is a number of 23 bits, a hash and whether it is all digits; collisions are rare enough (2^22 places for some
10^5 stems) to count as noise. tantivy finds the sentences that share rare stems.
"""

import json
import marshal
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import tantivy

from troth.curate.memory import remembered
from troth.curate.records import short_hash
from troth.curate.validate.company import Company
from troth.curate.validate.mapped import Maps, Pieces
from troth.curate.validate.phrases import Phrases
from troth.curate.validate.values import Value

PLACES = 1 << 22
"""Of hashes of stems."""
_KEPT = 16_000
"""Sentences that a process keeps unpacked; about 30 MB."""


@dataclass(frozen=True)
class Speaker:
    """The document of a sentence, as far as a witness's word depends on it; `tier` 1 is a reference collection."""

    source: str
    doc_sha: str
    publisher: str
    published: str
    ancestors: tuple[int, ...]
    tier: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A sentence unpacked: `about` is the subject that binds it (see `subjects`)."""

    at: int
    text: str
    start: int
    speaker: Speaker
    stems: frozenset[int]
    values: tuple[Value, ...]
    about: str


@dataclass(frozen=True, slots=True)
class Bags:
    """The stems of N sentences, one after another: the stems and their rarity [S], where each sentence's begin [N], and
    each one's summed rarity [N]."""

    stems: np.ndarray
    rarity: np.ndarray
    starts: np.ndarray
    whole: np.ndarray


_START = 0
"""Which column of a place is the first character."""


@remembered(1 << 12)
def mark(name: str) -> int:
    """63 bits of a hash, by which sources, publishers and dates are compared many at a time."""
    return int(short_hash(name), 16) >> 1


@cache
def analyzer() -> tantivy.TextAnalyzer:
    """Words to stems: lower case, ASCII, without English function words."""
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    builder = builder.filter(tantivy.Filter.lowercase()).filter(tantivy.Filter.ascii_fold())
    return builder.filter(tantivy.Filter.stopword("english")).filter(tantivy.Filter.stemmer("english")).build()


@remembered(1 << 16)
def stem_number(stem: str) -> int:
    """23 bits: a hash, and in the last bit whether the stem is all digits."""
    return (zlib.crc32(stem.encode()) % PLACES) << 1 | stem.isdigit()


def know_whitespace(index: tantivy.Index) -> None:
    """Stems are indexed as they are, between spaces."""
    index.register_tokenizer("whitespace", tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())


class Store:
    """A finished store, read: a process maps what it searches by, and reads what sentences say as it needs them."""

    def __init__(self, folder: Path):
        self._maps = Maps()
        self._places = self._maps.array(folder / "places.bin", np.int64).reshape(-1, 4)
        self._ends = self._maps.array(folder / "ends.bin", np.int64).reshape(-1, 2)
        self._stems = self._maps.array(folder / "stems.bin", np.uint32)
        self._said, self._speakers = Pieces(folder / "said.bin"), Pieces(folder / "speakers.bin")
        self._rarity = Maps().array(folder / "rarity.bin", np.float32)
        self.names = frozenset(json.loads((folder / "about.json").read_text(encoding="utf-8"))["names"])
        self._stem_of = analyzer()
        index = tantivy.Index.open(str(folder / "index"))
        know_whitespace(index)
        index.reload()
        self._searcher, self._schema = index.searcher(), index.schema
        self._documents = self._maps.array(folder / "documents.bin", np.int64).reshape(-1, 3)
        self.phrases = Phrases(folder / "phrases", self._maps)
        self.company = Company(folder / "company", self._maps)
        self._asked = np.zeros(2 * PLACES, bool)
        self.get = remembered(_KEPT)(self._get)
        self.rarity = remembered(1 << 16)(self._rarity_of)
        self.stem = remembered(1 << 13)(self._stem)
        self._terms = lru_cache(16)(self._analyzed)
        self._term = remembered(1 << 14)(self._make_term)
        self._speaker = remembered(1 << 10)(self._read_speaker)

    def __len__(self) -> int:
        return len(self._places)

    def let_go(self) -> None:
        """Hold nothing of the files that grow with the corpus until it is looked at again."""
        self._maps.let_go()

    def _stem(self, text: str) -> frozenset[int]:
        """The stems of any text."""
        return frozenset(map(stem_number, self._terms(text)))

    def _analyzed(self, text: str) -> list[str]:
        return sorted(set(self._stem_of.analyze(text)))

    def weight(self, stems: Iterable[int]) -> float:
        """Summed rarity."""
        return sum(map(self.rarity, stems))

    def bags(self, at: np.ndarray) -> Bags:
        """The stems of some sentences [N], which have some."""
        if not len(at):
            return Bags(*(np.zeros(0, kind) for kind in (np.uint32, np.float64, np.int64, np.float64)))
        first_N, last_N = self._ends[at, 1], self._ends[at + 1, 1]
        pairs = zip(first_N.tolist(), last_N.tolist(), strict=True)
        stems_S = np.concatenate([self._stems[first:last] for first, last in pairs])
        rarity_S = self._rarity[stems_S >> 1].astype(np.float64)
        starts_N = np.add.accumulate(last_N - first_N)  # cumsum leaves a name behind (see `memory.sweep`)
        starts_N[1:], starts_N[0] = starts_N[:-1], 0
        return Bags(stems_S, rarity_S, starts_N, np.add.reduceat(rarity_S, starts_N))

    def shared(self, words: frozenset[int], bags: Bags) -> np.ndarray:
        """Summed rarity of what sentences share with these stems [N].

        Rarity is float32 and its sums float64, so that they are exact, in whatever order they are made.
        """
        if not len(bags.starts):
            return bags.whole
        asked = np.fromiter(words, np.int64, len(words))
        self._asked[asked] = True
        shared_N = np.add.reduceat(bags.rarity * self._asked[bags.stems], bags.starts)
        self._asked[asked] = False
        return shared_N

    def _rarity_of(self, stem: int) -> float:
        return float(self._rarity[stem >> 1])

    def _get(self, at: int) -> Stored:
        (said, stems), (said_end, stems_end) = self._ends[at : at + 2].tolist()
        text, values, about, speaker = marshal.loads(self._said.read(said, said_end))
        found = frozenset(self._stems[stems:stems_end].tolist())
        start = int(self._places[at, _START])
        return Stored(at, text, start, self._speaker(*speaker), found, tuple(starmap(Value, values)), about)

    def _read_speaker(self, first: int, last: int) -> Speaker:
        return Speaker(*marshal.loads(self._speakers.read(first, last)))

    def number_of(self, text: str, source: str, start: int) -> int | None:
        """The number of a sentence that stands there and says just this; None where the store has none."""
        at = self.number_at(source, start)
        return at if at is not None and self.get(at).text == text else None

    def number_at(self, source: str, start: int) -> int | None:
        """The number of the sentence that begins at a character of a source; None where the store has none."""
        found = int(np.searchsorted(self._documents[:, 0], mark(source)))
        if found == len(self._documents) or self._documents[found, 0] != mark(source):
            return None
        _, first, last = self._documents[found].tolist()
        at = first + int(np.searchsorted(self._places[first:last, _START], start))
        return at if at < last and self._places[at, _START] == start else None

    def standing(self, source: str, start: int, at: int) -> str:
        """The key of the value that character `at` of the sentence there begins; empty where there is none."""
        number = self.number_at(source, start)
        values = self.get(number).values if number is not None else ()
        return next((value.key for value in values if value.start == at), "")

    def places(self, at: np.ndarray | list[int]) -> np.ndarray:
        """Where sentences stand, as numbers [N, 4]: first character, and marks of source, publisher and date."""
        return self._places[at]

    def _make_term(self, stem: str, rarity: float) -> tuple[tantivy.Occur, tantivy.Query]:
        query = tantivy.Query.term_query(self._schema, "stem", stem)
        return tantivy.Occur.Should, tantivy.Query.boost_query(query, rarity)

    def search(self, text: str, limit: int) -> Sequence[int]:
        """Numbers of the sentences that share most with a text, best first."""
        terms = []
        for stem in self._terms(text):
            rarity = self.rarity(stem_number(stem))
            if rarity > 0:
                terms.append(self._term(stem, rarity))
        if not terms:
            return []
        # Without a count of all hits the search may pass over what can't be among the best.
        hits = self._searcher.search(tantivy.Query.boolean_query(terms), limit, count=False).hits
        found: list[Any] = self._searcher.fast_field_values("at", [address for _, address in hits])
        return found
