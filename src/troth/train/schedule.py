"""What changes over a run: the learning rate, how many rows a step has, and what multi-token prediction weighs. All of
it follows from the step alone, so that a resumed run goes on as it would have."""

import math

from troth.system import TrainTable


def learning_rate_share(step: int, train: TrainTable) -> float:
    """The learning rate at `step` as a share of its peak."""
    if train.schedule == "cosine":
        return warmup_cosine(step, train.steps, train.warmup, train.lr_floor)
    return warmup_stable_decay(step, train.steps, train.warmup, train.decay, train.lr_floor)


def warmup_stable_decay(step: int, steps: int, warmup: float, decay: float, floor: float = 0.0) -> float:
    """Share of the peak at `step` of `steps`: linear up, flat, linear down to `floor`; `warmup`, `decay` are shares of
    the steps (Hu et al., 2404.06395)."""
    rise = (step + 1) / max(1.0, warmup * steps)
    fall = floor + (1 - floor) * (steps - step) / max(1.0, decay * steps)
    return min(1.0, rise, fall)


def warmup_cosine(step: int, steps: int, warmup: float, floor: float) -> float:
    """Share of the peak at `step` of `steps`: linear up, then down to `floor` along half a cosine (1608.03983)."""
    risen = max(1.0, warmup * steps)
    done = max(0.0, (step + 1 - risen) / (steps + 1 - risen))
    fall = floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2
    return min((step + 1) / risen, fall)


def rows_before(step: int, train: TrainTable) -> int:
    """How many rows the steps before `step` have read.

    Over the first `batch_ramp` of the steps batches grow from `batch_ramp_start` tokens to `batch_tokens`, as
    DeepSeek-V3's did (2412.19437, section 4.2): by as much each time, and as long at each size.
    """
    if not train.batch_ramp:
        return step * train.sequences
    growths = train.sequences // train.first_sequences - 1
    ramp = train.batch_ramp * train.steps
    grown = sum(max(0, step - math.ceil(ramp * growth / growths)) for growth in range(1, growths + 1))
    return train.first_sequences * (step + grown)


def rows_of(step: int, train: TrainTable) -> range:
    """The rows that `step` reads, numbered over the whole run."""
    return range(rows_before(step, train), rows_before(step + 1, train))


def mtp_weight(step: int, train: TrainTable) -> float:
    """What the loss of multi-token prediction weighs at `step`: another number in the last `decay` of the steps."""
    decaying = step >= train.steps - train.decay * train.steps
    return train.mtp_decay_weight if decaying and train.mtp_decay_weight is not None else train.mtp_weight
