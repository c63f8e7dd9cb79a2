"""LoRA adapters packed beside the weights that they add to, as `native/adapters.h` reads them."""

from collections.abc import Sequence

import torch
from torch import nn

from troth.model.decoder import Decoder
from troth.model.experts import Experts
from troth.model.lora import LoRAExperts, LoRALinear
from troth.serve.engine.adapters import Adapters
from troth.serve.engine.cpu.library import Adapter
from troth.serve.engine.cpu.pack import PANEL, WIDE, Arena, WeightKind, interleaved

Pair = tuple[torch.Tensor, torch.Tensor]
"""A [rank, inputs] and B [outputs, rank], the scale in B."""


class AdapterPack:
    """Packs what adapters add to a decoder's weights; `rank` is the widest, in whole panels, of what is packed.

    A reads the rows that the weight reads, so it is of the weight's kind, or in 8 bit where that has 4. B is in
    float32, or in bfloat16 where the weight is narrower.
    """

    def __init__(self, arena: Arena, model: Decoder, adapters: Adapters | None):
        self.arena = arena
        self.rank = 0
        self._names = adapters.names if adapters else ()
        self._parts = {model.get_submodule(place): parts for place, parts in adapters.parts.items()} if adapters else {}

    def number(self, name: str | None) -> int:
        """An adapter's number, -1 for the model itself."""
        return -1 if name is None else self._names.index(name)

    def linear(self, layers: Sequence[nn.Linear], kind: WeightKind, meet: bool = False) -> int | None:
        """Address of what adapters add to layers whose outputs are joined, or, two of them, `meet` in panels; None
        where no adapter adds anything."""
        if not any(layer in self._parts for layer in layers):
            return None
        return self._pack([[self._linear(layer, name) for layer in layers] for name in self._names], kind, meet)

    def expert(self, experts: Experts, number: int, part: str, kind: WeightKind) -> int | None:
        """As `linear`, for a routed expert's `gate_up` or `down`."""
        if experts not in self._parts:
            return None
        return self._pack([self._expert(experts, name, number, part) for name in self._names], kind, part == "gate_up")

    def _expert(self, experts: Experts, name: str, number: int, part: str) -> list[Pair]:
        adapted = self._parts[experts].get(name)
        if adapted is None:
            return []
        assert isinstance(adapted, LoRAExperts)
        a_EPrI, b_EPOr = adapted.adapters(part)
        return list(zip(a_EPrI[number], b_EPOr[number].float() * adapted.scale, strict=True))

    def _linear(self, layer: nn.Linear, name: str) -> Pair:
        part = self._parts.get(layer, {}).get(name)
        if part is None:
            return layer.weight.new_empty(0, layer.in_features), layer.weight.new_empty(layer.out_features, 0)
        assert isinstance(part, LoRALinear)
        return part.lora_A, part.lora_B.float() * part.scale

    def _pack(self, found: Sequence[Sequence[Pair]], kind: WeightKind, meet: bool) -> int:
        """The pairs of each adapter as one: A's beside each other, B's each for its own outputs."""
        packed = []
        for pairs in found:
            a_rI = torch.cat([a_rI for a_rI, _ in pairs]) if pairs else torch.empty(0)
            if not len(a_rI):
                packed.append(Adapter())
                continue
            b_Or = torch.block_diag(*(b_Or for _, b_Or in pairs))
            self.rank = max(self.rank, -(-len(a_rI) // PANEL) * PANEL)
            a = self.arena.matrix(a_rI, "int8" if kind in ("int4", "mxfp4") else kind)
            b = self.arena.matrix(
                interleaved(b_Or.unflatten(0, (2, -1))) if meet else b_Or,
                "float32" if kind == "float32" else "bfloat16",
            )
            if kind != "float32":
                b.kind = WIDE
            packed.append(Adapter(a, b))
        return self.arena.structures((Adapter * len(packed))(*packed))
