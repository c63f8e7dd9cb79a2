"""Published best practices against the search: is the layout that people chose near the best one of the time model?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from troth.plan.calibration import Calibration
from troth.plan.check import Judged
from troth.plan.dimensions import network_named
from troth.plan.layouts import Rules, best_layouts
from troth.plan.run import Run

NETWORKS = ("Llama 3.1 405B", "DeepSeek-V3 671B", "Grok-1 314B", "Mixtral-8x22B", "Qwen3-235B-A22B")


@dataclass(frozen=True)
class Practice:
    """A network's most efficient published run: seconds a step of its layout and of the search's, both by the model."""

    network: str
    published: Run
    seconds: float
    found: Run
    found_seconds: float


def practices(judged: Sequence[Judged], calibration: Calibration) -> list[Practice]:
    """Of the networks that rows tell enough about: on the same GPUs, with the same batch and precision."""
    compared = []
    for name in NETWORKS:
        runs = [one for one in judged if one.run.dimensions == network_named(name) and one.run.gpu.name == "h100"]
        if not runs:
            continue
        best = min(runs, key=lambda one: one.published.seconds * one.run.world / one.run.sequences / one.run.length)
        found = best_layouts(replace(best.run, etp=1), Rules(), 1, calibration, room=1.0)
        compared.append(Practice(name, best.run, best.predicted, found.runs[0], found.seconds[0]))
    return compared
