"""Canaries: how well a run tells errors that it planted itself from statements that stand, and whether that will do.

As in AUM (Pleiss et al. 2020), what is known to be wrong sets the measure for what is not known. Intervals are Wilson's
(1927), at 95%.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_Z = 1.959964


@dataclass(frozen=True)
class Canary:
    """One claim that was judged for the measure: `planted` is the kind of the error put into it (`entity swapped`,
    `number moved`, `superseded value`), empty for a claim left as it was, which others state too; `flagged` whether the
    verdict was *refuted* or *superseded*, `mended` whether the right value was put back."""

    claim_id: str
    planted: str
    flagged: bool
    mended: bool


@dataclass(frozen=True)
class Share:
    """`count` of `whole`, with the bounds between which the true share lies in 95 of 100 such runs."""

    count: int
    whole: int
    share: float
    low: float
    high: float


def share(count: int, whole: int) -> Share:
    """A share with Wilson's interval; of nothing, anything from 0 to 1."""
    if not whole:
        return Share(0, 0, 0.0, 0.0, 1.0)
    p, n = count / whole, whole
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
    return Share(count, whole, p, max(0.0, middle - half), min(1.0, middle + half))


@dataclass(frozen=True)
class Measure:
    """What the canaries say: `recall` of planted errors, `exactness` of the corrections of those that were caught,
    `false_alarms` on claims left as they were, `precision` where `rate` of all claims are wrong, its low and high from
    theirs; `by_kind` the recall of each kind of error."""

    recall: Share
    exactness: Share
    false_alarms: Share
    rate: float
    precision: float
    precision_low: float
    precision_high: float
    by_kind: dict[str, Share]


def measure(canaries: Iterable[Canary], rate: float) -> Measure:
    """Figures of a run's canaries, for a corpus in which `rate` of the claims are wrong."""
    planted: dict[str, list[Canary]] = {}
    clean: list[Canary] = []
    for one in canaries:
        (planted.setdefault(one.planted, []) if one.planted else clean).append(one)
    errors = [one for several in planted.values() for one in several]
    caught = [one for one in errors if one.flagged]
    recall = share(len(caught), len(errors))
    alarms = share(sum(one.flagged for one in clean), len(clean))
    return Measure(
        recall=recall,
        exactness=share(sum(one.mended for one in caught), len(caught)),
        false_alarms=alarms,
        rate=rate,
        precision=_precision(recall.share, alarms.share, rate),
        precision_low=_precision(recall.low, alarms.high, rate),
        precision_high=_precision(recall.high, alarms.low, rate),
        by_kind={kind: share(sum(one.flagged for one in several), len(several)) for kind, several in planted.items()},
    )


def _precision(recall: float, alarms: float, rate: float) -> float:
    right, wrong = recall * rate, alarms * (1 - rate)
    return right / (right + wrong) if right + wrong else 0.0


def objection(found: Measure, max_false_alarms: float) -> str:
    """Why a run may not be integrated; empty where it may."""
    alarms = found.false_alarms
    if alarms.share <= max_false_alarms:
        return ""
    return (
        f"{alarms.count} of {alarms.whole} claims that others confirm were flagged: {alarms.share:.2%}; at most "
        f"{max_false_alarms:.2%} may be (curate.max_false_alarms)"
    )
