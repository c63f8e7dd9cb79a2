"""All claims of a corpus, judged: evidence, cross-examination, a judge fitted on planted errors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from troth.curate.document import Document
from troth.curate.validate.candidates import FEATURES, Candidate, Case, build_case, features
from troth.curate.validate.claims import Claim, name_words, find_claims
from troth.curate.validate.evidence import Evidence, Witness
from troth.curate.validate.examine import Cloze, Examiner
from troth.curate.validate.judge import Example, fit, judge
from troth.curate.validate.plant import plant
from troth.curate.validate.values import same
from troth.system import CurateTable

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

    Each claim gives two cases: as it stands, and with an error planted in it. Half of the claims, by chance, fit the
    judge; on the other half's planted errors its precision and recall are measured.
    """
    random = np.random.default_rng(seed)
    sentences, claims = find_claims(documents)
    evidence = Evidence(sentences, name_words(documents))
    progress(f"{len(claims):,} claims in {len(sentences):,} sentences: looking for evidence")
    near = {sentence: evidence.near(sentence, settings.evidence_top_k) for sentence in {c.sentence for c in claims}}
    pool = [value for values in evidence.values for value in values if value.kind == "name"]
    stated: list[Case] = []
    planted: list[tuple[Case, int]] = []
    for claim in claims:
        witnesses = evidence.witnesses(claim, near[claim.sentence])
        if not witnesses:
            continue
        stated.append(build_case(claim, witnesses))
        wrong = plant(claim.value, witnesses, pool, random)
        if wrong is not None:
            case = build_case(claim, witnesses, wrong)
            texts = [candidate.witnesses for candidate in case.candidates[1:-1]]
            true = next((i for i, group in enumerate(texts, 1) if _states(group, claim)), len(case.candidates) - 1)
            planted.append((case, true))
    progress(f"{len(stated):,} claims with evidence: cross-examining")
    clozes = [_cloze(case) for case in (*stated, *(case for case, _ in planted))]
    asked: list[list[float]] = examiner.ask(clozes) if examiner else [[] for _ in clozes]
    for_stated, for_planted = asked[: len(stated)], asked[len(stated) :]
    publishers = [case.claim.sentence.document.publisher for case in stated]
    learn = random.random(len(planted)) < 0.5
    reliability: dict[str, float] = {}
    for _ in range(2):
        x_stated = [features(case, p, reliability) for case, p in zip(stated, for_stated, strict=True)]
        x_planted = [features(case, p, reliability) for (case, _), p in zip(planted, for_planted, strict=True)]
        examples = [Example(x, 0, 1 - settings.canary_rate) for x in x_stated]
        examples += [
            Example(x, true, settings.canary_rate)
            for x, (_, true), used in zip(x_planted, planted, learn, strict=True) if used
        ]  # fmt: skip
        theta = fit(examples)
        probabilities, errors = judge(x_stated, publishers, theta, settings.canary_rate)
        reliability = {who: 1 - error for who, error in errors.items()}
    verdicts = [
        _verdict(case, p, asked_of, settings)
        for case, p, asked_of in zip(stated, probabilities, for_stated, strict=True)
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


def _states(group: tuple[Witness, ...], claim: Claim) -> bool:
    return any(same(witness.value, claim.value) for witness in group)


def _cloze(case: Case) -> Cloze:
    text, value = case.claim.sentence.text, case.claim.value
    options = tuple(candidate.text for candidate in case.candidates if candidate.text is not None)
    return Cloze(case.claim.sentence.document.source, text[: value.start], text[value.end :], options)


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
