"""Evidence: sentences of other publishers that speak of the same thing.

tantivy finds candidates by BM25; how much two sentences have in common is the summed rarity (squared inverse
document frequency, so that one name outweighs many ordinary words) of the stems that they share outside the value.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass

import tantivy

from troth.curate.validate.claims import Claim
from troth.curate.validate.sentences import Sentence
from troth.curate.validate.values import Value, comparable, find_values, same

_STEM = "stem"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Witness:
    """A sentence that states `value` where the claim has its own. `shared` is the rarity, in squared nats, of what the two
    sentences have in common; `likeness` relates it to all that either says (the cosine of the two, 0 to 1); `subject` is the share of the claim's other names
    that the witness names too, or a half where there are none."""

    sentence: Sentence
    value: Value
    shared: float
    likeness: float
    subject: float


class Evidence:
    """An index of sentences, searched for what bears on a claim."""

    def __init__(self, sentences: list[Sentence], names: set[str]):
        self.sentences = sentences
        self.values = [find_values(sentence.text, names) for sentence in sentences]
        builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        builder = builder.filter(tantivy.Filter.lowercase()).filter(tantivy.Filter.ascii_fold())
        builder = builder.filter(tantivy.Filter.stopword("english")).filter(tantivy.Filter.stemmer("english"))
        self._analyzer = builder.build()
        self.stems = [self.stem(sentence.text) for sentence in sentences]
        counts = Counter(stem for stems in self.stems for stem in stems)
        self.rarity = {stem: math.log(len(sentences) / count) ** 2 for stem, count in counts.items()}
        schema = tantivy.SchemaBuilder()
        schema.add_integer_field("at", stored=True)
        schema.add_text_field(_STEM, tokenizer_name="whitespace")
        self._index = tantivy.Index(schema.build())
        self._index.register_tokenizer("whitespace", tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())
        writer = self._index.writer(num_threads=1)
        for at, stems in enumerate(self.stems):
            writer.add_document(tantivy.Document(at=at, **{_STEM: " ".join(sorted(stems))}))
        writer.commit()
        self._index.reload()
        self._searcher = self._index.searcher()

    def stem(self, text: str) -> frozenset[str]:
        """Stems of the words that carry meaning."""
        return frozenset(self._analyzer.analyze(text))

    def near(self, sentence: Sentence, limit: int) -> list[int]:
        """Positions of the sentences of other publishers that share most with this one, best first."""
        terms = self.stem(sentence.text)
        query = tantivy.Query.boolean_query(
            [(tantivy.Occur.Should, self._term(term)) for term in sorted(terms)]
        )
        hits = self._searcher.search(query, limit * 2).hits
        found = [int(self._searcher.doc(address)["at"][0]) for _, address in hits]
        own = sentence.document
        return [
            at for at in found
            if self.sentences[at].document.publisher != own.publisher and self.sentences[at].document.source != own.source
        ][:limit]  # fmt: skip

    def _term(self, stem: str) -> tantivy.Query:
        query = tantivy.Query.term_query(self._index.schema, _STEM, stem)
        return tantivy.Query.boost_query(query, max(self.rarity.get(stem, 0.0), 1e-3))

    def witnesses(self, claim: Claim, near: list[int]) -> list[Witness]:
        """What the sentences at `near` state in the place of the claim's value: that value, or comparable ones that
        the claim's sentence does not hold itself."""
        text = claim.sentence.text
        context = self.stem(text[: claim.value.start] + " " + text[claim.value.end :]) - self.stem(claim.value.text)
        whole = self._weight(context)
        inside = [value for value in find_values(text) if value != claim.value]
        others = frozenset().union(*(self.stem(value.text) for value in inside if value.kind == "name"))
        others -= self.stem(claim.value.text)
        found = []
        for at in near:
            stems = self.stems[at]
            subject = self._weight(others & stems) / self._weight(others) if others else 0.5
            for value in self.values[at]:
                if not comparable(claim.value, value) or any(same(value, other) for other in inside):
                    continue
                other = stems - self.stem(value.text)
                shared = self._weight(context & other)
                likeness = shared / max(1e-9, whole * self._weight(other)) ** 0.5
                found.append(Witness(self.sentences[at], value, shared, likeness, subject))
        return found

    def _weight(self, stems: frozenset[str]) -> float:
        return sum(self.rarity.get(stem, 0.0) for stem in stems)
