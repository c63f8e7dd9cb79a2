"""Cases: what the judge decides on, one claim with its candidates and witnesses, found a part of the corpus at a time.

Each claim gives a case as it stands. If others state its value too, in a sentence alike, an error is planted in it:
half of them, by chance, fit the judge, with the evidence that the claim itself has; the other half are canaries, on
which it is measured, with the evidence that a search for the misstated sentence finds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from troth.curate.document import Document
from troth.curate.records import ClaimRow, Nature, OccurrenceRow
from troth.curate.validate.candidates import Candidate, candidates, features, voice
from troth.curate.validate.claims import Claim, find_claims
from troth.curate.validate.evidence import Evidence, Surroundings
from troth.curate.validate.neighbours import Place
from troth.curate.validate.plant import plant
from troth.curate.validate.subjects import SubjectRow, names_subject, subject_at
from troth.curate.validate.values import Value, same

ALIKE = 0.25
"""An error is planted only where a sentence at least this like the claim's states its value."""
_POOL = 2_000
_PLANTED = 20_000
"""Errors planted in a corpus, at most about so many: more would not tell more."""
C = TypeVar("C")
Role = Literal["stated", "alone", "planted", "canary"]
"""A claim that others speak of too, one that they do not, and errors planted to fit the judge and to measure it."""


@dataclass(frozen=True)
class Case(OccurrenceRow):
    """A claim with the values that might be true in its place: `texts[0]` is the stated one, `features` what the judge
    weighs, float64 [CANDIDATES, FEATURES].

    `planted` is the kind of the error in it and `true` the candidate that the claim really states (0 where it is not
    among them). `prefix` and `suffix` are the sentence around the value. From `candidate` on, there is an entry for
    each voice that states a candidate: its publisher (`voice`), how surely (`word`, 0 to 1), and of the closest of
    its sentences the number in the store (`at`), the value as it `states` it, and likeness and mutual nearness. `alike`
    is how like the claim's sentence the closest one is in which another publisher states the same.
    """

    role: Role
    kind: str
    publisher: str
    published: str
    nature: Nature
    subject: str
    planted: str
    true: int
    prefix: str
    suffix: str
    texts: tuple[str, ...]
    features: bytes
    candidate: tuple[int, ...]
    voice: tuple[str, ...]
    word: tuple[float, ...]
    at: tuple[int, ...]
    states: tuple[str, ...]
    likeness: tuple[float, ...]
    mutual: tuple[float, ...]
    alike: float


def cases_of(
    document: Document, subjects: Sequence[SubjectRow], evidence: Evidence, pool: list[Value],
    random: np.random.Generator, seen: Callable[[ClaimRow, OccurrenceRow], None],
) -> Iterator[Case]:  # fmt: skip
    """The cases of all check-worthy claims of a document, of whose `subjects` some may be known; `seen` is told of
    every claim. What names a known subject makes no case, for it is whom the claim is about, nor does the year in which
    the document was published: it says when the document speaks."""
    near: Surroundings | None = None
    for claim in find_claims(document, evidence.store.names):
        row = claim.row()
        place = claim.occurrence(row.claim_id)
        seen(row, place)
        if not row.checkworthy or (claim.value.kind == "year" and claim.value.text == document.published[:4]):
            continue
        text = claim.sentence.text
        if near is None or near.text != text:
            spot = Place(document.source, claim.sentence.start, document.publisher, document.published)
            near = evidence.around(text, spot, subject_at(subjects, place.byte_start, place.byte_end))
        if names_subject(near.about, claim.value.text):
            continue
        witnesses = evidence.witnesses(near, claim.value)
        if not witnesses:
            yield _case("alone", claim, place, row, candidates(claim, []), evidence)
            continue
        yield _case("stated", claim, place, row, candidates(claim, witnesses), evidence)
        if random.random() * len(evidence.store) > _PLANTED:
            continue
        wrong = plant(claim.value, [w.value for w in witnesses], pool, random)
        if wrong is None or not any(w.likeness >= ALIKE and same(w.value, claim.value) for w in witnesses):
            continue
        kind = "entity swapped" if claim.value.kind == "name" else "number moved"
        if random.random() < 0.5:
            found = candidates(claim, witnesses, wrong)
            if true := _true_one(found, claim):
                yield _case("planted", claim, place, row, found, evidence, kind, true)
        else:
            error = claim.with_value(wrong)
            anew = evidence.around(error.sentence.text, near.place, near.about)
            found = candidates(error, evidence.witnesses(anew, error.value))
            yield _case("canary", error, place, row, found, evidence, kind, _true_one(found, claim))


def name_pool(evidence: Evidence, random: np.random.Generator) -> list[Value]:
    """Names from anywhere in the corpus, to be planted where they do not belong."""
    store = evidence.store
    drawn = random.permutation(len(store))[:_POOL].tolist()
    return [value for at in sorted(drawn) for value in store.get(at).values if value.kind == "name"]


def _true_one(found: list[Candidate], claim: Claim) -> int:
    """Which candidate of a misstated case is what the claim really says; 0 if none."""
    stating = (i for i, c in enumerate(found) if i and any(same(w.value, claim.value) for w in c.witnesses))
    return next(stating, 0)


def _case(
    role: Role, claim: Claim, place: OccurrenceRow, row: ClaimRow, found: list[Candidate], evidence: Evidence,
    planted: str = "", true: int = 0,
) -> Case:  # fmt: skip
    document, text, value = claim.sentence.document, claim.sentence.text, claim.value
    words = [
        (number, witness.sentence.speaker.publisher, voice(word), witness)
        for number, candidate in enumerate(found)
        for word, witness in candidate.voices
    ]
    fits = evidence.fits(claim, [candidate.value for candidate in found])
    x = features(found, fits, value.kind != "name", evidence.commonness(value), document.publisher)
    return Case(
        place.occ_id, place.doc_sha, place.source_id, place.byte_start, place.byte_end, place.object_start,
        place.object_end, place.claim_id, role=role, kind=value.kind, publisher=document.publisher,
        published=document.published, nature=row.nature, subject=row.subject, planted=planted, true=true,
        prefix=text[: value.start], suffix=text[value.end :],
        texts=tuple(candidate.text for candidate in found),
        features=x.tobytes(),
        candidate=tuple(number for number, _, _, _ in words),
        voice=tuple(publisher for _, publisher, _, _ in words),
        word=tuple(word for _, _, word, _ in words),
        at=tuple(witness.sentence.at for _, _, _, witness in words),
        states=tuple(witness.value.text for _, _, _, witness in words),
        likeness=tuple(witness.likeness for _, _, _, witness in words),
        mutual=tuple(witness.mutual for _, _, _, witness in words),
        alike=max((w.likeness for w in found[0].witnesses), default=0.0),
    )  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """What the examiner said to a case: log-probabilities of its texts in the sentence, and in a blank with nothing
    around it, for how long and how usual a value is says nothing about its truth."""

    log_probs: tuple[float, ...]
    priors: tuple[float, ...]


def with_answers(cases: Iterable[C], answers: Iterator[Answers]) -> Iterator[tuple[C, Answers]]:
    """Each case with what the examiner said to it; nothing where it was not asked."""
    nothing = Answers((), ())
    for case in cases:
        yield case, next(answers, nothing)
