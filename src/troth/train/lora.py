"""Low-rank adaptation (LoRA, Hu et al., 2106.09685): weights stay, and beside each a product of two thin matrices is
learned, W + alpha / rank * B A. A adapted part is still the part it was, with the same names and weights, so that what
casts, shards or saves the network goes on as before.
"""

import math
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.functional import linear, pad

from troth.model.decoder import Decoder
from troth.model.experts import Experts, here, product

PATTERNS = "*_proj", "*_proj_with_mqa", "experts"
"""Attention and feed-forward, routed experts included; not routers, embeddings and head."""
_ALIGNED = 8
"""Grouped products want rows of whole 16 bytes."""


class LoRALinear(nn.Linear):
    """A linear layer with adapters `lora_A` [rank, in] and `lora_B` [out, rank]; `weight` and `bias` are those of the
    layer it replaces."""

    def __init__(self, base: nn.Linear, rank: int, scale: float):
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.scale = scale
        self.lora_A = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + linear(linear(x, self.lora_A), self.lora_B) * self.scale

    def merged(self) -> nn.Linear:
        """The plain layer, with the product added to its weight."""
        _add(self.weight, self.lora_B, self.lora_A, self.scale)
        plain = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        plain.weight, plain.bias = self.weight, self.bias
        return plain


class LoRAExperts(Experts):
    """Routed experts with adapters of each expert's gate, up and down projection apart: `lora_A_gate_up`
    [experts, 2, rank, hidden] and `lora_B_gate_up` [experts, 2, size, rank], gate first; `lora_A_down`
    [experts, 1, rank, size] and `lora_B_down` [experts, 1, hidden, rank]."""

    def __init__(self, base: Experts, rank: int, scale: float):
        with torch.device("meta"):
            super().__init__(base.config)
        for name, parameter in base.named_parameters():
            setattr(self, name, parameter)
        self.scale = scale
        experts, hidden, size = base.down_proj.shape
        new = base.down_proj.new_empty
        self.lora_A_gate_up = nn.Parameter(new(experts, 2, rank, hidden))
        self.lora_B_gate_up = nn.Parameter(new(experts, 2, size, rank).zero_())
        self.lora_A_down = nn.Parameter(new(experts, 1, rank, size))
        self.lora_B_down = nn.Parameter(new(experts, 1, hidden, rank).zero_())

    def project(self, part: str, x_MI: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
        """Rows, `counts_E` to each expert in order, through `gate_up` (gate's numbers first) or `down`."""
        a_EPrI, b_EPOr = (here(adapter) for adapter in self.adapters(part))
        if lacking := -a_EPrI.shape[2] % _ALIGNED:
            a_EPrI, b_EPOr = pad(a_EPrI, (0, 0, 0, lacking)), pad(b_EPOr, (0, lacking))
        added = [
            product(product(x_MI, a_ErI, None, counts_E), b_EOr, None, counts_E)
            for a_ErI, b_EOr in zip(a_EPrI.unbind(1), b_EPOr.unbind(1), strict=True)
        ]
        return super().project(part, x_MI, counts_E) + torch.cat(added, -1) * self.scale

    def adapters(self, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        """A and B of `gate_up` or `down`."""
        return getattr(self, f"lora_A_{part}"), getattr(self, f"lora_B_{part}")

    def merged(self) -> Experts:
        """The plain experts, with the products added to their weights."""
        for part, weight in (("gate_up", self.gate_up_proj), ("down", self.down_proj)):
            a_EPrI, b_EPOr = self.adapters(part)
            _add(weight, b_EPOr, a_EPrI, self.scale)
        with torch.device("meta"):
            plain = Experts(self.config)
        for name, _ in list(plain.named_parameters()):
            setattr(plain, name, getattr(self, name))
        return plain


@torch.no_grad()
def _add(weight: torch.Tensor, b: torch.Tensor, a: torch.Tensor, scale: float) -> None:
    """weight += scale * b @ a, in float32 or wider, and rounded once."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    weight.copy_(weight.to(wide) + (scale * (b.to(wide) @ a.to(wide))).view_as(weight))


def adapt(model: Decoder, names: Iterable[str], rank: int, alpha: float) -> None:
    """Replace these parts, `nn.Linear` or `Experts`, by adapted ones, and freeze all but the adapters.

    B is zero, so that nothing changes yet; A is not filled.
    """
    model.requires_grad_(False)
    for name in names:
        part = model.get_submodule(name)
        kind = LoRAExperts if isinstance(part, Experts) else LoRALinear
        model.set_submodule(name, kind(part, rank, alpha / rank))  # type: ignore[arg-type]


def add_lora(
    model: Decoder, rank: int, alpha: float, generator: torch.Generator, patterns: Iterable[str] = PATTERNS
) -> list[str]:
    """Adapt every linear layer and every stack of experts inside the decoder's layers whose name, or the end of it
    behind a dot, fits one of `patterns` (`*` stands for anything); return their names.

    A is drawn from the uniform distribution that PEFT takes, on the CPU, so that a seed means the same everywhere.
    Raises ValueError naming a pattern that fits nothing.
    """
    parts = {name: part for name, part in model.named_modules() if _fits_lora(name, part)}
    names: dict[str, None] = {}
    for pattern in patterns:
        found = [name for name in parts if fnmatchcase(f".{name}", f"*.{pattern}")]
        if not found and pattern not in PATTERNS:
            ends = sorted({name.rpartition(".")[2] for name in parts})
            raise ValueError(f"train.lora.patterns: {pattern!r} fits none of {', '.join(ends)}")
        names |= dict.fromkeys(found)
    adapt(model, names, rank, alpha)
    for name, parameter in adapters(model):
        if ".lora_A" in name:
            bound = 1 / math.sqrt(parameter.shape[-1])
            drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
            with torch.no_grad():
                parameter.copy_(drawn)
    return list(names)


def _fits_lora(name: str, part: nn.Module) -> bool:
    return name.startswith("layers.") and type(part) in (nn.Linear, Experts)


def adapters(model: Decoder) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that LoRA trains, by name."""
    return ((name, parameter) for name, parameter in model.named_parameters() if ".lora_" in name)


def merge(model: Decoder) -> None:
    """Add all adapters to their weights, in the weights' dtype, and make the parts plain again."""
    for name, part in list(model.named_modules()):
        if isinstance(part, LoRALinear | LoRAExperts):
            model.set_submodule(name, part.merged())
    model.requires_grad_(True)
