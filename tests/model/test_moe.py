"""Experts: the grouped product is the plain loop, gates follow the scores, and the bias moves towards even load."""

import pytest
import torch

from troth.model.decoder import Decoder
from troth.model.experts import Experts
from troth.model.initialise import initialise
from troth.model.moe import MoE


@pytest.fixture
def moe(shape):
    torch.manual_seed(0)
    layer = MoE(shape())
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.3)
    return layer


def one_by_one(moe, x_BTD):
    """The layer as its formula reads: token by token, expert by expert."""
    out = []
    for x in x_BTD.flatten(0, 1):
        scores = torch.sigmoid(moe.router.gate.weight @ x)
        chosen = (scores + moe.expert_bias).topk(moe.router.config.num_experts_per_tok).indices
        y = moe.shared_experts(x)
        for e in chosen:
            gate, up = moe.experts.gate_up_proj[e] @ x
            expert = moe.experts.down_proj[e] @ (torch.nn.functional.silu(gate) * up)
            y = y + moe.router.config.route_scale * scores[e] / scores[chosen].sum() * expert
        out.append(y)
    return torch.stack(out).view_as(x_BTD)


def test_the_layer_is_its_formula(moe):
    moe.double().expert_bias.copy_(torch.tensor([0.2, -0.1, 0.0, 0.3, -0.4, 0.0]))
    x = torch.randn(2, 9, 32, dtype=torch.float64)
    torch.testing.assert_close(moe(x), one_by_one(moe, x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("tokens", [1, 7, 200])
def test_float64_loop_is_the_grouped_product(shape, tokens):
    torch.manual_seed(tokens)
    config = shape(num_experts=5)
    experts, wide = Experts(config), Experts(config).double()
    with torch.no_grad():
        for parameter, other in zip(experts.parameters(), wide.parameters(), strict=True):
            other.copy_(parameter.normal_(0, 0.3))
    x = torch.randn(tokens, config.hidden_size)
    chosen = torch.randint(0, 4, (tokens, 2))  # the last expert gets nothing
    gates = torch.rand(tokens, 2)
    narrow_out, wide_out = experts(x, gates, chosen), wide(x.double(), gates.double(), chosen)
    torch.testing.assert_close(narrow_out.double(), wide_out, atol=1e-5, rtol=1e-5)
    narrow_out.square().sum().backward()
    wide_out.square().sum().backward()
    for parameter, other in zip(experts.parameters(), wide.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad.double(), other.grad, atol=1e-3, rtol=1e-4)
        assert not parameter.grad[4].any()


def test_one_step_of_balance(moe):
    moe.load_E.copy_(torch.tensor([6.0, 3.0, 2.0, 1.0, 0.0, 0.0]))
    share = moe.balance(0.1)
    torch.testing.assert_close(share, torch.tensor([6.0, 3.0, 2.0, 1.0, 0.0, 0.0]) / 12)
    assert moe.expert_bias.mean().abs() < 1e-7
    busy, even, idle = moe.expert_bias[:2], moe.expert_bias[2], moe.expert_bias[3:]
    torch.testing.assert_close(busy - even, torch.full((2,), -0.1))
    torch.testing.assert_close(idle - even, torch.full((3,), 0.1))
    assert not moe.load_E.any()


def test_balance_makes_a_skewed_load_even(moe):
    moe.train()
    x = torch.randn(1, 256, 32) + moe.router.gate.weight[0]
    shares = []
    with torch.no_grad():
        for _ in range(150):
            moe(x)
            assert moe.load_E.sum() == 2 * 256
            shares.append(moe.balance(0.01))
    assert shares[0].max() > 0.35
    assert shares[-1].max() < 0.2
    assert shares[-1].min() > 0.13


def test_load_is_counted_in_training_only_and_seen_by_the_observer(moe):
    seen = []
    moe.observe = lambda gates, chosen: seen.append((gates, chosen))
    with torch.no_grad():
        moe.eval()(torch.randn(1, 5, 32))
        assert not moe.load_E.any()
        moe.train()(torch.randn(1, 5, 32))
    assert [chosen.shape for _, chosen in seen] == [(5, 2)] * 2
    assert torch.equal(moe.load_E, torch.bincount(seen[1][1].flatten(), minlength=6).float())
    torch.testing.assert_close(seen[1][0].sum(-1), torch.ones(5))


def test_a_fresh_network_follows_from_its_seed_and_treats_experts_alike(shape):
    def build(seed):
        return initialise(Decoder(shape()), seed)

    model, same, other = build(1), build(1), build(2)
    for (name, tensor), (_, twin) in zip(model.state_dict().items(), same.state_dict().items(), strict=True):
        assert torch.equal(tensor, twin), name
        assert tensor.isfinite().all(), name
    assert not torch.equal(model.embed_tokens.weight, other.embed_tokens.weight)
    assert all(not moe.router.gate.weight.any() for moe in model.moe_layers())
    drawn = model.layers["1"].mlp.experts.down_proj
    assert drawn.std().item() == pytest.approx(model.config.initializer_range, rel=0.05)
