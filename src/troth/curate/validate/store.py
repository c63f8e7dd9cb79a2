"""All sentences that may testify, in flat files on disk: their words, stems and values, found by number or by search.

Columns are appended while the corpus streams past and mapped into memory afterwards: a process holds what it touches.
A stem is a number of 23 bits, a hash and whether it is all digits; collisions are rare enough (2^22 places for some
10^5 stems) to count as noise. tantivy finds the sentences that share rare stems.
"""

import json
import marshal
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tantivy

from troth.curate.records import short_hash
from troth.curate.validate.company import Company
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


COLUMNS = "text", "stems", "values", "about", "speakers"
"""Pieces of sentences, a file each; `numbers.bin` says where they begin and end (see `build_store`)."""
_START, _SOURCE, _PUBLISHER, _PUBLISHED = range(2 * len(COLUMNS), 2 * len(COLUMNS) + 4)


@lru_cache(1 << 12)
def mark(name: str) -> int:
    """63 bits of a hash, by which sources, publishers and dates are compared many at a time."""
    return int(short_hash(name), 16) >> 1


def analyzer() -> tantivy.TextAnalyzer:
    """Words to stems: lower case, ASCII, without English function words."""
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    builder = builder.filter(tantivy.Filter.lowercase()).filter(tantivy.Filter.ascii_fold())
    return builder.filter(tantivy.Filter.stopword("english")).filter(tantivy.Filter.stemmer("english")).build()


@lru_cache(1 << 18)
def stem_number(stem: str) -> int:
    """23 bits: a hash, and in the last bit whether the stem is all digits."""
    return (zlib.crc32(stem.encode()) % PLACES) << 1 | stem.isdigit()


def know_whitespace(index: tantivy.Index) -> None:
    """Stems are indexed as they are, between spaces."""
    index.register_tokenizer("whitespace", tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())


def _mapped(path: Path) -> np.ndarray:
    # A plain view, since a memmap makes a new object of its own kind for every slice.
    return np.memmap(path, np.uint8, "r").view(np.ndarray) if path.stat().st_size else np.zeros(0, np.uint8)


class Store:
    """A finished store, read."""

    def __init__(self, folder: Path):
        self._columns = [_mapped(folder / f"{name}.bin") for name in COLUMNS]
        self._numbers = _mapped(folder / "numbers.bin").view(np.int64).reshape(-1, _PUBLISHED + 1)
        self._stems = self._columns[COLUMNS.index("stems")].view(np.uint32)
        self._rarity = np.load(folder / "rarity.npy", mmap_mode="r").view(np.ndarray)
        about = json.loads((folder / "about.json").read_text())
        self.publishers: list[str] = about["publishers"]
        self.names = frozenset(about["names"])
        self._stem_of = analyzer()
        index = tantivy.Index.open(str(folder / "index"))
        know_whitespace(index)
        index.reload()
        self._searcher, self._schema = index.searcher(), index.schema
        self._documents = np.load(folder / "documents.npy", mmap_mode="r").view(np.ndarray)
        self.phrases, self.company = Phrases(folder / "phrases.npy"), Company(folder / "company.npy")
        self._asked = np.zeros(2 * PLACES, bool)
        self.get = lru_cache(_KEPT)(self._get)
        self.rarity = lru_cache(1 << 18)(self._rarity_of)
        self.stem = lru_cache(1 << 13)(self._stem)
        self._terms = lru_cache(16)(self._analyzed)
        self._term = lru_cache(1 << 14)(self._make_term)
        self._speaker = lru_cache(1 << 10)(self._read_speaker)

    def __len__(self) -> int:
        return len(self._numbers)

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
        bounds = self._numbers[at, 2:4] // 4  # of the second column, stems of 4 bytes each
        stems_S = np.concatenate([self._stems[first:last] for first, last in bounds.tolist()])
        rarity_S = self._rarity[stems_S >> 1].astype(np.float64)
        starts_N = np.cumsum(bounds[:, 1] - bounds[:, 0])
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
        numbers = self._numbers[at].tolist()
        text, stems, values, about = (
            column[first:last].tobytes()
            for column, first, last in zip(self._columns[:-1], numbers[:8:2], numbers[1:8:2], strict=True)
        )
        found = frozenset(np.frombuffer(stems, np.uint32).tolist())
        found_values = tuple(Value(*one) for one in marshal.loads(values))
        return Stored(
            at,
            text.decode(),
            numbers[_START],
            self._speaker(*numbers[8:10]),
            found,
            found_values,
            about.decode(),
        )

    def _read_speaker(self, first: int, last: int) -> Speaker:
        return Speaker(*marshal.loads(self._columns[-1][first:last].tobytes()))

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
        at = first + int(np.searchsorted(self._numbers[first:last, _START], start))
        return at if at < last and self._numbers[at, _START] == start else None

    def standing(self, source: str, start: int, at: int) -> str:
        """The key of the value that character `at` of the sentence there begins; empty where there is none."""
        number = self.number_at(source, start)
        values = self.get(number).values if number is not None else ()
        return next((value.key for value in values if value.start == at), "")

    def places(self, at: np.ndarray | list[int]) -> np.ndarray:
        """Where sentences stand, as numbers [N, 4]: first character, and marks of source, publisher and date."""
        return self._numbers[at, _START:]

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
