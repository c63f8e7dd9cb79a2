"""How layers are computed in training: bf16 products from float32 weights where this device is faster at them, and
activations kept or computed again for the gradient (Chen et al., 1604.06174)."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import (
    CheckpointPolicy,
    _CachedTorchDispatchMode,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from troth.model.decoder import Call, DecoderLayer
from troth.model.moe import MoE
from troth.model.products import float32_over_bf16
from troth.train.float8 import has_float8

DTYPES = {
    "float32": torch.float32, "bf16": torch.bfloat16, "float64": torch.float64, "float8": torch.bfloat16,
}  # fmt: skip
"""The type of products; under float8 that of what `float8` leaves."""


def choose_precision(setting: str, device: str) -> str:
    """The precision of products, one of `DTYPES`: as set, or, for `auto`, the faster of float32 and bf16 on a small
    product here. Raises ValueError where this device has no 8-bit products."""
    if setting == "float8" and not has_float8(device):
        raise ValueError(f"train.precision='float8': {_named(device)} has no 8-bit products; bf16 would do")
    if setting != "auto":
        return setting
    return "bf16" if float32_over_bf16(device) < 1 else "float32"


def _named(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"this {device.upper()}"


def training_call(cast_to: torch.dtype | None, recompute: str) -> Call:
    """The `Call` of a decoder whose products are in `cast_to` while gradients arrive at its wider weights.

    Without `cast_to` parts are called as they are. `recompute` is none, full (a layer keeps nothing but its input, and
    is computed a second time in the backward pass) or selective (it keeps the results of its products too).
    """
    if recompute == "selective":
        # Timed within a layer it would be one of the layer's products, which computing it again does not repeat. Over
        # ranks FSDP casts to bf16, which is not told here.
        float32_over_bf16("cpu")

    def cast(part: nn.Module, *args: Any) -> torch.Tensor:
        if cast_to is None:
            return part(*args)
        # Not the weights of norms, which compute in their own dtype.
        weights = {
            name: p.to(cast_to) if p.dim() > 1 or name.endswith("bias") else p for name, p in part.named_parameters()
        }
        return functional_call(part, weights, args)

    def call(part: nn.Module, *args: Any) -> torch.Tensor:
        if recompute == "none" or not isinstance(part, DecoderLayer):
            return cast(part, *args)
        contexts = partial(_first_and_again, part, recompute == "selective")
        return checkpoint(cast, part, *args, use_reentrant=False, context_fn=contexts)

    return call


_KEPT = {
    torch.ops.aten.mm.default, torch.ops.aten._grouped_mm.default, torch.ops.aten._scaled_mm.default,
    torch.ops.troth.rows_times.default,
}  # fmt: skip
"""What selective recomputation does not do twice: products are dear, and their results no larger than others."""


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE


def _first_and_again(
    layer: DecoderLayer, selective: bool
) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """The contexts of a layer's two passes: in the second, what it counts has been counted."""
    if not selective:
        return nullcontext(), _Again(layer, nullcontext())
    first, second = create_selective_checkpoint_contexts(_policy)
    return first, _Again(layer, _GivesKept(_policy, second.storage))


class _GivesKept(_CachedTorchDispatchMode):
    """Gives out what was kept, and lets all else be done; torch's own refuses what the first pass did not do. FSDP
    gathers weights within a layer, in a pipeline sometimes in the second pass alone: in the first they were there
    still, from another micro-batch."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _KEPT:
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)


class _Again(AbstractContextManager[None]):
    """While entered, a layer is computed again; as often as a backward pass that is halved needs it."""

    def __init__(self, layer: DecoderLayer, within: AbstractContextManager[Any]):
        self.layer, self.within = layer, within

    def __enter__(self) -> None:
        self._repeat(True)
        self.within.__enter__()

    def __exit__(self, *raised: Any) -> None:
        self.within.__exit__(*raised)
        self._repeat(False)

    def _repeat(self, repeating: bool) -> None:
        if isinstance(self.layer.mlp, MoE):
            self.layer.mlp.repeating = repeating
