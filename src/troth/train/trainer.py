"""The training loop: what a run is made of, and step after step until its model is written."""

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from troth.system import Layout, lay_out
from troth.system.garbage import left_out_of_searches
from troth.train.batches import Batch
from troth.train.branch import more_rows
from troth.train.checkpoints import Checkpoints
from troth.train.examples import fingerprint
from troth.train.finish import finish
from troth.train.health.guard import SpikeGuard
from troth.train.health.replicas import compare_replicas
from troth.train.health.watch import Watch, WatchRule, to_stderr
from troth.train.held_out import held_out_figures
from troth.train.job import Epoch, Job, Rows
from troth.train.leaving import asked_to_leave
from troth.train.lora import lora_names
from troth.train.memory import keep_freed_memory
from troth.train.meter import Meter
from troth.train.metrics import Metrics, MetricsLog
from troth.train.optim import build_optimizers
from troth.train.parallel.mesh import Mesh
from troth.train.parallel.network import Network
from troth.train.parallel.ranks import ALONE, Ranks
from troth.train.parallel.replica_groups import ReplicaGroups, group_number
from troth.train.parallel.start import start_from
from troth.train.precision import DTYPES, choose_precision
from troth.train.preference import Preferences, Referenced
from troth.train.prefetch import Prefetch
from troth.train.reference import reference_log_probs
from troth.train.run import add_to_history, checkpoints_of, open_run, save_record
from troth.train.schedule import learning_rate_share, mtp_weight, rows_before, rows_of
from troth.train.state import after_loading, training_state
from troth.train.step import step as one_step
from troth.train.weights import local

Report = Callable[[Metrics], None]


def train(
    job: Job, run: Path, report: Report, ranks: Ranks = ALONE, say: Callable[[str], None] = to_stderr
) -> Path:
    """Train, and return the folder of the finished model (Hugging Face layout).

    Continues from the newest checkpoint in `run`; a finished run returns at once. All `ranks` call it; the first alone
    reports, and says what is not as it should be. Raises ValueError where `run` was started with other settings, the
    layout does not fit, or the loss cannot be brought back.
    """
    layout = ranks.once(lambda: _lay_out(job, ranks.world))
    ranks.once(lambda: group_number(layout.replica_groups))
    record = ranks.once(lambda: _open(run, job, ranks.device))
    if job.train.checkpoints is None:
        # Or the first checkpoint would say so, when there is something to lose.
        ranks.all_see(run / "run.json")
    final = run / "model"
    if ranks.once(final.exists):
        if ranks.first:
            kept = json.loads((final / "config.json").read_text(encoding="utf-8"))["dtype"]
            if kept != (asked := job.train.export_dtype):
                say(f"{final} is kept, in {kept}; delete it to have it written in {asked}, from the last checkpoint on")
        return final
    keep_freed_memory()
    training = Training(job, run, layout, record, ranks, say)
    with contextlib.closing(training), left_out_of_searches():
        training.go(report)
    if ranks.first:
        finish(job, run, training.network)
    ranks.wait()
    return final


class Training:
    """A run on this rank: the network, its optimisers, and where it stands."""

    def __init__(
        self, job: Job, run: Path, layout: Layout, record: dict[str, Any], ranks: Ranks, say: Callable[[str], None]
    ):
        self.job, self.run, self.ranks, self.say = job, run, ranks, say
        dtype = DTYPES[record["precision"]]
        self.mesh = mesh = Mesh.over(layout, ranks.device) if dist.is_initialized() else None
        self.network = Network(job.model, job.train, layout, dtype, mesh, ranks.device)
        train = job.train
        self.optimizers = build_optimizers(
            self.network.weights, train.muon_lr, train.adam_lr, train.weight_decay, dtype, train.optimizer
        )
        self.guard = SpikeGuard(train.on_spike)
        self.state = training_state(self.network, self.optimizers) | {"spikes": self.guard.stored}
        self._fill()
        self.rows: Rows = self._with_reference(job.rows, "reference", record)
        self.held_out: dict[str, Epoch] = {
            name: self._with_reference(rows, "held_out_reference", record) for name, rows in job.held_out.items()
        }
        self.more_rows = more_rows(job.branch, train)
        self.checkpoints = Checkpoints(checkpoints_of(run, train), train.keep_checkpoints)
        self.done = self._load()
        if ranks.first:
            held_out = {name: epoch.version for name, epoch in job.held_out.items()}
            add_to_history(run, record, self.done, held_out)
        self.log = MetricsLog(run, self.done) if ranks.first else None
        self.meter = Meter(job, self.log, record["precision"], ranks)
        # Each replica group has its part of the rows, each of its ranks a part of that.
        in_group = layout.rows_ranks // layout.replica_groups
        self.rows_ranks, self.rows_rank = layout.rows_ranks, group_number(layout.replica_groups) * in_group
        self.rows_rank += 0 if mesh is None else mesh.rows_rank
        self.groups: ReplicaGroups | None = None
        if layout.replica_groups > 1:
            state = {name: local(tensor) for name, tensor in self.state.items()}
            self.groups = ReplicaGroups(
                layout.replica_groups, ranks, self.done, timedelta(seconds=train.hang_seconds), state,
                self.guard.store, self._loaded, self._say,
            )  # fmt: skip

    def go(self, report: Report) -> None:
        """All steps that are left."""
        train = self.job.train
        rule = WatchRule(least=train.hang_seconds, first=6 * train.hang_seconds, end=train.end_hanging)
        with Watch(self.run, rule, self.say) as watch, asked_to_leave() as leaving:
            begun = self.done
            while self.done < train.steps:
                with Prefetch(self._batches(), self.ranks.device) as batches:
                    self._until_rewound(batches, watch, report, leaving)
            if self.groups is not None:
                watch.enter(train.steps, "quorum")
                self.groups.part()
            if begun < train.steps:
                self._checkpoint(watch)
            self.checkpoints.wait()

    def close(self) -> None:
        """Finish what is written in the background."""
        if self.groups is not None:
            self.groups.close()
        self.checkpoints.close()
        if self.log is not None:
            self.log.close()

    def _batches(self) -> Iterator[Batch]:
        """This rank's rows of the steps to come."""
        for step in range(self.done, self.job.train.steps):
            rows = rows_of(self.guard.batch_of(step), self.job.train)
            own = len(rows) // self.rows_ranks
            first = rows.start + self.more_rows + self.rows_rank * own
            yield self.rows.rows(first, first + own)

    def _with_reference(self, rows: Any, name: str, record: dict[str, Any]) -> Any:
        """Rows as they are; those of preferences with what the network thinks of the answers as it is now, which is
        kept in the run's folder by that `name`."""
        if not isinstance(rows, Preferences):
            return rows
        key = json.dumps({
            "precision": record["precision"], "time": rows.time, "examples": rows.examples.sha256,
            "start_weights": record["settings"]["data"]["start_weights"],
        })  # fmt: skip
        file = self.run / f"{name}.safetensors"
        return Referenced(rows, reference_log_probs(self.network, rows, file, key, self.ranks, self.say))

    def _until_rewound(
        self, batches: Iterator[Batch], watch: Watch, report: Report, leaving: Callable[[], bool]
    ) -> None:
        """Steps to the end, or until the next batch is another one: the run went back to its last checkpoint, or is as
        far as another replica group, or must take a step again because one was lost. Ends the process where a rank is
        `leaving`."""
        train = self.job.train
        while self.done < train.steps:
            if self.groups is not None:
                watch.enter(self.done, "quorum")
                if self.done != (done := self.groups.begin()):
                    self.done = done
                    return
            watch.enter(self.done, "data")
            batch = next(batches)
            watch.enter(self.done, "step")
            share = learning_rate_share(self.done, train)
            self.network.mtp_weight = mtp_weight(self.done, train)
            action = self.guard.judging(self.done)
            outcome = one_step(self.network, self.optimizers, batch, share, train, action, self.groups, leaving())
            if outcome is None:
                return
            if not outcome.updated:
                self._say(self.guard.told)
                if self.guard.rewinds:
                    self._rewind()
                    return
            self.done += 1
            present = 1.0 if self.groups is None else self.groups.present / self.groups.groups
            self.meter.count(round(len(batch.inputs) * self.rows_ranks * present) * train.sequence_length)
            last = self.done == train.steps
            held_out = self._held_out(watch) if last or self.done % train.eval_every == 0 else {}
            if last or held_out or self.done % train.log_every == 0:
                stages = None if self.mesh is None else self.mesh.group("pp")
                seen = (rows_before(self.done, train) + self.more_rows) * train.sequence_length
                metrics = self.meter.report(self.done, seen, outcome, share, stages, held_out)
                if metrics is not None:
                    report(metrics)
            due = outcome.leaving or self.done % train.checkpoint_every == 0
            if due and self.done < train.steps:
                self._checkpoint(watch)
                if outcome.leaving:
                    self.checkpoints.wait()
                    self._say(f"ended by SIGTERM after step {self.done}, with a checkpoint; the same command goes on")
                    raise SystemExit(128 + signal.SIGTERM)

    def _checkpoint(self, watch: Watch) -> None:
        """Begin to write where the run stands. Raises OSError where ranks that should hold the same do not."""
        watch.enter(self.done, "checkpoint")
        self._compare_replicas()
        self.guard.store()
        self.checkpoints.save(self.done, self.state)

    def _held_out(self, watch: Watch) -> dict[str, float]:
        """The figures of what is held out, where anything is; the time that they take is not the steps'."""
        if not self.held_out:
            return {}
        with self.meter.paused():
            return held_out_figures(
                self.network, self.held_out, self.job.train, lambda: watch.enter(self.done, "held out")
            )

    def _rewind(self) -> None:
        """Go back to the newest checkpoint, or to the beginning where there is none yet."""
        left_out = self.guard.state
        self._fill()
        self.done = self._load()
        self.guard.rewound(left_out)
        if self.log is not None:
            self.log.close()
            self.log = self.meter.log = MetricsLog(self.run, self.done)

    def _fill(self) -> None:
        """The state that training begins with."""
        for tensor in self.state.values():
            local(tensor).zero_()
        self.network.initialise(self.job.train.seed)
        if self.job.start is not None:
            start_from(self.job.start, self.network)

    def _load(self) -> int:
        """Fill the state from the newest whole checkpoint, or that of the run it branches from, if there is one, and
        return its step."""
        done = self.checkpoints.load(self.state, self._say)
        if done == 0 and (branch := self.job.branch) is not None:
            branch.load(self.state, self._say)
            done = branch.step
        self._loaded()
        return done

    def _loaded(self) -> None:
        """The state has been filled from elsewhere."""
        after_loading(self.optimizers, self.state)
        self.guard.read()

    def _compare_replicas(self) -> None:
        """Raises OSError naming the ranks and machines whose weights are not those of the others."""
        if self.mesh is not None and self.mesh.layout.dp_replicate > 1:
            held = {name: local(tensor) for name, tensor in self.state.items()}
            if found := compare_replicas(held, self.mesh.group("dp_replicate")):
                told = "no checkpoint was written; leave that machine out, and the same command goes on from the last"
                raise OSError(f"{self.run}: before step {self.done + 1} {found[0]}; {told}")

    def _say(self, text: str) -> None:
        if self.ranks.first:
            self.say(text)


def _lay_out(job: Job, world: int) -> Layout:
    layout = lay_out(job.parallel, job.model, job.train, world)
    if job.train.lora is not None:
        adapted = {int(name.split(".")[1]) for name in lora_names(job.model, job.train.lora.patterns)}
        for stage in range(layout.stages):
            if adapted.isdisjoint(layout.layers_of(stage, job.model.num_hidden_layers)):
                raise ValueError(
                    f"train.lora.patterns: fit nothing in stage {stage + 1} of the {layout.stages} of the pipeline; "
                    "use parallel.pp=1"
                )
    return layout


def _open(run: Path, job: Job, device: str) -> dict[str, Any]:
    """The run's record, with the precision that is chosen when it begins."""
    start: dict[str, Any] = {} if job.start is None else {"start": str(job.start)}
    start["branch"] = job.branch and job.branch.record
    if job.start is not None and (job.train.lora is not None or job.train.objective == "preference"):
        # Their checkpoints and the answers' first log-probabilities mean nothing beside other weights.
        start["start_weights"] = fingerprint(sorted(job.start.glob("*.safetensors")))
    record = open_run(run, job.model, job.train, job.data | start, job.system)
    precision = choose_precision(job.train.precision, device)
    if "precision" not in record:
        record["precision"] = precision
        save_record(run / "run.json", record)
    return record
