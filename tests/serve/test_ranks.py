"""Two ranks under torchrun write what one process writes, each with a part of the weights and of the cache."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.families.configs import to_hf_config
from troth.model.families.weights import save_weights
from troth.model.initialise import initialise
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.ranks import Ranks, split
from troth.system.serve import ServeTable

from .two_ranks import table, written

SCRIPT = Path(__file__).parent / "two_ranks.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
KINDS: dict[str, dict[str, Any]] = {
    "gpt_oss": {
        "rope_layers": "all", "qk_norm": "none", "attention_gate": False, "post_norms": False, "num_dense_layers": 0,
        "num_shared_experts": 0, "router_score": "softmax", "attention_sinks": True, "biases": True,
        "swiglu_limit": 7.0, "global_attn_every_n_layers": 2, "mup_enabled": False, "intermediate_size": 32,
    },
    "deepseek_v3": {
        "sliding_window": None, "rope_layers": "all", "qk_norm": "none", "attention_gate": False, "post_norms": False,
        "num_key_value_heads": 4, "head_dim": 24, "mup_enabled": False, "num_expert_groups": 2, "topk_groups": 1,
        "latent": {
            "q_lora_rank": 20, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12,
        },
    },
}  # fmt: skip


def alone(folder: Path) -> dict[str, Any]:
    return written(Engine.from_folder(folder, table("none"), device="cpu"))


def together(folder: Path, speculate: str = "none") -> dict[str, Any]:
    run = subprocess.run(
        [*TORCHRUN, str(SCRIPT), str(folder), speculate], capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture
def folder_of(tmp_path: Path, config: ModelConfig, tokenizer: Tokenizer) -> Callable[[str], Path]:
    def make(kind: str) -> Path:
        shape = ModelConfig(**(config.model_dump() | KINDS[kind] | {"model_type": kind}))
        model = initialise(Decoder(shape), 3)
        for moe in model.moe_layers():
            torch.nn.init.normal_(moe.router.gate.weight, std=0.2, generator=torch.Generator().manual_seed(6))
        save_weights(model, to_hf_config(shape, "float32", tokenizer.end_of_text), tmp_path)
        tokenizer.save(tmp_path)
        return tmp_path

    return make


def test_two_ranks_write_what_one_process_does(folder: Path):
    one, two = alone(folder), together(folder, "ngram")
    assert two["texts"] == one["texts"]
    torch.testing.assert_close(*(torch.tensor(each["embeddings"]) for each in (two, one)), atol=1e-4, rtol=1e-4)
    assert two["cache"] == one["cache"] / 2
    assert two["weights"] < 0.75 * one["weights"], "the embedding and the head stay whole"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_other_families_too(folder_of: Callable[[str], Path], kind: str):
    folder = folder_of(kind)
    assert together(folder)["texts"] == alone(folder)["texts"]


@pytest.mark.slow
def test_the_server_over_two_ranks_answers_and_ends(folder: Path):
    troth = str(Path(sys.executable).parent / "troth")
    command = ["--no-python", troth, "serve", str(folder), "--port", "0", "--json"]
    with subprocess.Popen([*TORCHRUN, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            printed = ""
            while not printed.endswith("}\n"):
                line = process.stdout.readline()
                assert line, "it ended"
                printed += line
            url = json.loads(printed)["url"]
            body = {"prompt": "A bird", "max_tokens": 3, "ignore_eos": True}
            answer = httpx.post(f"{url}/completions", json=body, timeout=180)
            assert answer.json()["usage"]["completion_tokens"] == 3
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=180)
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{url}/models")
        finally:
            process.kill()


def test_what_cannot_be_divided_is_refused(folder: Path, config: ModelConfig):
    with pytest.raises(ValueError, match="num_attention_heads=4 cannot be divided among 3 ranks"):
        split(initialise(Decoder(config), 1), Ranks(0, 3))
    with pytest.raises(ValueError, match="served by one process only"):
        Engine.from_folder(folder, ServeTable(deterministic=True), ranks=Ranks(0, 2))
