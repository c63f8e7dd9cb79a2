"""Folders of every family to write GGUF files of, and what such a file says."""

import gguf
import pytest

from troth.model.families.configs import to_hf_config
from troth.model.families.family import PRE_NORM
from troth.model.families.grok_1 import GROK
from troth.model.families.weights import save_weights

OTHERS = {"num_dense_layers": 0, "intermediate_size": 16, "sliding_window": None} | PRE_NORM
SHAPES = {
    "afmoe": {"route_scale": 2.5},
    "afmoe, tied": {"tie_word_embeddings": True, "num_dense_layers": 0, "num_experts": 3},
    "mixtral": {"model_type": "mixtral", "qk_norm": "none", "global_attn_every_n_layers": 5, **OTHERS},
    "olmoe": {"model_type": "olmoe", "qk_norm": "width", "norm_topk_prob": False, "num_key_value_heads": 4, **OTHERS},
    "qwen3_moe": {"model_type": "qwen3_moe", "head_dim": 32, **OTHERS},
    "gpt_oss": OTHERS | {
        "model_type": "gpt_oss", "qk_norm": "none", "attention_sinks": True, "biases": True, "swiglu_limit": 7.0,
        "sliding_window": 8, "global_attn_every_n_layers": 2,
    },
    "grok-1": GROK | {
        "model_type": "grok-1", "num_shared_experts": 0, "intermediate_size": 16, "attention_softcap": 30.0,
        "logit_scale": 0.6, "tie_word_embeddings": True,
    },
    "deepseek_v3": OTHERS | {
        "model_type": "deepseek_v3", "qk_norm": "none", "rms_norm_eps": 1e-6, "router_score": "sigmoid",
        "latent": {
            "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 32, "qk_rope_head_dim": 8, "v_head_dim": 12
        },
        "head_dim": 40, "num_dense_layers": 1, "intermediate_size": 48, "num_shared_experts": 2, "route_scale": 2.5,
        "num_expert_groups": 3, "topk_groups": 1,
    },
}  # fmt: skip


@pytest.fixture(params=SHAPES)
def family(request):
    """Each of the families, and what is special in them."""
    return request.param


@pytest.fixture
def make_folder(shape, random_network, tokenizer, tmp_path):
    """`make_folder(family, dtype, **changes)` is a folder with random weights of the family's small shape, changed."""

    def make(family, dtype="bfloat16", **changes):
        folder = tmp_path / "model"
        folder.mkdir()
        config = shape(**({"vocab_size": tokenizer.vocab_size + 3} | SHAPES[family] | changes))
        save_weights(random_network(config), to_hf_config(config, dtype, tokenizer.end_of_text), folder)
        tokenizer.save(folder)
        return folder, config

    return make


@pytest.fixture
def read_settings():
    """What a GGUF file says besides its tensors, by key."""

    def read(path):
        return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}

    return read
