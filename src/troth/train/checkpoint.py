"""Checkpoints to resume from, in torch's Distributed Checkpoint format.

One is written beside the others and renamed when whole, so that a run killed at any moment leaves complete ones only.
"""

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.train.optim import Muon
from troth.train.parallel.network import Network


def training_state(network: Network, optimizers: list[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Everything that a run goes on from, by name; tensors, perhaps distributed, that share the run's memory."""
    muon, adam = optimizers
    assert isinstance(muon, Muon)
    state: dict[str, torch.Tensor] = {}
    for weight in network.weights:
        state[f"model.{weight.name}"] = weight.whole.detach()
        kept = (muon if weight.local in muon.state else adam).state[weight.local]
        for kind, held in kept.items():
            if kind == "step":
                state["adam.step"] = held
            else:
                state[f"{kind}.{weight.name}"] = weight.like(held)
    for decoder in network.decoders:
        for name, buffer in decoder.named_buffers():
            if name.endswith("expert_bias"):
                state[f"model.{name}"] = buffer
    return state


def after_loading(optimizers: list[torch.optim.Optimizer], state: dict[str, torch.Tensor]) -> None:
    """Adam counts its steps with every weight; the state has the count once."""
    for kept in optimizers[1].state.values():
        if kept["step"] is not state["adam.step"]:
            kept["step"].copy_(state["adam.step"])


def saved_tensors(run: Path, config: ModelConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """The network's tensors in the newest checkpoint, one after another: the whole need not fit into memory."""
    with torch.device("meta"):
        expected = Decoder(config).state_dict()
    for name, like in expected.items():
        if not (config.tie_word_embeddings and name == "lm_head.weight"):
            state = {f"model.{name}": torch.empty_like(like, device="cpu")}
            dcp.load({"state": state}, checkpoint_id=_folders(run)[-1], no_dist=True)
            yield name, state[f"model.{name}"]


@contextlib.contextmanager
def _without_warning() -> Iterator[None]:
    """One process is what is meant; torch warns of it at each checkpoint."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _folders(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step-*[0-9]"))


def save_checkpoint(run: Path, step: int, state: dict[str, torch.Tensor], keep: int) -> None:
    """Write the state after `step` steps and delete all but the newest `keep`."""
    final = run / "checkpoints" / f"step-{step:09d}"
    partial = final.with_suffix(".partial")
    first = not dist.is_initialized() or dist.get_rank() == 0
    if first:
        shutil.rmtree(partial, ignore_errors=True)
    if dist.is_initialized():
        dist.barrier()
    with _without_warning():
        dcp.save({"state": state, "step": step}, checkpoint_id=partial, no_dist=not dist.is_initialized())
    if first:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in _folders(run)[:-keep]:
            shutil.rmtree(old)


def load_checkpoint(run: Path, state: dict[str, torch.Tensor]) -> int:
    """Fill the state from the newest checkpoint and return its step; 0 where there is none.

    Raises ValueError naming the folder where it cannot be read.
    """
    folders = _folders(run)
    if not folders:
        return 0
    whole: dict[str, Any] = {"state": state, "step": 0}
    try:
        with _without_warning():
            dcp.load(whole, checkpoint_id=folders[-1], no_dist=not dist.is_initialized())
    except (OSError, RuntimeError, ValueError, EOFError, dcp.api.CheckpointException) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"{folders[-1]}: unreadable checkpoint ({reason}); delete it to go on from an earlier one"
        ) from error
    return int(whole["step"])
