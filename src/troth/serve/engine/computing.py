"""Who computes an engine's steps, and guesses between them: by the model, the machine and the settings."""

import logging
import os

import torch

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.families.weights import StoredDecoder
from troth.model.mtp import MTP, MTPModule
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.cpu.pack import WeightKind
from troth.serve.engine.cpu.runner import CpuModule, CpuRunner, why_not
from troth.serve.engine.decode_graphs import DecodeGraphs, can_hold
from troth.serve.engine.deterministic import DeterministicRunner
from troth.serve.engine.drafts import Drafter, LookupDrafter, MTPDrafter, TorchModule
from troth.serve.engine.drawer import Drawer, TorchDrawer
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.packed_weights import pack_weights
from troth.serve.engine.runner import TorchRunner
from troth.system.serve import ServeTable

log = logging.getLogger(__name__)


def stored_dtype(config: ModelConfig, dtype: str | None, table: ServeTable, device: str) -> torch.dtype:
    """In what a folder's weights, which it has in `dtype`, are loaded."""
    if table.weights != "auto":
        return torch.float32 if table.weights == "float32" else torch.bfloat16
    if device == "cpu" and (dtype != "bfloat16" or why_not(config) is not None):
        return torch.float32
    return torch.bfloat16


def runner_for(
    model: Decoder, cache: KVCache, table: ServeTable, adapters: Adapters, context: int, alone: bool,
    stored: StoredDecoder | None,
) -> CpuRunner | TorchRunner | DeterministicRunner:  # fmt: skip
    """The library's runner where it can run the network, `alone`: without other ranks; else one of torch, for whose
    sake the decoder gets the adapters, and packed weights where 8 or 4 bit are asked for. Layers that are `stored` yet
    are read as they are packed."""
    weight = model.embed_tokens.weight
    plain: WeightKind = "float32" if weight.dtype == torch.float32 else "bfloat16"
    kind = plain if table.weights == "auto" else table.weights
    guesses = table.speculate == "mtp"
    reason = why_not(model.config) if weight.device.type == "cpu" else f"the device is {weight.device}"
    if not alone:
        reason = "several ranks"
    if reason is None and weight.dtype in (torch.float32, torch.bfloat16):
        most_rows = table.max_step_tokens + table.max_batch * (1 + table.draft_tokens)
        # macOS tells no affinity.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = table.threads or cores
        # What was trained in 4 bits is exact in them, and wider only takes longer to read.
        keeps = stored is not None and stored.in_mxfp4 and kind != "float32" and table.weights != "bfloat16"
        experts = "mxfp4" if keeps else kind
        return CpuRunner(model, cache, kind, most_rows, threads, adapters, guesses, stored, experts)
    if kind in ("int8", "int4"):
        log.warning("%s weights are widened to %s for each product, which takes time: %s", kind, plain, reason)
        pack_weights(model, kind, stored)
    elif stored:
        for layer in model.layers.values():
            stored.read(layer)
    adapters.join(model)
    if table.deterministic:
        return DeterministicRunner(model, cache, adapters)
    graphs = None
    if can_hold(model, cache) and alone and not (table.enforce_eager or guesses or adapters.names):
        graphs = DecodeGraphs(model, cache, table.max_batch, -(-context // cache.block_size))
    return TorchRunner(model, cache, adapters, guesses, graphs)


def drawer_for(runner: CpuRunner | TorchRunner | DeterministicRunner) -> Drawer:
    """Who draws tokens from scores: the library, where it computes them."""
    return runner if isinstance(runner, CpuRunner) else TorchDrawer()


def drafter_for(
    runner: CpuRunner | TorchRunner | DeterministicRunner, model: Decoder, cache: KVCache, table: ServeTable,
    mtp: MTP | None, vocab_size: int,
) -> Drafter | None:  # fmt: skip
    """Who guesses tokens, of the first `vocab_size`; the first of `mtp`'s modules works where the runner does."""
    if table.speculate == "ngram":
        return LookupDrafter(table.draft_tokens)
    if table.speculate != "mtp":
        return None
    assert mtp is not None
    module = next(iter(mtp.layers.values()))
    assert isinstance(module, MTPModule)
    if isinstance(runner, CpuRunner):
        return MTPDrafter(CpuModule(runner, module), runner, vocab_size)
    return MTPDrafter(TorchModule(model, module, cache, runner.adapters), runner, vocab_size)
