"""How long a training step takes, and where its time goes: what each part of the machine has to do, added up, and a
pipeline's bubble (2104.04473, section 2.2).

All of it is arithmetic over columns, so that a thousand layouts take as long as one; constants may be columns too.
"""

from dataclasses import dataclass

import numpy as np

from troth.plan.calibration import Calibration
from troth.plan.compute import compute_seconds, host_seconds, software
from troth.plan.run import Array, Columns
from troth.plan.traffic import data_traffic, micro_batch_traffic

OPTIMIZER_BYTES = 30.0
"""Bytes that a parameter's update reads and writes: weight, gradient and two moments in 32 bits, and a copy in 16."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step, for every run: `parts` add up to it, `hidden` traffic goes on behind them."""

    parts: dict[str, Array]
    hidden: dict[str, Array]

    @property
    def seconds(self) -> Array:
        """Of a step."""
        return np.asarray(sum(self.parts.values()))


def step_time(c: Columns, k: Calibration) -> StepTime:
    """The time of a step of every run, part by part."""
    parts = compute_seconds(c, k)
    exposed, whole = micro_batch_traffic(c, k, np.asarray(sum(parts.values())))
    uneven = (parts["experts"] + parts["permuting"]) * (c.imbalance - 1)
    gpu = np.asarray(sum(parts.values()) + sum(exposed.values())) + uneven
    parts |= {"expert imbalance": uneven, "kernel starts": host_seconds(c, k, gpu)} | exposed
    busy = np.asarray(sum(parts.values()))
    parts = {name: seconds * c.m for name, seconds in parts.items()}
    parts["bubble"] = busy * (c.pp - 1) / c.vpp
    out, everything = data_traffic(c, k, busy)
    owned = c.dense_held / c.dense_ranks + c.expert_held / c.expert_ranks
    owned = owned * np.where(c.sharded > 0, c.dp_replicate, 1)
    parts["data traffic"] = out
    parts["optimizer"] = OPTIMIZER_BYTES * owned / (c.memory_bandwidth * k.bandwidth)
    parts["beginning and end"] = k.step * software(c, k.progress)
    parts["waiting"] = np.asarray(sum(parts.values())) * k.scale * np.log2(np.maximum(c.world / 8, 1))
    hidden = {name: (whole[name] - exposed[name]) * c.m for name in whole} | {"data traffic": everything - out}
    return StepTime(parts, {name: np.maximum(seconds, 0) for name, seconds in hidden.items()})
