"""The network's tensors, by its own names, read from a Hugging Face folder one at a time."""

from pathlib import Path

import torch

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.families.configs import FAMILIES
from troth.model.families.folder import TensorFolder
from troth.model.families.weights import Stored, stored_tensors


class Source:
    """`shapes` has the shape of each tensor by its name, in the network's order; `in_mxfp4` says that experts are 4-bit
    floats there.

    Raises ValueError naming a tensor that is missing in the folder or left over, before any is read.
    """

    def __init__(self, folder: Path, config: ModelConfig):
        with torch.device("meta"):
            model = Decoder(config)
        tied = "lm_head.weight" if config.tie_word_embeddings else None
        state = {name: tensor for name, tensor in model.state_dict().items() if name != tied}
        self.shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        self._parts: dict[str, list[Stored]] = {}
        stored = stored_tensors(model)
        for name, tensor in state.items():
            # The folder's tensors come in the order of the network's, of which each is one or the parts of one.
            parts, left = [], tensor.numel()
            while left:
                parts.append(next(stored))
                left -= parts[-1].tensor.numel()
            self._parts[name] = parts
        self._folder = TensorFolder(folder)
        self.in_mxfp4 = self._folder.in_mxfp4
        shapes = {part.name: part.shape for parts in self._parts.values() for part in parts}
        self._folder.check(shapes, FAMILIES[config.model_type].unused(config))
        self._last: tuple[str, torch.Tensor] | None = None

    def read(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """A tensor of the network in `dtype`; the last one stays at hand."""
        if self._last is None or self._last[0] != name or self._last[1].dtype != dtype:
            self._last = None
            whole = torch.empty(self.shapes[name], dtype=dtype)
            views = [(part, part.tensor) for part in self._parts[name]]
            self._folder.read(
                (part.name, whole.as_strided(view.shape, view.stride(), view.storage_offset()), part.shape)
                for part, view in views
            )
            self._last = name, whole
        return self._last[1]
