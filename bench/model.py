"""The model that the benches share: a Qwen3-MoE of 175 million parameters, 43 million active, with random weights, for
only sizes matter."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from troth.model.tokenizer import Tokenizer
from troth.system import load_system

SIZES = {
    "vocab_size": 32_000, "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "head_dim": 64,
    "num_key_value_heads": 2, "num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 512,
    "intermediate_size": 512, "max_position_embeddings": 8_192, "norm_topk_prob": True, "tie_word_embeddings": True,
}  # fmt: skip
TOKENS = 2_000
"""Of the tokenizer, fewer than the network has."""


def mini_sizes() -> dict[str, Any]:
    """The layers of the system `mini`, as far as Qwen3-MoE has them; four of them."""
    shape = load_system("mini").model.model_dump()
    kept = {key: shape[key] for key in SIZES if key in shape and key != "tie_word_embeddings"}
    return kept | {"num_hidden_layers": 4}


def write_weights(folder: Path, sizes: dict[str, Any]) -> None:
    """A model folder of transformers with random weights."""
    from transformers import AutoModelForCausalLM, Qwen3MoeConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(Qwen3MoeConfig(**sizes), dtype=torch.bfloat16).save_pretrained(folder)


def write_model(folder: Path, sizes: dict[str, Any]) -> None:
    """Random weights, and a tokenizer of fewer tokens than the network has, trained on the library."""
    write_weights(folder, sizes)
    pages = Path(str(files("troth.library").joinpath("pages")))
    texts = (path.read_text(encoding="utf-8") for path in sorted(pages.rglob("*.md")))
    Tokenizer.train(texts, TOKENS).save(folder)
