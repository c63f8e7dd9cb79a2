"""From what steps found to what is reported of them."""

import contextlib
import time
from collections.abc import Iterator

import torch
import torch.distributed as dist

from troth.train.health.preflight import matrix_rate
from troth.train.job import Job
from troth.train.metrics import Metrics, MetricsLog, load_figures, model_flops_utilisation
from troth.train.parallel.ranks import Ranks
from troth.train.precision import DTYPES
from troth.train.step import Outcome

_PEAK_SECONDS = 0.1


class Meter:
    """Counts tokens and seconds between reports. The peak that the utilisation is a share of is measured once, on the
    first rank."""

    def __init__(self, job: Job, log: MetricsLog | None, precision: str, ranks: Ranks):
        self.job, self.log, self.ranks = job, log, ranks
        self.peak = matrix_rate(DTYPES[precision], torch.device(ranks.device), _PEAK_SECONDS) if ranks.first else 0.0
        self.began = self.since = time.perf_counter()
        self.steps = self.tokens = 0

    def count(self, tokens: int) -> None:
        """A step is done that read so many tokens over all ranks."""
        self.steps += 1
        self.tokens += tokens

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens meanwhile is no training, and its time no step's."""
        began = time.perf_counter()
        yield
        passed = time.perf_counter() - began
        self.began, self.since = self.began + passed, self.since + passed

    def report(
        self, done: int, seen: int, outcome: Outcome, lr_share: float, stages: dist.ProcessGroup | None,
        held_out: dict[str, float],
    ) -> Metrics | None:  # fmt: skip
        """What is known after `done` steps and `seen` tokens, on the first rank. Collective over `stages`."""
        entropy, dead = load_figures(outcome.shares, stages)
        if self.log is None:
            return None
        now, train = time.perf_counter(), self.job.train
        ranks = self.ranks.world * self.job.parallel.replica_groups
        rate = self.tokens / (now - self.since)
        metrics = Metrics(
            step=done, steps=train.steps, loss=outcome.loss, grad_norm=outcome.norm, lr_share=lr_share,
            tokens_per_second=rate, load_entropy=entropy, dead_experts=dead,
            seconds_per_step=(now - self.since) / self.steps,
            mfu=model_flops_utilisation(self.job.model, train.sequence_length, rate, self.peak, ranks),
            tokens=seen, seconds=self.log.seconds + now - self.began, figures=outcome.figures | held_out,
        )  # fmt: skip
        self.since, self.steps, self.tokens = now, 0, 0
        self.log.write(metrics)
        return metrics
