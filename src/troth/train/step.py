"""One step of training: forward and backward over the rows of this rank, clip, update, balance."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from troth.system import TrainTable
from troth.train.batches import Batch
from troth.train.clip import clip, sum_of_squares
from troth.train.objective import figure_names
from troth.train.parallel.network import Network
from troth.train.parallel.replica_groups import ReplicaGroups
from troth.train.parallel.sums import sum_parts
from troth.train.preference import PreferenceBatch
from troth.train.weights import drop_gradients, take_gradients

Judge = Callable[[float, float], bool]
"""Whether to update the weights, given the loss and the norm of the gradient; the same answer on all ranks."""


@dataclass(frozen=True)
class Outcome:
    """What a step found, the same on all ranks: mean loss, norm of the gradient, and whether the weights were updated;
    `shares` are the experts' shares of the load in this rank's layers; `figures` are further means, by name; `leaving`
    says whether a rank was asked to leave."""

    loss: float
    norm: float
    updated: bool
    shares: list[torch.Tensor]
    figures: dict[str, float]
    leaving: bool = False


def step(
    network: Network, optimizers: list[torch.optim.Optimizer], batch: Batch, lr_share: float, train: TrainTable,
    judge: Judge = lambda loss, norm: True, groups: ReplicaGroups | None = None, leaving: bool = False,
) -> Outcome | None:  # fmt: skip
    """Learn from `batch`, the rows of this rank. `lr_share` is the learning rate as a share of its peak; `leaving`
    tells the others that this rank is asked to leave. None, and nothing has happened, where a replica group was lost on
    the way."""
    device = network.device
    tokens, targets, documents = (
        torch.from_numpy(part).to(device, non_blocking=True) for part in (batch.inputs, batch.targets, batch.documents)
    )
    reference = torch.from_numpy(batch.reference).to(device) if isinstance(batch, PreferenceBatch) else None
    count = torch.tensor(batch.count)
    if network.mesh is not None:
        count = count.to(device)
        dist.all_reduce(count, group=network.mesh.rows)
    if groups is not None:
        groups.sum([count])
    loss = network.forward_backward(tokens, documents, targets, max(1, int(count)), reference)
    found = network.take_figures()
    take_gradients(network.weights)
    if network.mesh is not None:
        sum_parts(network.weights, network.mesh)
    if groups is not None:
        gradients = [weight.local.grad for weight in network.weights if weight.local.grad is not None]
        groups.sum([loss, *([found] if len(found) else []), *gradients, *(moe.load_E for moe in network.moe_layers())])
    squares = sum_of_squares(network.weights)
    sums = torch.stack((loss.double(), squares, *found, torch.full_like(squares, leaving)))
    if network.mesh is not None:
        dist.all_reduce(sums)
    norm = sums[1].sqrt()
    loss_and_norm = sums[0].item(), norm.item()
    if groups is not None and not groups.commit():
        drop_gradients(network.weights)
        network.balance(0.0)
        return None
    updated = judge(*loss_and_norm)
    if updated:
        clip(network.weights, norm, train.clip)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * lr_share
            optimizer.step()
    drop_gradients(network.weights)
    # Under adapters the experts' biases stay as they are, as all that is not an adapter does.
    shares = network.balance(train.balance_rate if updated and not network.adapted else 0.0)
    figures = dict(zip(figure_names(train), sums[2:-1].tolist(), strict=True))
    return Outcome(*loss_and_norm, updated, shares, figures, sums[-1].item() > 0)
