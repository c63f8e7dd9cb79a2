"""config.json of a Hugging Face folder, there and back, for every family. Imports no torch."""

import json
import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from troth.model.config import ModelConfig, Yarn
from troth.model.families import afmoe, deepseek_v3, gpt_oss, grok_1, grok_2, mixtral, olmoe, qwen3_moe
from troth.model.families.family import FP8_BLOCK, Family

FAMILIES: dict[str, Family] = {
    "afmoe": afmoe.FAMILY, "deepseek_v3": deepseek_v3.FAMILY, "gpt_oss": gpt_oss.FAMILY, "grok-1": grok_1.FAMILY,
    "grok-2": grok_2.FAMILY, "mixtral": mixtral.FAMILY, "olmoe": olmoe.FAMILY, "qwen3_moe": qwen3_moe.FAMILY,
}  # fmt: skip
_OF_THE_FOLDER = {
    "_name_or_path", "auto_map", "num_mtp_layers", "num_nextn_predict_layers", "original_max_position_embeddings",
    "partial_rotary_factor", "quantization_config", "rope_scaling", "rope_theta", "torch_dtype", "transformers_version",
}  # fmt: skip
"""Keys that are about the files and weights of one folder, or that newer ones say in another way."""
_NOISE = "attention_dropout", "router_jitter_noise"
"""Keys that transformers heeds in training alone."""
_DEFAULTS = {name: field.default for name, field in ModelConfig.model_fields.items() if not field.is_required()}


def to_hf_config(config: ModelConfig, dtype: str, eos_token_id: int | list[int]) -> dict[str, Any]:
    """The config.json of `config`. Raises ValueError naming a field whose value the family cannot express."""
    family = FAMILIES[config.model_type]
    # What a family neither writes nor fixes it cannot express: only the default is its.
    written = {*family.all_keys, *family.own, "model_type", "rope_theta", "yarn"}
    fixed = {**family.fixed, **{name: _DEFAULTS[name] for name in _DEFAULTS.keys() - written - family.fixed.keys()}}
    for name, value in fixed.items():
        if getattr(config, name) != value:
            raise ValueError(f"{name}={getattr(config, name)!r}: model_type {config.model_type} has {value!r}")
    fields = config.model_dump()
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type or config.model_type,
        "dtype": dtype,
        "eos_token_id": eos_token_id,
        "hidden_act": {"silu": "silu", "gelu_tanh": "gelu_pytorch_tanh"}[config.activation],
        "rope_parameters": _write_rope(config),
        **{key: fields[name] for name, key in family.all_keys.items()},
        **family.write(config),
    }


def from_hf_config(data: dict[str, Any]) -> ModelConfig:
    """A ModelConfig from a config.json. Raises ValueError naming a key that is missing or not supported."""
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    name, family = _family(data)
    for key, value in ({"is_causal": True} | dict(family.required)).items():
        if data.get(key, value) != value:
            raise ValueError(f"{key}={data[key]!r}: only {value!r} is known")
    for key in ("rope_parameters", "rope_scaling", "quantization_config"):
        if not isinstance(data.get(key) or {}, dict):
            raise ValueError(f"{key}={data[key]!r}: expected an object")
    quantised = data.get("quantization_config") or {"quant_method": "mxfp4"}
    method, block = quantised.get("quant_method"), quantised.get("weight_block_size")
    if method != "mxfp4" and (method, block) != ("fp8", [FP8_BLOCK, FP8_BLOCK]):
        known = f"'mxfp4' and 'fp8' with a weight_block_size of {[FP8_BLOCK, FP8_BLOCK]}"
        raise ValueError(f"quantization_config.quant_method={method!r}: only {known} are known")
    rope = _rope(data)
    said = {field: data[key] for field, key in family.all_keys.items() if data.get(key) is not None}
    fields = dict(family.absent) | said
    heads, size = data.get("num_attention_heads"), data.get("hidden_size")
    if isinstance(heads, int) and isinstance(size, int) and heads > 0:
        fields = {"num_key_value_heads": heads, "head_dim": size // heads} | fields
    fields |= {**family.fixed, **family.read(data)}
    theta = family.absent.get("rope_theta", 10_000.0)
    fields["rope_theta"] = rope.get("rope_theta", data.get("rope_theta", theta))
    fields["yarn"] = _read_yarn(rope) if rope else family.absent.get("yarn")
    try:
        config = ModelConfig(model_type=name, **fields)
    except ValidationError as error:
        first = error.errors()[0]
        places, message = [str(place) for place in first["loc"]], first["msg"].removeprefix("Value error, ")
        if places[:1] == ["latent"]:
            places = places[1:]
        elif places[:1] == ["yarn"]:
            places[0] = "rope_parameters"
        key = ".".join(places)
        key = family.all_keys.get(key, key)
        raise ValueError(f"{key}: {message}" if key else message) from error
    for key, value in family.write(config).items():
        found = data.get(key)
        if found is not None and found != value and not _close(found, value):
            raise ValueError(f"{key}={found!r}: does not follow from the other keys, which give {value}")
    return config


def carried_keys(folder: Path, config: ModelConfig) -> dict[str, Any]:
    """What a folder's config.json says besides what Troth reads, such as `bos_token_id` and `router_aux_loss_coef`, for
    the config.json of weights that were learned from it. Nothing where they are of another family or the folder is
    gone."""
    path = folder / "config.json"
    if not path.exists() or read_config(folder).model_type != config.model_type:
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in data.items() if key not in _OF_THE_FOLDER}


def unheeded_noise(folder: Path) -> list[str]:
    """What a folder's config.json asks for in training that Troth does not do, as `key=value`."""
    data = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return [f"{key}={data[key]}" for key in _NOISE if data.get(key)]


def _family(data: dict[str, Any]) -> tuple[str, Family]:
    """By `model_type`; or by `architectures` where there is none, or, as in Grok-2's release, one of another family."""
    kind, architectures = data.get("model_type"), data.get("architectures") or [None]
    if not isinstance(kind, str | None):
        raise ValueError(f"model_type={kind!r}: expected text")
    if not isinstance(architectures, list):
        raise ValueError(f"architectures={architectures!r}: expected a list")
    if kind in FAMILIES:
        return str(kind), FAMILIES[str(kind)]
    for name, family in FAMILIES.items():
        if kind in (None, family.model_type) and architectures[0] == family.architecture:
            return name, family
    raise ValueError(f"model_type={kind!r}: known are {', '.join(FAMILIES)}")


def _close(found: Any, value: Any) -> bool:
    numbers = isinstance(found, int | float) and isinstance(value, int | float)
    return numbers and math.isclose(found, value, rel_tol=1e-6)


def _write_rope(config: ModelConfig) -> dict[str, Any]:
    if config.yarn is None:
        return {"rope_type": "default", "rope_theta": config.rope_theta}
    return {"rope_type": "yarn", "rope_theta": config.rope_theta, **config.yarn.model_dump(exclude_none=True)}


def _rope(data: dict[str, Any]) -> dict[str, Any]:
    """What is said of positions: by `rope_parameters`, or by `rope_scaling`, as before transformers 5.

    Raises ValueError where both stand there and differ; transformers then heeds the second and forgets the base.
    """
    new, old = (data.get(key) or {} for key in ("rope_parameters", "rope_scaling"))
    for key, value in old.items() if new else ():
        name = "rope_type" if key == "type" else key
        if new.get(name) != value:
            raise ValueError(f"rope_scaling.{key}={value!r} stands beside rope_parameters; write it in there")
    return dict(new or old)


def _read_yarn(rope: dict[str, Any]) -> dict[str, Any] | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "yarn":
        raise ValueError(f"rope_parameters.rope_type={kind!r}: only 'default' and 'yarn' are known")
    known = Yarn.model_fields.keys() | {"rope_type", "type", "rope_theta"}
    for key, value in rope.items():
        if key not in known and value not in (None, {"truncate": True}.get(key)):
            raise ValueError(f"rope_parameters.{key}={value!r}: not known for 'yarn'")
    return {key: value for key, value in rope.items() if key in Yarn.model_fields and value is not None}


def read_config(folder: Path) -> ModelConfig:
    """The configuration of a model folder. Raises ValueError naming the file and what is wrong in it."""
    path = Path(folder) / "config.json"
    try:
        return from_hf_config(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(_no_model(Path(folder))) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _no_model(folder: Path) -> str:
    """Why a folder is none of a model. A run has its model in a folder of its own, and a cycle its best one."""
    if not folder.is_dir():
        told = "a file; expected a model folder, with a config.json" if folder.exists() else "no such folder"
        return f"{folder}: {told}"
    inside = [folder / name for name in ("model", "best") if (folder / name / "config.json").exists()]
    return f"{folder / 'config.json'}: no such file" + (f"; {inside[0]} is a model folder" if inside else "")
