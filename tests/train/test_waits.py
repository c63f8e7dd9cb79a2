"""Off the CPU nothing on the way to a gradient looks at a tensor's numbers: a GPU would be waited for.

Tensors of the meta device have none, and whatever asks for one fails there.
"""

import pytest
import torch

from troth.model.config import Latent
from troth.model.decoder import Decoder
from troth.system import load_system
from troth.train.log_probs import token_log_probs
from troth.train.loss import _ChunkedLoss, next_token_loss
from troth.train.precision import training_call

OTHERS = {
    "sinks and biases": {"attention_sinks": True, "biases": True, "swiglu_limit": 7.0},
    "groups and latents": {
        "num_expert_groups": 2, "topk_groups": 1, "qk_norm": "none", "attention_gate": False, "head_dim": 24,
        "latent": Latent(q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ["nano", "mini", "grok-1", "grok-2", "flagship", *OTHERS])
def test_no_step_of_training_waits_for_the_device(name):
    config = load_system("nano" if name in OTHERS else name).model
    config = config.model_copy(update=OTHERS.get(name, {}) | {"num_hidden_layers": min(8, config.num_hidden_layers)})
    with torch.device("meta"):
        decoder = Decoder(config)
        tokens = torch.empty(2, 129, dtype=torch.int64)
    h_BTD = decoder(tokens[:, :-1], call=training_call(torch.bfloat16, "selective"))
    head = decoder.lm_head.weight.to(h_BTD.dtype)
    loss = next_token_loss(h_BTD.flatten(0, 1), head, tokens[:, 1:].flatten(), 1e-4)
    loss = loss + token_log_probs(h_BTD.flatten(0, 1), head, tokens[:, 1:].flatten()).mean()
    loss.backward()
    assert all(weight.grad is not None for weight in decoder.parameters())
    for moe in decoder.moe_layers():
        moe.balance(1e-3)


def test_tokens_that_are_passed_over_by_their_weight_teach_nothing():
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(300, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    w = torch.randn(50, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(-20, 50, (300,), generator=generator)
    kept = targets >= 0
    loss = next_token_loss(h, w, targets, 1e-2)
    by_weight = _ChunkedLoss.apply(h, w, targets.clamp(min=0), 1e-2, 1.0, None, kept.sum().double(), kept)
    torch.testing.assert_close(by_weight, loss, atol=1e-12, rtol=1e-12)
    found, expected = (torch.autograd.grad(value, (h, w)) for value in (by_weight, loss))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)
