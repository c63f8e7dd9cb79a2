"""The sequence-wise balance loss is its formula, reaches the router alone, and makes sequences use more experts."""

import pytest
import torch

from troth.model.attention import packed_attention
from troth.model.decoder import Decoder
from troth.model.initialise import initialise
from troth.system import ParallelTable, lay_out
from troth.train.batches import Batch, Batches
from troth.train.objective import Share
from troth.train.optim import build_optimizers
from troth.train.parallel.network import Network
from troth.train.precision import training_call
from troth.train.sequence_balance import SequenceBalance
from troth.train.shards import open_shards
from troth.train.step import step


def one_by_one(scores_BTE, k):
    """Equations 17 to 20 for each row, token by token; the mean over rows."""
    total = 0.0
    for scores_TE in scores_BTE:
        time, experts = scores_TE.shape
        for i in range(experts):
            f = sum(experts / (k * time) for s in scores_TE if i in s.topk(k).indices)
            p = sum(s[i] / s.sum() for s in scores_TE) / time
            total = total + f * p
    return total / len(scores_BTE)


@pytest.mark.parametrize("k", [1, 2])
def test_the_gradient_is_that_of_the_formula_and_the_scores_stay(k):
    logits = torch.randn(3, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    scores = torch.sigmoid(logits)
    balance = SequenceBalance(0.3, k, 7, Share.of(None, 7, "cpu"), None)
    balance.sequences = 3
    attached = balance(scores.flatten(0, 1))
    assert torch.equal(attached, scores.flatten(0, 1))
    plain = 2 * scores.square().sum() + 0.3 * one_by_one(scores, k)
    (expected,) = torch.autograd.grad(plain, logits, retain_graph=True)
    (found,) = torch.autograd.grad(2 * attached.square().sum(), logits)
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=1e-10)


def network(config, train):
    net = Network(config, train, lay_out(ParallelTable(), config, train, 1), torch.float32, None, "cpu").initialise(0)
    with torch.no_grad():
        for moe in net.decoders[0].moe_layers():
            moe.router.gate.weight.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
    return net


def gradients(net, batch):
    parts = (torch.from_numpy(part) for part in (batch.inputs, batch.documents, batch.targets))
    loss = net.forward_backward(*parts, int((batch.targets >= 0).sum()))
    return loss, {name: p.grad.clone() for name, p in net.decoders[0].named_parameters()}


@pytest.fixture
def batches(tokenizer, shards):
    return Batches(open_shards(shards), {}, tokenizer, time=32, fill_in_middle=0.0, seed=0)


def test_what_is_reported_stays_and_the_router_learns_besides(tiny, recipe, batches):
    """In the last layer nothing before the router could tell; in micro-batches the rows are still of one batch."""
    config = tiny.model_copy(update={"num_hidden_layers": 1, "num_dense_layers": 0})
    loss, without = gradients(network(config, recipe()), batches.rows(0, 4))
    net = network(config, recipe(sequence_balance=0.1))
    net.micro_batches = 2
    same, with_it = gradients(net, batches.rows(0, 4))
    torch.testing.assert_close(same, loss)
    name = "layers.0.mlp.router.gate.weight"
    scores = []
    plain = network(config, recipe()).decoders[0]
    router = plain.layers["0"].mlp.router
    router.attach = lambda s: scores.append(s) or s
    documents = torch.from_numpy(batches.rows(0, 4).documents)
    plain(torch.from_numpy(batches.rows(0, 4).inputs), packed_attention(config, documents))
    (0.1 * one_by_one(scores[0].unflatten(0, (4, 32)), 2)).backward()
    torch.testing.assert_close(with_it[name] - without[name], router.gate.weight.grad, atol=1e-7, rtol=1e-3)
    for untouched in ("layers.0.mlp.experts.down_proj", "norm.weight"):
        torch.testing.assert_close(with_it[untouched], without[untouched])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_computed_again_give_the_same_gradients(tiny, dtype):
    model = initialise(Decoder(tiny), 0).train()
    balance = SequenceBalance(1.0, tiny.num_experts_per_tok, 40, Share.of(None, 40, "cpu"), None)
    for moe in model.moe_layers():
        moe.router.attach = balance
        torch.nn.init.normal_(moe.router.gate.weight, 0, 0.2, generator=torch.Generator().manual_seed(1))
    found = []
    for recompute in ("none", "selective", "full"):
        model.zero_grad()
        call = training_call(None if dtype == torch.float32 else dtype, recompute)
        model(torch.arange(40)[None], call=call).float().square().sum().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(map(torch.equal, found[0], found[1]))
    assert all(map(torch.equal, found[0], found[2]))


def entropy_within_rows(net, batch: Batch):
    """Mean entropy of the experts' loads within a row, 1 where all work alike."""
    loads = []
    for moe in net.decoders[0].moe_layers():
        moe.observe = lambda gates, chosen: loads.append(chosen.unflatten(0, (len(batch.inputs), -1)).flatten(1))
    with torch.no_grad():
        net.decoders[0](torch.from_numpy(batch.inputs))
    for moe in net.decoders[0].moe_layers():
        moe.observe = None
        moe.load_E.zero_()
    share_RE = torch.stack([row.bincount(minlength=8) / len(row) for chosen in loads for row in chosen])
    return float(torch.special.entr(share_RE).sum(-1).mean() / torch.tensor(8.0).log())


def test_sequences_use_more_experts(tiny, recipe, batches):
    config = tiny.model_copy(update={"num_experts": 8})
    entropies = {}
    for weight in (0.0, 0.1):
        train = recipe(steps=40, sequence_balance=weight)
        net = network(config, train)
        optimizers = build_optimizers(net.weights, train.muon_lr, train.adam_lr, 0.0, torch.float32)
        for number in range(train.steps):
            step(net, optimizers, batches.rows(4 * number, 4 * number + 4), 1.0, train)
        entropies[weight] = entropy_within_rows(net, batches.rows(396, 400))
    assert entropies[0.1] > entropies[0.0] + 0.1
