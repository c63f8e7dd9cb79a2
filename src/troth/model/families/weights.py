"""A decoder's weights as a Hugging Face folder, in the names of its family."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from troth.model.decoder import Decoder
from troth.model.families.configs import FAMILIES, read_config
from troth.model.families.folder import SHARD_BYTES, TensorFolder, write_tensors


def save_weights(model: Decoder, config: dict[str, Any], folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write `config` as config.json and the weights, experts unstacked, in the dtype that it names; more than
    `shard_bytes` go into several files."""
    dtype = getattr(torch, config.get("dtype") or config["torch_dtype"])

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, part in _hf_tensors(model):
            keep = part.dtype if name.endswith("expert_bias") else dtype
            yield name, part.detach().to("cpu", keep, copy=True)

    write_tensors(folder, tensors(), shard_bytes)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def load_weights(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Decoder:
    """Build the decoder that a folder describes and fill it; a router's `expert_bias` is float32 whatever `dtype`.

    Raises ValueError naming the file, key or tensor that is missing, left over, misshapen or of another type.
    """
    config = read_config(folder)
    with torch.device("meta"):
        model = Decoder(config).to(dtype)
    model = model.to_empty(device=device)
    for moe in model.moe_layers():
        for name in ("expert_bias", "load_E"):
            setattr(moe, name, torch.zeros(config.num_experts, dtype=torch.float32, device=device))
    if config.tie_word_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    with torch.no_grad():
        TensorFolder(Path(folder), device).fill(_hf_tensors(model))
    return model.eval()


def _hf_tensors(model: Decoder) -> Iterator[tuple[str, torch.Tensor]]:
    """The family's names of all weights, with the views of the network's tensors that they name."""
    family = FAMILIES[model.config.model_type]
    gate_name, up_name, down_name = family.expert
    for name, tensor in model.state_dict().items():
        base, _, kind = family.rename(name).rpartition(".")
        if kind == "gate_up_proj":
            for e, weight in enumerate(tensor):
                gate, up = weight.chunk(2)
                yield f"{base}.{e}.{gate_name}.weight", gate
                yield f"{base}.{e}.{up_name}.weight", up
        elif kind == "down_proj":
            for e, weight in enumerate(tensor):
                yield f"{base}.{e}.{down_name}.weight", weight
        elif not (model.config.tie_word_embeddings and name == "lm_head.weight"):
            yield f"{base}.{kind}", tensor
