"""A trained network as a Hugging Face folder, which also says where its texts end."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch

from troth.model.chat_template import ChatTemplate
from troth.model.config import ModelConfig
from troth.model.ends import GENERATION, configured_ends, default_ends
from troth.model.families.configs import carried_keys, to_hf_config
from troth.model.families.weights import save_tensors
from troth.model.mtp import save_mtp
from troth.model.tokenizer import CHAT_TEMPLATE, Tokenizer


def export(
    config: ModelConfig, tensors: Iterable[tuple[str, torch.Tensor]], tokenizer: Tokenizer, folder: Path,
    dtype: str, chat_template: str | None = CHAT_TEMPLATE,
    mtp: Iterable[tuple[str, torch.Tensor]] | None = None, start: Path | None = None,
) -> None:  # fmt: skip
    """Write a network's tensors, its config and tokenizer, and those of an `MTP` where there is one; the folder appears
    whole or not at all. What config.json and generation_config.json say in the folder `start` stays, but for what the
    network and its weights now are and where texts end."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    ends = trained_ends(tokenizer, chat_template, start)
    eos = ends[0] if len(ends) == 1 else ends
    kept = {} if start is None else carried_keys(start, config)
    save_tensors(config, tensors, kept | to_hf_config(config, dtype, eos), partial)
    if mtp is not None:
        save_mtp(mtp, partial, getattr(torch, dtype))
    tokenizer.save(partial, chat_template)
    known = None if start is None else start / GENERATION
    kept = {} if known is None or not known.exists() else json.loads(known.read_text(encoding="utf-8"))
    (partial / GENERATION).write_text(json.dumps(kept | {"eos_token_id": eos}, indent=2), encoding="utf-8")
    os.replace(partial, folder)


def trained_ends(tokenizer: Tokenizer, template: str | None, start: Path | None) -> list[int]:
    """Where texts of a model end that was trained with a chat template, perhaps from a folder on: at the end of the
    template's turns, first of all, and wherever the folder's and the tokenizer's end."""
    turn = None if template is None else ChatTemplate(template, tokenizer).end_of_turn
    configured = [] if start is None else configured_ends(start)
    return list(dict.fromkeys([*([] if turn is None else [turn]), *configured, *default_ends(tokenizer)]))
