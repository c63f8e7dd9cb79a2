"""Adapters as the folder that PEFT writes and that vLLM and transformers read: adapter_config.json and
adapter_model.safetensors, in the tensor names of the family."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from troth.model.decoder import Decoder
from troth.model.experts import Experts
from troth.model.families.configs import FAMILIES
from troth.model.families.folder import save_tensor_file
from troth.model.lora import LoRAExperts, LoRALinear, adapt

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PLAIN: dict[str, Any] = {
    "peft_type": "LORA", "bias": "none", "fan_in_fan_out": False, "use_dora": False, "modules_to_save": None,
    "rank_pattern": {}, "alpha_pattern": {}, "target_parameters": None,
}  # fmt: skip
"""What is written, and what a folder that is read must have where it has it."""


def save_adapters(model: Decoder, folder: Path, base: str) -> None:
    """Write the adapters of a network into `folder`; `base` is the folder or name of the model that they belong to.

    Experts are written one by one, in the names of the family's released checkpoints; those of gpt-oss, whose release
    has them stacked, as if they had the names of AFMoE's, which no other program reads.
    """
    adapted = [(name, part) for name, part in model.named_modules() if isinstance(part, LoRALinear | LoRAExperts)]
    assert adapted, "adapt comes first"
    first = adapted[0][1]
    rank = first.lora_A.shape[0] if isinstance(first, LoRALinear) else first.lora_A_down.shape[2]
    tensors: dict[str, torch.Tensor] = {}
    for name, part in adapted:
        for place, a_rI, b_Or in _pairs(model, name, part):
            tensors[f"{_PREFIX}{place}.lora_A.weight"] = a_rI.detach().cpu().contiguous()
            tensors[f"{_PREFIX}{place}.lora_B.weight"] = b_Or.detach().cpu().contiguous()
    config = _PLAIN | {
        "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": rank, "lora_alpha": first.scale * rank,
        "lora_dropout": 0.0, "target_modules": _targets(model, {name for name, _ in adapted}), "inference_mode": True,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_tensor_file(tensors, folder / _WEIGHTS)
    (folder / _CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")


@torch.no_grad()
def load_adapters(model: Decoder, folder: Path) -> list[str]:
    """Adapt the parts that a folder has adapters for, fill these, and return the parts' names. The weights themselves
    may be on the meta device.

    Raises ValueError naming the file, and the setting or tensor in it that is missing, unknown or misshapen.
    """
    rank, alpha = _read_config(folder / _CONFIG)
    path = folder / _WEIGHTS
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: {error}") from error
    held = {key.removeprefix(_PREFIX).partition(".lora_")[0] for key in tensors}
    names = [name for name, part in _plain_parts(model) if any(place in held for place in _places(model, name, part))]
    adapt(model, names, rank, alpha, "cpu" if next(model.parameters()).is_meta else None)
    for name in names:
        part = model.get_submodule(name)
        assert isinstance(part, LoRALinear | LoRAExperts)
        for place, *pair in _pairs(model, name, part):
            for kind, target in zip("AB", pair, strict=True):
                key = f"{_PREFIX}{place}.lora_{kind}.weight"
                if key not in tensors:
                    raise ValueError(f"{path}: tensor {key} is missing")
                if tensors[key].shape != target.shape:
                    shapes = f"has shape {list(tensors[key].shape)}, expected {list(target.shape)}"
                    raise ValueError(f"{path}: tensor {key} {shapes}")
                target.copy_(tensors.pop(key))
    if tensors:
        raise ValueError(f"{path}: unexpected tensor {min(tensors)}")
    return names


def _read_config(path: Path) -> tuple[int, float]:
    """Rank, and the alpha that gives the folder's scale as alpha / rank."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not a LoRA configuration ({error!r})") from error
    if rank < 1:
        raise ValueError(f"{path}: r={rank}: a rank is at least 1")
    for key, value in _PLAIN.items():
        if config.get(key) and config[key] != value:
            raise ValueError(f"{path}: {key}={config[key]!r}: only {value!r} is known")
    return rank, alpha * rank**0.5 if config.get("use_rslora") else alpha


def _plain_parts(model: Decoder) -> list[tuple[str, nn.Module]]:
    return [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear | Experts)]


def _places(model: Decoder, name: str, part: nn.Module) -> list[str]:
    """The family's names, without `.weight`, of a linear layer or of the gate, up and down matrix of each expert."""
    family = FAMILIES[model.config.model_type]
    ends = [""]
    if isinstance(part, Experts):
        kinds = family.expert or ("gate_proj", "up_proj", "down_proj")
        ends = [f".{e}.{kind}" for e in range(len(part.down_proj)) for kind in kinds]
    return [family.rename(f"{name}{end}.weight").removesuffix(".weight") for end in ends]


def _pairs(
    model: Decoder, name: str, part: LoRALinear | LoRAExperts
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Each matrix of an adapted part by its name in the family, with its A [rank, in] and B [out, rank]."""
    if isinstance(part, LoRALinear):
        pairs: Iterator[tuple[torch.Tensor, torch.Tensor]] = iter([(part.lora_A, part.lora_B)])
    else:
        a_s, b_s = zip(part.adapters("gate_up"), part.adapters("down"), strict=True)
        pairs = (
            (a_rI, b_Or)
            for e in range(len(part.down_proj))
            for a_EPrI, b_EPOr in zip(a_s, b_s, strict=True)
            for a_rI, b_Or in zip(a_EPrI[e], b_EPOr[e], strict=True)
        )
    for place, (a_rI, b_Or) in zip(_places(model, name, part), pairs, strict=True):
        yield place, a_rI, b_Or


def _targets(model: Decoder, adapted: set[str]) -> list[str]:
    """The ends of names where these say which parts are adapted, else whole names."""
    chosen: dict[str, bool] = {}
    ends: dict[str, set[bool]] = {}
    for name, part in _plain_parts(model):
        for place in _places(model, name, part):
            chosen[place] = name in adapted
            ends.setdefault(place.rpartition(".")[2], set()).add(name in adapted)
    if all(len(both) == 1 for both in ends.values()):
        return sorted(end for end, both in ends.items() if both == {True})
    return [place for place, is_adapted in chosen.items() if is_adapted]
