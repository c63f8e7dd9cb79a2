"""What LoRA (see `model.lora`) trains: which parts are adapted, how adapters begin, and how they are merged."""

import math
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import torch
from torch import nn

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.experts import Experts
from troth.model.initialise import fill
from troth.model.lora import LoRAExperts, LoRALinear
from troth.model.products import Linear

PATTERNS = "*_proj", "*_proj_with_mqa", "experts"
"""Attention and feed-forward, routed experts included; not routers, embeddings and head."""


def lora_names(config: ModelConfig, patterns: Iterable[str] | None = None) -> list[str]:
    """The linear layers and stacks of experts inside a decoder's layers whose names, or the ends of these behind a dot,
    fit one of `patterns` (`*` stands for anything), or `PATTERNS` where none are given.

    Raises ValueError naming a pattern that fits nothing.
    """
    with torch.device("meta"):
        model = Decoder(config)
    parts = {name: part for name, part in model.named_modules() if _fits_lora(name, part)}
    names: dict[str, None] = {}
    for pattern in patterns or PATTERNS:
        found = [name for name in parts if fnmatchcase(f".{name}", f"*.{pattern}")]
        if not found and pattern not in PATTERNS:
            ends = sorted({name.rpartition(".")[2] for name in parts})
            raise ValueError(f"train.lora.patterns: {pattern!r} fits none of {', '.join(ends)}")
        names |= dict.fromkeys(found)
    return list(names)


def _fits_lora(name: str, part: nn.Module) -> bool:
    return name.startswith("layers.") and type(part) in (Linear, Experts)


def adapters(model: Decoder) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that LoRA trains, by name."""
    return ((name, parameter) for name, parameter in model.named_parameters() if ".lora_" in name)


@torch.no_grad()
def fill_adapters(model: Decoder, seed: int) -> None:
    """First adapters, whole or distributed: B is zero, and A from a normal distribution as wide as the uniform one that
    PEFT takes. As with `initialise`, seed and name alone decide."""
    for name, parameter in adapters(model):
        if ".lora_A" in name:
            fill(parameter, 1 / math.sqrt(3 * parameter.shape[-1]), f"{seed} {name}")
        else:
            parameter.zero_()


@torch.no_grad()
def merged(adapted: Decoder, base: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of the plain network, given those of its base one after another, to which the adapters' products are
    added in place, in float32 or wider, and rounded once. Of `adapted` only the adapters are looked at."""
    added: dict[str, tuple[torch.Tensor, torch.Tensor, float]] = {}
    for name, part in adapted.named_modules():
        if isinstance(part, LoRALinear):
            added[f"{name}.weight"] = part.lora_B, part.lora_A, part.scale
        elif isinstance(part, LoRAExperts):
            for kind in ("gate_up", "down"):
                a_EPrI, b_EPOr = part.adapters(kind)
                added[f"{name}.{kind}_proj"] = b_EPOr, a_EPrI, part.scale
    for name, tensor in base:
        if name in added:
            b, a, scale = added[name]
            wide = torch.promote_types(tensor.dtype, torch.float32)
            tensor.copy_(tensor.to(wide) + (scale * (b.to(wide) @ a.to(wide))).view_as(tensor))
        yield name, tensor
