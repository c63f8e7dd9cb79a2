"""A plan of a training run: its best layouts, how long it takes and what it costs, with the failures of so many GPUs
and what a fixed batch loses on them."""

from dataclasses import dataclass, replace

import numpy as np

from troth.plan.batch import BatchCost, CriticalBatch, batch_cost, critical_batch
from troth.plan.calibration import Calibration
from troth.plan.clouds import Cloud
from troth.plan.cost import Duration, Offer, duration, offers
from troth.plan.dimensions import Dimensions
from troth.plan.failures import FailureRate, corruption_loss, failure_rate, straggler_slowdown
from troth.plan.goodput import GPUS_PER_NODE, Goodput, goodput
from troth.plan.gpus import Gpu
from troth.plan.layouts import Rules, best_layouts, parallel_table, rules_of
from troth.plan.memory import memory_parts
from troth.plan.recovery import START_SECONDS, SWAP_SECONDS, Storage, saving, strategies
from troth.plan.run import Run, columns
from troth.plan.simulation import Simulated, simulate
from troth.plan.step import step_time
from troth.system import System
from troth.system.parallel import ParallelTable

PRECISIONS = ("bf16", "float8")
"""Of products, that training on GPUs is planned in."""

KNOWN_GPUS = 16_384
"""Above so many GPUs no table of published runs says anything."""

TODAY = 2026.9
"""When the software is from that plans are for: Troth's, today."""

SPREAD = (0.88, 1.14)
"""Between these shares of a predicted step lie about 80% of those measured, of sources that constants were not fitted
to (`troth plan check`)."""

DRIFT = 0.05
"""What the longer end of a plan's range grows by for each doubling beyond `KNOWN_GPUS`: published weak scaling over a
doubling loses 0 to 4% (Megatron-LM, MegaScale)."""

IMBALANCE = 1.1
"""Tokens of the busiest rank's experts over the mean where nothing is said: the bias that Troth's router learns leaves
1.04 over a whole text (2408.15664, table 2), and a micro-batch is less even."""

VERIFIED_SECONDS = 1800.0
"""Between checks that weights and gradients are what the same work gives elsewhere."""

STATE_BYTES = 16
"""Of a parameter in a checkpoint: the weight and two moments in 32 bits, and a third more for all the rest."""


@dataclass(frozen=True)
class Candidate:
    """A layout with what it takes: seconds a step and bytes a GPU, by part; `hidden` traffic goes on behind the parts.
    mfu: the network's own operations over the peak of the GPUs that work, in 16 bits whatever the precision."""

    run: Run
    table: ParallelTable
    seconds: float
    parts: dict[str, float]
    hidden: dict[str, float]
    memory: dict[str, float]
    tokens_per_second: float
    mfu: float


@dataclass(frozen=True)
class TrainingPlan:
    """The best `candidates` first. seconds: from and to, of a step of the first. fewer: the best layout of the same
    batch on a sixteenth of the GPUs, or as few as hold it; None where all are needed. goodputs: by strategy;
    `strategy` is the best of them, `simulated` what a simulation of failures says of each, where one was asked for.
    corruption: the share of time that silent corruption takes; straggling: how much longer a step is while machines
    that are slow stay in."""

    system: str
    gpu: Gpu
    gpus: int
    tokens: float
    batch_tokens: int
    length: int
    considered: int
    candidates: list[Candidate]
    seconds: tuple[float, float]
    extrapolated: bool
    fewer: Candidate | None
    critical: CriticalBatch
    batch_cost: BatchCost
    goodputs: dict[str, Goodput]
    simulated: dict[str, Simulated]
    strategy: str
    corruption: float
    straggling: float
    duration: Duration
    offers: list[Offer]

    @property
    def best(self) -> Candidate:
        """The fastest layout."""
        return self.candidates[0]

    @property
    def spares(self) -> int:
        """GPUs that no layout of this speed uses: hot spares."""
        return self.gpus - self.best.run.world


def base_run(system: System, name: str, gpu: Gpu, gpus: int, batch_tokens: int,
             imbalance: float | None = None, pod: int | None = None,
             oversubscription: float | None = None) -> Run:  # fmt: skip
    """What all layouts of a system's training have in common; with `train.precision` auto a search may choose 8 bits
    instead of 16. Raises ValueError naming what does not fit."""
    length = system.train.sequence_length
    if batch_tokens < length or batch_tokens % length:
        near = max(batch_tokens // length, 1) * length
        raise ValueError(f"--global-batch-tokens {batch_tokens:,}: no multiple of {length:,} tokens; {near:,} would do")
    chosen = "bf16" if system.train.precision == "auto" else system.train.precision
    gpu.peak(chosen)
    if chosen not in PRECISIONS:
        raise ValueError(f"precision {chosen}: a plan is for {' or '.join(PRECISIONS)}; --precision bf16 would do")
    return Run(
        Dimensions.of(system.model, name), gpu, gpus, batch_tokens // length, length, sharded=True, precision=chosen,
        optimizer=system.train.optimizer, ahead=system.train.mtp_depth if system.train.mtp_weight else 0,
        date=TODAY, imbalance=imbalance or IMBALANCE, wide_experts=True,
        pod=pod or gpus, oversubscription=oversubscription or 1.0,
    )  # fmt: skip


def plan_training(
    system: System, name: str, base: Run, tokens: float, places: dict[str, Cloud], rate: FailureRate, count: int = 5,
    fixed: dict[str, int] | None = None, simulations: int = 0,
) -> TrainingPlan:  # fmt: skip
    """The plan of training a system on up to `base.world` GPUs; `base` says what all layouts have in common;
    simulations: failures of each strategy to simulate.

    Raises ValueError where no layout fits, saying what would.
    """
    k = Calibration()
    train = system.train.model_copy(update={"batch_tokens": base.sequences * base.length})
    rules = rules_of(system.model, train)
    found = best_layouts(base, rules, count, k, fixed=fixed)
    candidates = [judged(run, k) for run in found.runs]
    best = candidates[0]
    beyond = max(float(np.log2(best.run.world / KNOWN_GPUS)), 0.0)
    low, high = best.seconds * SPREAD[0], best.seconds * SPREAD[1] * (1 + DRIFT * beyond)
    batch = base.sequences * base.length
    critical = critical_batch(tokens)
    ways, simulated = _goodputs(best, rate, simulations)
    strategy = max(ways, key=lambda way: ways[way].of_paid)
    corruption = _corruption(best)
    run = duration(tokens, best.tokens_per_second, base.world, ways[strategy].share * (1 - corruption))
    return TrainingPlan(
        system=name, gpu=base.gpu, gpus=base.world, tokens=tokens, batch_tokens=batch, length=base.length,
        considered=found.considered, candidates=candidates, seconds=(low, high),
        extrapolated=best.run.world > KNOWN_GPUS, fewer=_on_fewer(base, rules, k, fixed), critical=critical,
        batch_cost=batch_cost(tokens, batch, critical.middle), goodputs=ways, simulated=simulated,
        strategy=strategy, corruption=corruption,
        straggling=straggler_slowdown(-(-best.run.world // GPUS_PER_NODE)), duration=run,
        offers=offers(run, base.gpu.name, best.mfu, places),
    )  # fmt: skip


def judged(run: Run, calibration: Calibration) -> Candidate:
    """What one run takes."""
    c = columns([run])
    time = step_time(c, calibration)
    seconds = float(time.seconds[0])
    rate = run.sequences * run.length / seconds
    return Candidate(
        run, parallel_table(run), seconds,
        parts={name: float(np.broadcast_to(part, 1)[0]) for name, part in time.parts.items()},
        hidden={name: float(np.broadcast_to(part, 1)[0]) for name, part in time.hidden.items()},
        memory={name: float(np.broadcast_to(part, 1)[0]) for name, part in memory_parts(c).items()},
        tokens_per_second=rate,
        mfu=rate * operations(run.dimensions, run.length) / (run.world * run.gpu.peak("bf16")),
    )  # fmt: skip


def _on_fewer(base: Run, rules: Rules, k: Calibration, fixed: dict[str, int] | None) -> Candidate | None:
    for part in (16, 4, 2):
        try:
            found = best_layouts(replace(base, world=max(base.world // part, 1)), rules, 1, k, fixed=fixed)
        except ValueError:
            continue
        return judged(found.runs[0], k)
    return None


def operations(d: Dimensions, length: int) -> float:
    """Of training on a token, both ways, nothing done again; scores under the causal mask only."""
    return 6 * d.multiplications(d.seen(length))


def _goodputs(
    best: Candidate, rate: FailureRate, simulations: int
) -> tuple[dict[str, Goodput], dict[str, Simulated]]:
    storage, run, mtbf = Storage(), best.run, rate.mtbf(best.run.world)
    checkpoint = STATE_BYTES * float(run.dimensions.parameters)
    saves = saving(checkpoint, run.world, best.seconds, storage)
    ways = strategies(checkpoint, run.world, mtbf, best.seconds, run.dp_replicate, run.gpu.network, storage)
    found = {name: goodput(rate, run.world, saves, way) for name, way in ways.items()}
    if not simulations:
        return found, {}
    rng = np.random.default_rng(0)
    return found, {
        name: simulate(mtbf, saves, found[name].interval, way, simulations, rng) for name, way in ways.items()
    }


def _corruption(best: Candidate) -> float:
    """At the rate at which Llama 3 met it, whatever the rate of other failures."""
    per_hour = failure_rate("llama3").components["silent-data-corruption"] * best.run.world
    return corruption_loss(per_hour / 3600, VERIFIED_SECONDS, SWAP_SECONDS + START_SECONDS)
