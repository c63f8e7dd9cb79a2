"""Weights of other families, served: greedy tokens are those that transformers generates from the same folder."""

import pytest
import torch

from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system import ServeTable

FAMILIES = {
    "mixtral": {"num_local_experts": 4, "head_dim": 8, "intermediate_size": 24, "sliding_window": 16},
    "qwen3_moe": {"num_experts": 4, "head_dim": 16, "moe_intermediate_size": 24, "norm_topk_prob": True},
    "olmoe": {"num_experts": 4, "intermediate_size": 24},
    "deepseek_v3": {
        "num_key_value_heads": 4, "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 12,
        "intermediate_size": 24, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
        "v_head_dim": 10, "first_k_dense_replace": 1, "num_nextn_predict_layers": 0,
    },
    "gpt_oss": {"num_local_experts": 4, "head_dim": 8, "intermediate_size": 24, "sliding_window": 16},
}
LENGTHS = 5, 17, 40


@pytest.mark.parametrize("family", FAMILIES)
def test_the_engine_says_what_transformers_says(tokenizer, tmp_path, family):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family, vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        num_experts_per_tok=2, max_position_embeddings=128, eos_token_id=None, pad_token_id=0, bos_token_id=None,
        **({"num_key_value_heads": 2} | FAMILIES[family]),
    )  # fmt: skip
    theirs = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3, generator=generator)
    theirs.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    engine = Engine.from_folder(tmp_path, ServeTable(cache_tokens=512, max_step_tokens=24), dtype=torch.float32)
    prompts = [torch.randint(0, 300, (length,), generator=generator) for length in LENGTHS]
    greedy = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    outputs = engine.generate(Request(tuple(prompt.tolist()), greedy) for prompt in prompts)
    for prompt, found in zip(prompts, outputs, strict=True):
        expected = theirs.generate(prompt[None], max_new_tokens=20, do_sample=False)[0, len(prompt) :].tolist()
        assert [token.id for output in found for token in output.tokens] == expected
        assert len(set(expected)) > 3
