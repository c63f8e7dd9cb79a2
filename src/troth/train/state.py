"""The state that a run goes on from, by name, and the network's part of it read back for export."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

from troth.model.decoder import Decoder
from troth.model.mtp import MTP
from troth.train.optim import Muon
from troth.train.parallel.network import Network


def training_state(network: Network, optimizers: list[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Weights, the experts' biases and what optimisers keep; tensors, perhaps distributed, that share the memory of the
    run. Names do not depend on the layout of ranks."""
    muon, adam = optimizers
    assert isinstance(muon, Muon)
    state: dict[str, torch.Tensor] = {}
    for weight in network.weights:
        state[f"model.{weight.name}"] = weight.whole.detach()
        kept = (muon if weight.local in muon.state else adam).state[weight.local]
        for kind, held in kept.items():
            if kind == "step":
                state["adam.step"] = held
            else:
                state[f"{kind}.{weight.name}"] = weight.like(held)
    for part in network.parts:
        for name, buffer in part.named_buffers():
            if name.endswith("expert_bias"):
                state[f"model.{name}"] = buffer
    return state


def after_loading(optimizers: list[torch.optim.Optimizer], state: dict[str, torch.Tensor]) -> None:
    """Adam counts its steps with every weight; the state has the count once."""
    for kept in optimizers[1].state.values():
        if kept["step"] is not state["adam.step"]:
            kept["step"].copy_(state["adam.step"])


def saved_tensors(checkpoint: Path, part: Decoder | MTP) -> Iterator[tuple[str, torch.Tensor]]:
    """What a checkpoint has of a part, which may be on the meta device, one tensor after another: the whole need not
    fit into memory."""
    for name, like in part.state_dict().items():
        if not (part.config.tie_word_embeddings and name == "lm_head.weight"):
            tensor = torch.empty_like(like, device="cpu")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")
                dcp.load({f"model.{name}": tensor}, checkpoint_id=checkpoint, no_dist=True)
            yield name, tensor
