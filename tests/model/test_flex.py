"""A GPU's attention is attention block by block: its formulas on any machine, its kernel compiled for this CPU without
gradients, and on a GPU with them."""

import pytest
import torch

from troth.model import flex as module
from troth.model.blocks import block_attention
from troth.model.flex import flex, flex_can
from troth.model.scores import Scores, SeenBetween

from .conftest import KINDS

TIME, WINDOWS = 700, [5, 140, 1000]


def drawn(window, kind, dtype, device="cpu"):
    """Two rows of documents: queries, keys, values, who sees whom, and what becomes of scores."""
    random = torch.Generator().manual_seed(window)

    def normal(*shape):
        return torch.randn(shape, generator=random).to(device, dtype)

    documents = (torch.rand(2, TIME, generator=random) < 0.005).cumsum(1).to(device)
    times = torch.arange(TIME, device=device)
    seen = SeenBetween(torch.searchsorted(documents, documents).maximum(times - window + 1), times, TIME)
    options = KINDS[kind]
    return normal(2, 4, TIME, 32), normal(2, 2, TIME, 32), normal(2, 2, TIME, 16), seen, Scores(
        scale=0.3, softcap=options.get("softcap"),
        temperature=normal(2, 1, TIME, 1).exp() if "temperature" in options else None,
        sinks=normal(1, 4, 1, 1) if "sinks" in options else None,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_its_formulas_are_those_of_blocks(kind, window):
    inputs = drawn(window, kind, torch.float64)
    torch.testing.assert_close(flex(*inputs), block_attention(*inputs), atol=1e-12, rtol=0)


@pytest.mark.slow
def test_its_kernel_reads_the_right_blocks(monkeypatch):
    """torch compiles the same lists of blocks for a CPU, though without gradients and sums for sinks."""
    compiled = torch.compile(module._flex, fullgraph=True)
    monkeypatch.setattr(module, "_kernel", lambda device: compiled)
    for kind in ("plain", "softcap", "temperature"):
        for window in WINDOWS:
            inputs = drawn(window, kind, torch.float32)
            torch.testing.assert_close(flex(*inputs), block_attention(*inputs), atol=1e-4, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_gradients_are_those_of_blocks_too(kind, window):
    q, k, v, seen, scores = drawn(window, kind, torch.bfloat16, "cuda")
    assert flex_can(q, v, seen)
    inputs = [tensor.requires_grad_() for tensor in (q, k, v, scores.sinks) if tensor is not None]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    wide = Scores(
        scores.scale, scores.softcap, None if scores.temperature is None else scores.temperature.double(),
        None if scores.sinks is None else exact[3],
    )  # fmt: skip
    found, expected = flex(q, k, v, seen, scores), block_attention(*exact[:3], seen, wide)
    weights = torch.randn_like(found)
    gradients = torch.autograd.grad((found * weights).sum(), inputs)
    others = torch.autograd.grad((expected * weights).sum(), exact)
    for ours, theirs in zip((found, *gradients), (expected, *others), strict=True):
        assert (ours.double() - theirs).norm() < 0.02 * theirs.norm()
