"""The training loop: one step is batch, forward, loss, backward, clip, update, balance."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch

from troth.model.attention import packed_attention
from troth.model.config import ModelConfig
from troth.model.decoder import Decoder, initialise
from troth.model.families.configs import to_hf_config
from troth.model.families.weights import save_weights
from troth.model.tokenizer import Tokenizer
from troth.system import TrainTable
from troth.train.batches import Batches
from troth.train.checkpoint import load_checkpoint, save_checkpoint
from troth.train.loss import next_token_loss
from troth.train.memory import keep_freed_memory
from troth.train.metrics import Metrics, MetricsLog, load_figures
from troth.train.optim import build_optimizers
from troth.train.precision import choose_precision, training_call
from troth.train.run import open_run, save_record
from troth.train.schedule import warmup_stable_decay
from troth.train.shards import open_shards


def train(
    model_config: ModelConfig, settings: TrainTable, weights: dict[str, float], tokenizer: Tokenizer,
    shards: Path, run: Path, report: Callable[[Metrics], None], device: str = "cpu",
) -> Path:  # fmt: skip
    """Train from scratch on the token shards and return the folder of the finished model (Hugging Face layout).

    Continues from the newest checkpoint in `run`; a finished run returns at once. `weights` are the collections'
    shares of the tokens. Raises ValueError where `run` was started with other settings, the family cannot
    express the shape, or a sequence has more tokens than the network positions.
    """
    to_hf_config(model_config, "float32", tokenizer.end_of_text)  # A shape that could not be exported is refused now.
    if settings.sequence_length > model_config.max_position_embeddings:
        raise ValueError(
            f"train.sequence_length={settings.sequence_length}: the network has "
            f"model.max_position_embeddings={model_config.max_position_embeddings}"
        )
    collections = open_shards(shards)
    data = {"tokens": {name: len(shard.tokens) for name, shard in collections.items()}, "weights": weights}
    record = open_run(run, model_config, settings, data)
    final = run / "model"
    if final.exists():
        return final
    keep_freed_memory()
    if "precision" not in record:
        record["precision"] = str(choose_precision(settings.precision, device)).removeprefix("torch.")
        save_record(run / "run.json", record)
    dtype = getattr(torch, record["precision"])
    batches = Batches(
        collections, weights, tokenizer, sequences=settings.batch_tokens // settings.sequence_length,
        time=settings.sequence_length, fill_in_middle=settings.fill_in_middle, seed=settings.seed,
    )  # fmt: skip
    model = initialise(Decoder(model_config), torch.Generator().manual_seed(settings.seed)).to(device).train()
    optimizers = build_optimizers(model, settings.muon_lr, settings.adam_lr, settings.weight_decay, dtype)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    first = load_checkpoint(run, model, optimizers)
    call = training_call(dtype, settings.activation_checkpointing == "full")
    log = MetricsLog(run, first)
    since, tokens = time.perf_counter(), 0
    for step in range(first, settings.steps):
        share = warmup_stable_decay(step, settings.steps, settings.warmup, settings.decay)
        for optimizer, lrs in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = peak * share
        batch = batches[step]
        inputs, targets, documents = (
            torch.from_numpy(part).to(device) for part in (batch.inputs, batch.targets, batch.documents)
        )
        h_BTD = model(inputs, packed_attention(model_config, documents), call=call)
        head = model.lm_head.weight.to(h_BTD.dtype)
        loss = next_token_loss(
            h_BTD.flatten(0, 1), head, targets.flatten(), settings.z_loss, model_config.logit_scale,
            model_config.logit_softcap,
        )  # fmt: skip
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        shares = [moe.balance(settings.balance_rate) for moe in model.moe_layers()]
        tokens += inputs.numel()
        done = step + 1
        if done % settings.log_every == 0 or done == settings.steps:
            if not torch.isfinite(loss):
                raise ValueError(f"{run}: loss is {loss.item()} at step {done}; lower train.muon_lr or train.adam_lr")
            now = time.perf_counter()
            entropy, dead = load_figures(shares)
            metrics = Metrics(
                step=done, steps=settings.steps, loss=loss.item(), grad_norm=norm.item(), lr_share=share,
                tokens_per_second=tokens / (now - since), load_entropy=entropy, dead_experts=dead,
                seconds_per_step=(now - since) / (tokens / inputs.numel()),
            )  # fmt: skip
            log.write(metrics)
            report(metrics)
            since, tokens = now, 0
        if done % settings.checkpoint_every == 0 and done < settings.steps:
            save_checkpoint(run, done, model, optimizers, settings.keep_checkpoints)
    log.close()
    export(model, tokenizer, final)
    return final


def export(model: Decoder, tokenizer: Tokenizer, folder: Path, dtype: str = "float32") -> None:
    """Write weights, config and tokenizer as a Hugging Face folder; it appears whole or not at all."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_weights(model, to_hf_config(model.config, dtype, tokenizer.end_of_text), partial)
    tokenizer.save(partial)
    os.replace(partial, folder)
