"""Grok-1 as it was released (xai-org/grok-1): `ckpt-0/tensor00000_000` to `tensor00769_000`, a pickle for each tensor.

Weights are [in, out], and the experts of a layer lie in one file. They come out as the Hugging Face conversions name
and shape them: [out, in], each expert for itself.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from troth.model.families.arrays import Array, Quantised, dequantise
from troth.model.families.pickled import read_array

_FILE = re.compile(r"tensor(\d{5})_(\d{3})")
_LAYERS, _WIDTH = 64, 6144
"""Of the release itself."""
_OUTER = {
    "language_model/in_out_embed/embeddings": ("model.embed_tokens.weight", "VD"),
    "language_model/rms_norm/scale": ("model.norm.scale", "D"),
}
_LAYER = {
    "moe/linear/w": ("moe_block.experts.*.linear.weight", "EDF"),
    "moe/linear_v/w": ("moe_block.experts.*.linear_v.weight", "EDF"),
    "moe/linear_1/w": ("moe_block.experts.*.linear_1.weight", "EFD"),
    "multi_head_attention/query/w": ("attn.q_proj.weight", "DQ"),
    "multi_head_attention/key/w": ("attn.k_proj.weight", "DK"),
    "multi_head_attention/value/w": ("attn.v_proj.weight", "DK"),
    "multi_head_attention/linear/w": ("attn.o_proj.weight", "QD"),
    "rms_norm/scale": ("pre_attn_norm.scale", "D"),
    "rms_norm_1/scale": ("post_attn_norm.scale", "D"),
    "rms_norm_2/scale": ("pre_moe_norm.scale", "D"),
    "rms_norm_3/scale": ("post_moe_norm.scale", "D"),
    "router/w": ("moe_block.gate.weight", "DE"),
}
"""For each parameter of the release its name elsewhere (`*` is the expert) and its axes: vocabulary, model,
feed-forward, experts, queries of all heads, keys of all heads."""


def parameters(layers: int) -> list[tuple[str, str, str]]:
    """Path, name and axes of the parameters, in the order of their files.

    JAX flattens dictionaries in the order of their sorted keys: layer 10 comes after layer 1, and before layer 2.
    """
    held = [(path, name, axes) for path, (name, axes) in _OUTER.items()]
    for layer in range(layers):
        for path, (name, axes) in _LAYER.items():
            held.append((f"transformer/decoder_layer_{layer}/{path}", f"model.layers.{layer}.{name}", axes))
    return sorted(held)


def count_parameters(layers: int, sizes: Mapping[str, int]) -> int:
    """All parameters of a network with `sizes` for the axes; the embedding is the output layer too, and counts once."""
    return sum(math.prod(sizes[axis] for axis in axes) for _, _, axes in parameters(layers))


@dataclass(frozen=True)
class Grok1Checkpoint:
    """A raw checkpoint whose files are all there and agree in their shapes; their numbers are not read yet."""

    files: tuple[Path, ...]
    layers: int
    sizes: Mapping[str, int]
    head_dim: int = 128

    @property
    def parameters(self) -> int:
        return count_parameters(self.layers, self.sizes)

    def config(self) -> dict[str, Any]:
        """config.json as the Hugging Face conversion hpcai-tech/grok-1 has it: sizes from the files, the rest as
        published in run.py."""
        return {
            "architectures": ["Grok1ModelForCausalLM"],
            "model_type": "grok-1",
            "vocab_size": self.sizes["V"],
            "hidden_size": self.sizes["D"],
            "intermediate_size": self.sizes["F"],
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.sizes["Q"] // self.head_dim,
            "num_key_value_heads": self.sizes["K"] // self.head_dim,
            "head_dim": self.head_dim,
            "num_experts": self.sizes["E"],
            "num_experts_per_tok": 2,
            "attn_output_multiplier": self.head_dim**-0.5,
            "embedding_multiplier_scale": self.sizes["D"] ** 0.5,
            "output_multiplier_scale": 0.5773502691896257,
            "max_attn_value": 30.0,
            "max_position_embeddings": 8192,
            "rope_theta": 10000.0,
            "rms_norm_eps": 1e-05,
            "tie_word_embeddings": True,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "use_cache": True,
            "output_router_logits": False,
            "router_aux_loss_coef": 0.001,
            "torch_dtype": "bfloat16",
        }

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and tensor of every weight, one file after the other; a stack of experts is taken apart.

        Quantised weights come in the type of their scales, bfloat16 in the release; the others, float32 in it, as they
        are. Raises ValueError naming a file that is no longer as it was.
        """
        for file, (_, name, axes) in zip(self.files, parameters(self.layers), strict=True):
            held = _read(file)
            if axes[0] == "E":
                for expert, weight in enumerate(_experts(held)):
                    yield name.replace("*", str(expert)), weight.T.contiguous()
            elif len(axes) == 1 or axes == "VD":
                yield name, _whole(held)
            else:
                yield name, _whole(held).T.contiguous()


def open_grok_1(folder: Path, head_dim: int = 128) -> Grok1Checkpoint:
    """The raw checkpoint in `folder`. The head of each file is read, and its shape held against the others.

    Raises ValueError naming the file that is missing, is no array, or has not the shape that the others ask for.
    """
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        if match := _FILE.fullmatch(file.name):
            if int(match[2]):
                raise ValueError(f"{file}: a share of one host; only whole tensors are known, whose files end in _000")
            found[int(match[1])] = file
    layers = max(1, -(-(max(found, default=0) + 1 - len(_OUTER)) // len(_LAYER)))
    held = parameters(layers)
    for index in range(len(held)):
        if index not in found:
            raise ValueError(f"{folder / f'tensor{index:05d}_000'}: is missing; {layers} layers have {len(held)} files")
    sizes: dict[str, int] = {}
    for index, (path, _, axes) in enumerate(held):
        shape = _read(found[index]).shape
        if len(shape) != len(axes) or any(sizes.setdefault(a, n) != n for a, n in zip(axes, shape, strict=True)):
            wanted = ", ".join(str(sizes.get(axis, "any")) for axis in axes)
            raise ValueError(f"{found[index]}: {path} has shape {list(shape)}, expected [{wanted}]")
    if sizes["D"] == _WIDTH and layers != _LAYERS:
        raise ValueError(f"{folder}: has files of {layers} layers; Grok-1 has {_LAYERS}")
    for axis, what in {"Q": "queries", "K": "keys"}.items():
        if sizes[axis] % head_dim:
            raise ValueError(f"{folder}: {what} of width {sizes[axis]} are no whole number of heads of {head_dim}")
    return Grok1Checkpoint(tuple(found[index] for index in range(len(held))), layers, sizes, head_dim)


def _read(file: Path) -> Array | Quantised:
    held = read_array(file)
    if isinstance(held, Array) and not held.dtype.is_floating_point:
        raise ValueError(f"{file}: whole numbers without scales")
    return held


def _whole(held: Array | Quantised) -> torch.Tensor:
    return held.tensor() if isinstance(held, Array) else dequantise(held.weight.tensor(), held.scales.tensor())


def _experts(held: Array | Quantised) -> Iterator[torch.Tensor]:
    """The experts' weights one by one, so that a quantised stack is never held whole in the larger type."""
    if isinstance(held, Array):
        yield from held.tensor()
    else:
        weight, scales = held.weight.tensor(), held.scales.tensor()
        for expert in range(len(weight)):
            block = expert * len(scales) // len(weight)
            yield dequantise(weight[expert], scales[block])
