"""Norms whose gradients are written by hand, for a CPU."""

import pytest
import torch

from troth.model.norm import RMSNorm


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_results_and_gradients_are_those_of_torch(dtype, within):
    # Rows of heads as attention has them: not one after the other in memory.
    x, grad, weight = (random(*shape, seed=seed) for seed, shape in enumerate([(2, 5, 3, 32), (2, 3, 5, 32), (32,)]))
    found = []
    for kind in (dtype, torch.float64):
        norm = RMSNorm(32, 1e-6).to(kind)
        norm.weight.data.copy_(weight)
        heads = x.to(kind).requires_grad_()
        rows = heads.transpose(1, 2)
        # torch's own, in float64, from the same rounded numbers.
        own = torch.nn.functional.rms_norm(rows, (32,), norm.weight, 1e-6) if kind != dtype else norm(rows)
        own.backward(grad.to(dtype).to(kind))
        found.append((own.detach(), heads.grad, norm.weight.grad))
    for ours, right in zip(*found, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), right, rtol=within, atol=within * right.abs().max().item())


def test_gradients_are_the_slopes():
    norm = RMSNorm(8, 1e-6).double()
    norm.weight.data.copy_(random(8, seed=1))
    assert torch.autograd.gradcheck(norm, (random(3, 8).requires_grad_(),))


def test_narrow_rows_under_wide_weights_stay_narrow():
    x = random(4, 16).bfloat16().requires_grad_()
    norm = RMSNorm(16, 1e-6)
    norm(x).sum().backward()
    assert norm(x).dtype == x.grad.dtype == torch.bfloat16
    assert norm.weight.grad.dtype == torch.float32


def test_neither_rows_nor_weights_are_written_over():
    x, norm = random(4, 16).float().requires_grad_(), RMSNorm(16, 1e-6)
    before = x.detach().clone()
    out = norm(x)
    grad = torch.ones_like(out)
    out.backward(grad)
    assert torch.equal(x, before)
    assert torch.equal(norm.weight, torch.ones(16))
    assert torch.equal(grad, torch.ones_like(grad))
