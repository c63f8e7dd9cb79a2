"""Whether an engine's steps are run by the library, and in which kind of weights."""

import logging
import os

import torch

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.mtp import MTP, MTPModule
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.cpu.pack import WeightKind
from troth.serve.engine.cpu.runner import CpuModule, CpuRunner, why_not
from troth.serve.engine.drafts import Module, TorchModule
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.packed_weights import pack_weights
from troth.system.serve import ServeTable

log = logging.getLogger(__name__)


def stored_dtype(config: ModelConfig, dtype: str, table: ServeTable, device: str) -> torch.dtype:
    """In what a folder's weights, which it has in `dtype`, are loaded."""
    if table.weights != "auto":
        return torch.float32 if table.weights == "float32" else torch.bfloat16
    if device == "cpu" and (dtype != "bfloat16" or why_not(config) is not None):
        return torch.float32
    return torch.bfloat16


def cpu_runner(
    model: Decoder, cache: KVCache, table: ServeTable, adapters: Adapters, keeps_states: bool, alone: bool
) -> CpuRunner | None:  # fmt: skip
    """The library's runner; None where it cannot run the network, or not `alone`: with other ranks. The decoder's
    weights are then packed where 8 or 4 bit are asked for."""
    weight = model.embed_tokens.weight
    plain: WeightKind = "float32" if weight.dtype == torch.float32 else "bfloat16"
    kind = plain if table.weights == "auto" else table.weights
    reason = why_not(model.config) if weight.device.type == "cpu" else f"the device is {weight.device}"
    if model.config.latent and cache.kind != "auto":
        reason = "latents in a cache of 8 bit"
    if not alone:
        reason = "several ranks"
    if reason is None and weight.dtype in (torch.float32, torch.bfloat16):
        most_rows = table.max_step_tokens + table.max_batch * (1 + table.draft_tokens)
        threads = table.threads or len(os.sched_getaffinity(0))
        return CpuRunner(model, cache, kind, most_rows, threads, adapters, keeps_states)
    if kind in ("int8", "int4"):
        log.warning("%s weights are widened to %s for each product, which takes time: %s", kind, plain, reason)
        pack_weights(model, kind)
    return None


def first_module(mtp: MTP, runner: object, model: Decoder, cache: KVCache) -> Module:
    """The module that guesses one token, where the runner is."""
    module = next(iter(mtp.layers.values()))
    assert isinstance(module, MTPModule)
    return CpuModule(runner, module) if isinstance(runner, CpuRunner) else TorchModule(model, module, cache)
