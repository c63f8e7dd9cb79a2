"""The chunked loss is torch's cross-entropy in value and gradient, and products in bf16 reach float32 weights."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from troth.model.decoder import Decoder
from troth.model.initialise import initialise
from troth.model.products import float32_over_bf16
from troth.train.loss import next_token_loss
from troth.train.precision import choose_precision, training_call


def plain(h_ND, w_VD, targets_N, z_loss):
    kept = targets_N >= 0
    logits = (h_ND @ w_VD.T)[kept]
    return cross_entropy(logits, targets_N[kept]) + z_loss * logits.logsumexp(-1).square().mean()


def drawn(tokens, dtype):
    generator = torch.Generator().manual_seed(tokens)
    h = torch.randn(tokens, 12, generator=generator, dtype=dtype, requires_grad=True)
    w = torch.randn(50, 12, generator=generator, dtype=dtype, requires_grad=True)
    targets = torch.randint(50, (tokens,), generator=generator)
    targets[torch.rand(tokens, generator=generator) < 0.2] = -100
    return h, w, targets


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
@pytest.mark.parametrize("tokens", [3, 512, 1500])
def test_value_and_gradient_are_those_of_cross_entropy(tokens, z_loss):
    h, w, targets = drawn(tokens, torch.float64)
    expected = torch.autograd.grad(3 * plain(h, w, targets, z_loss), (h, w))
    loss = next_token_loss(h, w, targets, z_loss)
    torch.testing.assert_close(loss, plain(h, w, targets, z_loss), atol=1e-12, rtol=1e-12)
    for found, gradient in zip(torch.autograd.grad(3 * loss, (h, w)), expected, strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-12, rtol=1e-9)


def test_in_bfloat16_the_loss_is_float32_and_near():
    h, w, targets = drawn(300, torch.float32)
    loss = next_token_loss(h.bfloat16(), w.bfloat16(), targets, 0.0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(plain(h, w, targets, 0.0).item(), rel=0.02)


def test_nothing_to_predict_costs_nothing():
    h, w, _ = drawn(5, torch.float32)
    loss = next_token_loss(h, w, torch.full((5,), -100), 1e-2)
    loss.backward()
    assert loss.item() == 0
    assert not h.grad.any()
    assert not w.grad.any()


def test_products_in_bfloat16_reach_the_float32_weights(tiny):
    model = initialise(Decoder(tiny), 0).train()
    with torch.no_grad():
        for moe in model.moe_layers():
            moe.router.gate.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(3))
    tokens = torch.arange(40)
    inputs, targets = tokens[None, :-1], tokens[1:]
    gradients = {}
    for dtype in (torch.float32, torch.bfloat16):
        model.zero_grad()
        h = model(inputs, call=training_call(None if dtype == torch.float32 else dtype, "none"))
        assert h.dtype == dtype
        next_token_loss(h[0], model.lm_head.weight.to(dtype), targets, 0.0).backward()
        gradients[dtype] = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    for name, gradient in gradients[torch.bfloat16].items():
        assert gradient.dtype == torch.float32
        exact = gradients[torch.float32][name]
        assert (gradient - exact).norm() < 0.1 * exact.norm(), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_computed_again_give_the_same_gradients_and_count_once(tiny, dtype):
    model = initialise(Decoder(tiny), 0).train()
    inputs = torch.arange(40)[None]
    gradients, loads = [], []
    for recompute in ("none", "selective", "full"):
        seen = []
        model.zero_grad()
        for moe in model.moe_layers():
            moe.load_E.zero_()
            moe.observe = lambda gates, chosen, seen=seen: seen.append(chosen)
        call = training_call(None if dtype == torch.float32 else dtype, recompute)
        model(inputs, call=call).float().square().sum().backward()
        assert len(seen) == len(model.moe_layers())
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        loads.append([moe.load_E.clone() for moe in model.moe_layers()])
    for other in (1, 2):
        assert all(map(torch.equal, gradients[0], gradients[other]))
        assert all(map(torch.equal, loads[0], loads[other]))
    assert all(load.sum() == 40 * tiny.num_experts_per_tok for load in loads[0])


@pytest.mark.parametrize("cast_to", [torch.bfloat16, None])
def test_what_is_timed_at_first_is_no_product_of_a_layer(tiny, cast_to):
    """How fast bf16 is here is found out once in a process, before a layer's products are kept for its second pass;
    over ranks layers are given weights in bf16."""
    model = initialise(Decoder(tiny), 0).train()
    if cast_to is None:
        model.to(torch.bfloat16)
    inputs = torch.arange(128)[None] % tiny.vocab_size
    gradients = []
    for recompute in ("selective", "none"):
        float32_over_bf16.cache_clear()
        model.zero_grad()
        model(inputs, call=training_call(cast_to, recompute)).float().square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(map(torch.equal, *gradients))


def test_layers_computed_again_keep_little(tiny):
    """Without recomputation the graph holds every layer's activations, with it no more than their inputs."""
    config = tiny.model_copy(update={"num_hidden_layers": 8})
    model = initialise(Decoder(config), 0).train()
    kept = []
    for recompute in ("none", "full"):
        held: dict[int, int] = {}

        def keep(tensor, held=held):
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(torch.arange(64)[None], call=training_call(None, recompute))
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        kept.append(sum(size for place, size in held.items() if place not in weights))
    none, full = kept
    assert full < none / 5


def test_precision_is_as_set_or_one_of_both():
    assert choose_precision("bf16", "cpu") == "bf16"
    assert choose_precision("float32", "cpu") == "float32"
    assert choose_precision("auto", "cpu") in ("bf16", "float32")
