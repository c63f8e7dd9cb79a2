"""Compute precision: bf16 products from float32 weights where this device is faster at them."""

import time
from collections.abc import Callable

import torch
from torch.func import functional_call

from troth.model.attention import Attend
from troth.model.decoder import Decoder


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


def cast_forward(model: Decoder, dtype: torch.dtype) -> Callable[..., torch.Tensor]:
    """`model`'s hidden states computed in `dtype`; gradients arrive at the float32 weights."""

    def forward(tokens_BT: torch.Tensor, attend: Attend) -> torch.Tensor:
        cast = {name: p.to(dtype) if p.dim() > 1 else p for name, p in model.named_parameters()}
        return functional_call(model, cast, (tokens_BT, attend))

    return model if dtype == torch.float32 else forward
