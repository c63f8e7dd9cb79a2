"""What a plan would be on fewer and more GPUs: the fastest layout of the same batch, and what failures leave."""

from dataclasses import replace

import numpy as np

from troth.plan.calibration import Calibration
from troth.plan.failures import FailureRate
from troth.plan.layouts import best_layouts, rules_of
from troth.plan.recovery import GoodputCurve, Storage, goodput_by_scale
from troth.plan.run import Run
from troth.plan.training import STATE_BYTES, Candidate, TrainingPlan, judged
from troth.system import System

STEPS = 7
"""The plan's GPUs and halves of them that are looked at."""


def by_gpus(system: System, base: Run, plan: TrainingPlan, fixed: dict[str, int]) -> list[Candidate]:
    """The fastest layouts of the plan's batch on its GPUs and on halves of them, fewest first, where one fits."""
    k = Calibration()
    rules = rules_of(system.model, system.train.model_copy(update={"batch_tokens": plan.batch_tokens}))
    found = [plan.best]
    for halvings in range(1, STEPS):
        try:
            fewer = replace(base, world=max(plan.gpus // 2**halvings, 1))
            found.append(judged(best_layouts(fewer, rules, 1, k, fixed=fixed).runs[0], k))
        except ValueError:  # it does not fit into so few
            break
    by_world = {one.run.world: one for one in found}
    return [by_world[world] for world in sorted(by_world)]


def goodput_curves(plan: TrainingPlan, rate: FailureRate) -> dict[str, GoodputCurve]:
    """Of every strategy, for replica groups of the size that the plan has, from one of them to four times as many as
    it has, and a step as long as the plan's."""
    run = plan.best.run
    group = run.world // run.dp_replicate
    groups = sorted({max(round(run.dp_replicate * 4 * 2 ** (-i / 2)), 1) for i in range(24)})
    checkpoint = STATE_BYTES * float(run.dimensions.parameters)
    gpus = group * np.array(groups)
    return goodput_by_scale(rate, gpus, checkpoint, plan.best.seconds, group, run.gpu.network, Storage())
