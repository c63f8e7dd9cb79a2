"""A model folder written as one GGUF file, tensor by tensor: memory holds one stack of experts at a time.

The file appears whole or not at all. Settings are in `architectures`, names in `tensors`, the tokenizer in
`vocabulary`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from troth.model.config import ModelConfig
from troth.model.families.configs import read_config
from troth.model.families.quantised import to_mxfp4
from troth.model.gguf.architectures import Architecture, architecture_of, leading_dense
from troth.model.gguf.source import Source
from troth.model.gguf.tensors import named_parts
from troth.model.gguf.vocabulary import vocabulary

if TYPE_CHECKING:
    from gguf import GGUFWriter

FILE_TYPES = {"bf16": 32, "q8_0": 7, "f32": 0}
"""What matrices may be stored as, with llama.cpp's numbers of such files."""
_WITH_MXFP4 = 38
"""Its number of files whose experts are MXFP4."""
_BLOCKS = {"f32": (1, 4), "bf16": (1, 2), "q8_0": (32, 34), "mxfp4": (32, 17)}
"""How many numbers are stored together, and in how many bytes."""


@dataclass(frozen=True)
class Written:
    """What was written: `layers` counts llama.cpp's, of which `empty` change nothing. With `rounded`, llama.cpp rounds
    YaRN's borders, which the model does not (`truncate=False`), so that some rotations are faster there."""

    path: Path
    bytes: int
    tensors: int
    layers: int
    empty: int
    rounded: bool


@dataclass(frozen=True)
class _Tensor:
    """One tensor of the file, stored as `kind`: the `part`-th of those that one of the network's tensors becomes, or
    zeros."""

    name: str
    shape: tuple[int, ...]
    kind: str
    source: str | None
    part: int = 0

    @property
    def bytes(self) -> int:
        numbers, size = _BLOCKS[self.kind]
        return math.prod(self.shape) // numbers * size


def export_gguf(
    folder: Path, path: Path, kind: str = "bf16", report: Callable[[int, int], None] = lambda done, total: None
) -> Written:
    """Write the model of a Hugging Face folder to `path`, matrices as `kind`: bf16, q8_0 (eight bits and a scale for
    each 32 numbers; bf16 where rows are no multiple of 32), or f32. Norms, routers and their biases stay float32, and
    experts that are MXFP4 in the folder, as gpt-oss's, stay so other than with f32.

    `report` is called with the bytes of tensors that are written, and of all. Raises ValueError where the folder is
    not as it should be, where llama.cpp cannot run what is in it, or where the file cannot be written.
    """
    import gguf

    if kind not in FILE_TYPES:
        raise ValueError(f"--type {kind}: known are {', '.join(FILE_TYPES)}")
    config = read_config(folder)
    architecture = architecture_of(config)
    places = architecture.places(config)
    source = Source(folder, config)
    tensors = list(_tensors(source, architecture, config, places, kind))
    settings = {
        "general.type": "model",
        "general.name": folder.resolve().name,
        "general.file_type": _WITH_MXFP4 if any(tensor.kind == "mxfp4" for tensor in tensors) else FILE_TYPES[kind],
        "general.quantization_version": 2,
        **architecture.metadata(config, places),
        **vocabulary(folder, config.vocab_size),
    }
    partial = path.with_name(f"{path.name}.partial")
    writer = gguf.GGUFWriter(partial, architecture.name)
    try:
        _write_head(writer, settings, tensors)
        done, total = 0, sum(tensor.bytes for tensor in tensors)
        for tensor in tensors:
            writer.write_tensor_data(_data(tensor, source, architecture, config))
            done += tensor.bytes
            report(done, total)
        writer.close()
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            writer.close()
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # NumPy's tells neither the file nor why
            raise ValueError(f"{path}: cannot be written, which a full disk would explain ({error})") from error
        raise
    rounded = config.yarn is not None and not config.yarn.truncate
    return Written(path, path.stat().st_size, len(tensors), len(places), places.count(None), rounded)


def _tensors(
    source: Source, architecture: Architecture, config: ModelConfig, places: list[int | None], kind: str
) -> Iterator[_Tensor]:
    """All tensors of the file, in its order."""

    def renamed(name: str, place: int, empty: bool = False) -> Iterator[_Tensor]:
        whole = torch.empty(source.shapes[name], device="meta")
        wanted = "mxfp4" if source.in_mxfp4 and "mlp.experts." in name and kind != "f32" else kind
        for part, (theirs, value) in enumerate(named_parts(name, whole, place, architecture, config)):
            shape = tuple(value.shape)
            yield _Tensor(theirs, shape, _stored(theirs, shape, wanted), None if empty else name, part)

    leading = leading_dense(config, places)
    for name in source.shapes:
        if not name.startswith("layers."):
            yield from renamed(name, 0)
    for place, layer in enumerate(places):
        like = layer if layer is not None else 0 if place < leading else config.num_dense_layers
        for name in source.shapes:
            if name.startswith(f"layers.{like}."):
                yield from renamed(name, place, layer is None)


def _stored(name: str, shape: tuple[int, ...], kind: str) -> str:
    if len(shape) == 1 or ".ffn_gate_inp." in name or name.endswith(".bias"):
        return "f32"
    return "bf16" if shape[-1] % _BLOCKS[kind][0] else kind


def _write_head(writer: GGUFWriter, settings: dict[str, Any], tensors: list[_Tensor]) -> None:
    """Everything before the tensors' numbers: settings, then names, shapes and places."""
    import gguf

    add: dict[type, Callable[[str, Any], None]] = {
        bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
        list: writer.add_array,
    }  # fmt: skip
    for key, value in settings.items():
        add[type(value)](key, value)
    for tensor in tensors:
        stored = gguf.GGMLQuantizationType[tensor.kind.upper()]
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.bytes, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def _data(tensor: _Tensor, source: Source, architecture: Architecture, config: ModelConfig) -> np.ndarray:
    """The numbers of a tensor as the file has them."""
    if tensor.source is None:
        return np.zeros(tensor.bytes, np.uint8)
    value = source.read(tensor.source, torch.bfloat16 if tensor.kind == "bf16" else torch.float32)
    _, value = named_parts(tensor.source, value, 0, architecture, config)[tensor.part]
    if tensor.kind == "bf16":
        return value.contiguous().view(torch.int16).numpy()
    if tensor.kind == "f32":
        return value.contiguous().numpy()
    if tensor.kind == "mxfp4":
        return _mxfp4_blocks(value)
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    return quantize(value.contiguous().numpy(), GGMLQuantizationType.Q8_0)


def _mxfp4_blocks(weight_XOI: torch.Tensor) -> np.ndarray:
    """Of each run of 32 numbers the exponent, biased by 127, and 16 bytes: the first 16 numbers' codes in their low
    halves, the others' in their high halves."""
    code_OI, power_OR = to_mxfp4(weight_XOI.flatten(0, 1))
    low_ORh, high_ORh = code_OI.unflatten(-1, (-1, 2, 16)).unbind(-2)
    return torch.cat(((power_OR + 127).to(torch.uint8)[..., None], low_ORh | high_ORh << 4), dim=-1).numpy()
