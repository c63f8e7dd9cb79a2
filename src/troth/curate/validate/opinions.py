"""Opinions: what verifiers besides the agreement of sources say of each case, and all of them as one probability.

What a check can compute is certain: where it refutes, nothing outweighs it. The others are calibrated on the run's own
canaries, claims whose truth is known, and count as much as they proved to be worth there. What the canaries then tell
of all judges together is measured by halves, each judged by what the other half taught.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from troth.curate.records import ClaimRow, EvidenceRow, Stance, VerdictRow, short_hash
from troth.curate.rows import write_whole
from troth.curate.validate.calibrate import Calibration, CalibrationReport, Combination, calibrate, combine, logit
from troth.curate.validate.cases import Case
from troth.curate.validate.statement import BLANK
from troth.curate.validate.verifiers.protocol import Judgement, Question, Verifier
from troth.curate.validate.when import valid_time

AGREEMENT = "agreement"
EXACT = frozenset(("arithmetic", "units", "dates", "ranges", "tables", "code"))
_NEVER_SURE = 0.005


@dataclass(frozen=True, slots=True)
class Opinions:
    """The judgements of a case, one entry each."""

    verifier: tuple[str, ...]
    model_hash: tuple[str, ...]
    prompt_hash: tuple[str, ...]
    raw_score: tuple[float, ...]
    stance: tuple[str, ...]
    answer: tuple[str, ...]
    note: tuple[str, ...]

    def judgements(self) -> Iterator[tuple[str, Judgement]]:
        """Each with the name of its verifier."""
        for name, raw, stance, answer, note in zip(
            self.verifier, self.raw_score, self.stance, self.answer, self.note, strict=True
        ):
            yield name, Judgement(raw, cast(Stance, stance), answer, note)

    def rows(self, case: Case, calibrated: "Calibrated", evidence: str, generation: int) -> Iterator[VerdictRow]:
        """The ledger's rows."""
        for number, (name, found) in enumerate(self.judgements()):
            yield VerdictRow(
                case.claim_id, name, self.model_hash[number], self.prompt_hash[number], evidence, found.stance,
                found.raw_score, calibrated.one(name, found), generation, found.answer, found.note,
            )  # fmt: skip


NOBODY = Opinions((), (), (), (), (), (), ())


def question_of(case: Case, evidence: Sequence[EvidenceRow]) -> Question:
    """A case as verifiers are asked about it."""
    text = case.prefix + case.texts[0] + case.suffix
    claim = ClaimRow(
        case.claim_id, text, case.subject, f"{case.prefix}{BLANK}{case.suffix}", case.texts[0], case.kind,
        *valid_time(text, case.published), "", case.nature, True,
    )  # fmt: skip
    return Question(claim, text, tuple(evidence), case.published, len(case.prefix))


def ask(verifiers: Sequence[Verifier], questions: Sequence[Question]) -> list[Opinions]:
    """What the verifiers say to each question."""
    said: list[list[tuple[Verifier, Judgement]]] = [[] for _ in questions]
    for verifier in verifiers:
        for own, judgement in zip(said, verifier.judge(questions), strict=True):
            if judgement is not None:
                own.append((verifier, judgement))
    return [
        Opinions(
            tuple(verifier.name for verifier, _ in own), tuple(verifier.model_hash for verifier, _ in own),
            tuple(verifier.prompt_hash for verifier, _ in own), tuple(found.raw_score for _, found in own),
            tuple(found.stance for _, found in own), tuple(found.answer for _, found in own),
            tuple(found.note for _, found in own),
        )
        for own in said
    ]  # fmt: skip


@dataclass(frozen=True)
class Calibrated:
    """What each verifier's raw scores are worth, and how much its opinion counts."""

    each: dict[str, Calibration]
    together: Combination | None
    reports: dict[str, CalibrationReport]

    def one(self, name: str, found: Judgement) -> float:
        """The probability that a claim is true by the word of one verifier."""
        if name in self.each:
            return self.each[name](found.raw_score)
        if name in EXACT:
            sure = min(1.0, abs(found.raw_score)) * (0.5 - _NEVER_SURE)
            return 0.5 + sure if found.stance == "supported" else 0.5 - sure
        return float("nan")

    def probability(self, agreement: float | None, opinions: Opinions) -> float:
        """The probability that a claim is true by the word of all; `agreement` is that of the sources, if any speak."""
        said = {} if agreement is None else {AGREEMENT: agreement}
        said |= {name: self.one(name, found) for name, found in opinions.judgements() if name in self.each}
        checked = [self.one(name, found) for name, found in opinions.judgements() if name in EXACT]
        if checked and min(checked) < 0.5:
            return min(checked)
        if self.together and len(said) > 1:
            return self.together.probability(said)
        return agreement if agreement is not None else max(checked, default=float("nan"))


def calibrated_on(known: Sequence[tuple[float, Opinions, bool]], rate: float) -> Calibrated:
    """Fit to labelled claims: the agreement's probability, the opinions, and whether the claim is true. `rate` is the
    share of wrong claims that is expected, whatever their share among the labelled ones. A verifier that says too
    little of them to be calibrated does not count."""
    raws: dict[str, list[tuple[float, bool]]] = {}
    for _, opinions, true in known:
        for name, found in opinions.judgements():
            if name not in EXACT:
                raws.setdefault(name, []).append((found.raw_score, true))
    each: dict[str, Calibration] = {}
    reports: dict[str, CalibrationReport] = {}
    for name, pairs in sorted(raws.items()):
        try:
            each[name], reports[name] = calibrate([raw for raw, _ in pairs], [true for _, true in pairs])
        except ValueError:
            continue
    if not each:
        return Calibrated({}, None, {})
    opinions_of = [
        {AGREEMENT: p} | {name: each[name](found.raw_score) for name, found in said.judgements() if name in each}
        for p, said, _ in known
    ]
    labels = [right for _, _, right in known]
    together = combine(opinions_of, labels)
    shift = logit(1 - rate) - logit(float(np.mean(labels)))
    return Calibrated(each, Combination(together.weights, together.prior + shift), reports)


@dataclass(frozen=True)
class CrossFitted:
    """What was fitted to all labelled claims, and to either half of them."""

    whole: Calibrated
    halves: tuple[Calibrated, Calibrated]

    def blind_to(self, claim_id: str) -> Calibrated:
        """What was fitted without this claim: how it fares by this is a measure of the whole."""
        return self.halves[1 - _half(claim_id)]


def cross_fitted(labelled: Iterable[tuple[str, float, Opinions, bool]], rate: float) -> CrossFitted:
    """Fit to labelled claims (see `calibrated_on`), each with its `claim_id` before the rest."""
    known = list(labelled)
    first, second = (
        calibrated_on([(p, said, true) for claim_id, p, said, true in known if _half(claim_id) == half], rate)
        for half in (0, 1)
    )
    return CrossFitted(calibrated_on([(p, said, true) for _, p, said, true in known], rate), (first, second))


def _half(claim_id: str) -> int:
    return int(short_hash("half", claim_id), 16) & 1


def save(path: Path, found: CrossFitted) -> None:
    """Write what was fitted, as JSON."""
    data = [
        {
            "verifiers": {name: asdict(one) for name, one in fitted.each.items()},
            "together": asdict(fitted.together) if fitted.together else None,
            "reports": {name: asdict(one) for name, one in fitted.reports.items()},
        }
        for fitted in (found.whole, *found.halves)
    ]
    write_whole(path, json.dumps(data, indent=2))


def load(path: Path) -> CrossFitted:
    """What `save` wrote."""
    whole, first, second = map(_loaded, json.loads(path.read_text(encoding="utf-8")))
    return CrossFitted(whole, (first, second))


def _loaded(data: dict[str, Any]) -> Calibrated:
    each = {
        name: Calibration(one["slope"], one["offset"], tuple(one["scores"]), tuple(one["probabilities"]))
        for name, one in data["verifiers"].items()
    }
    reports = {name: CalibrationReport(**one) for name, one in data["reports"].items()}
    return Calibrated(each, Combination(**data["together"]) if data["together"] else None, reports)
