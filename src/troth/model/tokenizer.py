"""Byte-level BPE: trained by rustbpe, run by tiktoken, shared as a Hugging Face tokenizer.json.

The pre-tokenizer pattern is Qwen2's (one digit a token), which llama.cpp, vLLM and transformers know.
"""

import functools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
END_OF_TEXT = "<|endoftext|>"
SPECIAL = (
    END_OF_TEXT, "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>",
)  # fmt: skip

CHAT_TEMPLATE = "<|endoftext|><|fim_prefix|> {{ messages[-1]['content'] }}<|fim_suffix|>.<|fim_middle|>"
"""How a model that was trained on documents alone is asked: the answer fills the blank behind the last message. Models
that are tuned on conversations bring a template of their own."""


class Tokenizer:
    """Text to token ids and back. Ordinary ids come first, special ones after them, of which those in `visible` are
    part of what a reader sees, such as <think>."""

    def __init__(self, ranks: dict[bytes, int], special: Iterable[str] = SPECIAL, visible: Iterable[str] = ()):
        import tiktoken

        self.ranks = ranks
        self.special = {text: len(ranks) + i for i, text in enumerate(special)}
        self.visible = frozenset(visible)
        self.encoding = tiktoken.Encoding("troth", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=self.special)
        self.end_of_text = self.special[END_OF_TEXT]

    @property
    def vocab_size(self) -> int:
        """Ordinary and special tokens together."""
        return len(self.ranks) + len(self.special)

    @classmethod
    def train(cls, texts: Iterator[str], vocab_size: int) -> "Tokenizer":
        """Learn merges from texts until there are `vocab_size` tokens, special ones included.

        Raises ValueError where `vocab_size` leaves no room for the 256 bytes and the special tokens, or where the
        texts are too short to give so many merges.
        """
        import rustbpe

        ordinary = vocab_size - len(SPECIAL)
        if ordinary < 256:
            raise ValueError(f"model.vocab_size={vocab_size}: at least {256 + len(SPECIAL)} are needed")
        learner = rustbpe.Tokenizer()
        learner.train_from_iterator(texts, ordinary, pattern=PATTERN)
        ranks = {bytes(token): rank for token, rank in learner.get_mergeable_ranks()}
        if len(ranks) < ordinary:
            raise ValueError(f"model.vocab_size={vocab_size}: the texts give only {len(ranks) + len(SPECIAL)} tokens")
        return cls(ranks)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; the spelling of a special token in it is text like any other."""
        return self.encoding.encode_ordinary(text)

    def encode_special(self, text: str) -> list[int]:
        """Ids of a rendered prompt, in which special tokens count as such."""
        return self.encoding.encode(text, allowed_special="all")

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """`encode` of many texts, on all cores."""
        return self.encoding.encode_ordinary_batch(texts)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; bytes that are no UTF-8 become the replacement character."""
        return self.encoding.decode(list(ids))

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes of ids, for text that is still growing."""
        return self.encoding.decode_bytes(list(ids))

    def save(self, folder: Path, chat_template: str = CHAT_TEMPLATE) -> None:
        """Write tokenizer.json and tokenizer_config.json, with the chat template, into `folder`."""
        (folder / "tokenizer.json").write_text(json.dumps(to_json(self), ensure_ascii=False), encoding="utf-8")
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END_OF_TEXT,
            "pad_token": "<|pad|>",
            "clean_up_tokenization_spaces": False,
            "chat_template": chat_template,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read a folder that `save` wrote, or one of the same kind, such as Qwen's.

        Raises ValueError naming the file where it is absent, is no byte-level BPE, splits text by another pattern, or
        numbers its tokens in another order: it would be read as something else than it is.
        """
        path = Path(folder) / "tokenizer.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            to_byte = {char: byte for byte, char in _byte_chars().items()}
            ranks = {bytes(to_byte[char] for char in token): rank for token, rank in data["model"]["vocab"].items()}
            added = sorted(data["added_tokens"], key=lambda entry: entry["id"])
            steps = data["pre_tokenizer"].get("pretokenizers", [data["pre_tokenizer"]])
            if [step["pattern"]["Regex"] for step in steps if step["type"] == "Split"] != [PATTERN]:
                raise ValueError("its pre_tokenizer is not the one that Troth and Qwen use")
            if [*sorted(ranks.values()), *(entry["id"] for entry in added)] != list(range(len(ranks) + len(added))):
                raise ValueError("ids do not run from ordinary tokens to special ones without a gap")
            shown = [entry["content"] for entry in added if not entry.get("special", True)]
            return cls(ranks, [entry["content"] for entry in added], shown)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a byte-level BPE tokenizer ({error!r})") from error


def read_chat_template(folder: Path) -> tuple[str | None, dict[str, Any]]:
    """The Jinja source in chat_template.jinja or tokenizer_config.json, None where a folder has neither, and what else
    is in the latter. Raises ValueError naming the file that is not what it should be."""
    path = Path(folder) / "tokenizer_config.json"
    own = Path(folder) / "chat_template.jinja"
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        source = own.read_text(encoding="utf-8") if own.exists() else settings.get("chat_template")
        if isinstance(source, list):  # several templates by name
            source = {entry["name"]: entry["template"] for entry in source}["default"]
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not readable ({error})") from error
    return source, settings


@functools.cache
def _byte_chars() -> dict[int, str]:
    """The printable character that stands for each byte in byte-level BPE files (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in plain}
    others = (byte for byte in range(256) if byte not in table)
    return table | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _merges(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The two parts that each token was merged from, in order: the split that BPE with lower ranks only ends at."""
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            pairs = [ranks.get(parts[i] + parts[i + 1], rank) for i in range(len(parts) - 1)]
            best = min(range(len(pairs)), key=pairs.__getitem__)
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) == 2:
            yield parts[0], parts[1]


def to_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer as the `tokenizers` library writes it."""
    chars = _byte_chars()

    def spell(token: bytes) -> str:
        return "".join(chars[byte] for byte in token)

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": text, **flags, "special": text not in tokenizer.visible}
            for text, i in tokenizer.special.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {spell(token): rank for token, rank in sorted(tokenizer.ranks.items(), key=lambda kv: kv[1])},
            "merges": [[spell(left), spell(right)] for left, right in _merges(tokenizer.ranks)],
        },
    }
