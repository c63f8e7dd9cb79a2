"""The native family as a Hugging Face folder (`model_type: afmoe`), which transformers, vLLM and SGLang load."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder

_SAME = set(ModelConfig.model_fields) - {"rope_theta"}


def to_hf_config(config: ModelConfig, dtype: str, eos_token_id: int) -> dict[str, Any]:
    """The config.json of `config`."""
    return {
        "architectures": ["AfmoeForCausalLM"],
        "model_type": "afmoe",
        "dtype": dtype,
        "eos_token_id": eos_token_id,
        "hidden_act": "silu",
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "layer_types": [config.layer_type(layer) for layer in range(config.num_hidden_layers)],
        **config.model_dump(exclude={"rope_theta"}),
    }


def from_hf_config(data: dict[str, Any]) -> ModelConfig:
    """A ModelConfig from a config.json. Raises ValueError naming a key that is missing or not supported."""
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    if data.get("model_type") != "afmoe":
        raise ValueError(f"model_type={data.get('model_type')!r}: only 'afmoe' is known")
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    if rope.get("rope_type", "default") != "default":
        raise ValueError(f"rope_parameters.rope_type={rope['rope_type']!r}: only 'default' is known")
    try:
        config = ModelConfig(
            rope_theta=rope.get("rope_theta", data.get("rope_theta", 10_000.0)),
            **{key: value for key, value in data.items() if key in _SAME and value is not None},
        )
    except ValidationError as error:
        first = error.errors()[0]
        key, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{key}: {message}" if key else message) from error
    layer_types = [config.layer_type(layer) for layer in range(config.num_hidden_layers)]
    if data.get("layer_types", layer_types) != layer_types:
        raise ValueError("layer_types: does not follow from global_attn_every_n_layers")
    return config


def save_weights(model: Decoder, config: dict[str, Any], folder: Path) -> None:
    """Write config.json and model.safetensors, experts unstacked, in the dtype that `config` names."""
    dtype = getattr(torch, config["dtype"])
    tensors = {}
    for name, tensor in model.state_dict().items():
        for hf_name, part in _unstack(name, tensor):
            keep = part.dtype if hf_name.endswith("expert_bias") else dtype
            tensors[hf_name] = part.detach().to("cpu", keep).contiguous().clone()
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def load_weights(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Decoder:
    """Build the decoder that a folder describes and fill it; the routers' `expert_bias` is float32 whatever `dtype`.

    Raises ValueError naming the file, key or tensor that is missing, left over or misshapen.
    """
    folder = Path(folder)
    path = folder / "config.json"
    try:
        config = from_hf_config(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    with torch.device("meta"):
        model = Decoder(config)
    model = model.to_empty(device=device).to(dtype)
    for moe in model.moe_layers():
        moe.expert_bias, moe.load_E = moe.expert_bias.float(), torch.zeros_like(moe.load_E, dtype=torch.float32)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    path = folder / "model.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            found = set(file.keys())
            for name, tensor in model.state_dict().items():
                for hf_name, part in _unstack(name, tensor):
                    if config.tie_word_embeddings and hf_name == "lm_head.weight":
                        continue
                    if hf_name not in found:
                        raise ValueError(f"{path}: tensor {hf_name} is missing")
                    found.remove(hf_name)
                    value = file.get_tensor(hf_name)
                    if value.shape != part.shape:
                        raise ValueError(
                            f"{path}: tensor {hf_name} has shape {list(value.shape)}, expected {list(part.shape)}"
                        )
                    part.copy_(value)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: {error}") from error
    if found:
        raise ValueError(f"{path}: unexpected tensor {min(found)}")
    return model.eval()


def _unstack(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Hugging Face names for one of our tensors, with the views of it that they name."""
    if name.endswith("experts.gate_up_proj"):
        base = "model." + name.removesuffix("gate_up_proj")
        for e, weight in enumerate(tensor):
            gate, up = weight.chunk(2)
            yield f"{base}{e}.gate_proj.weight", gate
            yield f"{base}{e}.up_proj.weight", up
    elif name.endswith("experts.down_proj"):
        for e, weight in enumerate(tensor):
            yield f"model.{name.removesuffix('down_proj')}{e}.down_proj.weight", weight
    else:
        yield (name if name.startswith("lm_head") else "model." + name), tensor
