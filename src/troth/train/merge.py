"""A model folder with adapters added to its weights: what PEFT's `merge_and_unload` gives, one tensor at a time."""

import json
import os
import shutil
from pathlib import Path

import torch

from troth.model.adapters import load_adapters
from troth.model.decoder import Decoder
from troth.model.families.configs import read_config
from troth.model.families.weights import save_tensors
from troth.train.lora import merged
from troth.train.parallel.start import folder_tensors

_BESIDE = ("tokenizer*", "special_tokens_map.json", "chat_template*", "generation_config.json", "LICENSE*")
"""Files of a model's folder that stay as they are."""
_OF_OTHER_FILES = "auto_map", "num_mtp_layers", "num_nextn_predict_layers", "quantization_config"
"""Keys of config.json about code and weights that are not taken along, or are not as they were."""


def merge_adapters(base: Path, adapters: Path, out: Path) -> list[str]:
    """Write the model in `base` with the adapters of a PEFT folder merged into `out`, which appears whole or not at
    all, and return the names of the parts that changed.

    Products are added in float32 and rounded once, to the type that the base names; weights that it stores in 8 or 4
    bits come out in that type too. Raises ValueError where `out` exists, or naming the file of either folder that is
    not as it should be.
    """
    if out.exists():
        raise ValueError(f"{out}: exists already; choose another folder")
    config = read_config(base)
    with torch.device("meta"):
        decoder = Decoder(config)
    names = load_adapters(decoder, adapters)
    described = json.loads((base / "config.json").read_text(encoding="utf-8"))
    for key in _OF_OTHER_FILES:
        described.pop(key, None)
    described["dtype"] = described.get("dtype") or described.get("torch_dtype") or "bfloat16"
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_tensors(config, merged(decoder, folder_tensors(base, config)), described, partial)
        for pattern in _BESIDE:
            for file in sorted(base.glob(pattern)):
                shutil.copyfile(file, partial / file.name)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    os.replace(partial, out)
    return names
