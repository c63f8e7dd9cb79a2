"""What a plan would be on fewer and more GPUs: the fastest layout of the same batch, and what failures leave."""

from dataclasses import dataclass, replace

from troth.plan.calibration import Calibration
from troth.plan.failures import FailureRate
from troth.plan.goodput import goodput
from troth.plan.layouts import best_layouts
from troth.plan.recovery import Storage, saving, strategies
from troth.plan.run import Run
from troth.plan.training import STATE_BYTES, Candidate, TrainingPlan, judged
from troth.system import System

STEPS = 7
"""Halvings of the plan's GPUs that are looked at."""


@dataclass(frozen=True)
class GoodputCurves:
    """Share of the time of GPUs paid for that lasts as progress, by strategy, for each count of `gpus`."""

    gpus: list[int]
    of_paid: dict[str, list[float]]


def by_gpus(system: System, base: Run, plan: TrainingPlan, fixed: dict[str, int],
            calibration: Calibration | None = None) -> list[Candidate]:  # fmt: skip
    """The fastest layouts of the plan's batch on its GPUs and on halves of them, fewest first, where one fits."""
    k = calibration or Calibration()
    train = system.train.model_copy(update={"batch_tokens": plan.batch_tokens})
    found = [plan.best]
    for halvings in range(1, STEPS):
        try:
            fewer = replace(base, world=max(plan.gpus // 2**halvings, 1))
            found.append(judged(best_layouts(fewer, system.model, train, 1, k, fixed=fixed).runs[0], k))
        except ValueError:  # it does not fit into so few
            break
    by_world = {one.run.world: one for one in found}
    return [by_world[world] for world in sorted(by_world)]


def goodput_curves(plan: TrainingPlan, rate: FailureRate, storage: Storage | None = None) -> GoodputCurves:
    """For replica groups of the size that the plan has, from one of them to four times as many as it has, and a step as
    long as the plan's."""
    run, storage = plan.best.run, storage or Storage()
    checkpoint = STATE_BYTES * float(run.dimensions.parameters)
    group = run.world // run.dp_replicate
    groups = sorted({max(round(run.dp_replicate * 4 * 2 ** (-i / 2)), 1) for i in range(24)})
    shares: dict[str, list[float]] = {}
    for count in groups:
        gpus = count * group
        saves = saving(checkpoint, gpus, plan.best.seconds, storage)
        ways = strategies(checkpoint, gpus, rate.mtbf(gpus), plan.best.seconds, count, run.gpu.network, storage)
        for name, way in ways.items():
            shares.setdefault(name, []).append(goodput(rate, gpus, saves, way).of_paid)
    return GoodputCurves([count * group for count in groups], shares)
