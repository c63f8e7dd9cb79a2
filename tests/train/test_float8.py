"""Products in 8 bits are those of the rounded numbers, and a network learns by them as it does in bf16."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from troth.model.decoder import Decoder
from troth.system import TrainTable
from troth.train.float8 import Float8Linear, float8_linear, has_float8, to_float8
from troth.train.precision import choose_precision, training_call

pytestmark = pytest.mark.skipif(not has_float8("cpu"), reason="this torch has no 8-bit products on the CPU")


def rounded(x, dtype):
    """Numbers as they are after scaling to 8 bits and back, in float32."""
    scale = torch.finfo(dtype).max / x.abs().max().float().clamp(min=1e-12)
    return (x.float() * scale).clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype).float() / scale


def numbers(seed, *shape, size=1.0, dtype=torch.float32):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size).to(dtype)


@given(st.integers(1, 40), st.sampled_from((16, 48)), st.sampled_from((32, 80)), st.floats(-6, 6), st.booleans())
def test_the_three_products_are_those_of_the_rounded_numbers(rows, inner, outer, power, narrow):
    dtype = torch.bfloat16 if narrow else torch.float32
    x, w = numbers(rows, rows, inner, size=10**power, dtype=dtype), numbers(1, outer, inner, size=0.02, dtype=dtype)
    grad = numbers(2, rows, outer, size=1e-5, dtype=dtype)
    out = float8_linear(x.requires_grad_(), w.requires_grad_())
    out.backward(grad)
    x8, w8 = (rounded(t.detach(), torch.float8_e4m3fn) for t in (x, w))
    grad8 = rounded(grad, torch.float8_e5m2)
    for found, expected in ((out, x8 @ w8.T), (x.grad, grad8 @ w8), (w.grad, grad8.T @ x8)):
        assert found.dtype == dtype
        close = 1e-2 if narrow else 1e-5
        torch.testing.assert_close(found.float(), expected, rtol=close, atol=close * float(expected.abs().max()))


def test_what_is_lost_is_a_few_percent():
    x, w = numbers(0, 64, 256), numbers(1, 128, 256)
    exact = x @ w.T
    assert ((float8_linear(x, w) - exact).norm() / exact.norm()).item() == pytest.approx(0.037, abs=0.01)


def test_zeros_and_what_is_no_number():
    ones = torch.ones(16, 16)
    assert torch.equal(float8_linear(torch.zeros(3, 5, 16), ones, torch.ones(16)), torch.ones(3, 5, 16))
    assert float8_linear(torch.full((1, 16), torch.inf), ones).isnan().all()  # and so the step is left out


def test_routers_head_and_routed_experts_stay_as_they_are(tiny):
    model = Decoder(tiny)
    names = set(model.state_dict())
    to_float8(model)
    assert set(model.state_dict()) == names
    changed = {name for name, part in model.named_modules() if isinstance(part, Float8Linear)}
    attention = {f"layers.{i}.self_attn.{kind}_proj" for i in range(2) for kind in ("q", "k", "v", "o", "gate")}
    forward = {f"{block}.{kind}_proj" for block in ("layers.0.mlp", "layers.1.mlp.shared_experts")
               for kind in ("gate", "up", "down")}  # fmt: skip
    assert changed == attention | forward


def test_sizes_that_do_not_fit_are_said(tiny):
    odd = tiny.model_copy(update={"hidden_size": 24})
    with pytest.raises(ValueError, match="no projection's sizes are multiples of 16; use bf16"):
        to_float8(Decoder(odd))


def test_a_device_without_is_refused(monkeypatch):
    def scaled_mm(*args, **kwargs):
        raise RuntimeError("torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0 or 8.9")

    monkeypatch.setattr(torch, "_scaled_mm", scaled_mm)
    with pytest.raises(ValueError, match=r"train\.precision='float8': this CPU has no 8-bit products; bf16 would do"):
        choose_precision("float8", "cpu")


def test_adapters_go_without():
    with pytest.raises(ValueError, match="goes without lora"):
        TrainTable(steps=1, batch_tokens=32, sequence_length=32, precision="float8", lora={"rank": 2})


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_computed_again_it_is_the_same(tiny, recompute):
    gradients = []
    for how in ("none", recompute):
        model = Decoder(tiny).train()
        for i, parameter in enumerate(model.parameters()):
            parameter.data = numbers(i, *parameter.shape, size=0.1)
        to_float8(model)
        model(torch.arange(40)[None], call=training_call(torch.bfloat16, how)).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@pytest.mark.slow
def test_a_network_learns_as_in_bf16(run_training, recipe, tmp_path):
    losses = {}
    for precision in ("bf16", "float8", "float32"):
        run_training(tmp_path / precision, recipe(steps=80, precision=precision, mtp_weight=0.1))
        lines = (tmp_path / precision / "metrics.jsonl").read_text().splitlines()
        losses[precision] = torch.tensor([json.loads(line)["loss"] for line in lines])
    assert json.loads((tmp_path / "float8" / "run.json").read_text())["precision"] == "float8"
    exact, coarse = losses["float32"], losses["float8"]
    assert coarse[-5:].mean() < 0.7 * coarse[0]
    assert (coarse - exact).abs().mean() < 0.05
    assert not torch.equal(coarse, losses["bf16"])
