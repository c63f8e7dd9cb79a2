"""Evidence: sentences of other publishers that speak of the same thing.

tantivy finds neighbours by BM25. How much two sentences have in common is the summed rarity of the stems they share
(squared inverse document frequency, so that one name outweighs many ordinary words); what only one publisher ever says
counts nothing, since nobody could share it.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import tantivy

from troth.curate.validate.claims import Claim
from troth.curate.validate.sentences import Sentence
from troth.curate.validate.values import Value, comparable, find_values, same

_STEM = "stem"
_SUBJECT_STEMS = 3
_FAR = 16


@dataclass(frozen=True)
class Witness:
    """A sentence that states `value` where the claim has its own.

    All from 0 to 1: `likeness` is the cosine of the two sentences without the values; `mutual` is 1 where each is the
    other's nearest among its publisher's sentences; `subject` the share of the claim's three rarest stems that the
    witness has too; `alone` is lower the more values of the sentence might be meant.
    """

    sentence: Sentence
    value: Value
    likeness: float
    mutual: float
    subject: float
    alone: float


class Evidence:
    """An index of sentences, searched for what bears on a claim."""

    def __init__(self, sentences: list[Sentence], names: set[str], limit: int):
        self.sentences = sentences
        self.values = [find_values(sentence.text, names) for sentence in sentences]
        builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        builder = builder.filter(tantivy.Filter.lowercase()).filter(tantivy.Filter.ascii_fold())
        builder = builder.filter(tantivy.Filter.stopword("english")).filter(tantivy.Filter.stemmer("english"))
        self._analyzer = builder.build()
        self.stems = [self._stem(sentence.text) for sentence in sentences]
        self.rarity = self._rarities()
        self._limit = limit
        self._searcher, self._schema = self._index()
        self._near: dict[tuple[str, frozenset[str]], dict[int, int]] = {}

    def witnesses(self, claim: Claim) -> list[Witness]:
        """What neighbouring sentences state in the place of the claim's value: that value, or comparable ones that the
        claim's sentence does not hold itself.

        A sentence that agrees with the claim's in two other values already tells the same fact; what else it
        mentions contradicts nothing.
        """
        text, value = claim.sentence.text, claim.value
        context = self._stem(f"{text[: value.start]} {text[value.end :]}") - self._stem(value.text)
        # A value cut out of a word, such as the 5 of e5, leaves a stem that no sentence has.
        words = (stem for stem in context if not stem.isdigit())
        subject = sorted(words, key=lambda stem: (-self.rarity.get(stem, 0.0), stem))[:_SUBJECT_STEMS]
        others = [v for v in find_values(text) if v.end <= value.start or v.start >= value.end]
        whole, rarest = self._weight(context), self._weight(subject)
        found: list[Witness] = []
        stems = self._stem(text)
        for at, rank in self._neighbours(claim.sentence.document.publisher, stems).items():
            agreed = sum(any(same(mine, theirs) for theirs in self.values[at]) for mine in others)
            stated = [
                theirs for theirs in self.values[at]
                if comparable(value, theirs) and not any(same(theirs, mine) for mine in others)
                and (agreed < 2 or same(theirs, value))
            ]  # fmt: skip
            for theirs in stated:
                rest = self.stems[at] - self._stem(theirs.text)
                found.append(
                    Witness(
                        self.sentences[at],
                        theirs,
                        likeness=self._weight(context & rest) / max(1e-9, whole * self._weight(rest)) ** 0.5,
                        mutual=(rank * self._rank_back(at, claim.sentence, stems)) ** -0.5,
                        subject=self._weight(s for s in subject if s in rest) / max(1e-9, rarest),
                        alone=1 / len(stated),
                    )
                )
        return found

    def commonness(self, value: Value) -> float:
        """How usual a name is: 0 for the rarest, towards 2 for one that every other sentence has; 0 for numbers."""
        if value.kind != "name":
            return 0.0
        rarity = [self.rarity.get(stem, 0.0) for stem in self._stem(value.text)]
        return max((2 - r**0.5 / 5 for r in rarity if r > 0), default=0.0) if rarity else 0.0

    def _stem(self, text: str) -> frozenset[str]:
        return frozenset(self._analyzer.analyze(text))

    def _weight(self, stems: Iterable[str]) -> float:
        return sum(self.rarity.get(stem, 0.0) for stem in stems)

    def _rarities(self) -> dict[str, float]:
        counts: Counter[str] = Counter()
        publishers: dict[str, set[str]] = defaultdict(set)
        for sentence, stems in zip(self.sentences, self.stems, strict=True):
            counts.update(stems)
            for stem in stems:
                publishers[stem].add(sentence.document.publisher)
        whole = len(self.sentences)
        return {s: math.log(whole / n) ** 2 if len(publishers[s]) > 1 else 0.0 for s, n in counts.items()}

    def _index(self) -> tuple[tantivy.Searcher, tantivy.Schema]:
        schema = tantivy.SchemaBuilder()
        schema.add_integer_field("at", stored=True)
        schema.add_text_field(_STEM, tokenizer_name="whitespace")
        index = tantivy.Index(schema.build())
        index.register_tokenizer("whitespace", tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())
        writer = index.writer(num_threads=1)
        for at, stems in enumerate(self.stems):
            writer.add_document(tantivy.Document(at=at, **{_STEM: " ".join(sorted(stems))}))
        writer.commit()
        index.reload()
        return index.searcher(), index.schema

    def _neighbours(self, publisher: str, stems: frozenset[str]) -> dict[int, int]:
        """The sentences of other publishers nearest to one of these stems, each with its rank among its publisher's;
        a sentence with several claims is searched for once."""
        if (publisher, stems) not in self._near:
            self._near[publisher, stems] = self._search(publisher, stems)
        return self._near[publisher, stems]

    def _search(self, publisher: str, stems: frozenset[str]) -> dict[int, int]:
        rare = [stem for stem in sorted(stems) if self.rarity.get(stem, 0.0) > 0]
        terms = [
            (tantivy.Occur.Should, tantivy.Query.boost_query(query, self.rarity[stem]))
            for stem, query in ((stem, tantivy.Query.term_query(self._schema, _STEM, stem)) for stem in rare)
        ]
        hits = self._searcher.search(tantivy.Query.boolean_query(terms), 2 * self._limit).hits if terms else []
        found = [int(self._searcher.doc(address)["at"][0]) for _, address in hits]
        found = [at for at in found if self.sentences[at].document.publisher != publisher][: self._limit]
        words = _words(stems)
        closeness = {at: self._closeness(words, self.stems[at]) for at in found}
        ranks: dict[int, int] = {}
        seen: Counter[str] = Counter()
        for at in sorted(found, key=lambda at: -closeness[at]):
            theirs = self.sentences[at].document.publisher
            seen[theirs] += 1
            ranks[at] = seen[theirs]
        return ranks

    def _rank_back(self, at: int, sentence: Sentence, stems: frozenset[str]) -> int:
        """The rank that a sentence of these stems has among its publisher's in the eyes of sentence `at`; _FAR where
        it is farther than all that a search from there finds."""
        words = _words(self.stems[at])
        near = self._neighbours(self.sentences[at].document.publisher, self.stems[at])
        closeness = {other: self._closeness(words, self.stems[other]) for other in near}
        own = self._closeness(words, stems)
        if own == 0 or own < min(closeness.values(), default=0.0):
            return _FAR
        place = sentence.document.source, sentence.start
        rank = 1
        for other, close in closeness.items():
            theirs = self.sentences[other]
            same_publisher = theirs.document.publisher == sentence.document.publisher
            rank += close > own and same_publisher and (theirs.document.source, theirs.start) != place
        return rank

    def _closeness(self, words: frozenset[str], stems: frozenset[str]) -> float:
        return self._weight(words & stems) / max(1e-9, self._weight(stems)) ** 0.5


def _words(stems: frozenset[str]) -> frozenset[str]:
    return frozenset(stem for stem in stems if not stem.isdigit())
