"""Loss spikes: whether a step is one, and what to do. Pure functions of numbers that all ranks share, so that all ranks
decide alike without asking each other.

A spike lies far above the recent steps by a robust measure: the distance from their median in units of their median
absolute deviation (MAD; Hampel, 1974), which spikes among them do not stretch. Leaving out the update was found to help
by OLMo 2 (2501.00656), and going back and leaving out the data by PaLM (2204.02311, section 5.1).
"""

import math
import statistics
from dataclasses import dataclass, replace
from typing import Literal

import torch

Action = Literal["go", "skip", "rewind", "stop"]
"""Update the weights; leave this update out; go back to the last checkpoint and leave out the data; give up."""

_NORMAL = 1.4826
"""MADs of a normal distribution in one standard deviation."""

_HEAD = 4


@dataclass(frozen=True)
class SpikeRule:
    """A step is a spike whose loss or logarithm of the gradient's norm lies more than `deviations` robust standard
    deviations above the median of the last `window` steps, and that deviation counts as `loss_floor` nats and
    `norm_floor` (a share of the norm) at least. Nothing finite is a spike before `least` steps have been seen.

    `action` is taken `most` times: skips are forgotten after `window` steps without one, rewinds never. Then: stop."""

    action: Literal["skip", "rewind", "stop"] = "skip"
    most: int = 10
    window: int = 128
    least: int = 32
    deviations: float = 8.0
    loss_floor: float = 0.02
    norm_floor: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.least <= self.window:
            raise ValueError(f"least={self.least} must be positive and at most window={self.window}")


@dataclass(frozen=True)
class SpikeState:
    """Losses and norms of the last steps whose update was made, the oldest first; skips that count, steps since the
    last one; and the numbers of the batches that are left out, in order."""

    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()
    skips: int = 0
    quiet: int = 0
    left_out: tuple[int, ...] = ()


def judge(
    rule: SpikeRule, state: SpikeState, batch: int, loss: float, norm: float
) -> tuple[Action, str, SpikeState]:
    """What to do about a step that got this global loss (nats) and gradient norm from this batch, before its update.

    Returns the action, the reason in words (empty for `go`) and the state that follows.
    """
    reason = _reason(rule, state, loss, norm)
    if not reason:
        quiet = state.quiet + 1
        skips = 0 if quiet >= rule.window else state.skips
        losses, norms = (*state.losses, loss)[-rule.window :], (*state.norms, norm)[-rule.window :]
        return "go", "", replace(state, losses=losses, norms=norms, skips=skips, quiet=quiet)
    if rule.action == "stop":
        return "stop", reason, state
    taken = state.skips if rule.action == "skip" else len(state.left_out)
    if taken >= rule.most:
        return "stop", f"{reason}, after {taken} times of {rule.action}", state
    if rule.action == "skip":
        return "skip", reason, replace(state, skips=taken + 1, quiet=0)
    return "rewind", reason, replace(state, left_out=tuple(sorted({*state.left_out, batch})))


def _reason(rule: SpikeRule, state: SpikeState, loss: float, norm: float) -> str:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return f"loss {loss:.4g} and gradient norm {norm:.4g} are not both finite"
    if len(state.losses) < rule.least:
        return ""
    far = _deviations(state.losses, loss, rule.loss_floor)
    if far > rule.deviations:
        return f"loss {loss:.4g} is {far:.1f} deviations above the median of {len(state.losses)} steps"
    far = _deviations([_log(past) for past in state.norms], _log(norm), rule.norm_floor)
    if far > rule.deviations:
        return f"gradient norm {norm:.4g} is {far:.1f} deviations above the median of {len(state.norms)} steps"
    return ""


def _log(norm: float) -> float:
    return math.log(max(norm, 1e-30))


def _deviations(past: tuple[float, ...] | list[float], value: float, floor: float) -> float:
    """How far `value` is above the median of the past, in robust standard deviations of `floor` at least."""
    median = statistics.median(past)
    spread = _NORMAL * statistics.median(abs(x - median) for x in past)
    return (value - median) / max(spread, floor)


def rewound(now: SpikeState, then: SpikeState) -> SpikeState:
    """The state to go on with from a checkpoint whose state was `then`: the past of then, what is left out of now."""
    return replace(then, left_out=now.left_out)


def batch_of(step: int, left_out: tuple[int, ...]) -> int:
    """The number of the batch that a step reads: all but those left out follow each other."""
    batch = step
    for number in left_out:
        batch += number <= batch
    return batch


def to_tensor(rule: SpikeRule, state: SpikeState) -> torch.Tensor:
    """The state as float64 [4 + most + 2 * window], of one size for a rule, to be stored in checkpoints."""
    head = [len(state.losses), state.skips, state.quiet, len(state.left_out)]
    sizes = rule.most, rule.window, rule.window
    parts = [
        [*values, *[0.0] * (size - len(values))]
        for size, values in zip(sizes, (state.left_out, state.losses, state.norms), strict=True)
    ]
    return torch.tensor([*head, *parts[0], *parts[1], *parts[2]], dtype=torch.float64)


def from_tensor(rule: SpikeRule, stored: torch.Tensor) -> SpikeState:
    """What `to_tensor` stored. Raises ValueError where it was stored under a rule of another size."""
    if len(stored) != _HEAD + rule.most + 2 * rule.window:
        raise ValueError(f"spikes: {len(stored)} numbers were not stored with most={rule.most}, window={rule.window}")
    values = stored.tolist()
    length, skips, quiet, out = (int(value) for value in values[:_HEAD])
    at, left_out = _HEAD + rule.most, tuple(int(value) for value in values[_HEAD : _HEAD + out])
    losses, norms = values[at : at + length], values[at + rule.window : at + rule.window + length]
    return SpikeState(tuple(losses), tuple(norms), skips, quiet, left_out)
