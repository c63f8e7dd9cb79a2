"""Trains a small network over the ranks of a torchrun and alone, and compares: `recipe_ranks.py JOB` with a JSON list
of cases, each with what it changes in the recipe, in the layout and in the network."""

import json
import sys

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor

from troth.model.config import ModelConfig
from troth.system import ParallelTable, TrainTable, lay_out
from troth.train.batches import Batch
from troth.train.optim import build_optimizers
from troth.train.parallel.mesh import Mesh
from troth.train.parallel.network import Network
from troth.train.parallel.ranks import joined
from troth.train.schedule import rows_of
from troth.train.step import step
from troth.train.weights import local

STEPS, ROWS, TIME = 4, 8, 32
SMALL = ModelConfig(
    vocab_size=96, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=4,
    num_dense_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=8, num_experts_per_tok=2,
    num_shared_experts=1, sliding_window=12, max_position_embeddings=64,
)  # fmt: skip


def rows(numbers):
    """Rows of several documents each, some of whose tokens carry no loss."""
    parts = []
    for number in numbers:
        random = np.random.default_rng(number)
        tokens, ends = random.integers(0, 96, TIME + 1), random.random(TIME) < 0.1
        parts.append((tokens[:-1], np.where(ends | (random.random(TIME) < 0.1), -100, tokens[1:]), np.cumsum(ends)))
    return Batch(*map(np.stack, zip(*parts, strict=True)))


@torch.no_grad()
def tell_experts_apart(network):
    """Routers begin at zero. Experts that nobody has used yet then get the same gradient from the balance loss but for
    its rounding, which would decide between them, over ranks otherwise than alone."""
    for name, weight in (pair for part in network.parts for pair in part.named_parameters()):
        if name.endswith("router.gate.weight"):
            numbers = torch.Generator().manual_seed(len(name))
            whole = torch.randn(weight.shape, dtype=weight.dtype, generator=numbers) / 10
            if isinstance(weight, DTensor):
                whole = distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None).to_local()
            local(weight).copy_(whole)


def poison(network, loss):
    """A fault of this rank, after which its gradients are no numbers."""
    for weight in network.weights:
        if weight.whole.grad is not None:
            local(weight.whole.grad).fill_(np.nan)
    return loss


def losses_and_norms(case, world):
    train = TrainTable(
        steps=STEPS, batch_tokens=ROWS * TIME, sequence_length=TIME, z_loss=1e-4, balance_rate=1e-2,
        precision="float64", **case["train"],
    )  # fmt: skip
    model = ModelConfig(**SMALL.model_dump() | case["model"])
    layout = lay_out(ParallelTable(**(case["parallel"] if world > 1 else {})), model, train, world)
    mesh = Mesh.over(layout, "cpu") if world > 1 else None
    network = Network(model, train, layout, torch.float64, mesh, "cpu").initialise(0)
    tell_experts_apart(network)
    optimizers = build_optimizers(network.weights, 0.02, 0.01, 0.1, torch.float64)
    optimizers[0].round_bytes = 1 if world > 1 else 2**25  # Muon in as many rounds as there can be.
    found = []
    forward_backward = network.forward_backward
    for number in range(STEPS):
        bad = number == case["poisoned"]
        if bad and world > 1 and dist.get_rank() == world - 1:
            network.forward_backward = lambda *batch: poison(network, forward_backward(*batch))
        read = rows_of(number, train)
        each = len(read) // layout.rows_ranks
        first = read.start + each * (mesh.rows_rank if mesh else 0)
        batch = rows(range(first, first + each))
        judge = (lambda _, norm: norm < np.inf) if world > 1 or not bad else (lambda *_: False)
        outcome = step(network, optimizers, batch, 1.0, train, judge)
        assert outcome.updated != bad
        network.forward_backward = forward_backward
        if not bad:
            found.append((outcome.loss, outcome.norm, *outcome.figures.values()))
    if mesh is not None:
        compare_ends(network, mesh)
    return found


def compare_ends(network, mesh):
    """Where two stages have the embedding, it is the same to the bit."""
    held = {weight.name: weight.local.data for weight in network.weights if weight.at_both_ends}
    everyone = [None] * mesh.layout.pp
    dist.all_gather_object(everyone, held, group=mesh.group("pp"))
    found = [theirs for theirs in everyone if theirs]
    assert len(found) in (0, 2)
    for first, last in [found] if found else []:
        assert first.keys() == last.keys()
        assert all(torch.equal(tensor, last[name]) for name, tensor in first.items())


def alone_by_recipe(job, ranks):
    """What one process finds of each recipe: ranks share them out."""
    recipes = {recipe_of(case): case for case in job}
    mine = {name: losses_and_norms(recipes[name], 1) for name in list(recipes)[ranks.rank :: ranks.world]}
    everyone = [None] * ranks.world
    dist.all_gather_object(everyone, mine)
    return {name: found for theirs in everyone for name, found in theirs.items()}


def recipe_of(case):
    return json.dumps([case["train"], case["model"], case["poisoned"]])


def main(job):
    torch.set_num_threads(1)
    with joined("cpu") as ranks:
        alone = alone_by_recipe(job, ranks)
        for case in job:
            found = losses_and_norms(case, ranks.world)
            np.testing.assert_allclose(found, alone[recipe_of(case)], rtol=1e-9, err_msg=json.dumps(case))
            dist.barrier()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
