"""Adapters change nothing at first, are all that learns, merge exactly, and travel as PEFT's folder."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from troth.model.adapters import load_adapters, save_adapters
from troth.model.config import Latent
from troth.model.decoder import Decoder
from troth.model.families.configs import to_hf_config
from troth.model.families.weights import load_weights, save_weights
from troth.model.lora import LoRALinear, adapt
from troth.train.lora import adapters, fill_adapters, lora_names, merged
from troth.train.loss import next_token_loss
from troth.train.precision import training_call

PRE_NORM = {
    "num_shared_experts": 0, "router_score": "softmax", "attention_gate": False, "post_norms": False,
    "rope_layers": "all", "mup_enabled": False, "num_dense_layers": 0, "sliding_window": None,
}  # fmt: skip
FAMILIES = {
    "afmoe": {},
    "deepseek_v3": PRE_NORM | {
        "num_dense_layers": 1, "num_shared_experts": 1, "router_score": "sigmoid", "qk_norm": "none", "head_dim": 24,
        "latent": Latent(q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16),
    },
    "gpt_oss": PRE_NORM | {
        "qk_norm": "none", "attention_sinks": True, "biases": True, "sliding_window": 16, "swiglu_limit": 7.0,
        "intermediate_size": 16, "global_attn_every_n_layers": 2,
    },
    "mixtral": PRE_NORM | {"qk_norm": "none", "intermediate_size": 16},
    "olmoe": PRE_NORM | {"qk_norm": "width", "intermediate_size": 16},
    "qwen3_moe": PRE_NORM,
}  # fmt: skip
TOKENS = torch.arange(3, 43)[None]


@pytest.fixture(scope="module")
def network(tiny):
    """`network("mixtral")` is a small one of that family in which nothing is zero."""

    @torch.no_grad()
    def build(family="afmoe", **changes):
        settings = {"model_type": family, "tie_word_embeddings": False} | FAMILIES[family] | changes
        model = Decoder(tiny.model_copy(update=settings))
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.15, generator=generator)
            if "norm" in name:
                parameter.add_(1)
        return model.train()

    return build


@torch.no_grad()
def disturb(model):
    """Adapters as training leaves them."""
    for _, parameter in adapters(model):
        parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(parameter.numel()))


def saved(model, folder):
    folder.mkdir()
    save_weights(model, to_hf_config(model.config, "float32", 0), folder)
    return folder


def add_lora(model, rank, alpha, patterns=None):
    names = lora_names(model.config, patterns)
    adapt(model, names, rank, alpha)
    fill_adapters(model, seed=0)
    return names


def plain(adapted):
    """The network with its adapters merged."""
    model = Decoder(adapted.config).train()
    base = ((name, tensor.clone()) for name, tensor in adapted.state_dict().items() if ".lora_" not in name)
    model.load_state_dict(dict(merged(adapted, base)))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_change_nothing_at_first_and_are_all_that_learns(network, family):
    model = network(family)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        expected = model(TOKENS)
    names = add_lora(model, 4, 8)
    assert any(name.endswith("self_attn.o_proj") for name in names)
    assert any(name.endswith("mlp.experts") for name in names)
    h = model(TOKENS)
    assert torch.equal(h, expected)
    next_token_loss(h[0, :-1], model.lm_head.weight, TOKENS[0, 1:], 0.0).backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learning == {name for name, _ in adapters(model)}
    moved = {name for name, parameter in adapters(model) if parameter.grad.any()}
    assert moved == {name for name in learning if ".lora_B" in name}  # as long as B is zero
    torch.optim.SGD([parameter for _, parameter in adapters(model)], lr=0.1).step()
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in before.items())
    assert not torch.equal(model(TOKENS), expected)


@pytest.mark.parametrize("rank", [1, 4, 8, 12])
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_says_the_same_and_is_plain_again(network, family, rank):
    model = network(family)
    add_lora(model, rank, 2 * rank)
    disturb(model)
    with torch.no_grad():
        adapted = model(TOKENS)
        torch.testing.assert_close(plain(model)(TOKENS), adapted, atol=2e-3, rtol=1e-3)


def test_merging_is_adding_by_hand_to_the_bit(network):
    model = network()
    add_lora(model, 4, 10)
    disturb(model)
    linear, experts = model.layers["0"].self_attn.q_proj, model.layers["1"].mlp.experts
    by_hand = linear.weight + 2.5 * (linear.lora_B @ linear.lora_A)
    down = torch.stack(
        [
            experts.down_proj[e] + 2.5 * (experts.lora_B_down[e, 0] @ experts.lora_A_down[e, 0])
            for e in range(len(experts.down_proj))
        ]
    )
    gate = experts.gate_up_proj[2, 0] + 2.5 * (
        experts.lora_B_gate_up[2, 0] @ experts.lora_A_gate_up[2, 0]
    )
    model = plain(model)
    assert torch.equal(model.layers["0"].self_attn.q_proj.weight, by_hand)
    assert torch.equal(model.layers["1"].mlp.experts.down_proj, down)
    assert torch.equal(model.layers["1"].mlp.experts.gate_up_proj[2, 0], gate)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("recompute", ["none", "full"])
def test_products_in_bfloat16_reach_the_adapters(network, dtype, recompute):
    model = network()
    add_lora(model, 8, 16)
    disturb(model)
    gradients = []
    for precision, again in ((torch.float32, "none"), (dtype, recompute)):
        model.zero_grad()
        h = model(TOKENS, call=training_call(None if precision == torch.float32 else precision, again))
        next_token_loss(h[0, :-1], model.lm_head.weight.to(h.dtype), TOKENS[0, 1:], 0.0).backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in adapters(model)})
    for name, exact in gradients[0].items():
        assert gradients[1][name].dtype == torch.float32
        assert (gradients[1][name] - exact).norm() < 0.25 * exact.norm(), name


def test_patterns_say_what_is_adapted(network):
    model = network()
    assert add_lora(model, 2, 4, ["self_attn.[qv]_proj"]) == [
        f"layers.{layer}.self_attn.{kind}_proj" for layer in (0, 1) for kind in "qv"
    ]
    assert not isinstance(network().lm_head, LoRALinear)
    told = "train.lora.patterns: 'wq' fits none of down_proj, experts, gate, gate_proj, k_proj, o_proj, q_proj, up_proj"
    with pytest.raises(ValueError, match=re.escape(told)):
        add_lora(network(), 2, 4, ["wq"])
    assert "layers.1.mlp.router.gate" in add_lora(network(), 2, 4, ["router.gate"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_adapters_is_what_was_saved(network, family, tmp_path):
    model = network(family)
    names = add_lora(model, 4, 6)
    disturb(model)
    save_adapters(model, tmp_path, "base")
    loaded = network(family)
    assert sorted(load_adapters(loaded, tmp_path)) == sorted(names)
    expected = dict(adapters(model))
    assert dict(adapters(loaded)).keys() == expected.keys()
    assert all(torch.equal(parameter, expected[name]) for name, parameter in adapters(loaded))
    with torch.no_grad():
        assert torch.equal(loaded(TOKENS), model(TOKENS))


def another_rank(config, tensors):
    config["r"] = 8


def dora(config, tensors):
    config["use_dora"] = True


def without(config, tensors):
    del tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"]


def with_another(config, tensors):
    tensors["base_model.model.model.layers.0.self_attn.x_proj.lora_A.weight"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (another_rank, "has shape [4, 32], expected [8, 32]"),
        (dora, "use_dora=True: only False is known"),
        (without, "tensor base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight is missing"),
        (with_another, "unexpected tensor base_model.model.model.layers.0.self_attn.x_proj.lora_A.weight"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(network, tmp_path, change, told):
    model = network()
    add_lora(model, 4, 6)
    save_adapters(model, tmp_path, "base")
    config, tensors = (
        json.loads((tmp_path / "adapter_config.json").read_text()),
        load_file(tmp_path / "adapter_model.safetensors"),
    )
    change(config, tensors)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=re.escape(told)):
        load_adapters(network(), tmp_path)


@pytest.mark.parametrize("patterns", [None, ["experts"], ["self_attn.*_proj"], ["layers.1.self_attn.q_proj"]])
@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
def test_peft_reads_the_folder(network, family, patterns, tmp_path):
    """The base by transformers and the adapters by PEFT say what we say."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = network(family)
    saved(model, tmp_path / "base")
    add_lora(model, 4, 6, *([patterns] if patterns else []))
    disturb(model)
    save_adapters(model, tmp_path / "adapters", "base")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    with torch.no_grad():
        plain = theirs(TOKENS).logits
        theirs = PeftModel.from_pretrained(theirs, tmp_path / "adapters").eval()
        ours = model.logits(model(TOKENS))
        torch.testing.assert_close(theirs(TOKENS).logits, ours, atol=2e-3, rtol=1e-3)
        assert (ours - plain).abs().max() > 0.05


def test_we_read_the_folder_of_peft(network, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = network("qwen3_moe")
    saved(model, tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    settings = LoraConfig(
        r=4, lora_alpha=6, target_modules=["q_proj", "o_proj"], use_rslora=True, init_lora_weights=False
    )
    theirs = get_peft_model(base, settings).eval()
    theirs.save_pretrained(tmp_path / "adapters")
    load_adapters(model, tmp_path / "adapters")
    model = plain(model)
    saved(model, tmp_path / "merged")
    with torch.no_grad():
        expected = theirs(TOKENS).logits
        for found in (model, load_weights(tmp_path / "merged")):
            torch.testing.assert_close(found.logits(found(TOKENS)), expected, atol=2e-3, rtol=1e-3)


SHARDED = """
import os
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from troth.model.families.weights import load_weights
from troth.model.adapters import load_adapters
from troth.train.lora import adapters

torch.set_num_threads(1)
dist.init_process_group("gloo")
model = load_weights(Path(sys.argv[1])).train()
load_adapters(model, Path(sys.argv[2]))
mesh = torch.distributed.init_device_mesh("cpu", (2,))
for layer in model.layers.values():
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
rows = torch.arange(3, 43)[None] + dist.get_rank()
model(rows).square().sum().backward()
found = {name: parameter.grad.full_tensor() for name, parameter in adapters(model)}
if dist.get_rank() == 0:
    torch.save(found, sys.argv[3])
dist.barrier()  # A rank that leaves while another still talks ends that one.
os._exit(0)  # gloo's threads have aborted at the interpreter's end, once in many runs.
"""


def test_sharded_by_fsdp_the_gradients_are_the_same(network, tmp_path):
    model = network()
    saved(model, tmp_path / "base")
    add_lora(model, 4, 8)
    disturb(model)
    save_adapters(model, tmp_path / "adapters", "base")
    (tmp_path / "sharded.py").write_text(SHARDED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(tmp_path / part) for part in ("sharded.py", "base", "adapters", "gradients.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[:2000] + done.stderr[-2000:]
    found = torch.load(Path(tmp_path / "gradients.pt"))
    for row in (TOKENS, TOKENS + 1):
        (model(row).square().sum() / 2).backward()
    for name, parameter in adapters(model):
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-2, rtol=1e-3)
