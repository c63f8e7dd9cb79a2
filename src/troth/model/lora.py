"""Low-rank adaptation (LoRA, Hu et al., 2106.09685): weights stay, and beside each stands a product of two thin
matrices, W + alpha / rank * B A. An adapted part is still the part it was, with the same names and weights, so that
what casts, shards or saves the network goes on as before.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn
from torch.nn.functional import pad

from troth.model.decoder import Decoder
from troth.model.experts import Experts, here, product
from troth.model.products import Linear, linear

_ALIGNED = 8
"""Grouped products want rows of whole 16 bytes."""


class LoRALinear(Linear):
    """A linear layer with adapters `lora_A` [rank, in] and `lora_B` [out, rank]; `weight` and `bias` are those of the
    layer it replaces."""

    def __init__(self, base: nn.Linear, rank: int, scale: float, device: str | None):
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.scale = scale
        self.lora_A = nn.Parameter(base.weight.new_empty(rank, base.in_features, device=device))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, rank, device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.added(x)

    def added(self, x: torch.Tensor) -> torch.Tensor:
        """What the adapters add."""
        return linear(linear(x, self.lora_A), self.lora_B) * self.scale


class LoRAExperts(Experts):
    """Routed experts with adapters of each expert's gate, up and down projection apart: `lora_A_gate_up`
    [experts, 2, rank, hidden] and `lora_B_gate_up` [experts, 2, size, rank], gate first; `lora_A_down`
    [experts, 1, rank, size] and `lora_B_down` [experts, 1, hidden, rank]."""

    def __init__(self, base: Experts, rank: int, scale: float, device: str | None):
        with torch.device("meta"):
            super().__init__(base.config)
        for name, parameter in base.named_parameters():
            setattr(self, name, parameter)
        self.scale = scale
        experts, hidden, size = base.down_proj.shape
        new = partial(base.down_proj.new_empty, device=device)
        self.lora_A_gate_up = nn.Parameter(new(experts, 2, rank, hidden))
        self.lora_B_gate_up = nn.Parameter(new(experts, 2, size, rank).zero_())
        self.lora_A_down = nn.Parameter(new(experts, 1, rank, size))
        self.lora_B_down = nn.Parameter(new(experts, 1, hidden, rank).zero_())

    def project(self, part: str, x_MI: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
        """Rows, `counts_E` to each expert in order, through `gate_up` (gate's numbers first) or `down`."""
        return super().project(part, x_MI, counts_E) + self.added(part, x_MI, counts_E)

    def added(self, part: str, x_MI: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
        """What the adapters add."""
        a_EPrI, b_EPOr = (here(adapter) for adapter in self.adapters(part))
        if lacking := -a_EPrI.shape[2] % _ALIGNED:
            a_EPrI, b_EPOr = pad(a_EPrI, (0, 0, 0, lacking)), pad(b_EPOr, (0, lacking))
        added = [
            product(product(x_MI, a_ErI, None, counts_E), b_EOr, None, counts_E)
            for a_ErI, b_EOr in zip(a_EPrI.unbind(1), b_EPOr.unbind(1), strict=True)
        ]
        return torch.cat(added, -1) * self.scale

    def adapters(self, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        """A and B of `gate_up` or `down`."""
        return getattr(self, f"lora_A_{part}"), getattr(self, f"lora_B_{part}")


def adapt(model: Decoder, names: Iterable[str], rank: int, alpha: float, device: str | None = None) -> None:
    """Replace these parts, `nn.Linear` or `Experts`, by adapted ones, and freeze all but the adapters.

    B is zero, so that nothing changes yet; A is not filled. Adapters lie on `device`, or where the weights are.
    """
    model.requires_grad_(False)
    for name in names:
        part = model.get_submodule(name)
        kind = LoRAExperts if isinstance(part, Experts) else LoRALinear
        model.set_submodule(name, kind(part, rank, alpha / rank, device))  # type: ignore[arg-type]
