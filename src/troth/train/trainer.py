"""The training loop: what a run is made of, and step after step until its model is written."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from troth.model.config import ModelConfig
from troth.model.families.configs import to_hf_config
from troth.model.tokenizer import Tokenizer
from troth.system import ParallelTable, TrainTable, lay_out
from troth.train.batches import Batches
from troth.train.checkpoint import after_loading, load_checkpoint, save_checkpoint, saved_tensors, training_state
from troth.train.export import export
from troth.train.memory import keep_freed_memory
from troth.train.metrics import Metrics, MetricsLog, load_figures
from troth.train.optim import build_optimizers
from troth.train.parallel.mesh import Mesh
from troth.train.parallel.network import Network
from troth.train.parallel.ranks import Ranks
from troth.train.precision import DTYPES, choose_precision
from troth.train.run import open_run, save_record
from troth.train.schedule import warmup_stable_decay
from troth.train.shards import open_shards
from troth.train.step import step as one_step

ALONE = Ranks(0, 1, "cpu")


def train(
    model_config: ModelConfig, settings: TrainTable, weights: dict[str, float], tokenizer: Tokenizer,
    shards: Path, run: Path, report: Callable[[Metrics], None], ranks: Ranks = ALONE,
    parallel: ParallelTable | None = None,
) -> Path:  # fmt: skip
    """Train from scratch on the token shards and return the folder of the finished model (Hugging Face layout).

    Continues from the newest checkpoint in `run`; a finished run returns at once. `weights` are the collections'
    shares of the tokens. All `ranks` call it, laid out as `parallel` says; the first alone reports. Raises ValueError
    where `run` was started with other settings, the family cannot express the shape, a sequence has more tokens than
    the network positions, or the layout does not fit.
    """
    to_hf_config(model_config, "float32", tokenizer.end_of_text)  # A shape that could not be exported is refused now.
    if settings.sequence_length > model_config.max_position_embeddings:
        raise ValueError(
            f"train.sequence_length={settings.sequence_length}: the network has "
            f"model.max_position_embeddings={model_config.max_position_embeddings}"
        )
    parallel = parallel or ParallelTable()
    layout = lay_out(parallel, model_config, settings, ranks.world)
    collections = open_shards(shards)
    data = {"tokens": {name: len(shard.tokens) for name, shard in collections.items()}, "weights": weights}
    final = run / "model"
    record = _open(run, model_config, settings, data, ranks)
    if final.exists():
        return final
    keep_freed_memory()
    dtype = DTYPES[record["precision"]]
    batches = Batches(
        collections, weights, tokenizer, sequences=settings.batch_tokens // settings.sequence_length,
        time=settings.sequence_length, fill_in_middle=settings.fill_in_middle, seed=settings.seed,
    )  # fmt: skip
    mesh = Mesh.over(layout, ranks.device) if dist.is_initialized() else None
    network = Network(model_config, settings, layout, dtype, mesh, ranks.device).initialise(settings.seed)
    muon_dtype = dtype if dtype != torch.float32 else torch.float32
    optimizers = build_optimizers(
        network.weights, settings.muon_lr, settings.adam_lr, settings.weight_decay, muon_dtype
    )
    state = training_state(network, optimizers)
    first = load_checkpoint(run, state)
    after_loading(optimizers, state)
    log = MetricsLog(run, first) if ranks.first else None
    since, tokens = time.perf_counter(), 0
    rows = batches.sequences // layout.rows_ranks
    row = 0 if mesh is None else mesh.rows_rank * rows
    for step in range(first, settings.steps):
        share = warmup_stable_decay(step, settings.steps, settings.warmup, settings.decay)
        batch = batches[step].rows(row, row + rows)
        outcome = one_step(network, optimizers, batch, share, settings)
        tokens += batches.sequences * batches.time
        done = step + 1
        if done % settings.log_every == 0 or done == settings.steps:
            if not torch.isfinite(outcome.loss):
                raise ValueError(
                    f"{run}: loss is {outcome.loss.item()} at step {done}; lower train.muon_lr or train.adam_lr"
                )
            now = time.perf_counter()
            entropy, dead = load_figures(outcome.shares, mesh.group("pp") if mesh else None)
            metrics = Metrics(
                step=done, steps=settings.steps, loss=outcome.loss.item(), grad_norm=outcome.norm.item(),
                lr_share=share, tokens_per_second=tokens / (now - since), load_entropy=entropy, dead_experts=dead,
                seconds_per_step=(now - since) / (tokens / (batches.sequences * batches.time)),
            )  # fmt: skip
            if log is not None:
                log.write(metrics)
                report(metrics)
            since, tokens = now, 0
        if done % settings.checkpoint_every == 0 and done < settings.steps:
            save_checkpoint(run, done, state, settings.keep_checkpoints)
    if log is not None:
        log.close()
    if mesh is None:
        tensors: Iterable[tuple[str, torch.Tensor]] = network.decoders[0].state_dict().items()
    else:
        save_checkpoint(run, settings.steps, state, settings.keep_checkpoints)
        tensors = saved_tensors(run, model_config)
    if ranks.first:
        export(model_config, tensors, tokenizer, final)
    ranks.wait()
    return final


def _open(run: Path, model: ModelConfig, settings: TrainTable, data: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
    """The run's record, with the precision that its first rank chose."""
    if ranks.first:
        record = open_run(run, model, settings, data)
        if "precision" not in record:
            dtype = choose_precision(settings.precision, ranks.device)
            record["precision"] = next(name for name, known in DTYPES.items() if known == dtype)
            save_record(run / "run.json", record)
    ranks.wait()
    return open_run(run, model, settings, data)


