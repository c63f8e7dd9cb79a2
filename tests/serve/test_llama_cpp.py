"""Exported models in llama.cpp: the same tokens from text, the same scores, the same answers as Troth's engine.

Runs where the package llama-cpp-python is installed.
"""

import json
import random
import unicodedata

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from troth.model.byte_chars import byte_chars
from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.families.configs import to_hf_config
from troth.model.families.family import PRE_NORM
from troth.model.families.grok_1 import GROK
from troth.model.families.weights import load_weights, save_weights
from troth.model.gguf.export import export_gguf
from troth.model.initialise import initialise
from troth.model.norm import RMSNorm
from troth.model.tokenizer import SPECIAL, Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system import ServeTable

llama_cpp = pytest.importorskip("llama_cpp")

SMALL = {
    "vocab_size": 408, "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 32, "num_hidden_layers": 4,
    "num_dense_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "num_experts": 6,
    "num_experts_per_tok": 2, "num_shared_experts": 1, "sliding_window": 16, "max_position_embeddings": 256,
    "initializer_range": 0.1,
}  # fmt: skip
OTHERS = {"num_dense_layers": 0, "intermediate_size": 32, "sliding_window": None} | PRE_NORM
MIXTRAL = {"model_type": "mixtral", "qk_norm": "none", "global_attn_every_n_layers": 5, **OTHERS}
YARN = {"factor": 4.0, "original_max_position_embeddings": 64}
GPT_OSS = OTHERS | {
    "model_type": "gpt_oss", "qk_norm": "none", "attention_sinks": True, "biases": True, "swiglu_limit": 7.0,
    "sliding_window": 16, "global_attn_every_n_layers": 2,
}  # fmt: skip
LATENT = {"q_lora_rank": 48, "kv_lora_rank": 32, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 24}
DEEPSEEK = {name: value for name, value in PRE_NORM.items() if name not in ("num_shared_experts", "route_scale")} | {
    "model_type": "deepseek_v3", "qk_norm": "none", "sliding_window": None, "rms_norm_eps": 1e-6, "latent": LATENT,
    "head_dim": 48, "num_key_value_heads": 4, "router_score": "sigmoid", "route_scale": 2.5, "num_experts": 12,
    "num_experts_per_tok": 3, "num_expert_groups": 4, "topk_groups": 2,
}  # fmt: skip
SHAPES = {
    "afmoe": {"route_scale": 2.5},
    "afmoe, every second layer full": {"global_attn_every_n_layers": 2, "tie_word_embeddings": True},
    "afmoe, stretched by YaRN": {"yarn": YARN | {"attention_factor": 1.3}},
    "deepseek_v3": DEEPSEEK,
    "deepseek_v3, queries of the hidden state": DEEPSEEK | {
        "latent": LATENT | {"q_lora_rank": None}, "norm_topk_prob": False, "num_dense_layers": 0, "topk_groups": 4,
        "tie_word_embeddings": True,
    },
    "deepseek_v3, stretched as released": DEEPSEEK | {"yarn": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
    "deepseek_v3, unlike scales": DEEPSEEK | {
        "yarn": YARN | {"mscale": 0.7, "mscale_all_dim": 1.6}, "num_dense_layers": 3, "num_expert_groups": 12,
        "topk_groups": 5,
    },
    "deepseek_v3, turned parts alone scaled": DEEPSEEK | {"yarn": YARN},
    "deepseek_v3, nothing scaled": DEEPSEEK | {"yarn": YARN | {"attention_factor": 1.0}},
    "gpt_oss": GPT_OSS,
    "gpt_oss, stretched by YaRN": GPT_OSS | {"yarn": YARN, "head_dim": 32, "num_hidden_layers": 5},
    "grok-1": GROK | {
        "model_type": "grok-1", "num_shared_experts": 0, "intermediate_size": 32, "attention_softcap": 3.0,
        "logit_scale": 0.6, "tie_word_embeddings": True,
    },
    "mixtral": MIXTRAL | {"head_dim": 32},
    "mixtral, stretched by YaRN": MIXTRAL | {"yarn": YARN, "tie_word_embeddings": True},
    "olmoe": {"model_type": "olmoe", "qk_norm": "width", "norm_topk_prob": False, "num_key_value_heads": 4, **OTHERS},
    "qwen3_moe": {"model_type": "qwen3_moe", "head_dim": 32, "rope_theta": 1e6, **OTHERS},
}
POSITIONS = 200


def llama(path, **settings):
    settings = {"n_ctx": 256, "n_threads": 1, "logits_all": True, "verbose": False} | settings
    return llama_cpp.Llama(str(path), **settings)


def save(model, tokenizer, folder):
    folder.mkdir()
    save_weights(model, to_hf_config(model.config, "bfloat16", tokenizer.end_of_text), folder)
    tokenizer.save(folder)
    return folder


@pytest.mark.parametrize("family", SHAPES)
def test_scores_are_the_same(tokenizer, tmp_path, family):
    """Random weights, in float32 on both sides: nothing but the order of sums differs.

    Grok-1's GELU is looked up in half precision there, by which another of two experts that are as good as equal may be
    chosen; here all are.
    """
    generator = torch.Generator().manual_seed(1)
    looked_up = {"num_experts_per_tok": SMALL["num_experts"]} if family == "grok-1" else {}
    model = Decoder(ModelConfig(**(SMALL | SHAPES[family] | looked_up)))
    with torch.no_grad():
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                parameter.normal_(0, 0.15, generator=generator)
            if isinstance(module, RMSNorm):
                module.weight.uniform_(0.5, 1.5, generator=generator)
        for moe in model.moe_layers():
            moe.router.gate.weight.normal_(0, 0.5, generator=generator)
            if moe.steered:
                moe.expert_bias.uniform_(-0.3, 0.3, generator=generator)
        for name, parameter in model.named_parameters():
            # Large enough that sinks take what they can, and that experts clamp.
            if name.endswith(("gate_up_bias", "sinks")):
                parameter.normal_(0, 4, generator=generator)
    folder = save(model, tokenizer, tmp_path / "model")
    export_gguf(folder, tmp_path / "model.gguf", "f32")
    tokens = torch.randint(0, tokenizer.vocab_size, (POSITIONS,), generator=generator)
    ours = load_weights(folder)
    with torch.no_grad():
        expected = ours.logits(ours(tokens[None]))[0]
    theirs = llama(tmp_path / "model.gguf", type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
    theirs.eval(tokens.tolist())
    found = torch.from_numpy(np.array(theirs.scores[:POSITIONS]))
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-2 if looked_up else 5e-4, rtol=0)


def test_experts_of_4_bits_are_what_they_were(tokenizer, tmp_path):
    """gpt-oss's as released. All experts, so that the rounding of rows there changes no choice."""
    model = Decoder(ModelConfig(**(SMALL | GPT_OSS | {"num_experts_per_tok": SMALL["num_experts"]})))
    initialise(model, 1)
    folder = save(model, tokenizer, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inner, outer = tensors.pop(name).shape
        runs = experts, outer, inner // 32
        tensors[f"{name}_blocks"] = torch.randint(256, (*runs, 16), generator=generator, dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(120, 125, runs, generator=generator, dtype=torch.uint8)
    save_file(tensors, folder / "model.safetensors")
    export_gguf(folder, tmp_path / "model.gguf")
    tokens = torch.randint(0, tokenizer.vocab_size, (POSITIONS,), generator=generator)
    ours = load_weights(folder)
    with torch.no_grad():
        expected = ours.logits(ours(tokens[None]))[0]
    theirs = llama(tmp_path / "model.gguf")
    theirs.eval(tokens.tolist())
    found = torch.from_numpy(np.array(theirs.scores[:POSITIONS]))
    assert (found - expected).norm() / expected.norm() < 0.03


def learn_by_heart(model, tokens):
    """Until the next token of the text is as good as certain everywhere, so that rounding cannot change it."""
    generator = torch.Generator().manual_seed(1)
    initialise(model, 1)
    for moe in model.moe_layers():
        torch.nn.init.normal_(moe.router.gate.weight, std=0.3, generator=generator)
        if moe.steered:
            moe.expert_bias.uniform_(-0.2, 0.2, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0)
    for _ in range(300):
        scores = model.logits(model(tokens[None, :-1]))[0]
        first, second = scores.detach().softmax(-1).topk(2).values.unbind(-1)
        if (first - second).min() > 0.8:
            return
        optimizer.zero_grad()
        cross_entropy(scores, tokens[1:]).backward()
        optimizer.step()
    raise AssertionError("the text was not learnt")


@pytest.mark.parametrize("family", SHAPES)
def test_greedy_answers_are_the_same(tokenizer, proverbs, tmp_path, family):
    tokens = torch.tensor(tokenizer.encode(proverbs))
    model = Decoder(ModelConfig(**(SMALL | SHAPES[family])))
    learn_by_heart(model, tokens)
    folder = save(model, tokenizer, tmp_path / "model")
    engine = Engine.from_folder(folder, ServeTable(cache_tokens=1024), dtype=torch.float32)
    prompts = [tokens[:length].tolist() for length in (3, 40, 120)]
    greedy = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
    outputs = engine.generate(Request(tuple(prompt), greedy) for prompt in prompts)
    answers = [[token.id for output in found for token in output.tokens] for found in outputs]
    assert answers == [tokens[len(prompt) : len(prompt) + 60].tolist() for prompt in prompts]
    for kind in ("bf16", "q8_0"):
        export_gguf(folder, tmp_path / f"{kind}.gguf", kind)
        theirs = llama(tmp_path / f"{kind}.gguf")
        for prompt, answer in zip(prompts, answers, strict=True):
            found = theirs.generate(prompt, temp=0)
            assert [next(found) for _ in answer] == answer, kind


@pytest.fixture(scope="module")
def pairs():
    """Any two bytes side by side are a token here, in random order: where a text is split shows in its tokens."""
    tokens = [bytes([first, second]) for first in range(256) for second in range(256)]
    random.Random(0).shuffle(tokens)
    return Tokenizer({token: rank for rank, token in enumerate([*(bytes([i]) for i in range(256)), *tokens])})


@pytest.fixture(scope="module")
def tokenize(pairs, tmp_path_factory):
    """`tokenize(text)` gives llama.cpp's ids of a text."""
    folder = tmp_path_factory.mktemp("pairs")
    shape = {"vocab_size": pairs.vocab_size + 2, "hidden_size": 32, "num_hidden_layers": 1}
    model = initialise(Decoder(ModelConfig(**(SMALL | shape))), 0)
    export_gguf(save(model, pairs, folder / "model"), folder / "model.gguf")
    theirs = llama(folder / "model.gguf", vocab_only=True)
    return lambda text, special=False: theirs.tokenize(text.encode(), add_bos=False, special=special)


# Letters younger than llama.cpp's tables of Unicode are left out, and the long s, which it does not take for an s
# behind an apostrophe.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="ſ")
WORDS = st.sampled_from(
    ["the ", "\n\n", "  ", "\r\n", "\t", "don't", "I'LL", "'re", "1984", "x_1", "Unglück", "東京", "🙂", "…", "e\u0301"]
)
TEXTS = st.one_of(st.text(CHARACTERS), st.lists(st.one_of(WORDS, st.text(CHARACTERS, max_size=3))).map("".join))


@given(TEXTS)
def test_a_text_has_the_same_tokens(pairs, tokenize, text):
    assert tokenize(text) == pairs.encode(text)


@given(st.lists(st.one_of(WORDS, st.sampled_from(SPECIAL))).map("".join))
def test_special_tokens_are_the_same(pairs, tokenize, text):
    assert tokenize(text, special=True) == pairs.encode_special(text)
    assert tokenize(text) == pairs.encode(text)


def with_pairs(data):
    """A byte-level tokenizer.json whose ordinary tokens are those of `pairs`."""
    chars = [byte_chars()[byte] for byte in range(256)]
    pairs = [[first, second] for first in chars for second in chars]
    random.Random(0).shuffle(pairs)
    tokens = [*chars, *map("".join, pairs)]
    data["model"] |= {"vocab": {token: i for i, token in enumerate(tokens)}, "merges": pairs}
    for i, entry in enumerate(data["added_tokens"], len(tokens)):
        entry["id"] = i
    return data


@pytest.fixture(scope="module")
def published_both(published, tmp_path_factory):
    """A family, and a tokenizer that splits text as its does, here and in llama.cpp."""
    files = {name: (published[1] / name).read_text() for name in ("tokenizer.json", "tokenizer_config.json")}
    if published[0] != "mixtral":
        files["tokenizer.json"] = json.dumps(with_pairs(json.loads(files["tokenizer.json"])))
    words = Tokenizer.of_library(files)
    shape = {"vocab_size": words.vocab_size + 2, "hidden_size": 32, "num_hidden_layers": 1}
    folder = tmp_path_factory.mktemp("published") / "model"
    save(initialise(Decoder(ModelConfig(**(SMALL | shape))), 0), words, folder)
    export_gguf(folder, folder / "model.gguf")
    return published[0], words, llama(folder / "model.gguf", vocab_only=True)


def cased_or_mark(char):
    """What llama.cpp takes for large and small letters at once, or for no part of a word, in gpt-oss's texts."""
    kind = unicodedata.category(char)
    return kind.startswith("M") or (kind in ("Lu", "Ll", "Lt") and not char.isascii())


@given(TEXTS)
def test_a_text_has_the_same_tokens_as_its_family_has(published_both, text):
    family, words, theirs = published_both
    if "\0" in text:
        return
    # llama.cpp composes no letters.
    text = unicodedata.normalize("NFC", text)
    if family == "gpt_oss":
        text = "".join(char for char in text if not cased_or_mark(char))
    assert theirs.tokenize(text.encode(), add_bos=False, special=False) == words.encode(text)
    begun = theirs.tokenize(text.encode(), add_bos=True, special=False)
    assert begun == ([] if words.begin is None else [words.begin]) + words.encode(text)


def test_a_conversation_begins_and_ends_as_it_should(tokenizer, folder, tmp_path):
    export_gguf(folder, tmp_path / "model.gguf")
    theirs = llama(tmp_path / "model.gguf")
    assert theirs.token_eos() == tokenizer.end_of_text
    assert theirs.metadata["tokenizer.chat_template"].startswith("<|endoftext|>")
    vocabulary = llama_cpp.llama_model_get_vocab(theirs.model)
    ends = [i for i in range(tokenizer.vocab_size) if llama_cpp.llama_vocab_is_eog(vocabulary, i)]
    assert {tokenizer.end_of_text, tokenizer.special["<|end|>"]} <= set(ends)
    assert all(tokenizer.decode([i]).startswith("<|") for i in ends)
    answer = theirs.create_chat_completion([{"role": "user", "content": "A bird"}], max_tokens=4, temperature=0)
    prompt = tokenizer.encode_special("<|endoftext|><|fim_prefix|> A bird<|fim_suffix|>.<|fim_middle|>")
    assert answer["usage"]["prompt_tokens"] == len(prompt)
