"""A folder's tokenizer and chat template as a GGUF file holds them.

The pre-tokenizer is named, not described: llama.cpp's `qwen2` splits by the pattern that Troth's tokenizer has.
"""

import json
from pathlib import Path
from typing import Any

from troth.model.library_encoding import LibraryEncoding
from troth.model.tokenizer import Tokenizer, read_chat_template, to_json

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_NAMED = {
    "eot": "<|end|>", "fim_pre": "<|fim_prefix|>", "fim_suf": "<|fim_suffix|>", "fim_mid": "<|fim_middle|>"
}  # fmt: skip


def vocabulary(folder: Path, rows: int) -> dict[str, Any]:
    """The keys `tokenizer.*` for an embedding of so many rows; those that no token has are named and marked unused.

    Raises ValueError where the folder's tokenizer splits text in another way than Troth's, or has more tokens than
    there are rows.
    """
    tokenizer = Tokenizer.load(folder)
    if isinstance(tokenizer.encoding, LibraryEncoding):
        raise ValueError(
            f"{folder / 'tokenizer.json'}: --gguf writes byte-level tokenizers that split text as Troth's and Qwen's do"
        )
    if tokenizer.vocab_size > rows:
        raise ValueError(f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {rows}")
    model = to_json(tokenizer)["model"]
    unused = range(tokenizer.vocab_size, rows)
    template, settings = read_chat_template(folder)
    found: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        # No ordinary token can be spelled with a space, which stands there as another character.
        "tokenizer.ggml.tokens": [*model["vocab"], *tokenizer.special, *(f"<unused {i}>" for i in unused)],
        "tokenizer.ggml.token_type": [*_types(folder, tokenizer), *(_UNUSED for _ in unused)],
        "tokenizer.ggml.merges": [" ".join(parts) for parts in model["merges"]],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
    }
    found |= {f"tokenizer.ggml.{name}_token_id": token for name, token in _marks(folder, tokenizer, settings).items()}
    if template is not None:
        found["tokenizer.chat_template"] = template
    return found


def _types(folder: Path, tokenizer: Tokenizer) -> list[int]:
    """What each token is; added tokens that are not special, such as Qwen's <think>, are shown to users as text is."""
    added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    shown = {entry["content"] for entry in added if not entry.get("special", True)}
    special = [_USER_DEFINED if text in shown else _CONTROL for text in tokenizer.special]
    return [_NORMAL] * len(tokenizer.ranks) + special


def _marks(folder: Path, tokenizer: Tokenizer, settings: dict[str, Any]) -> dict[str, int]:
    """The tokens that begin, end, pad and fill in; a text without a beginning of its own begins as documents do."""
    marks = {name: tokenizer.special[text] for name, text in _NAMED.items() if text in tokenizer.special}
    ends = [*_configured(folder, "eos_token_id"), tokenizer.end_of_text]
    begins = [*_configured(folder, "bos_token_id"), tokenizer.end_of_text]
    marks = {"bos": begins[0], "eos": ends[0]} | marks
    others = [token for token in ends if token != ends[0]]
    if "eot" not in marks and others:
        marks["eot"] = others[0]
    pad = settings.get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    return marks | ({"padding": tokenizer.special[pad]} if pad in tokenizer.special else {})


def _configured(folder: Path, key: str) -> list[int]:
    """Token ids under a key of config.json and generation_config.json, a number or a list in each."""
    found: list[int] = []
    for path in (folder / "config.json", folder / "generation_config.json"):
        value = json.loads(path.read_text(encoding="utf-8")).get(key) if path.exists() else None
        found += value if isinstance(value, list) else [] if value is None else [value]
    return found
