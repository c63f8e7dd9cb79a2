"""Attention block by block is attention as its formula reads, in its gradients too, whatever is done to scores."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from troth.model import blocks as module
from troth.model.attention import attention
from troth.model.scores import Scores, Seen

from .conftest import KINDS


def formula(q, k, v, mask, scores):
    """Head by head, with the whole square of scores."""
    group = q.shape[1] // k.shape[1]
    x = scores.scale * q @ k.repeat_interleave(group, 1).mT
    if scores.softcap:
        x = scores.softcap * torch.tanh(x / scores.softcap)
    if scores.temperature is not None:
        x = x * scores.temperature
    x = x.masked_fill(~mask, -math.inf).exp()
    total = x.sum(-1, keepdim=True)
    if scores.sinks is not None:
        total = total + scores.sinks.exp()
    return x / total @ v.repeat_interleave(group, 1)


def drawn(seed, batch, kv_heads, group, queries, keys, kind, dtype=torch.float64):
    """Queries that see a window of keys each, those before their own place, in documents of random lengths."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)

    heads = kv_heads * group
    q, k, v = normal(batch, heads, queries, 6), normal(batch, kv_heads, keys, 6), normal(batch, kv_heads, keys, 4)
    here, there = torch.arange(queries)[:, None] + keys - queries, torch.arange(keys)
    window = torch.randint(1, keys + 1, (batch, 1, 1, 1), generator=random)
    cuts = torch.randint(keys, (batch, 1, 1, 1), generator=random)
    mask = (there <= here) & (here - there < window) & ((there >= cuts) | (here < cuts))
    options = KINDS[kind]
    return q, k, v, mask, Scores(
        scale=0.4, softcap=options.get("softcap"),
        temperature=normal(batch, 1, queries, 1).exp() if "temperature" in options else None,
        sinks=normal(1, heads, 1, 1) if "sinks" in options else None,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.data())
def test_blocks_are_the_formula_and_so_are_their_gradients(kind, seed, batch, kv_heads, group, queries, data):
    keys = data.draw(st.integers(queries, 30))
    rows = data.draw(st.sampled_from([1, 4, 7, 128]))
    q, k, v, mask, scores = drawn(seed, batch, kv_heads, group, queries, keys, kind)
    inputs = [tensor.requires_grad_() for tensor in (q, k, v, scores.sinks) if tensor is not None]
    expected = formula(q, k, v, mask, scores)
    weights = torch.randn(expected.shape, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS", rows)
        found = module.block_attention(q, k, v, Seen(mask), scores)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
        gradients = torch.autograd.grad((found * weights).sum(), inputs)
    for ours, theirs in zip(gradients, torch.autograd.grad((expected * weights).sum(), inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_it_is_as_exact_as_bfloat16(kind):
    q, k, v, mask, scores = drawn(0, 2, 2, 2, 300, 300, kind, torch.bfloat16)
    exact = formula(q.double(), k.double(), v.double(), mask, Scores(
        scores.scale, scores.softcap, *(None if x is None else x.double() for x in (scores.temperature, scores.sinks))
    ))  # fmt: skip
    found = attention(q, k, v, Seen(mask), scores)
    assert found.dtype == torch.bfloat16
    assert (found.double() - exact).norm() < 0.01 * exact.norm()
