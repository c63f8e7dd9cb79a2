"""A trained network as a Hugging Face folder."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch

from troth.model.config import ModelConfig
from troth.model.ends import as_json, save_ends, trained_ends
from troth.model.families.configs import to_hf_config
from troth.model.families.weights import save_tensors
from troth.model.mtp import save_mtp
from troth.model.tokenizer import CHAT_TEMPLATE, Tokenizer


def export(
    config: ModelConfig, tensors: Iterable[tuple[str, torch.Tensor]], tokenizer: Tokenizer, folder: Path,
    dtype: str = "float32", chat_template: str = CHAT_TEMPLATE,
    mtp: Iterable[tuple[str, torch.Tensor]] | None = None, start: Path | None = None,
) -> None:  # fmt: skip
    """Write a network's tensors, its config and tokenizer, and those of an `MTP` where there is one; the folder appears
    whole or not at all. What generation_config.json says in the folder `start` is kept."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    ends = trained_ends(tokenizer, chat_template, start)
    save_tensors(config, tensors, to_hf_config(config, dtype, as_json(ends)), partial)
    save_ends(ends, partial, start)
    if mtp is not None:
        save_mtp(mtp, partial, getattr(torch, dtype))
    tokenizer.save(partial, chat_template)
    os.replace(partial, folder)
