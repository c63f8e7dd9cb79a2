"""A decoder's weights as a Hugging Face folder, in the names of its family."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.families.configs import FAMILIES, read_config
from troth.model.families.folder import SHARD_BYTES, TensorFolder, write_tensors
from troth.model.moe import MoE


def save_weights(model: Decoder, config: dict[str, Any], folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write `config` as config.json and the weights, experts unstacked, in the dtype that it names; more than
    `shard_bytes` go into several files."""
    save_tensors(model.config, model.state_dict().items(), config, folder, shard_bytes)


def save_tensors(
    shape: ModelConfig, tensors: Iterable[tuple[str, torch.Tensor]], config: dict[str, Any], folder: Path,
    shard_bytes: int = SHARD_BYTES,
) -> None:  # fmt: skip
    """`save_weights` of a network that is not in memory: `tensors` come one after another, by their names in it."""
    dtype = getattr(torch, config.get("dtype") or config["torch_dtype"])

    def parts() -> Iterator[tuple[str, torch.Tensor]]:
        for part in _stored(shape, tensors):
            keep = part.tensor.dtype if part.buffer else dtype
            yield part.name, part.tensor.detach().to("cpu", keep, copy=True).reshape(part.shape)

    write_tensors(folder, parts(), shard_bytes)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def load_weights(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Decoder:
    """Build the decoder that a folder describes and fill it; a router's `expert_bias` is float32 whatever `dtype`.

    Raises ValueError naming the file, key or tensor that is missing, left over, misshapen or of another type.
    """
    stored = StoredDecoder(folder, dtype, device)
    for layer in stored.model.layers.values():
        stored.read(layer)
    return stored.model


def stated_dtype(folder: Path) -> str | None:
    """In what a folder's config.json says that its weights are; where it says nothing, as gpt-oss's, what its embedding
    is in."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stated: str | None = config.get("dtype") or config.get("torch_dtype")
    return stated or TensorFolder(folder).dtype_of("embed_tokens.weight")


class StoredDecoder:
    """The decoder that a folder describes, whose layers are on the meta device until they are read: a network that does
    not fit into memory as it is may fit if each layer is packed, or split, before the next is there. `in_mxfp4` says
    that its experts are 4-bit floats there.

    Raises ValueError as `load_weights` does; of a tensor that is missing or left over, before any is read.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, device: str = "cpu"):
        config = read_config(folder)
        with torch.device("meta"):
            self.model = Decoder(config).to(dtype).eval()
        self._device, self._folder = device, TensorFolder(Path(folder), device)
        self.in_mxfp4 = self._folder.in_mxfp4
        shapes = {part.name: part.shape for part in stored_tensors(self.model)}
        self._folder.check(shapes, FAMILIES[config.model_type].unused(config))
        others = {part: name for name, part in self.model.named_children() if name != "layers"}
        self._places = others | {layer: f"layers.{number}" for number, layer in self.model.layers.items()}
        for part in others:
            self.read(part)
        if config.tie_word_embeddings:
            self.model.lm_head.weight = self.model.embed_tokens.weight

    def read(self, part: nn.Module) -> None:
        """Fill a layer where it is not in memory yet."""
        if not any(parameter.is_meta for parameter in part.parameters()):
            return
        allocate(part, self._device)
        tensors = ((f"{self._places[part]}.{name}", tensor) for name, tensor in part.state_dict().items())
        read_tensors(self._folder, self.model.config, tensors)

    @contextmanager
    def lent(self, part: nn.Module) -> Iterator[None]:
        """A layer in memory for as long as the context is open."""
        self.read(part)
        yield
        part.to("meta")


def empty_decoder(config: ModelConfig, dtype: torch.dtype, device: str) -> Decoder:
    """A decoder whose weights hold nothing yet, but for routers' buffers, which are zero and float32."""
    with torch.device("meta"):
        model = Decoder(config).to(dtype)
    allocate(model, device)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    return model


def allocate(module: nn.Module, device: str) -> None:
    """Give a module of the meta device memory, with zeros in its routers' buffers only, which are float32."""
    module.to_empty(device=device)
    for moe in module.modules():
        if isinstance(moe, MoE):
            for name in ("expert_bias", "load_E"):
                setattr(moe, name, torch.zeros_like(getattr(moe, name), dtype=torch.float32))


@dataclass(frozen=True)
class Stored:
    """A tensor of a folder: its name and shape there, and the view of the network's weights with the same numbers in
    the same order, perhaps with a dimension split. A `buffer` keeps its dtype whatever that of the weights."""

    name: str
    tensor: torch.Tensor
    shape: torch.Size
    buffer: bool = False


def stored_tensors(model: Decoder) -> Iterator[Stored]:
    """All tensors of a network's folder, in the names of its family."""
    return _stored(model.config, model.state_dict().items())


def read_tensors(
    folder: TensorFolder, config: ModelConfig, tensors: Iterable[tuple[str, torch.Tensor]], first_expert: int = 0
) -> None:
    """Fill some of a network's tensors, given by their names in it. Stacks of experts may begin with another expert
    than the first where the family stores experts apart."""
    with torch.no_grad():
        folder.read((part.name, part.tensor, part.shape) for part in _stored(config, tensors, first_expert))


def stores_experts_apart(config: ModelConfig) -> bool:
    """Whether a folder of this family has a tensor for each matrix of each expert."""
    return FAMILIES[config.model_type].expert is not None


def _stored(
    config: ModelConfig, tensors: Iterable[tuple[str, torch.Tensor]], first_expert: int = 0
) -> Iterator[Stored]:
    family = FAMILIES[config.model_type]
    for name, tensor in tensors:
        if config.tie_word_embeddings and name == "lm_head.weight":
            continue
        if ".experts." in name:
            apart = family.expert
            named = _stacked(tensor, name) if apart is None else _unstacked(tensor, name, apart, first_expert)
        else:
            named = iter([(name, tensor, tensor.shape)])
        for inner, view, shape in named:
            yield Stored(family.rename(inner), view, shape, name.endswith("expert_bias"))


def stored_shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Name and shape of every tensor that a folder of this configuration holds."""
    with torch.device("meta"):
        return {part.name: part.shape for part in stored_tensors(Decoder(config))}


_Named = Iterator[tuple[str, torch.Tensor, torch.Size]]


def _unstacked(tensor: torch.Tensor, name: str, names: tuple[str, str, str], first: int) -> _Named:
    """Each expert's matrices apart."""
    base, _, kind = name.rpartition(".")
    gate_name, up_name, down_name = names
    for e, weight in enumerate(tensor, first):
        if kind == "gate_up_proj":
            gate, up = weight
            yield f"{base}.{e}.{gate_name}.weight", gate, gate.shape
            yield f"{base}.{e}.{up_name}.weight", up, up.shape
        else:
            yield f"{base}.{e}.{down_name}.weight", weight, weight.shape


def _stacked(tensor: torch.Tensor, name: str) -> _Named:
    """All experts together, [experts, in, out], rows of gate and up in turn."""
    base, _, kind = name.rpartition(".")
    whole = f"{base}.{kind.replace('_bias', '_proj_bias')}"
    if kind == "gate_up_proj":
        view_EDF2 = tensor.permute(0, 3, 2, 1)
        yield whole, view_EDF2, torch.Size((*view_EDF2.shape[:2], 2 * tensor.shape[2]))
    elif kind == "gate_up_bias":
        yield whole, tensor.transpose(1, 2), tensor.flatten(1).shape
    else:
        view = tensor.transpose(1, 2) if kind == "down_proj" else tensor
        yield whole, view, view.shape
