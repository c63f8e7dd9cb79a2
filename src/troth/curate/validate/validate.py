"""All claims of a corpus, judged: evidence, cross-examination, a judge fitted on planted errors."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from troth.curate.document import Document
from troth.curate.validate.candidates import FEATURES, Candidate, Case, build_case, features
from troth.curate.validate.claims import Claim, find_claims, name_words
from troth.curate.validate.evidence import Evidence, Witness
from troth.curate.validate.examine import Cloze, Examiner
from troth.curate.validate.judge import Example, fit, judge
from troth.curate.validate.plant import plant
from troth.curate.validate.values import same
from troth.system import CurateTable

_ROUNDS = 4
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

    Each claim gives two cases: as it stands, and, if others state its value too, with an error planted in it. Half of
    the planted errors, by chance, fit the judge; on the other half its recall is measured. Claims as they stand serve
    as examples of right ones only as far as the round before believed them, for some of them are wrong.
    """
    random = np.random.default_rng(seed)
    sentences, claims = find_claims(documents)
    progress(f"{len(claims):,} claims in {len(sentences):,} sentences: looking for evidence")
    evidence = Evidence(sentences, name_words(documents), settings.evidence_top_k)
    pool = [value for values in evidence.values for value in values if value.kind == "name"]
    stated: list[Case] = []
    planted: list[tuple[Case, int]] = []
    for claim in claims:
        witnesses = evidence.witnesses(claim)
        if not witnesses:
            continue
        stated.append(build_case(claim, witnesses))
        wrong = plant(claim.value, witnesses, pool, random)
        if wrong is not None:
            case = build_case(claim, witnesses, wrong)
            true = next((i for i, rival in enumerate(case.candidates) if i and _states(rival, claim)), None)
            if true is not None:
                planted.append((case, true))
    progress(f"{len(stated):,} claims with evidence: cross-examining")
    cases = [*stated, *(case for case, _ in planted)]
    asked, priors = _examine(examiner, cases)
    common = [evidence.commonness(case.claim.value) for case in cases]
    publishers = [case.claim.sentence.document.publisher for case in stated]
    learn = random.random(len(planted)) < 0.5
    reliability: dict[str, float] = {}
    trusted = np.ones(len(stated))
    for _ in range(_ROUNDS):
        x = [features(*known, reliability) for known in zip(cases, asked, priors, common, strict=True)]
        x_stated, x_planted = x[: len(stated)], x[len(stated) :]
        examples = [Example(x, 0, (1 - settings.canary_rate) * p) for x, p in zip(x_stated, trusted, strict=True)]
        examples += [
            Example(x, true, settings.canary_rate)
            for x, (_, true), used in zip(x_planted, planted, learn, strict=True) if used
        ]  # fmt: skip
        theta = fit(examples)
        probabilities, errors = judge(x_stated, publishers, theta, settings.canary_rate)
        reliability = {who: 1 - error for who, error in errors.items()}
        trusted = np.array([p[0] for p in probabilities])
    verdicts = [
        _verdict(case, p, asked_of, settings)
        for case, p, asked_of in zip(stated, probabilities, asked[: len(stated)], strict=True)
    ]
    held_out = [(x, true) for x, (_, true), used in zip(x_planted, planted, learn, strict=True) if not used]
    return Validation(
        verdicts=verdicts,
        claims=len(claims),
        unchecked=len(claims) - len(stated),
        publisher_error=errors,
        weights={name: float(weight) for name, weight in zip(FEATURES, theta, strict=True)},
        planted=_planted_figures(held_out, theta, settings.act_above),
    )


def _states(candidate: Candidate, claim: Claim) -> bool:
    return any(same(witness.value, claim.value) for witness in candidate.witnesses)


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


def _planted_figures(cases: list[tuple[np.ndarray, int]], theta: np.ndarray, act_above: float) -> dict[str, float]:
    """Recall of planted errors that the judge never saw, and how often the right value was put back."""
    if not cases:
        return {"planted": 0}
    caught = mended = 0
    for x, true in cases:
        scores = np.exp(x @ theta - (x @ theta).max())
        p = scores / scores.sum()
        if 1 - p[0] > act_above:
            caught += 1
            mended += int(np.argmax(p[1:])) + 1 == true
    return {"planted": len(cases), "recall": caught / len(cases), "mended": mended / max(1, caught)}
