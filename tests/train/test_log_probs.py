"""Log-probabilities in chunks are those of log_softmax in value and gradient, and hold no scores meanwhile."""

import pytest
import torch

from troth.train import log_probs
from troth.train.log_probs import token_log_probs


def drawn(tokens, dtype=torch.float64, vocabulary=50):
    generator = torch.Generator().manual_seed(tokens)
    h = torch.randn(tokens, 12, generator=generator, dtype=dtype, requires_grad=True)
    w = torch.randn(vocabulary, 12, generator=generator, dtype=dtype, requires_grad=True)
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    targets[torch.rand(tokens, generator=generator) < 0.2] = -100
    return h, w, targets


def plain(h, w, targets, scale, softcap):
    scores = scale * (h @ w.T)
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    found = scores.log_softmax(-1).gather(1, targets.clamp(min=0)[:, None])[:, 0]
    return torch.where(targets >= 0, found, 0)


@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.5, None), (2.0, 3.0)])
@pytest.mark.parametrize("tokens", [1, 300])
def test_value_and_gradient_are_those_of_log_softmax(monkeypatch, tokens, scale, softcap):
    monkeypatch.setattr(log_probs, "_CHUNK_BYTES", 1)  # chunks of 128 tokens
    h, w, targets = drawn(tokens)
    weights = torch.randn(tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, expected = token_log_probs(h, w, targets, scale, softcap), plain(h, w, targets, scale, softcap)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    gradients = [torch.autograd.grad((weights * value).sum(), (h, w)) for value in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_gradients_by_finite_differences(softcap):
    h, w, targets = drawn(6, vocabulary=7)
    assert torch.autograd.gradcheck(lambda h, w: token_log_probs(h, w, targets, 0.7, softcap), (h, w))


def test_from_bfloat16_sums_are_float32():
    h, w, targets = drawn(200, torch.float32)
    found = token_log_probs(h.bfloat16(), w.bfloat16(), targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(h, w, targets, 1.0, None), atol=0.1, rtol=0.02)


def test_without_targets_nothing_is_learned():
    h, w, _ = drawn(5)
    found = token_log_probs(h, w, torch.full((5,), -100))
    found.sum().backward()
    assert not found.any()
    assert not h.grad.any()
    assert not w.grad.any()


def test_what_is_kept_for_the_gradient_does_not_grow_with_the_vocabulary():
    kept = []
    for vocabulary in (50, 5000):
        h, w, targets = drawn(256, vocabulary=vocabulary)
        held = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, held=held: held.append(t) or t, lambda t: t):
            token_log_probs(h, w, targets.clamp(min=0)).sum()
        kept.append(sum(tensor.numel() for tensor in held if tensor.shape != w.shape))
    assert kept[0] == kept[1]


def test_a_frozen_head_gets_no_gradient():
    h, w, targets = drawn(10)
    token_log_probs(h, w.requires_grad_(False), targets).sum().backward()
    assert h.grad.abs().sum() > 0
    assert w.grad is None
