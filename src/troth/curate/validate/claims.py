"""Claims: a value in a sentence, and what the rest of the sentence says of it."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from troth.curate.document import Document
from troth.curate.validate.sentences import Sentence, sentences
from troth.curate.validate.values import Value, find_values

_INSIDE = re.compile(r"(?<=[a-z,;] )[A-Z][\w'’-]*")
_OPINION = re.compile(
    r"\b(?:best|worst|beautiful|lovely|favou?rite|finest|wonderful|awful|should|perhaps|arguably|prefer|think|believe|"
    r"delicious|charming|boring|fun|calls?|called by many|some say|it is said)\b", re.IGNORECASE,
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One value that one sentence states; judged once, wherever the same words occur."""

    sentence: Sentence
    value: Value

    @cached_property
    def claim_id(self) -> str:
        """SHA-256 of the sentence with its value marked, 16 digits."""
        text = self.sentence.text
        marked = f"{text[: self.value.start]}[{self.value.text}]{text[self.value.end :]}"
        return hashlib.sha256(marked.encode()).hexdigest()[:16]

    def with_value(self, text: str) -> str:
        """The sentence with another text in the value's place."""
        own = self.sentence.text
        return own[: self.value.start] + text + own[self.value.end :]


def name_words(documents: Iterable[Document]) -> set[str]:
    """Words that the documents write with a capital where no sentence begins."""
    return {word for document in documents for word in _INSIDE.findall(document.text)}


def find_claims(documents: list[Document]) -> tuple[list[Sentence], list[Claim]]:
    """All sentences, and the check-worthy claims in them: values in sentences that are no opinion."""
    names = name_words(documents)
    found = [sentence for document in documents for sentence in sentences(document)]
    claims = [
        Claim(sentence, value)
        for sentence in found
        if not _OPINION.search(sentence.text) or any(c.isdigit() for c in sentence.text)
        for value in find_values(sentence.text, names)
    ]
    return found, claims


def misstated(claim: Claim, wrong: Value) -> Claim:
    """The claim with `wrong` in its value's place, as a careless page would have it."""
    page, at = claim.sentence.document, claim.sentence.start
    text = claim.with_value(wrong.text)
    page = replace(page, text=page.text[:at] + text + page.text[claim.sentence.end :])
    start = claim.value.start
    return Claim(Sentence(page, at, at + len(text)), replace(wrong, start=start, end=start + len(wrong.text)))
