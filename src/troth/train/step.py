"""One step of training: forward and backward over the rows of this rank, clip, update, balance."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from troth.system import TrainTable
from troth.train.batches import Batch
from troth.train.clip import clip, sum_of_squares
from troth.train.parallel.network import Network
from troth.train.weights import drop_gradients, take_gradients

Judge = Callable[[float, float], bool]
"""Whether to update the weights, given the loss and the norm of the gradient; the same answer on all ranks."""


@dataclass(frozen=True)
class Outcome:
    """What a step found, the same on all ranks: mean loss, norm of the gradient, and whether the weights were updated;
    `shares` are the experts' shares of the load in this rank's layers."""

    loss: float
    norm: float
    updated: bool
    shares: list[torch.Tensor]


def step(
    network: Network, optimizers: list[torch.optim.Optimizer], batch: Batch, lr_share: float, train: TrainTable,
    judge: Judge = lambda loss, norm: True,
) -> Outcome:  # fmt: skip
    """Learn from `batch`, the rows of this rank. `lr_share` is the learning rate as a share of its peak."""
    device = network.device
    tokens, targets, documents = (
        torch.from_numpy(part).to(device, non_blocking=True) for part in (batch.inputs, batch.targets, batch.documents)
    )
    count = torch.tensor((batch.targets >= 0).sum())
    if network.mesh is not None:
        count = count.to(device)
        dist.all_reduce(count, group=network.mesh.rows)
    loss = network.forward_backward(tokens, documents, targets, max(1, int(count)))
    take_gradients(network.weights)
    sums = torch.stack((loss.double(), sum_of_squares(network.weights)))
    if network.mesh is not None:
        dist.all_reduce(sums)
    norm = sums[1].sqrt()
    figures = sums[0].item(), norm.item()
    updated = judge(*figures)
    if updated:
        clip(network.weights, norm, train.clip)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * lr_share
            optimizer.step()
    drop_gradients(network.weights)
    return Outcome(*figures, updated, network.balance(train.balance_rate if updated else 0.0))
