"""What a tokenizer.json holds: of a byte-level BPE as it is written, and of others what is set before a text.

The pre-tokenizer pattern is Qwen2's (one digit a token), which llama.cpp, vLLM and transformers know.
"""

from collections.abc import Container, Iterator, Mapping
from typing import Any

from troth.model.byte_chars import byte_chars

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def template_begin(data: dict[str, Any]) -> str | None:
    """The special token that the post-processor of a tokenizer.json sets before a text."""
    whole = data.get("post_processor") or {}
    for step in whole.get("processors", [whole]):
        if step.get("type") == "TemplateProcessing":
            first: dict[str, Any] = (step.get("single") or [{}])[0]
            return first.get("SpecialToken", {}).get("id")
    return None


def _merges(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The two parts that each token was merged from, in order: the split that BPE with lower ranks only ends at."""
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            pairs = [ranks.get(parts[i] + parts[i + 1], rank) for i in range(len(parts) - 1)]
            best = min(range(len(pairs)), key=pairs.__getitem__)
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) == 2:
            yield parts[0], parts[1]


def to_json(
    ranks: Mapping[bytes, int], special: Mapping[str, int], visible: Container[str], *, nfc: bool
) -> dict[str, Any]:
    """A tokenizer as the `tokenizers` library writes it: `ranks` by tokens' bytes, `special` ids by their spelling, of
    which readers see the `visible`; with `nfc`, text is composed first."""
    chars = byte_chars()

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
            {"id": i, "content": text, **flags, "special": text not in visible} for text, i in special.items()
        ],
        "normalizer": {"type": "NFC"} if nfc else None,
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
            "vocab": {spell(token): rank for token, rank in sorted(ranks.items(), key=lambda kv: kv[1])},
            "merges": [[spell(left), spell(right)] for left, right in _merges(ranks)],
        },
    }
