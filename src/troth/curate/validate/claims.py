"""Claims: a value in a sentence, and what the rest of the sentence says of it."""

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace

from troth.curate.document import Document
from troth.curate.records import ClaimRow, OccurrenceRow, short_hash
from troth.curate.validate.notes import years_of_notes
from troth.curate.validate.sentences import Sentence, sentences
from troth.curate.validate.statement import claim_row
from troth.curate.validate.values import Value, find_values

_INSIDE = re.compile(r"(?<=[a-z,;] )[A-Z][\w'’-]*")
_SMALL = re.compile(r"\b[a-z][\w'’-]*")


@dataclass(frozen=True)
class Claim:
    """One value that one sentence states."""

    sentence: Sentence
    value: Value

    def row(self) -> ClaimRow:
        """The claim apart from where it stands."""
        return claim_row(self.sentence.document, self.sentence.text, self.value.start, self.value.end, self.value.kind)

    def occurrence(self, claim_id: str) -> OccurrenceRow:
        """Where the claim stands, in bytes."""
        document, text = self.sentence.document, self.sentence.text
        start, end = self.sentence.bytes
        at = start + len(text[: self.value.start].encode())
        place = f"{self.sentence.start}:{self.value.start}"
        return OccurrenceRow(
            short_hash(document.source, place, claim_id), document.sha, document.source,
            start, end, at, at + len(self.value.text.encode()), claim_id,
        )  # fmt: skip

    def with_value(self, wrong: Value) -> "Claim":
        """The claim with another value in its value's place, as a careless page would have it."""
        page, at, own = self.sentence.document, self.sentence.start, self.sentence.text
        text = own[: self.value.start] + wrong.text + own[self.value.end :]
        page = replace(page, text=page.text[:at] + text + page.text[self.sentence.end :])
        start = self.value.start
        sentence = Sentence(page, at, at + len(text), self.sentence.byte_start)
        return Claim(sentence, replace(wrong, start=start, end=start + len(wrong.text)))


def name_words(documents: Iterable[Document]) -> set[str]:
    """Words that documents write with a capital where no sentence begins, and not more often without."""
    capital: Counter[str] = Counter()
    small: Counter[str] = Counter()
    for document in documents:
        capital.update(_INSIDE.findall(document.text))
        small.update(_SMALL.findall(document.text))
    return {word for word, count in capital.items() if count >= small[word.lower()]}


def find_claims(document: Document, names: Container[str]) -> Iterator[Claim]:
    """The values in all sentences of a document; see `find_values` for `names`. When a figure is from is no claim of
    its own: others give another year with another figure."""
    for sentence in sentences(document):
        noted = years_of_notes(sentence.text)
        for value in find_values(sentence.text, names):
            if value.kind != "year" or value.text not in noted:
                yield Claim(sentence, value)
