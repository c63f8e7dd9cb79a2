"""Weights that stay in 8 or 4 bit where the decoder runs in torch: for a product a tile of them is widened at a time,
and of the experts only those that somebody chose.

The numbers are those of `cpu.quantise`, 8.5 and 4.5 bits a weight; products are made in the decoder's own dtype.
"""

from typing import Literal

import torch
from torch import nn
from torch.nn.functional import pad

from troth.model.decoder import Decoder
from troth.model.experts import Experts
from troth.model.families.weights import StoredDecoder
from troth.model.moe import Router
from troth.serve.engine.cpu.quantise import GROUP, Bits, dequantise, quantise

_TILE = 2**20
"""Weights that are widened at a time."""


class Packed(nn.Module):
    """The matrix that `quantise` keeps of one [outputs, inputs]: `numbers`, with 4 bits two in a byte, and `scales`."""

    def __init__(self, weight_OI: torch.Tensor, bits: Bits):
        super().__init__()
        self.bits, self.dtype = bits, weight_OI.dtype
        self.outputs, self.inputs = weight_OI.shape
        width = self.inputs + -self.inputs % GROUP
        numbers_OI = torch.empty(self.outputs, width * bits // 8, dtype=torch.uint8, device=weight_OI.device)
        scales_OG = torch.empty(self.outputs, width // GROUP, dtype=torch.float16, device=weight_OI.device)
        for place in self._tiles(0, self.outputs):
            number_OI, scales_OG[place] = quantise(pad(weight_OI[place], (0, width - self.inputs)), bits)
            numbers_OI[place] = number_OI if bits == 8 else number_OI[:, 0::2] | number_OI[:, 1::2] << 4
        self.register_buffer("numbers", numbers_OI)
        self.register_buffer("scales", scales_OG)
        self.numbers: torch.Tensor
        self.scales: torch.Tensor

    def rows(self, place: slice) -> torch.Tensor:
        """Some of the matrix' rows, widened."""
        number_OI = self.numbers[place]
        if self.bits == 4:
            number_OI = torch.stack((number_OI & 15, number_OI >> 4), dim=-1).flatten(-2)
        return dequantise(number_OI, self.scales[place], self.bits)[:, : self.inputs].to(self.dtype)

    def product(self, x: torch.Tensor, first: int, end: int) -> torch.Tensor:
        """[..., inputs] times the rows `first` to `end`, to [..., end - first]."""
        return torch.cat([x @ self.rows(place).T for place in self._tiles(first, end)], dim=-1)

    def _tiles(self, first: int, end: int) -> list[slice]:
        rows = max(1, _TILE // self.inputs)
        return [slice(start, min(start + rows, end)) for start in range(first, end, rows)]


class PackedLinear(nn.Module):
    """A linear layer."""

    def __init__(self, linear: nn.Linear, bits: Bits):
        super().__init__()
        self.packed, self.bias = Packed(linear.weight, bits), linear.bias

    @property
    def weight(self) -> torch.Tensor:
        """All of it, widened, for whoever takes it apart (latent attention)."""
        return self.packed.rows(slice(None))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.packed.product(x, 0, self.packed.outputs)
        return y if self.bias is None else y + self.bias


class PackedExperts(Experts):
    """Routed experts. Who has rows is asked of the device in every product."""

    def __init__(self, experts: Experts, bits: Bits):
        nn.Module.__init__(self)
        self.config, self.transport = experts.config, experts.transport
        self.gate_up = Packed(experts.gate_up_proj.flatten(0, -2), bits)
        self.down = Packed(experts.down_proj.flatten(0, -2), bits)
        self.gate_up_bias, self.down_bias = experts.gate_up_bias, experts.down_bias
        self.count = len(experts.down_proj)

    def project(self, part: str, x_MI: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
        """Rows, `counts_E` to each expert in order, through `gate_up` (gate's numbers first) or `down`."""
        packed: Packed = getattr(self, part)
        bias = getattr(self, f"{part}_bias")
        size = packed.outputs // self.count
        y_MO = x_MI.new_empty(len(x_MI), size)
        first = 0
        for expert, count in enumerate(counts_E.tolist()):
            if count:
                own = slice(first, first + count)
                y_MO[own] = packed.product(x_MI[own], expert * size, (expert + 1) * size)
                if bias is not None:
                    y_MO[own] += bias[expert].flatten()
                first += count
        return y_MO


@torch.no_grad()
def pack_weights(model: Decoder, kind: Literal["int8", "int4"], stored: StoredDecoder | None = None) -> None:
    """Put packed parts in the place of a decoder's own, one after the other; routers and the embedding stay. Layers
    that are `stored` yet are read one after the other."""
    bits: Bits = 8 if kind == "int8" else 4
    for layer in model.layers.values():
        if stored:
            stored.read(layer)
        routers = {module.gate for module in layer.modules() if isinstance(module, Router)}
        for name, module in list(layer.named_modules()):
            if isinstance(module, nn.Linear) and module not in routers:
                layer.set_submodule(name, PackedLinear(module, bits))
            elif isinstance(module, Experts):
                layer.set_submodule(name, PackedExperts(module, bits))
    model.set_submodule("lm_head", PackedLinear(model.lm_head, bits))


def packed_kind(model: Decoder) -> str | None:
    """In what a decoder's weights are packed, if they are."""
    return next((f"int{module.bits}" for module in model.modules() if isinstance(module, Packed)), None)
