"""All claims of a corpus, judged: evidence, cross-examination, a judge fitted on planted errors."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from troth.curate.document import Document
from troth.curate.validate.candidates import FEATURES, Candidate, Case, build_case, features, voices
from troth.curate.validate.claims import Claim, find_claims, misstated, name_words
from troth.curate.validate.evidence import Evidence, Witness
from troth.curate.validate.examine import Cloze, Examiner
from troth.curate.validate.judge import Example, fit, judge, softmax
from troth.curate.validate.plant import plant
from troth.curate.validate.values import same
from troth.system import CurateTable

_ROUNDS = 4
_ALIKE = 0.25
"""An error is planted only where a sentence at least this like the claim's states its value."""
Stance = Literal["supported", "refuted", "not_enough_evidence"]


@dataclass(frozen=True)
class Verdict:
    """The judgement of one claim: the probability that the stated value is right, and the likeliest other one."""

    claim: Claim
    stance: Stance
    p_stated: float
    best: Candidate
    p_best: float
    witnesses: tuple[Witness, ...]
    examined: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Validation:
    """Verdicts on all claims that had evidence, with how well planted errors were told from the claims themselves."""

    verdicts: list[Verdict]
    claims: int
    unchecked: int
    publisher_error: dict[str, float]
    weights: dict[str, float]
    planted: dict[str, float]


def validate(
    documents: list[Document], examiner: Examiner | None, settings: CurateTable, seed: int,
    progress: Callable[[str], None] = lambda text: None,
) -> Validation:  # fmt: skip
    """Judge every claim of `documents` for which another publisher has evidence; `examiner` may be None.

    Each claim gives a case as it stands. If others state its value too, in a sentence alike, an error is planted in
    it: half of them, by chance, fit the judge, with the evidence that the claim itself has; on the other half its
    recall is measured, with the evidence that a search for the misstated sentence finds. Claims as they stand serve as
    examples of right ones only as far as the round before believed them, for some of them are wrong.
    """
    random = np.random.default_rng(seed)
    sentences, claims = find_claims(documents)
    progress(f"{len(claims):,} claims in {len(sentences):,} sentences: looking for evidence")
    evidence = Evidence(sentences, name_words(documents), settings.evidence_top_k)
    pool = [value for values in evidence.values for value in values if value.kind == "name"]
    stated: list[Case] = []
    planted: list[tuple[Case, int]] = []
    held_out: list[tuple[Case, int]] = []
    for claim in claims:
        witnesses = evidence.witnesses(claim)
        if not witnesses:
            continue
        stated.append(build_case(claim, witnesses))
        wrong = plant(claim.value, witnesses, pool, random)
        if wrong is None or not any(w.likeness >= _ALIKE and same(w.value, claim.value) for w in witnesses):
            continue
        if random.random() < 0.5:
            case = build_case(claim, witnesses, wrong)
            planted.append((case, _true_one(case, claim)))
        else:
            error = misstated(claim, wrong)
            case = build_case(error, evidence.witnesses(error))
            held_out.append((case, _true_one(case, claim)))
    planted = [(case, true) for case, true in planted if true]
    if not stated:
        return Validation([], len(claims), len(claims), {}, {}, {"planted": 0})
    progress(f"{len(stated):,} claims with evidence: cross-examining")
    cases = [*stated, *(case for case, _ in planted), *(case for case, _ in held_out)]
    asked, priors = _examine(examiner, cases)
    x = [
        features(case, answers, prior, evidence.commonness(case.claim.value))
        for case, answers, prior in zip(cases, asked, priors, strict=True)
    ]
    first, last = len(stated), len(stated) + len(planted)
    x_stated, x_planted, x_held_out = x[:first], x[first:last], x[last:]
    publishers = sorted({document.publisher for document in documents})
    speakers = np.array([publishers.index(case.claim.sentence.document.publisher) for case in stated])
    heard = [voices(case, publishers) for case in stated]
    trusted = np.ones(len(stated))
    for _ in range(_ROUNDS):
        examples = [Example(x, 0, (1 - settings.canary_rate) * p) for x, p in zip(x_stated, trusted, strict=True)]
        examples += [
            Example(x, true, settings.canary_rate) for x, (_, true) in zip(x_planted, planted, strict=True)
        ]  # fmt: skip
        theta = fit(examples)
        probabilities, errors = judge(x_stated, heard, speakers, theta, settings.canary_rate)
        trusted = np.array([p[0] for p in probabilities])
    return Validation(
        verdicts=[
            _verdict(case, p, answers, settings)
            for case, p, answers in zip(stated, probabilities, asked[: len(stated)], strict=True)
        ],
        claims=len(claims),
        unchecked=len(claims) - len(stated),
        publisher_error=dict(zip(publishers, map(float, errors), strict=True)),
        weights={name: float(weight) for name, weight in zip(FEATURES, theta, strict=True)},
        planted=_planted_figures(x_held_out, [true for _, true in held_out], theta, settings.act_above),
    )


def _true_one(case: Case, claim: Claim) -> int:
    """Which candidate of a misstated case is what the claim really says; 0 if none."""
    stating = (i for i, c in enumerate(case.candidates) if i and any(same(w.value, claim.value) for w in c.witnesses))
    return next(stating, 0)


def _examine(examiner: Examiner | None, cases: list[Case]) -> tuple[list[list[float]], list[list[float]]]:
    """Log-probabilities of each case's values in their sentence, and in a blank with nothing around it: how long and
    how usual a value is says nothing about its truth."""
    if examiner is None:
        return [[] for _ in cases], [[] for _ in cases]
    clozes = []
    for case in cases:
        text, value = case.claim.sentence.text, case.claim.value
        options = tuple(candidate.text for candidate in case.candidates if candidate.text is not None)
        clozes.append(Cloze(case.claim.sentence.document.source, text[: value.start], text[value.end :], options))
    answers = examiner.ask([*clozes, *(replace(cloze, prefix="", suffix="") for cloze in clozes)])
    return answers[: len(cases)], answers[len(cases) :]


def _verdict(case: Case, p: np.ndarray, asked: list[float], settings: CurateTable) -> Verdict:
    best = int(np.argmax(p[1:])) + 1
    wrong = 1 - float(p[0])
    supported = bool(case.candidates[0].witnesses)
    stance: Stance = "refuted" if wrong > settings.act_above else "supported" if supported else "not_enough_evidence"
    examined = tuple((str(c.text), lp) for c, lp in zip(case.candidates[:-1], asked, strict=False))
    witnesses = tuple(w for candidate in case.candidates[:-1] for w in candidate.witnesses)
    return Verdict(case.claim, stance, float(p[0]), case.candidates[best], float(p[best]), witnesses, examined)


def _planted_figures(
    features: list[np.ndarray], true: list[int], theta: np.ndarray, act_above: float
) -> dict[str, float]:
    """Recall of planted errors that the judge never saw, and how often the right value was put back."""
    if not features:
        return {"planted": 0}
    caught = mended = 0
    for x, right in zip(features, true, strict=True):
        p = softmax(x @ theta)
        if 1 - p[0] > act_above:
            caught += 1
            mended += int(np.argmax(p[1:])) + 1 == right
    return {"planted": len(features), "recall": caught / len(features), "mended": mended / max(1, caught)}
