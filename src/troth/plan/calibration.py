"""What arithmetic cannot say: how near real programs come to a machine's limits. Few numbers, each with a unit, what
is known of it beforehand, and its value fitted to published runs; `plan check` repeats that and cross-validates."""
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from troth.plan.run import Array


def _number(value: float, prior: float, spread: float, unit: str, meaning: str) -> Any:
    """A constant: its fitted value; before any fit it is `prior`, within a factor of about exp(`spread`)."""
    return field(
        default=value, metadata={"prior": prior, "spread": spread, "unit": unit, "meaning": meaning}
    )


@dataclass(frozen=True)
class Calibration:
    """Shares are of a machine's published peak or of a quantity that the model computes; what software loses is that
    of `compute.NOW`. Fields may be arrays, a constant's values beside each other."""

    ampere_bf16: float = _number(0.856, 0.80, 0.1, "share of peak", "large 16-bit products on A100")
    hopper_bf16: float = _number(0.787, 0.75, 0.1, "share of peak", "large 16-bit products on H100 and H200")
    hopper_float8: float = _number(0.822, 0.65, 0.15, "share of peak", "large 8-bit products on H100 and H200")
    blackwell_bf16: float = _number(0.643, 0.75, 0.1, "share of peak", "large 16-bit products on B200 to GB300")
    blackwell_float8: float = _number(0.676, 0.70, 0.15, "share of peak", "large 8-bit products on B200 to GB300")
    blackwell_float4: float = _number(0.536, 0.55, 0.2, "share of peak", "large 4-bit products on B200 to GB300")
    ampere_attention: float = _number(0.812, 0.60, 0.15, "share of peak", "the products inside attention on A100")
    hopper_attention: float = _number(0.483, 0.45, 0.15, "share of peak", "the same on H100 and H200")
    blackwell_attention: float = _number(0.362, 0.40, 0.15, "share of peak", "the same on B200 to GB300")
    torch_attention: float = _number(0.705, 0.8, 0.3, "share", "of that in software of PyTorch's own kernels")
    torch_progress: float = _number(
        0.258, 0.3, 0.5, "share a year", "by which it rises: PyTorch 2.2 and 2.5 took faster kernels, 2 and 1.75 times"
    )
    bandwidth: float = _number(0.777, 0.80, 0.1, "share of peak", "memory traffic of products and pointwise work")
    routed: float = _number(3.43, 2.0, 0.5, "passes", "the same of what experts take and give: permuting costs more")
    link: float = _number(0.873, 0.70, 0.2, "share of peak", "collectives between GPUs of a domain")
    network: float = _number(0.75, 0.75, 0.2, "share of peak", "collectives over the network")
    sent_once: float = _number(0.937, 0.9, 0.15, "share of peak", "the same of experts' traffic by DeepEP's kernels")
    expert_exposed: float = _number(0.651, 0.7, 0.4, "share", "expert traffic within a domain that nothing hides")
    dense_layer: float = _number(
        0.00199, 1e-3, 0.5, "s", "a host starting the kernels of a layer and micro-batch, both ways"
    )
    expert: float = _number(
        0.000307, 0.2e-3, 0.5, "s", "starting the products of an expert of a rank, a layer and micro-batch"
    )
    maturing: float = _number(
        0.135, 0.1, 0.5, "share", "more that products take a year after a GPU is announced; half a year later"
    )
    step: float = _number(0.0545, 0.03, 0.7, "s", "beginning and ending a step")
    scale: float = _number(0.00246, 0.003, 0.7, "share a doubling", "what ranks wait for the slowest, beyond 8 ranks")
    progress: float = _number(0.0952, 0.10, 0.5, "share a year", "by which software lowers all that is not products")


NAMES = [constant.name for constant in fields(Calibration)]
PRIOR = np.log([constant.metadata["prior"] for constant in fields(Calibration)])
SPREAD = np.array([constant.metadata["spread"] for constant in fields(Calibration)])


def from_logarithms(vector: Array) -> Calibration:
    """The constants with these logarithms, in the order of `NAMES`; of several rows of them, as columns."""
    columns: dict[str, Any] = {name: np.exp(vector[..., i, None]) for i, name in enumerate(NAMES)}
    return Calibration(**columns)
