"""Tokenizers that tiktoken cannot run, by Hugging Face's `tokenizers`, for which the published families' files are
written: byte-level BPE however it splits, and BPE that falls back on bytes (SentencePiece's).

It has the methods of tiktoken's Encoding that `Tokenizer` uses.
"""

import copy
import json
import re
import secrets
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from troth.model.byte_chars import byte_chars

Behind = Literal["nothing", "token", "text"]
"""What stands before a text: nothing, a special token, or text that it goes on from."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"
"""SentencePiece's spelling of one."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_IDS = 1 << 24
_INNER = "normalizers", "pretokenizers", "decoders"
_PLACES = "normalizer", "pre_tokenizer", "decoder"


class LibraryEncoding:
    """A tokenizer.json, run as it says. `special` are the ids of its added tokens, but for runs of white space, which
    are text; of these `visible` are part of what a reader sees; `ranks` are the ids of all others by their bytes.

    Raises ValueError where it is no BPE, or has tokens that stand for no bytes.
    """

    def __init__(self, source: str):
        data = json.loads(source)
        if data["model"].get("type") != "BPE":
            raise ValueError(f"model.type={data['model'].get('type')!r}: only 'BPE' is known")
        data |= {"post_processor": None, "truncation": None, "padding": None}
        added = [entry for entry in data["added_tokens"] if entry["special"] or not entry["content"].isspace()]
        self.source = source
        self.special: dict[str, int] = {entry["content"]: entry["id"] for entry in added}
        self.visible = frozenset(entry["content"] for entry in added if not entry["special"])
        bytes_of = dict(_bytes_of(data)) | {i: text.encode() for text, i in self.special.items()}
        if wrong := next((i for i in bytes_of if not 0 <= i < _MOST_IDS), None):
            raise ValueError(f"a token has the id {wrong}: ids go from 0 to below {_MOST_IDS:,}")
        self.n_vocab = max(bytes_of) + 1
        self._bytes = [bytes_of.get(i, b"") for i in range(self.n_vocab)]
        special = set(self.special.values())
        self.ranks = {token: i for i, token in bytes_of.items() if i not in special}
        self._prefix_once = any(step.get("prepend_scheme") == "first" for step in steps_of(data, *_PLACES))
        plain = _without_special(data, self.special)
        bare = _without_prefix(plain)
        self._with_special, self._plain = _library(data), _library(plain)
        self._bare = self._plain if bare == plain else _library(bare)

    def encode_ordinary(self, text: str, behind: Behind = "nothing") -> list[int]:
        """Ids of plain text. Where a tokenizer puts a space before a text, it does not where that goes on from other
        text, and some do at the very beginning only."""
        bare = behind == "text" or (behind == "token" and self._prefix_once)
        ids: list[int] = (self._bare if bare else self._plain).encode(whole(text), add_special_tokens=False).ids
        return ids

    def encode(self, text: str, *, allowed_special: Literal["all"]) -> list[int]:
        """Ids of text in which the spelling of special tokens counts as such."""
        ids: list[int] = self._with_special.encode(whole(text), add_special_tokens=False).ids
        return ids

    def encode_ordinary_batch(self, texts: list[str]) -> list[list[int]]:
        """`encode_ordinary` of many texts, on all cores."""
        found = self._plain.encode_batch_fast([whole(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def encode_to_numpy(self, text: str, *, disallowed_special: tuple[()] = ()) -> np.ndarray:
        """`encode_ordinary` as uint32."""
        return np.array(self.encode_ordinary(text), dtype=np.uint32)

    def decode(self, ids: list[int]) -> str:
        """Text of ids; bytes that are no UTF-8 become the replacement character."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: list[int]) -> bytes:
        """The bytes that ids stand for, one after another."""
        return b"".join([self._bytes[i] for i in ids])


def _library(data: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(json.dumps(data))
    except Exception as error:  # The library raises nothing narrower.
        raise ValueError(str(error)) from error


def steps_of(data: dict[str, Any], *places: str) -> list[dict[str, Any]]:
    """The steps of a tokenizer.json at places such as `pre_tokenizer`, those of sequences one by one."""
    found, waiting = [], [data.get(place) for place in places]
    while waiting:
        if step := waiting.pop(0):
            found.append(step)
            waiting += [inner for name in _INNER for inner in step.get(name, [])]
    return found


def _bytes_of(data: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
    """Ids of the model's tokens and of white space that was added, with the bytes of each."""
    byte_level = any(step["type"] == "ByteLevel" for step in steps_of(data, *_PLACES))
    if not byte_level and not data["model"].get("byte_fallback"):
        raise ValueError("it is neither byte-level nor falls back on bytes")
    to_byte = {char: byte for byte, char in byte_chars().items()}
    for token, i in data["model"]["vocab"].items():
        if byte_level:
            known = all(char in to_byte for char in token)
            yield i, bytes(to_byte[char] for char in token) if known else token.encode()
        else:
            byte = _BYTE.fullmatch(token)
            yield i, bytes([int(byte[1], 16)]) if byte else token.replace(_SPACE, " ").encode()
    for entry in data["added_tokens"]:
        yield entry["id"], entry["content"].encode()


def _without_special(data: dict[str, Any], special: dict[str, int]) -> dict[str, Any]:
    """The same with special tokens that nobody can spell: left out, they would change the ids of those behind them."""
    secret = secrets.token_hex(8)
    hidden = {text: f"\ufdd0{secret}{i}" for text, i in special.items()}
    model = data["model"]
    vocab = {hidden.get(token, token): i for token, i in model["vocab"].items()}
    unknown = hidden.get(model.get("unk_token"), model.get("unk_token"))
    added = [entry | {"content": hidden.get(entry["content"], entry["content"])} for entry in data["added_tokens"]]
    return data | {"added_tokens": added, "model": model | {"vocab": vocab, "unk_token": unknown}}


def _without_prefix(data: dict[str, Any]) -> dict[str, Any]:
    """The same without the space that some put before a text."""
    places = "normalizer", "pre_tokenizer"
    changed = data | {place: copy.deepcopy(data.get(place)) for place in places}
    for step in steps_of(changed, *places):
        if step["type"] == "Prepend":
            step |= {"type": "Sequence", "normalizers": []}
            step.pop("prepend")
        if "prepend_scheme" in step:
            step["prepend_scheme"] = "never"
        if "add_prefix_space" in step:
            step["add_prefix_space"] = False
    return changed


def whole(text: str) -> str:
    """Text without halves of surrogate pairs, which are no characters."""
    if _LONE_SURROGATE.search(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
