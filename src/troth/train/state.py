"""The state that a run goes on from, by name, and the network's part of it read back for export."""

import warnings
from collections.abc import Iterable, Iterator

import torch
import torch.distributed.checkpoint as dcp

from troth.train.checkpoints.distcp import Reader, folder_of
from troth.train.checkpoints.store import Store
from troth.train.parallel.network import Network


def training_state(network: Network, optimizers: list[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Weights that learn, the experts' biases and what optimisers keep; tensors, perhaps distributed, that share the
    memory of the run. Names do not depend on the layout of ranks. Of a network with adapters, all else is as in the
    folder that it starts from, and not in here."""
    state: dict[str, torch.Tensor] = {}
    for weight in network.weights:
        state[f"model.{weight.name}"] = weight.whole.detach()
        kept = next(optimizer.state[weight.local] for optimizer in optimizers if weight.local in optimizer.state)
        for kind, held in kept.items():
            if kind == "step":
                state["adam.step"] = held
            else:
                state[f"{kind}.{weight.name}"] = weight.like(held)
    for part in [] if network.adapted else network.parts:
        for name, buffer in part.named_buffers():
            if name.endswith("expert_bias"):
                state[f"model.{name}"] = buffer
    return state


def after_loading(optimizers: list[torch.optim.Optimizer], state: dict[str, torch.Tensor]) -> None:
    """Adam counts its steps with every weight; the state has the count once."""
    for optimizer in optimizers:
        for kept in optimizer.state.values():
            if "step" in kept and kept["step"] is not state["adam.step"]:
                kept["step"].copy_(state["adam.step"])


def saved_tensors(
    checkpoints: str, step: int, expected: Iterable[tuple[str, torch.Tensor]]
) -> Iterator[tuple[str, torch.Tensor]]:  # fmt: skip
    """What the checkpoint of a step, below a folder or URL, has of the network under these names, in the shapes and
    types of these tensors, which may be on the meta device; one after another: the whole need not fit into memory."""
    reader = Reader(Store(checkpoints), folder_of(step))
    for name, like in expected:
        tensor = torch.empty_like(like, device="cpu")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dcp.load({f"model.{name}": tensor}, storage_reader=reader, no_dist=True)
        yield name, tensor
