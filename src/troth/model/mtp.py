"""Multi-token prediction (DeepSeek-V3, 2412.19437, section 2.2): modules behind the decoder, each of which is told one
token more and predicts the one after it.

In training they make the decoder plan ahead; in serving they may draft tokens. They share its embedding and head. An
exported folder keeps them in a folder of their own, so that whatever reads the decoder there finds nothing unknown.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from troth.model.attention import Attend
from troth.model.config import ModelConfig
from troth.model.decoder import Call, DecoderLayer, plainly
from troth.model.families.configs import read_config
from troth.model.families.folder import TensorFolder, write_tensors
from troth.model.families.weights import allocate
from troth.model.moe import MoE
from troth.model.norm import RMSNorm
from troth.model.products import Linear
from troth.model.rope import Positions

FOLDER = "mtp"


class MTPModule(nn.Module):
    """One depth: norm(layer(eh_proj [norm(h); norm(embedded)])), equations 21 and 22.

    The states that it is given and that it returns have been through a last norm.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self.hnorm, self.enorm = RMSNorm(size, eps), RMSNorm(size, eps)
        self.eh_proj = Linear(2 * size, size, bias=False)
        self.layer = DecoderLayer(config, layer)
        self.norm = RMSNorm(size, eps)

    def forward(
        self, h_BTD: torch.Tensor, embedded_BTD: torch.Tensor, positions: Positions, attend: Attend,
        call: Call = plainly,
    ) -> torch.Tensor:  # fmt: skip
        """States [batch, time, hidden] that know `embedded_BTD`, for each time the token after the last known there."""
        joined = torch.cat((self.hnorm(h_BTD), self.enorm(embedded_BTD)), dim=-1)
        return self.norm(call(self.layer, call(self.eh_proj, joined), positions, attend))


class MTP(nn.Module):
    """Modules of the depths 1 to `depth`; weights start uninitialised, see `initialise`.

    Their layers are numbered on from the decoder's last, which decides of each what it attends to.
    """

    def __init__(self, config: ModelConfig, depth: int):
        super().__init__()
        self.config = config
        first = config.num_hidden_layers
        self.layers = nn.ModuleDict({str(layer): MTPModule(config, layer) for layer in range(first, first + depth)})

    def forward(
        self, h_BTD: torch.Tensor, embedded_BKTD: torch.Tensor, positions: Positions, attend: Attend,
        call: Call = plainly,
    ) -> Iterator[torch.Tensor]:  # fmt: skip
        """Each depth's states, of which the head makes scores: depth k is told, for time t, the embedding of token
        t + k as `embedded_BKTD[:, k - 1, t]`, and predicts token t + k + 1."""
        for module, embedded_BTD in zip(self.layers.values(), embedded_BKTD.unbind(1), strict=True):
            h_BTD = module(h_BTD, embedded_BTD, positions, attend, call)
            yield h_BTD

    def decoder_layers(self) -> list[DecoderLayer]:
        """The layer of each depth."""
        return [module.layer for module in self.layers.values()]  # type: ignore[misc]

    def moe_layers(self) -> list[MoE]:
        """The mixture-of-experts parts, from the first depth to the last."""
        return [layer.mlp for layer in self.decoder_layers() if isinstance(layer.mlp, MoE)]


def save_mtp(tensors: Iterable[tuple[str, torch.Tensor]], folder: Path, dtype: torch.dtype) -> None:
    """Write tensors of an `MTP`, which come one after another by their names in it, beside the decoder in `folder`."""
    (folder / FOLDER).mkdir()
    cast = (
        (name, tensor.detach().to("cpu", torch.float32 if name.endswith("expert_bias") else dtype, copy=True))
        for name, tensor in tensors
    )
    write_tensors(folder / FOLDER, cast)


def load_mtp(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> MTP | None:
    """The modules that were exported beside a decoder, or None where there are none.

    Raises ValueError naming the file, key or tensor that is missing, left over, misshapen or of another type.
    """
    if not (folder / FOLDER).exists():
        return None
    config, stored = read_config(folder), TensorFolder(folder / FOLDER, device)
    depth = sum(name.endswith(".eh_proj.weight") for name in stored.place)
    with torch.device("meta"):
        mtp = MTP(config, depth).to(dtype)
    allocate(mtp, device)
    with torch.no_grad():
        stored.fill((name, tensor, tensor.shape) for name, tensor in mtp.state_dict().items())
    return mtp.eval()
