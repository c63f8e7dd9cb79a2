"""A folder's tokenizer and chat template as a GGUF file holds them.

How a byte-level tokenizer splits text is named (`splitting`). SentencePiece's merge by scores of tokens, for which the
ranks of their merges stand here.
"""

import json
from pathlib import Path
from typing import Any

from troth.model.ends import configured_ends, configured_tokens
from troth.model.gguf.splitting import known, llama_cpp_splitting
from troth.model.library_encoding import steps_of
from troth.model.tokenizer import Tokenizer, read_chat_template, tokenizer_json

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_NAMED = {
    "eot": "<|end|>", "fim_pre": "<|fim_prefix|>", "fim_suf": "<|fim_suffix|>", "fim_mid": "<|fim_middle|>"
}  # fmt: skip


def vocabulary(folder: Path, rows: int) -> dict[str, Any]:
    """The keys `tokenizer.*` for an embedding of so many rows; those that no token has are named and marked unused.

    Raises ValueError where the folder's tokenizer is not one that llama.cpp runs, or has more tokens than there are
    rows.
    """
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > rows:
        raise ValueError(f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {rows}")
    data = json.loads(tokenizer_json(tokenizer))
    steps = steps_of(data, "normalizer", "pre_tokenizer")
    tokens, types = [f"<unused {i}>" for i in range(rows)], [_UNUSED] * rows
    # No ordinary token can be spelled with a space, which stands there as another character.
    for text, i in data["model"]["vocab"].items():
        tokens[i], types[i] = text, _NORMAL
    for entry in data["added_tokens"]:
        # Added tokens that are not special, such as Qwen's <think>, are shown to users as text is.
        kind = _CONTROL if entry.get("special", True) else _USER_DEFINED
        tokens[entry["id"]], types[entry["id"]] = entry["content"], kind
    found: dict[str, Any] = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    if any(step["type"] == "ByteLevel" for step in steps):
        found |= _byte_level(data, folder)
    else:
        found |= _by_scores(data, steps, types)
    template, settings = read_chat_template(folder)
    found |= {"tokenizer.ggml.add_bos_token": tokenizer.begin is not None, "tokenizer.ggml.add_eos_token": False}
    found |= {f"tokenizer.ggml.{name}_token_id": token for name, token in _marks(folder, tokenizer, settings).items()}
    if template is not None:
        found["tokenizer.chat_template"] = template
    return found


def _byte_level(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    pre = llama_cpp_splitting(data["pre_tokenizer"])
    if pre is None:
        raise ValueError(f"{folder / 'tokenizer.json'}: splits text otherwise than llama.cpp's {known()}")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in data["model"]["merges"]]
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.merges": merges}


def _by_scores(data: dict[str, Any], steps: list[dict[str, Any]], types: list[int]) -> dict[str, Any]:
    """Of SentencePiece's kind; `types` of its bytes and of its unknown token are put right."""
    model = data["model"]
    scores = [0.0] * len(types)
    for rank, merge in reversed(list(enumerate(model["merges"]))):
        joined = merge.replace(" ", "") if isinstance(merge, str) else "".join(merge)
        scores[model["vocab"][joined]] = -float(rank)
    for byte in (f"<0x{byte:02X}>" for byte in range(256)):
        if byte in model["vocab"]:
            types[model["vocab"][byte]] = _BYTE
    found: dict[str, Any] = {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.add_space_prefix": any(
            step["type"] == "Prepend" or step.get("prepend_scheme") in ("always", "first") for step in steps
        ),
    }  # fmt: skip
    if (unknown := model.get("unk_token")) is not None:
        types[model["vocab"][unknown]] = _UNKNOWN
        found["tokenizer.ggml.unknown_token_id"] = model["vocab"][unknown]
    return found


def _marks(folder: Path, tokenizer: Tokenizer, settings: dict[str, Any]) -> dict[str, int]:
    """The tokens that begin, end, pad and fill in; a text without a beginning of its own begins as documents do."""
    marks = {name: tokenizer.special[text] for name, text in _NAMED.items() if text in tokenizer.special}
    ends = [*configured_ends(folder), tokenizer.end_of_text]
    configured = configured_tokens(folder, "bos_token_id")
    begins = [*configured, *_spelled(settings, "bos_token", tokenizer), tokenizer.end_of_text]
    marks = {"bos": begins[0], "eos": ends[0]} | marks
    others = [token for token in ends if token != ends[0]]
    if "eot" not in marks and others:
        marks["eot"] = others[0]
    pads = _spelled(settings, "pad_token", tokenizer)
    return marks | ({"padding": pads[0]} if pads else {})


def _spelled(settings: dict[str, Any], key: str, tokenizer: Tokenizer) -> list[int]:
    """The token that tokenizer_config.json names by its spelling, if any."""
    text = settings.get(key)
    text = text.get("content") if isinstance(text, dict) else text
    return [tokenizer.special[text]] if text in tokenizer.special else []
