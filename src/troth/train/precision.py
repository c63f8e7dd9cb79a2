"""How layers are computed in training: bf16 products from float32 weights where this device is faster at them, and
activations kept or computed again for the gradient (Chen et al., 1604.06174)."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from troth.model.decoder import Call, DecoderLayer
from troth.model.moe import MoE


def choose_precision(setting: str, device: str) -> torch.dtype:
    """The dtype of products: as set, or, for `auto`, the faster of float32 and bf16 on a small product here."""
    if setting != "auto":
        return torch.bfloat16 if setting == "bf16" else torch.float32

    def seconds(dtype: torch.dtype) -> float:
        x = torch.ones(1024, 512, dtype=dtype, device=device)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            (x @ x.T).sum().item()
            times.append(time.perf_counter() - start)
        return min(times)

    return torch.bfloat16 if seconds(torch.bfloat16) < seconds(torch.float32) else torch.float32


def training_call(dtype: torch.dtype, recompute: bool) -> Call:
    """The `Call` of a decoder whose products are in `dtype` while gradients arrive at its float32 weights.

    With `recompute` a layer keeps nothing but its input, and is computed a second time in the backward pass.
    """

    def cast(part: nn.Module, *args: Any) -> torch.Tensor:
        if dtype == torch.float32:
            return part(*args)
        weights = {name: p.to(dtype) if p.dim() > 1 else p for name, p in part.named_parameters()}
        return functional_call(part, weights, args)

    def call(part: nn.Module, *args: Any) -> torch.Tensor:
        if not (recompute and isinstance(part, DecoderLayer)):
            return cast(part, *args)
        contexts = partial(_first_and_again, part)
        return checkpoint(cast, part, *args, use_reentrant=False, context_fn=contexts)

    return call


def _first_and_again(layer: DecoderLayer) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of a layer's two passes: in the second, what it counts has been counted."""

    @contextmanager
    def again() -> Iterator[None]:
        if isinstance(layer.mlp, MoE):
            layer.mlp.repeating = True
        try:
            yield
        finally:
            if isinstance(layer.mlp, MoE):
                layer.mlp.repeating = False

    return nullcontext(), again()
