"""The rows of the ledger: one small record a thing that curation found or did.

Rows are added and never changed, so that the whole story of a document or a claim can be told afterwards.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

Stance = Literal["supported", "refuted", "not_enough_evidence"]
Time = Literal["current", "superseded", "undated"]
Nature = Literal["fact", "contested", "opinion"]


def short_hash(*parts: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the parts, kept apart by a character that no text has."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Decision:
    """What was done with a document (`subject` is its source) or with a claim (its id), and why.

    `stage` is where (`filter`, `duplicates`, `policy`), `label` what (`dropped`, `changed`, `kept`, ...); `rule`, its
    `value` and its `limit` say why; `text` is what went, `replacement` what came in its place. The three axes are
    filled for claims alone.
    """

    stage: str
    subject: str
    label: str
    rule: str
    value: float = 0.0
    limit: float = 0.0
    text: str = ""
    replacement: str = ""
    stance: Stance | None = None
    time: Time | None = None
    nature: Nature | None = None
    policy_version: str = ""


@dataclass(frozen=True)
class ClaimRow:
    """A claim, judged once wherever it occurs. `claim_id` is a hash of the canonical text with time and place; the
    statement is that `object` is what `relation` says of `subject`; ISO dates, empty where unknown."""

    claim_id: str
    text: str
    subject: str
    relation: str
    object: str
    kind: str
    valid_from: str
    valid_to: str
    place: str
    nature: Nature
    checkworthy: bool


@dataclass(frozen=True)
class OccurrenceRow:
    """One claim at one place of one document: its sentence, and in it the object, in bytes of the UTF-8 text."""

    occ_id: str
    doc_sha: str
    source_id: str
    byte_start: int
    byte_end: int
    object_start: int
    object_end: int
    claim_id: str


@dataclass(frozen=True)
class EvidenceRow:
    """A passage that bears on a claim: what it `states` there and the `stance` that this takes.

    `source_tier` is 0 for the corpus itself and 1 for a reference collection; `likeness`, from 0 to 1, how surely the
    passage speaks of the same thing.
    """

    ev_id: str
    claim_id: str
    doc_sha: str
    source_id: str
    publisher: str
    published_at: str
    source_tier: int
    ancestor_generations: tuple[int, ...]
    span: str
    states: str
    stance: Stance
    likeness: float


@dataclass(frozen=True)
class VerdictRow:
    """One judgement of one verifier. `raw_score` is the verifier's own, `p_calibrated` the probability that the claim
    is true; `answer` what the verifier puts in the object's place, `note` its words."""

    claim_id: str
    verifier: str
    model_hash: str
    prompt_hash: str
    evidence_hash: str
    stance: Stance
    raw_score: float
    p_calibrated: float
    generation: int
    answer: str = ""
    note: str = ""


@dataclass(frozen=True)
class Finding(OccurrenceRow):
    """An occurrence with what validation made of it, all that refining needs to know: the three axes, the probability
    that the claim is true as it stands, the likeliest other object (`answer`, empty for none) with its probability, and
    who besides the verifier that says so agrees (`agreed_by`, empty for nobody).

    For what is superseded, `newer_on` is the ISO date by which others say otherwise, and `newer_text` the sentence in
    which the closest of them does.
    """

    stance: Stance
    time: Time
    nature: Nature
    p_stated: float
    answer: str = ""
    p_answer: float = 0.0
    agreed_by: str = ""
    verdict: str = ""
    newer_on: str = ""
    newer_text: str = ""


@dataclass(frozen=True)
class TimedFinding(Finding):
    """What a timeline made of an occurrence; `heard` says that other voices speak of the same fact."""

    heard: bool = False


@dataclass(frozen=True)
class CorrectionRow:
    """One edit of one sentence: `old` stood at these bytes of the document, `new` stands there now (empty where it was
    dropped, together with the blanks that followed).

    `kind` is `corrected`, `dated`, `attributed`, `labelled` or `dropped`; `reverified_by` names the verifier, other
    than the one that asked for the edit, that found the new text right.
    """

    occ_id: str
    claim_id: str
    source_id: str
    doc_sha: str
    byte_start: int
    byte_end: int
    old: str
    new: str
    kind: str
    verdict: str
    p_stated: float
    reverified_by: str


@dataclass(frozen=True)
class GenerationRow:
    """One curation as a whole: `data_tag` names the input, `metrics` are figures as a JSON object. `accepted` is false,
    with a `reason`, where a gate refused it."""

    gen: int
    data_tag: str
    metrics: str
    accepted: bool
    policy_version: str = ""
    reason: str = ""
