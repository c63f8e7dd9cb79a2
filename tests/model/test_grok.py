"""Grok-1 and Grok-2, which transformers does not implement, against a reference in NumPy and float64, written from the
published facts alone: it reads the folder's own names, one token and one expert at a time."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from troth.model.attention import packed_attention
from troth.model.counts import count_parameters
from troth.model.decoder import Decoder
from troth.model.families.configs import from_hf_config, read_config
from troth.model.families.weights import load_weights, save_weights
from troth.train.loss import next_token_loss

GROK_1 = {
    "architectures": ["Grok1ModelForCausalLM"], "vocab_size": 120, "hidden_size": 24, "intermediate_size": 20,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8,
    "attn_output_multiplier": 8**-0.5, "embedding_multiplier_scale": 24**0.5,
    "output_multiplier_scale": 0.5773502691896257, "max_attn_value": 3.0, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "num_experts_per_tok": 2, "num_experts": 5,
    "torch_dtype": "float32",
}  # fmt: skip
GROK_2 = {
    "architectures": ["Grok1ForCausalLM"], "model_type": "git", "vocab_size": 120, "hidden_size": 24,
    "intermediate_size": 40, "moe_intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 8, "embedding_multiplier_scale": 24**0.5, "output_multiplier_scale": 0.5,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "num_experts_per_tok": 2, "num_local_experts": 5,
    "residual_moe": True, "final_logit_softcapping": 5, "attn_logit_softcapping": 3.0,
    "router_logit_softcapping": 1.5, "rope_theta": 5000, "attn_temperature_len": 8, "sliding_window_size": -1,
    "global_attn_every_n": 1, "torch_dtype": "float32", "rope_type": "original", "scaling_factor": 16.0,
    "original_max_position_embeddings": 8192, "extrapolation_factor": 1.0, "attn_factor": 1.0, "beta_fast": 8,
    "beta_slow": 1,
}  # fmt: skip
NAMES = {
    "grok-1": {"attn": "attn", "moe": "moe_block", "norm": "scale", "expert": ("linear", "linear_v", "linear_1")},
    "grok-2": {"attn": "self_attn", "moe": "block_sparse_moe", "norm": "weight", "expert": ("w1", "w3", "w2")},
}


def bend(x, cap):
    return cap * np.tanh(x / cap)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def turned(x, position, theta):
    """Rotary positions on one head, pairs half a head apart."""
    half = len(x) // 2
    angle = position / theta ** (np.arange(half) / half)
    first, second = x[:half], x[half:]
    return np.concatenate(
        (first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle))
    )


def reference(family, c, w, tokens):
    """Logits [time, vocabulary]."""
    names, theta = NAMES[family], c.get("rope_theta", 10_000)
    heads, kv_heads, d = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    cap = c["max_attn_value"] if family == "grok-1" else c["attn_logit_softcapping"]

    def norm(x, name):
        return x / np.sqrt(np.mean(x * x) + c["rms_norm_eps"]) * w[f"{name}.{names['norm']}"]

    def unit(x, gate, up, down):
        return w[f"{down}.weight"] @ (gelu(w[f"{gate}.weight"] @ x) * (w[f"{up}.weight"] @ x))

    def feed_forward(x, layer):
        moe = f"{layer}.{names['moe']}"
        logits = w[f"{moe}.gate.weight"] @ x
        if family == "grok-2":
            logits = bend(logits, c["router_logit_softcapping"])
        probabilities = softmax(logits)
        out = sum(
            probabilities[e] * unit(x, *(f"{moe}.experts.{e}.{name}" for name in names["expert"]))
            for e in np.argsort(-probabilities)[: c["num_experts_per_tok"]]
        )
        if family == "grok-1":
            return out
        dense = unit(x, *(f"{layer}.mlp.{name}_proj" for name in ("gate", "up", "down")))
        return (dense + out) / math.sqrt(2)

    def attend(normed, t, layer):
        attn = f"{layer}.{names['attn']}"
        q, k, v = (
            [(w[f"{attn}.{name}_proj.weight"] @ x).reshape(-1, d) for x in normed[: t + 1]] for name in ("q", "k", "v")
        )
        out = []
        for h in range(heads):
            g = h // (heads // kv_heads)
            query = turned(q[t][h], t, theta)
            scores = np.array([query @ turned(k[s][g], s, theta) for s in range(t + 1)]) / math.sqrt(d)
            scores = bend(scores, cap)
            if family == "grok-2" and t > c["attn_temperature_len"]:
                scores = scores * math.log2(t) / math.log2(c["attn_temperature_len"])
            out.append(sum(p * v[s][g] for s, p in enumerate(softmax(scores))))
        return w[f"{attn}.o_proj.weight"] @ np.concatenate(out)

    h = [w["model.embed_tokens.weight"][token] * c["embedding_multiplier_scale"] for token in tokens]
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        normed = [norm(x, f"{layer}.pre_attn_norm") for x in h]
        h = [x + norm(attend(normed, t, layer), f"{layer}.post_attn_norm") for t, x in enumerate(h)]
        h = [
            x + norm(feed_forward(norm(x, f"{layer}.pre_moe_norm"), layer), f"{layer}.post_moe_norm") for x in h
        ]
    head = w["model.embed_tokens.weight" if family == "grok-1" else "lm_head.weight"]
    logits = np.stack([head @ norm(x, "model.norm") for x in h]) * c["output_multiplier_scale"]
    return logits if family == "grok-1" else bend(logits, c["final_logit_softcapping"])


@pytest.fixture(params=[GROK_1, GROK_2], ids=NAMES)
def grok(request, random_network, tmp_path):
    """A folder with random weights, its configuration and its tensors."""
    data = request.param
    config = from_hf_config(data)
    save_weights(random_network(config), data, tmp_path)
    tensors = {name: part.double().numpy() for name, part in load_file(tmp_path / "model.safetensors").items()}
    return config.model_type, tmp_path, data, tensors


@pytest.mark.parametrize("length", [1, 7, 21])
def test_logits_are_those_of_the_reference(grok, length):
    family, folder, data, tensors = grok
    tokens = np.random.default_rng(length).integers(data["vocab_size"], size=length)
    model = load_weights(folder, torch.float64)
    with torch.no_grad():
        logits = model.logits(model(torch.from_numpy(tokens)[None]))[0]
    expected = reference(family, data, tensors, tokens)
    assert expected.std() > 0.1
    # Angles are float32 in the network.
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-5)


def test_a_folder_comes_back_as_it_was(grok, tmp_path_factory):
    _, folder, data, _ = grok
    again = tmp_path_factory.mktemp("again")
    save_weights(load_weights(folder), data, again)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert json.loads((again / "config.json").read_text()) == data


def test_the_chunked_loss_is_the_loss_of_the_logits(grok):
    """Scale and bend of the head's scores are in the loss and its gradient as they are in `logits`."""
    _, folder, data, _ = grok
    model = load_weights(folder, torch.float64)
    tokens = torch.randint(data["vocab_size"], (2, 12), generator=torch.Generator().manual_seed(1))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].flatten()
    attend = packed_attention(model.config, torch.zeros_like(inputs))
    losses, gradients = [], []
    for chunked in (True, False):
        model.zero_grad()
        h = model(inputs, attend)
        if chunked:
            loss = next_token_loss(
                h.flatten(0, 1), model.lm_head.weight, targets, 0.0, model.config.logit_scale,
                model.config.logit_softcap,
            )  # fmt: skip
        else:
            loss = torch.nn.functional.cross_entropy(model.logits(h).flatten(0, 1), targets)
        loss.backward()
        losses.append(loss.detach())
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(*losses, atol=1e-12, rtol=0)
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("data", "changes", "told"),
    [
        (GROK_1, {"embedding_multiplier_scale": 1.0}, "embedding_multiplier_scale=1.0: does not follow"),
        (GROK_1, {"attn_output_multiplier": 1.0}, "attn_output_multiplier=1.0: does not follow"),
        (GROK_2, {"intermediate_size": 30}, "intermediate_size=30: expected a multiple of moe_intermediate_size=20"),
        (GROK_2, {"rope_type": "yarn_log"}, "rope_type='yarn_log': only 'original' is known"),
        (GROK_2, {"residual_moe": False}, "residual_moe=False: only True is known"),
    ],
)
def test_what_differs_from_the_releases_is_named(data, changes, told):
    with pytest.raises(ValueError, match=told):
        from_hf_config(data | changes)


def test_parameters_are_counted_as_they_are(grok):
    _, folder, _, tensors = grok
    config = read_config(folder)
    assert count_parameters(config).total == sum(tensor.size for tensor in tensors.values())
    with torch.device("meta"):
        assert count_parameters(config).total == sum(parameter.numel() for parameter in Decoder(config).parameters())
