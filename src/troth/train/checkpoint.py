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
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from troth.model.decoder import Decoder


@contextlib.contextmanager
def _without_warning() -> Iterator[None]:
    """One process is what is meant; torch warns of it at each checkpoint."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _folders(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step-*[0-9]"))


def save_checkpoint(run: Path, step: int, model: Decoder, optimizers: list[torch.optim.Optimizer], keep: int) -> None:
    """Write the state after `step` steps and delete all but the newest `keep`."""
    final = run / "checkpoints" / f"step-{step:09d}"
    partial = final.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    weights, moments = get_state_dict(model, optimizers)
    with _without_warning():
        dcp.save({"model": weights, "optimizer": moments, "step": step}, checkpoint_id=partial, no_dist=True)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    for old in _folders(run)[:-keep]:
        shutil.rmtree(old)


def load_checkpoint(run: Path, model: Decoder, optimizers: list[torch.optim.Optimizer]) -> int:
    """Fill model and optimisers from the newest checkpoint and return its step; 0 where there is none.

    Raises ValueError naming the folder where it cannot be read.
    """
    folders = _folders(run)
    if not folders:
        return 0
    weights, moments = get_state_dict(model, optimizers)
    state: dict[str, Any] = {"model": weights, "optimizer": moments, "step": 0}
    try:
        with _without_warning():
            dcp.load(state, checkpoint_id=folders[-1], no_dist=True)
    except (OSError, RuntimeError, ValueError, EOFError, dcp.api.CheckpointException) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"{folders[-1]}: unreadable checkpoint ({reason}); delete it to go on from an earlier one"
        ) from error
    set_state_dict(model, optimizers, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    return int(state["step"])
