"""Settings that every test runs under, the command line without a process of its own, tokenizers of the kinds that
families publish, and a browser."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from troth.cli.main import main

if TYPE_CHECKING:
    from selenium import webdriver

# Read when torch is loaded, here and in the processes that tests start. Small products are quickest on one thread, and
# tests beside each other do not wait for each other's; threads that spin slow a shared machine to a crawl.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Read when Triton is loaded: without a GPU its kernels are run in its interpreter.
if not shutil.which("nvidia-smi"):
    os.environ.setdefault("TRITON_INTERPRET", "1")

# How long an example takes says nothing on a busy machine.
settings.register_profile("troth", deadline=None)
settings.load_profile("troth")


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """`run_here("show", "--json")` is what `troth show --json` did, in this process: a start takes seconds."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["troth", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return Done(ended.value.code, told.out, told.err)

    return run


SPACELESS = "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+"
CJK = "[一-龥぀-ゟ゠-ヿ]+"
DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
).replace(r"\r\n", "\r\n")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PUBLISHED: dict[str, dict[str, Any]] = {
    "olmoe": {
        "nfc": True,
        "splits": None,
        "first": ["|||IP_ADDRESS|||", "<|padding|>"],
        "spaces": 4,
        "special": ["<|endoftext|>"],
        "marks": {"eos_token": "<|endoftext|>", "pad_token": "<|padding|>"},
        "template": "{{ eos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    },
    "mixtral": {
        "splits": "▁",
        "first": ["<unk>", "<s>", "</s>"],
        "marks": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        "template": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    },
    "afmoe": {
        "splits": [r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))", SPACELESS, DEEPSEEK.replace("\r\n", r"\r\n")],
        "special": ["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"],
        "marks": {"bos_token": "<|begin_of_text|>", "eos_token": "<|im_end|>"},
        "template": "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    },
    "gpt_oss": {
        "splits": [O200K],
        "special": [
            "<|startoftext|>",
            "<|endoftext|>",
            "<|return|>",
            "<|channel|>",
            "<|start|>",
            "<|end|>",
            "<|message|>",
        ],
        "marks": {"bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": "<|endoftext|>"},
        "template": "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}{% if m.thinking %}"
        "<|channel|>analysis<|message|>{{ m.thinking }}<|end|><|start|>assistant{% endif %}<|channel|>final"
        "<|message|>{{ m.content }}<|return|>{% else %}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    },
    "deepseek_v3": {
        "splits": [r"\p{N}{1,3}", CJK, DEEPSEEK],
        "first": ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"],
        "special": ["<｜User｜>", "<｜Assistant｜>"],
        "shown": ["<think>", "</think>"],
        "marks": {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
        "settings": {"add_bos_token": True, "add_eos_token": False},
        "template": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% else %}"
        "<｜Assistant｜>{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜>{% endif %}",
    },
    "qwen3_moe": {
        "nfc": True,
        "splits": [QWEN],
        "special": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        "shown": ["<think>", "</think>"],
        "marks": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        "template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    },
}
"""Tokenizers as the families publish theirs: how they split text, and special tokens before, behind and in it."""


def published_tokenizer(kind: dict[str, Any], size: int = 420) -> Any:
    """A small one of a kind, of the `tokenizers` library."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer

    texts = [Path(json.__file__).read_text(encoding="utf-8"), "Écoute 東京 は 晴れ 🙂 ein Unglück 1984 " * 20]
    first = kind.get("first", [])
    if kind["splits"] == "▁":
        built = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        built.decoder = decoders.Sequence(steps)
        alphabet = [*first, *(f"<0x{byte:02X}>" for byte in range(256))]
        built.train_from_iterator(
            (word for text in texts for word in text.split("\n")),
            BpeTrainer(vocab_size=size, special_tokens=alphabet, limit_alphabet=60, show_progress=False),
        )
        data = json.loads(built.to_str())
        data["added_tokens"] = data["added_tokens"][: len(first)]
        # As SentencePiece's are converted: every way to merge a token, in the order of these.
        vocab = {token: i for token, i in data["model"]["vocab"].items() if token not in alphabet}
        parts = [(token[:k], token[k:]) for token in sorted(vocab, key=vocab.__getitem__) for k in range(1, len(token))]
        data["model"]["merges"] = [pair for pair in parts if pair[0] in vocab and pair[1] in vocab]
        built = Tokenizer.from_str(json.dumps(data))
        built.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        return built
    built = Tokenizer(models.BPE())
    if "nfc" in kind:
        built.normalizer = normalizers.NFC()
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind["splits"] is None)
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in kind["splits"] or ()]
    built.pre_tokenizer = pre_tokenizers.Sequence([*splits, level]) if splits else level
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    built.train_from_iterator(
        texts, BpeTrainer(vocab_size=size, special_tokens=first, initial_alphabet=alphabet, show_progress=False)
    )
    built.add_tokens([AddedToken(" " * n, normalized=True) for n in range(kind.get("spaces", 1), 1, -1)])
    built.add_special_tokens(kind.get("special", []))
    built.add_tokens([AddedToken(text, normalized=False) for text in kind.get("shown", [])])
    return built


@pytest.fixture(scope="session", params=PUBLISHED)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A family and a folder with a tokenizer and a chat template of the kind that it publishes, as transformers writes
    them."""
    from transformers import PreTrainedTokenizerFast

    kind = PUBLISHED[request.param]
    fast = PreTrainedTokenizerFast(tokenizer_object=published_tokenizer(kind), **kind["marks"])
    fast.chat_template = kind["template"]
    folder = tmp_path_factory.mktemp(request.param)
    fast.save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | kind.get("settings", {})))
    return request.param, folder


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """Headless Chromium, whose console is kept."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and its driver (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=900,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as running:
        yield running
