"""Muon makes updates orthogonal, and a stack of experts is updated as each matrix alone."""

import pytest
import torch

from troth.model import products
from troth.model.decoder import Decoder
from troth.train.optim import Muon, build_optimizers, orthogonalise
from troth.train.weights import Weight, weights_of


def weight(start):
    parameter = torch.nn.Parameter(start)
    return Weight("w", parameter, parameter)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 8, 40), (5, 40, 8), (2, 64, 48)])
def test_singular_values_come_near_one(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, shape[0])[:, None, None]
    before, after = torch.linalg.svdvals(g), torch.linalg.svdvals(orthogonalise(g, torch.float32))
    assert after.max() < 1.25
    assert (after[before > 0.05 * before.amax(-1, keepdim=True)] > 0.6).all()


def test_directions_stay():
    """The result is U V' of the singular value decomposition, up to the spread of the singular values."""
    g = torch.randn(12, 20, generator=torch.Generator().manual_seed(1))
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    inner = u.T @ orthogonalise(g[None], torch.float32)[0] @ vh.T
    assert (inner - torch.diag(inner.diag())).abs().max() < 1e-4
    assert (inner.diag() > 0.6).all()


@pytest.mark.parametrize("onednn", [True, False])
def test_where_float32_is_faster_than_bf16_the_result_alone_is_rounded(monkeypatch, onednn):
    """That is decided by what one matrix is, for how many are moved together depends on the ranks."""
    monkeypatch.setattr(products, "float32_over_bf16", lambda device: 2.0)
    monkeypatch.setattr(products, "onednn_has_bf16", lambda: onednn)

    def wide(g_SOI):
        return torch.equal(orthogonalise(g_SOI, torch.bfloat16), orthogonalise(g_SOI, torch.float32).bfloat16())

    g = torch.randn(3, 70, 90, generator=torch.Generator().manual_seed(0))
    assert wide(g)
    assert wide(g[:1])
    few = g[:, :40]  # oneDNN's products of fewer than 64 rows are left to it
    assert [wide(few), wide(few[:1])] == [not onednn] * 2


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_stack_is_updated_as_each_matrix_alone(weight_decay):
    random = torch.Generator().manual_seed(2)
    start, gradients = torch.randn(5, 12, 8, generator=random), torch.randn(4, 5, 12, 8, generator=random)
    stack = weight(start.clone())
    alone = [weight(matrix.clone()) for matrix in start]
    optimizers = [Muon([stack], lr=0.1, weight_decay=weight_decay)]
    optimizers += [Muon([matrix], lr=0.1, weight_decay=weight_decay) for matrix in alone]
    for gradient in gradients:
        stack.local.grad = gradient.clone()
        for matrix, part in zip(alone, gradient, strict=True):
            matrix.local.grad = part.clone()
        for optimizer in optimizers:
            optimizer.step()
    expected = torch.stack([matrix.local.data for matrix in alone])
    torch.testing.assert_close(stack.local.data, expected, atol=1e-5, rtol=1e-5)
    assert (stack.local - start).abs().max() > 0.05


def test_a_first_step_is_the_orthogonal_gradient_at_the_size_of_adam():
    wide = weight(torch.zeros(10, 40))
    wide.local.grad = torch.randn(10, 40, generator=torch.Generator().manual_seed(3))
    Muon([wide], lr=0.5).step()
    expected = -0.5 * 0.2 * 40**0.5 * orthogonalise(wide.local.grad[None], torch.float32)[0]
    torch.testing.assert_close(wide.local.data, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounds_of_any_size_give_the_same(dtype):
    """Rounds end inside stacks and hold matrices of several weights; with few bytes each is one matrix."""
    shapes = (3, 2, 12, 20), (12, 20), (5, 12, 20), (20, 12), (2, 8, 8)
    found = []
    for size in (2**26, 4 * 12 * 20 * 4, 1):
        weights = [weight(torch.zeros(shape)) for shape in shapes]
        muon = Muon(weights, lr=0.1, weight_decay=0.1, dtype=dtype, round_bytes=size)
        for step in range(3):
            for i, w in enumerate(weights):
                w.local.grad = torch.randn(w.local.shape, generator=torch.Generator().manual_seed(9 * i + step))
            muon.step()
        found.append([w.local.detach() for w in weights])
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_parameter_without_gradient_stays():
    still = weight(torch.ones(3, 3))
    Muon([still], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(still.local.data, torch.ones(3, 3))


def test_matrices_of_layers_go_to_muon_and_the_rest_to_adam(tiny):
    model = Decoder(tiny)
    muon, adam = build_optimizers(weights_of([model]), 0.02, 0.003, 0.0, torch.float32)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    to_muon, to_adam = ({names[id(p)] for group in o.param_groups for p in group["params"]} for o in (muon, adam))
    assert to_muon | to_adam == set(names.values())
    assert not to_muon & to_adam
    assert "layers.1.mlp.experts.gate_up_proj" in to_muon
    assert "layers.0.self_attn.q_proj.weight" in to_muon
    assert {"embed_tokens.weight", "layers.1.mlp.router.gate.weight", "norm.weight"} <= to_adam


def test_adamw_may_have_the_matrices_too(tiny):
    weights = weights_of([Decoder(tiny)])
    (adam,) = build_optimizers(weights, 0.02, 0.003, 0.0, torch.float32, "adamw")
    assert isinstance(adam, torch.optim.AdamW)
    assert len(adam.param_groups[0]["params"]) == len(weights)
