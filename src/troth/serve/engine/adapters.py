"""Several LoRA adapters (Hu et al., 2106.09685) over one model, in one step (after S-LoRA, 2311.03285): the weights'
products are made for all rows together, and to each row is added what its request's adapter adds.

Adapters are thin: each is computed for all rows and counts where its mask is one, so that no shape follows from who
asked for what.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

from troth.model.adapters import load_adapters
from troth.model.decoder import Decoder
from troth.model.experts import Experts
from troth.model.lora import LoRAExperts, LoRALinear


class Adapters:
    """Adapters of a decoder by name, read from PEFT folders; `parts` are what each adapts, by the part's place.

    `masks` [rows, 1] say which rows are whose, for adapters that have any. Raises ValueError naming the folder's file,
    setting or tensor that is wrong, or a part that cannot be adapted while serving.
    """

    def __init__(self, model: Decoder, folders: Mapping[str, Path]):
        self.names = tuple(folders)
        self.masks: dict[str, torch.Tensor] = {}
        weight = model.embed_tokens.weight
        self._like = weight.device, weight.dtype
        self.parts: dict[str, dict[str, LoRALinear | LoRAExperts]] = {}
        for name, folder in folders.items():
            with torch.device("meta"):
                skeleton = Decoder(model.config)
            for place in load_adapters(skeleton, Path(folder)):
                if place.endswith("kv_b_proj"):
                    raise ValueError(f"{folder}: adapts {place}, which latent attention takes apart: merge it instead")
                part = skeleton.get_submodule(place)
                assert isinstance(part, LoRALinear | LoRAExperts)
                for key, parameter in part.named_parameters():
                    if key.startswith("lora_"):
                        parameter.data = parameter.data.to(*self._like)
                self.parts.setdefault(place, {})[name] = part

    def join(self, model: Decoder) -> None:
        """Replace the parts of the decoder that any adapter adapts."""
        for place, adapted in self.parts.items():
            kind = AdaptedExperts if isinstance(model.get_submodule(place), Experts) else AdaptedLinear
            model.set_submodule(place, kind(model.get_submodule(place), adapted, self))  # type: ignore[arg-type]

    def release(self) -> None:
        """Give up the adapters' weights, where steps read packed ones."""
        for adapted in self.parts.values():
            for part in adapted.values():
                part.to("meta")

    def rows(self, names: Iterable[str | None]) -> None:
        """Say for each row of the pass that follows whose it is, None for the model itself."""
        names = list(names)
        device, dtype = self._like
        self.masks = {
            name: torch.tensor([[other == name] for other in names], dtype=dtype, device=device)
            for name in self.names
            if name in names
        }

    def keep(self, rows: torch.Tensor) -> None:
        """Say that only these rows of the pass go on, to the head."""
        self.masks = {name: mask_N1[rows] for name, mask_N1 in self.masks.items()}


class AdaptedLinear(nn.Module):
    """A linear layer and what adapters add to it, by their names."""

    def __init__(self, base: nn.Linear, parts: Mapping[str, LoRALinear], adapters: Adapters):
        super().__init__()
        self.base, self.adapters = base, adapters
        self.parts = dict(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.base(x)
        for name, mask_N1 in self.adapters.masks.items():
            if name in self.parts:
                y = y + self.parts[name].added(x) * mask_N1
        return y


class AdaptedExperts(Experts):
    """Routed experts and what adapters add to them, by their names."""

    def __init__(self, base: Experts, parts: Mapping[str, LoRAExperts], adapters: Adapters):
        nn.Module.__init__(self)
        self.config, self.transport = base.config, base.transport
        self.base, self.adapters = base, adapters
        self.parts = dict(parts)

    def forward(self, x_ND: torch.Tensor, gates_Nk: torch.Tensor, chosen_Nk: torch.Tensor) -> torch.Tensor:
        """As without adapters; for the products, whose rows are in the order of their experts, so are the masks."""
        masks = self.adapters.masks
        token_M = chosen_Nk.flatten().argsort(stable=True) // chosen_Nk.shape[1]
        self.adapters.masks = {name: mask_N1[token_M] for name, mask_N1 in masks.items()}
        out_ND = super().forward(x_ND, gates_Nk, chosen_Nk)
        self.adapters.masks = masks
        return out_ND

    def project(self, part: str, x_MI: torch.Tensor, counts_E: torch.Tensor) -> torch.Tensor:
        """Rows, `counts_E` to each expert in order, through `gate_up` (gate's numbers first) or `down`."""
        y_MO = self.base.project(part, x_MI, counts_E)
        for name, mask_M1 in self.adapters.masks.items():
            if name in self.parts:
                y_MO = y_MO + self.parts[name].added(part, x_MI, counts_E) * mask_M1
        return y_MO
