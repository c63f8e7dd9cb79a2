"""A saved folder loads in transformers and says there what it says here."""

import pytest
import torch

from troth.model.families.afmoe import load_weights, save_weights, to_hf_config

LENGTHS = 1, 5, 8, 9, 31
"""Shorter than the sliding window of 8, as long, and several times as long."""


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": 4, "num_dense_layers": 0},
        {"num_key_value_heads": 1, "num_dense_layers": 2, "num_shared_experts": 2},
        {"num_experts_per_tok": 1, "route_scale": 2.5, "rope_theta": 500.0},
        {"num_experts": 3, "num_experts_per_tok": 3, "global_attn_every_n_layers": 2, "mup_enabled": False},
        {"num_hidden_layers": 1, "num_dense_layers": 1, "rms_norm_eps": 1e-3},
    ],
)
def test_logits_are_those_of_transformers(shape, random_network, tmp_path, changes):
    from transformers import AfmoeForCausalLM

    config = shape(**changes)
    model = random_network(config)
    save_weights(model, to_hf_config(config, "float32", eos_token_id=0), tmp_path)
    theirs = AfmoeForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ours = load_weights(tmp_path)
    random = torch.Generator().manual_seed(0)
    rows = [torch.randint(config.vocab_size, (size,), generator=random) for size in LENGTHS]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    with torch.no_grad():
        together = theirs(padded, attention_mask=mask).logits
        for row, expected in zip(rows, together, strict=True):
            logits = ours.logits(ours(row[None]))[0]
            assert logits.std() > 0.1
            torch.testing.assert_close(logits, theirs(row[None]).logits[0], atol=1e-4, rtol=0)
            torch.testing.assert_close(logits, expected[: len(row)], atol=1e-4, rtol=0)


def test_the_bias_steers_the_choice_in_both(shape, random_network, tmp_path):
    from transformers import AfmoeForCausalLM

    config = shape()
    model = random_network(config)
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        before = model.logits(model(tokens))
        for moe in model.moe_layers():
            moe.expert_bias.copy_(torch.tensor([9.0, 9.0, 0, 0, 0, 0]))
        after = model.logits(model(tokens))
        save_weights(model, to_hf_config(config, "float32", eos_token_id=0), tmp_path)
        theirs = AfmoeForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()(tokens).logits
    assert (after - before).abs().max() > 0.01
    torch.testing.assert_close(after, theirs, atol=1e-4, rtol=0)
