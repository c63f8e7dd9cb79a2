"""How often GPUs fail, what saving costs and how often to save, what corrupt arithmetic and slow ranks cost.

Rates from `data/failures.toml`. Intervals: Young (1974), Daly (2006), and the optimum of Daly's exact expectation.
"""

import math
import tomllib
from dataclasses import dataclass
from functools import cache

from troth.plan.gpus import DATA

HOUR = 3600.0


@dataclass(frozen=True)
class FailureRate:
    """Published interruptions a GPU-hour, in all and by component where the source says."""

    name: str
    per_gpu_hour: float
    components: dict[str, float]
    source: str

    def mtbf(self, gpus: int) -> float:
        """Seconds between failures of that many GPUs together."""
        if gpus < 1:
            raise ValueError(f"gpus {gpus}: expected at least 1")
        return HOUR / (self.per_gpu_hour * gpus)


@cache
def failure_rates() -> dict[str, FailureRate]:
    """All published rates by name."""
    rates = {}
    for name, table in tomllib.loads((DATA / "failures.toml").read_text(encoding="utf-8")).items():
        if "interruptions" in table:
            gpu_hours = table["gpus"] * table["days"] * 24
            components = {component: count / gpu_hours for component, count in table["interruptions"].items()}
            per_gpu_hour = sum(components.values())
        else:
            components = {}
            per_gpu_hour = table["per_1000_node_days"] / 1000 / 24 / table["gpus_per_node"]
        rates[name] = FailureRate(name, per_gpu_hour, components, table["source"])
    return rates


def failure_rate(name: str) -> FailureRate:
    """The published rate of a name. Raises ValueError that names those known."""
    if name not in failure_rates():
        raise ValueError(f"failure rate {name}: unknown; known are {', '.join(failure_rates())}")
    return failure_rates()[name]


def write_seconds(checkpoint: float, nodes: int, node_bandwidth: float, total_bandwidth: float) -> float:
    """Until a checkpoint of that many bytes is in storage, or back from it, at bytes a second of a node and in all."""
    return checkpoint / min(nodes * node_bandwidth, total_bandwidth)


def optimal_interval(stall: float, mtbf: float, write: float = 0.0) -> float:
    """Seconds of work between saves for which `restart_goodput` is greatest, found by bisection.

    The derivative vanishes where (1 - x) exp(x + stall / mtbf) = 1 with x = interval / mtbf. It is never so short that
    a write would not end before the next begins.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        x = (low + high) / 2
        low, high = (x, high) if math.log1p(-x) + x + stall / mtbf > 0 else (low, x)
    return max(low * mtbf, write - stall, 1e-9 * mtbf)


def corruption_loss(per_second: float, check: float, restart: float) -> float:
    """Share of time that silent corruption takes where state is verified every `check` seconds.

    per_second: rate of corruptions of the whole run. What was done since the last verified state is thrown away when a
    check fails, a full period of it, and the run restarts from there and may be struck again. Gemini's report
    (2312.11805, section 3) expects an event every week or two; Llama 3 found 6 in 54 days. Of CPUs about one in 1,000
    computes wrongly (Meta, 2102.11245; Google: Hochschild et al., 2021); of GPUs no share is published.
    """
    passes = math.exp(-per_second * check)
    # A period is tried until one passes; each try takes the period, each failed one a restart besides.
    expected = check / passes + restart * (1 - passes) / passes
    return 1 - check / expected


def straggler_slowdown(nodes: int, slow_share: float = 0.005, slow_by: float = 0.1) -> float:
    """Expected time of a step over that without slow nodes, where any one of them holds all up.

    Each node is slow with probability slow_share and then takes slow_by longer. MegaScale (2402.15627, section 6.3)
    found 0.5% of machines about 10% slower before it took them out; over five months of ByteDance's jobs stragglers
    took 10.4% of GPU-hours (2505.05713), most of it uneven work and not slow machines.
    """
    return 1 + slow_by * -math.expm1(nodes * math.log1p(-slow_share))
