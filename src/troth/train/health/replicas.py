"""Whether replicas hold the same bits: checksums of weights and optimizer state, against silent corruption.

Replicas that get the same gradients make the same updates, to the bit; a faulty chip or memory makes one of them stray
without a word (Dixit et al., 2102.11245). A majority of three or more shows which.
"""

import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32}


@dataclass(frozen=True)
class Difference:
    """A tensor that is not the same on all ranks of a group. `ranks` are the global ranks outside of the majority and
    `hosts` their machines; where no majority agrees, all of the group."""

    name: str
    ranks: tuple[int, ...]
    hosts: tuple[str, ...]
    majority: bool

    def __str__(self) -> str:
        where = ", ".join(f"{rank} on {host}" for rank, host in zip(self.ranks, self.hosts, strict=True))
        if self.majority:
            return f"{self.name} has other bits on rank {where} than on most of its replicas"
        return f"{self.name} has other bits on each of too many replicas to say which are right: rank {where}"


@torch.no_grad()
def checksum(tensor: torch.Tensor) -> torch.Tensor:
    """Two integers [2] from the bits of a tensor: their sum, and their sum weighted by position, both modulo 2^64.

    Elements count as integers of their width. Any change of one element is seen, in the sum. So is any change of two
    in a tensor of fewer than 2^31 elements of at most 4 bytes: if one gained what the other lost, the weighted sum
    tells. Damage at random to many escapes with a chance of about 2^-64.

    Squares are summed along rows and columns first: the weight row * side + column then needs no product an element.
    """
    flat = tensor.detach().contiguous().view(-1)
    x = flat.view(_INTEGERS.get(flat.itemsize, torch.int64))
    # A square of 8-byte integers fits a CPU core's cache (2 MiB), or keeps a GPU busy (32 MiB).
    side = 512 if x.device.type == "cpu" else 2048
    total = torch.zeros(2, dtype=torch.int64, device=x.device)
    index = torch.arange(side, dtype=torch.int64, device=x.device)
    for start in range(0, len(x), side**2):
        part = x[start : start + side**2].to(torch.int64)
        whole = part[: len(part) // side * side].view(-1, side)
        rest = part[whole.numel() :]
        rows, columns = whole.sum(1), whole.sum(0)
        plain = rows.sum() + rest.sum()
        weighted = (rows * index[: len(rows)]).sum() * side + (columns * index).sum()
        weighted += (rest * (whole.numel() + index[: len(rest)])).sum()
        total += torch.stack([plain, weighted + start * plain])
    return total


def replicated_state(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Weights, lasting buffers and optimizer state by name, as they lie on this rank: what replicas must share."""
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for parameter, values in optimizer.state.items():
            own = {f"{names[parameter]}.{key}": v for key, v in values.items() if isinstance(v, torch.Tensor)}
            state |= own
    return {name: value.to_local() if isinstance(value, DTensor) else value for name, value in state.items()}


def compare_replicas(tensors: Mapping[str, torch.Tensor], group: "dist.ProcessGroup | None" = None) -> list[Difference]:
    """Tensors that differ in bits among the ranks of `group`, all of which call this and get the same answer.

    The tensors are this rank's own, of the same names and shapes on all ranks of the group. Where all agree, what is
    sent is one all-reduce of 32 bytes a tensor.
    """
    if not tensors:
        return []
    names = sorted(tensors)
    devices = {tensor.device for tensor in tensors.values()}  # AdamW counts its steps on the CPU.
    device = next((device for device in devices if device.type != "cpu"), torch.device("cpu"))
    sums = torch.stack([checksum(tensors[name]).to(device) for name in names])
    least_and_most = torch.stack([~sums, sums])  # ~x = -x - 1 turns the order round without overflow.
    dist.all_reduce(least_and_most, dist.ReduceOp.MAX, group)
    differ = (~least_and_most[0] != least_and_most[1]).any(1).nonzero()[:, 0].tolist()
    if not differ:
        return []
    said: list[tuple[list[list[int]], str]] = [([], "")] * dist.get_world_size(group)
    dist.all_gather_object(said, (sums[differ].tolist(), socket.gethostname()), group)
    ranks = dist.get_process_group_ranks(group or dist.group.WORLD)
    differences = []
    for place, row in enumerate(differ):
        found = [tuple(rows[place]) for rows, _ in said]
        usual, count = Counter(found).most_common(1)[0]
        majority = 2 * count > len(found)
        accused = [number for number, own in enumerate(found) if own != usual or not majority]
        hosts = tuple(said[number][1] for number in accused)
        differences.append(Difference(names[row], tuple(ranks[number] for number in accused), hosts, majority))
    return differences
