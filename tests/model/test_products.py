"""Products in bf16, widened where the processor multiplies float32 faster."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from troth.model import products
from troth.train.loss import next_token_loss
from troth.train.precision import training_call

COUNTS = torch.tensor([70, 0, 1, 129])


@pytest.fixture(params=[0.5, 2.0], ids=["bf16 is faster", "float32 is faster"])
def machine(request, monkeypatch):
    monkeypatch.setattr(products, "float32_over_bf16", lambda device: request.param)
    return request.param


def random(*shape, seed=0, requires_grad=True):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x / shape[-1] ** 0.5).bfloat16().requires_grad_(requires_grad)


def gradients(result, *of):
    weight = random(*result.shape, seed=9, requires_grad=False).to(result.dtype)
    return torch.autograd.grad(result, of, weight)


def close(ours, exact):
    """Within a rounding of bf16 and what its sums may lose."""
    torch.testing.assert_close(ours.double(), exact.double(), rtol=2**-7, atol=2**-7 * exact.abs().max().item())


def test_linear_and_its_gradients(machine):
    x, w, bias = random(3, 40, 64), random(48, 64, seed=1), random(48, seed=2)
    wide = [part.detach().double().requires_grad_() for part in (x, w, bias)]
    ours, exact = products.linear(x, w, bias), torch.nn.functional.linear(*wide)
    assert ours.dtype == torch.bfloat16
    close(ours, exact)
    for found, right in zip(gradients(ours, x, w, bias), gradients(exact, *wide), strict=True):
        assert found.dtype == torch.bfloat16
        close(found, right)


def test_grouped_and_its_gradients(machine):
    x, w = random(200, 64), random(4, 48, 64, seed=1)
    x_wide, w_wide = (part.detach().double().requires_grad_() for part in (x, w))
    ours, exact = products.grouped(x, w, COUNTS), products.grouped(x_wide, w_wide, COUNTS)
    close(ours, exact)
    to_x, to_w = gradients(ours, x, w)
    right_x, right_w = gradients(exact, x_wide, w_wide)
    close(to_x, right_x)
    close(to_w, right_w)
    assert not to_w[1].any(), "an expert without rows learns nothing"


@pytest.mark.parametrize(("out", "within"), [(10, 64), (48, 6), (3, 5)])
def test_sizes_need_not_be_multiples_of_16_bytes(out, within):
    x, w = random(200, within).float(), random(4, out, within, seed=1).float()
    x_wide, w_wide = (part.detach().double().requires_grad_() for part in (x, w))
    ours, exact = products.grouped(x, w, COUNTS), products.grouped(x_wide, w_wide, COUNTS)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5)
    for found, right in zip(gradients(ours, x, w), gradients(exact, x_wide, w_wide), strict=True):
        torch.testing.assert_close(found.double(), right, rtol=1e-5, atol=1e-5)


def test_only_what_is_asked_for_is_computed(monkeypatch):
    monkeypatch.setattr(products, "float32_over_bf16", lambda device: 2.0)
    x, frozen = random(100, 64), random(48, 64, seed=1, requires_grad=False)
    products.linear(x, frozen).sum().backward()
    assert x.grad is not None
    assert frozen.grad is None


@pytest.mark.parametrize(("onednn", "few"), [(True, 64), (False, 4)])
def test_few_rows_and_wide_numbers_are_left_to_torch(monkeypatch, onednn, few):
    monkeypatch.setattr(products, "float32_over_bf16", lambda device: 2.0)
    monkeypatch.setattr(products, "onednn_has_bf16", lambda: onednn)
    assert products.widens(torch.ones(few, 32, dtype=torch.bfloat16))
    assert not products.widens(torch.ones(few - 1, 32, dtype=torch.bfloat16))
    assert not products.widens(torch.ones(64, 32))
    assert not products.widens(torch.ones(64, 32, dtype=torch.bfloat16, device="meta"))


def test_a_network_in_bf16_learns_the_same_either_way(monkeypatch, shape, random_network):
    model = random_network(shape(moe_intermediate_size=32)).bfloat16()
    tokens = torch.randint(400, (4, 65), generator=torch.Generator().manual_seed(1))
    found = []
    for speed in (0.5, 2.0):
        monkeypatch.setattr(products, "float32_over_bf16", lambda device, speed=speed: speed)
        model.zero_grad()
        loss = next_token_loss(model(tokens[:, :-1]).flatten(0, 1), model.lm_head.weight, tokens[:, 1:].flatten(), 0)
        loss.backward()
        found.append((loss.item(), torch.cat([p.grad.flatten().float() for p in model.parameters()])))
    (loss, grad), (loss_wide, grad_wide) = found
    assert loss == pytest.approx(loss_wide, rel=5e-3)
    assert torch.cosine_similarity(grad, grad_wide, dim=0) > 0.98


def test_products_of_experts_have_few_heights():
    heights = {height for count in range(1, 4097) for *_, height in products._windows([count])}
    assert len(heights) == 80
    for count in range(1, 4097):
        [(_, start, own, height)] = products._windows([count])
        assert start == 0
        assert own == count <= height < max(count + products._LEAST_ROWS, count * 1.07)


@settings(max_examples=50, deadline=None)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any), seed=st.integers(0, 99))
def test_each_expert_takes_its_own_rows_alone(counts, seed):
    """Products overhang, into the next expert's rows and past the end."""
    x, w = random(sum(counts), 8, seed=seed), random(len(counts), 24, 8, seed=seed + 1)
    ours = products._FewShapes.apply(x, w, counts)
    found = [ours, *gradients(ours, x, w)]
    rows, weights = x.detach().double().requires_grad_(), w.detach().double().requires_grad_()
    exact = products.grouped(rows, weights, torch.tensor(counts))
    for part, right in zip(found, [exact, *gradients(exact, rows, weights)], strict=True):
        close(part, right)


@pytest.mark.parametrize(("out", "within"), [(24, 8), (8, 24)])
def test_the_rows_beside_an_experts_own_do_not_reach_its_gradient(out, within):
    """Whichever of the two factors is the smaller one, and filled up."""
    counts = [3, 20]
    x, w = random(23, within), random(2, out, within, seed=1)
    whole = gradients(products._FewShapes.apply(x, w, counts), w)[0][0]
    alone = torch.autograd.grad(
        products._FewShapes.apply(x[:3], w[:1], [3]), w, random(23, out, seed=9, requires_grad=False)[:3]
    )[0][0]
    close(whole, alone)


def test_selective_recomputation_does_no_product_of_experts_twice(monkeypatch, shape, random_network):
    monkeypatch.setattr(products, "float32_over_bf16", lambda device: 0.5)
    model = random_network(shape(moe_intermediate_size=32)).bfloat16().train()
    tokens = torch.randint(400, (4, 64), generator=torch.Generator().manual_seed(1))
    windows, counted = products._windows, []
    monkeypatch.setattr(products, "_windows", lambda counts: counted.append(counts) or windows(counts))
    done = []
    for recompute in ("none", "selective", "full"):
        counted.clear()
        model(tokens, call=training_call(None, recompute)).sum().backward()
        done.append(len(counted))
    products_of_layers = 2 * sum(1 for _ in model.moe_layers())
    assert done == [3 * products_of_layers, 3 * products_of_layers, 4 * products_of_layers]
