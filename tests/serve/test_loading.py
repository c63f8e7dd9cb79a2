"""What loading a folder takes: the weights as they are served, and one layer as it is stored."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.families.configs import to_hf_config
from troth.model.families.weights import save_weights
from troth.model.initialise import initialise
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system import ServeTable

from .conftest import random_network

LOAD = """
import re, sys, threading, time
from pathlib import Path
from troth.serve.engine.engine import Engine
from troth.system import ServeTable

def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1000

def watch():
    while True:
        seen.append(held())
        time.sleep(0.002)

before, seen = held(), []
threading.Thread(target=watch, daemon=True).start()
Engine.from_folder(Path(sys.argv[1]), ServeTable(cache_tokens=256, weights=sys.argv[2], threads=1))
print(max(seen) - before)
"""


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """A folder of 200 MB in bfloat16, 6 MB a layer."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=256, num_hidden_layers=32, num_dense_layers=0,
        num_attention_heads=2, num_key_value_heads=1, head_dim=64, sliding_window=64, max_position_embeddings=256,
        num_experts=16, num_experts_per_tok=2, num_shared_experts=0, intermediate_size=256, moe_intermediate_size=256,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("deep")
    save_weights(initialise(Decoder(config), 0), to_hf_config(config, "bfloat16", tokenizer.end_of_text), path)
    tokenizer.save(path)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process' own memory is told in other ways")
@pytest.mark.parametrize(
    ("kind", "kernels", "most"), [("auto", None, 150), ("int8", "none", 250)], ids=["library", "torch"]
)
def test_a_network_is_never_whole_in_memory_as_it_is_stored(
    deep: Path, kind: str, kernels: str | None, most: int, monkeypatch: pytest.MonkeyPatch
):
    """Beside 200 MB of it there would be what is packed, and 80 MB of the libraries' own. What the library packs is in
    shared memory, which is not counted; what torch keeps in 8 bit is 110 MB."""
    # As tensors of 32 MB and more have it anyway, what is given up is the system's at once.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")
    if kernels is not None:
        monkeypatch.setenv("TROTH_KERNELS", kernels)
    command = [sys.executable, "-c", LOAD, str(deep), kind]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 10 < int(loaded.stdout) < most


def test_experts_of_gpt_oss_stay_the_4_bit_floats_that_they_are(
    config: ModelConfig, tokenizer: Tokenizer, tmp_path: Path
):
    """Its config.json does not say in what the others are."""
    changes = {
        "model_type": "gpt_oss", "biases": True, "attention_sinks": True, "swiglu_limit": 7.0, "qk_norm": "none",
        "attention_gate": False, "post_norms": False, "num_dense_layers": 0, "num_shared_experts": 0, "head_dim": 16,
        "router_score": "softmax", "rope_layers": "all", "mup_enabled": False, "hidden_size": 64,
        "intermediate_size": 32, "moe_intermediate_size": 32, "global_attn_every_n_layers": 2,
    }  # fmt: skip
    model = random_network(config, changes, torch.bfloat16)
    described = to_hf_config(model.config, "bfloat16", tokenizer.end_of_text)
    save_weights(model, described, tmp_path)
    tokenizer.save(tmp_path)
    path, random = tmp_path / "model.safetensors", torch.Generator().manual_seed(1)
    tensors = load_file(path)
    for name in [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inner, outer = tensors.pop(name).shape
        runs = experts, outer, inner // 32
        tensors[f"{name}_blocks"] = torch.randint(256, (*runs, 16), generator=random, dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(120, 126, runs, generator=random, dtype=torch.uint8)
    save_file(tensors, path)
    del described["dtype"]
    (tmp_path / "config.json").write_text(json.dumps(described | {"quantization_config": {"quant_method": "mxfp4"}}))
    kinds = {}
    for kind in ("auto", "int8", "bfloat16", "float32"):
        engine = Engine.from_folder(tmp_path, ServeTable(cache_tokens=256, weights=kind))
        kinds[kind] = engine.weights[0]
        [outputs] = engine.generate([Request((5, 6, 7), SamplingParams(temperature=0, max_tokens=4))])
        assert outputs[-1].finish_reason is not None
    assert kinds == {
        "auto": "bfloat16, experts mxfp4", "int8": "int8, experts mxfp4", "bfloat16": "bfloat16", "float32": "float32",
    }  # fmt: skip
