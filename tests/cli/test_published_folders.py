"""Folders as the families publish them, tokenizer, numbers and all: tuned by the command, read by transformers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from troth.model.families.weights import load_weights
from troth.model.tokenizer import Tokenizer

SIZES = {
    "vocab_size": 450, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 128, "num_experts_per_tok": 2, "head_dim": 16,
    "bos_token_id": None, "pad_token_id": None,
}  # fmt: skip
FAMILIES = {
    "afmoe": {"num_experts": 4, "moe_intermediate_size": 32, "num_dense_layers": 1, "sliding_window": 8},
    "olmoe": {"num_experts": 4},
    "mixtral": {"num_local_experts": 4},
    "gpt_oss": {"num_local_experts": 4, "sliding_window": 8},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 32},
    "deepseek_v3": {
        "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 32,
        "q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
        "first_k_dense_replace": 1, "n_shared_experts": 1, "head_dim": 8,
        "rope_scaling": {
            "type": "yarn", "factor": 40, "original_max_position_embeddings": 16, "beta_fast": 32, "beta_slow": 1,
            "mscale": 1.0, "mscale_all_dim": 1.0,
        },
    },
}  # fmt: skip
END = {
    "afmoe": "<|im_end|>", "olmoe": "<|endoftext|>", "mixtral": "</s>", "gpt_oss": "<|return|>",
    "qwen3_moe": "<|im_end|>", "deepseek_v3": "<\uff5cend\u2581of\u2581sentence\uff5c>",
}  # fmt: skip


def in_blocks_of_8_bits(tensors):
    """DeepSeek-V3's release, which also has a layer for multi-token prediction."""
    for name, tensor in list(tensors.items()):
        if name.endswith("_proj.weight"):
            tensors[name] = tensor.to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = torch.ones(1, 1)
    tensors["model.layers.2.eh_proj.weight"] = torch.zeros(64, 128)


def in_runs_of_4_bits(tensors):
    """gpt-oss's release."""
    random = torch.Generator().manual_seed(0)
    for name in [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inner, outer = tensors.pop(name).shape
        blocks = torch.randint(256, (experts, outer, inner // 32, 16), generator=random, dtype=torch.uint8)
        tensors[f"{name}_blocks"] = blocks
        tensors[f"{name}_scales"] = torch.full(blocks.shape[:-1], 120, dtype=torch.uint8)


RELEASED = {
    "deepseek_v3": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, in_blocks_of_8_bits),
    "gpt_oss": ({"quant_method": "mxfp4"}, in_runs_of_4_bits),
}
SETTINGS = (
    "train.steps=2", "train.sequence_length=64", "train.batch_tokens=256", "train.precision=float32",
    "train.fill_in_middle=0",
)  # fmt: skip
TURNS = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "It is 4."}]


@pytest.fixture
def release(published):
    """A family's name and its folder."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    family, folder = published
    if (folder / "config.json").exists():
        return published
    eos = AutoTokenizer.from_pretrained(folder).eos_token_id
    config = AutoConfig.for_model(family, **(SIZES | FAMILIES[family] | {"eos_token_id": eos}))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.generation_config.update(temperature=0.6, do_sample=True)
    model.save_pretrained(folder)
    if family in RELEASED:
        quantised, change = RELEASED[family]
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")
        data = json.loads((folder / "config.json").read_text()) | {"quantization_config": quantised}
        (folder / "config.json").write_text(json.dumps(data))
    return published


@pytest.fixture
def tune(release, tmp_path, run_here):
    """`tune([...])` trains on these lines from the release on, and returns the new model's folder."""

    def run(lines, *options):
        file = tmp_path / "lines.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        changes = [word for change in SETTINGS for word in ("--set", change)]
        done = run_here("train", file, "--from", release[1], "--out", tmp_path / "run", *options, *changes)
        assert done.returncode == 0, done.stderr
        return tmp_path / "run" / "model"

    return run


def test_a_published_folder_is_tuned_on_chats_and_read_again(release, tune):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    family, folder = release
    tuned = tune([{"messages": TURNS}], "--objective", "chat")
    words, before = (AutoTokenizer.from_pretrained(path) for path in (tuned, folder))
    assert words.get_vocab() == before.get_vocab()
    assert words.special_tokens_map == before.special_tokens_map
    prompt = words.apply_chat_template(TURNS[:1], add_generation_prompt=True, return_tensors="pt")["input_ids"]
    theirs, ours, start = AutoModelForCausalLM.from_pretrained(tuned), load_weights(tuned), load_weights(folder)
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ours(prompt)), theirs(prompt).logits, atol=1e-4, rtol=1e-4)
    moved = (ours.layers["1"].mlp.experts.down_proj - start.layers["1"].mlp.experts.down_proj).abs()
    assert 0 < moved.max() < 0.2
    ends = theirs.generation_config.eos_token_id
    assert (ends if isinstance(ends, int) else ends[0]) == words.convert_tokens_to_ids(END[family])
    assert theirs.generation_config.temperature == 0.6


def test_blanks_want_tokens_for_them(release, tmp_path, run_here):
    file = tmp_path / "documents.jsonl"
    file.write_text('{"text": "All that glitters is not gold."}\n')
    done = run_here("train", file, "--from", release[1], "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "train.fill_in_middle: the tokenizer has no <|fim_prefix|> for blanks; set it to 0" in done.stderr
    assert not (tmp_path / "run" / "shards").exists()


def test_a_published_folder_is_evaluated_on_what_it_finds_likely(release, tmp_path, run_here):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    family, folder = release
    questions, options = [f"What is 2 + {i}?" for i in range(3)], ["4", "five", "It is"]
    key, text = tmp_path / "key.jsonl", tmp_path / "text.txt"
    text.write_text("All that glitters is not gold.")
    rows = [{"id": str(i), "question": q, "options": options, "answer": "4"} for i, q in enumerate(questions)]
    key.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run_here("evaluate", folder, "--key", key, "--json", "--set", f'data.sources=["{text}"]')
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["experts"]) == 1
    if family in RELEASED:
        return  # transformers reads these on GPUs only.
    words, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    begin = Tokenizer.load(folder).begin_of_text
    true, confidence = 0, 0.0
    for question in questions:
        head = [begin, *words(question, add_special_tokens=False)["input_ids"]]
        scores = []
        for option in options:
            ids = [begin, *words(f"{question} {option}.", add_special_tokens=False)["input_ids"]]
            assert ids[: len(head)] == head
            with torch.no_grad():
                log_p = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
            scores.append(sum(log_p[at - 1, ids[at]].item() for at in range(len(head), len(ids))))
        true += max(scores) == scores[0]
        confidence += torch.tensor(scores).softmax(0).max().item()
    assert found["untouched"] == true / len(questions)
    assert sum(mean * count for mean, _, count in found["reliability"]) == pytest.approx(confidence, rel=1e-3)


def test_documents_go_on_from_a_published_folder(release, tune):
    _, folder = release
    trained = tune([{"text": f"Once there were {i} bears, " * 20} for i in range(9)])
    before, after = (json.loads((path / "generation_config.json").read_text()) for path in (folder, trained))
    assert after.keys() == before.keys()
    ends = after["eos_token_id"]
    assert before["eos_token_id"] in (ends if isinstance(ends, list) else [ends])
    assert (trained / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
