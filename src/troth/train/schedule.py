"""Warm-up, stable, decay (Hu et al., 2404.06395): the learning rate as a share of its peak."""


def warmup_stable_decay(step: int, steps: int, warmup: float, decay: float) -> float:
    """Share of the peak at `step` of `steps`: linear up, flat, linear down to zero; `warmup`, `decay` are shares."""
    rise = (step + 1) / max(1.0, warmup * steps)
    fall = (steps - step) / max(1.0, decay * steps)
    return min(1.0, rise, fall)
