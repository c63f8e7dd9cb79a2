"""Which expert works on which kind of text: shares of tokens by layer, expert and collection."""

from collections.abc import Callable, Mapping, Sequence

import torch

from troth.model.decoder import Decoder
from troth.model.tokenizer import Tokenizer


@torch.no_grad()
def expert_shares(model: Decoder, tokenizer: Tokenizer, texts: Mapping[str, Sequence[str]]) -> dict[str, torch.Tensor]:
    """For each kind of text a tensor [MoE layers, experts] whose rows sum to 1. Reads up to 256 tokens of each text."""
    shares = {}
    layers = model.moe_layers()
    for kind, members in texts.items():
        counts = torch.zeros(len(layers), model.config.num_experts)
        for row, moe in zip(counts, layers, strict=True):
            moe.observe = _counter(row)
        try:
            for text in members:
                ids = [tokenizer.begin_of_text, *tokenizer.encode(text)[:255]]
                model(torch.tensor([ids]))
        finally:
            for moe in layers:
                moe.observe = None
        shares[kind] = counts / counts.sum(-1, keepdim=True).clamp(min=1)
    return shares


def _counter(row_E: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], None]:
    def observe(gates_Nk: torch.Tensor, chosen_Nk: torch.Tensor) -> None:
        row_E.add_(torch.bincount(chosen_Nk.flatten(), minlength=len(row_E)))

    return observe
