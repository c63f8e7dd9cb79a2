"""Tokens at which a text ends, of a tokenizer and of a folder."""

import json
from pathlib import Path

from troth.model.tokenizer import Tokenizer

GENERATION = "generation_config.json"
_OF_TURNS = "<|assistant|>", "<|end|>"
"""Where both are special, the second ends what follows the first; gpt-oss ends parts of a turn with it."""


def default_ends(tokenizer: Tokenizer) -> list[int]:
    """The tokenizer's end of text and, where it has one, end of turn."""
    ends = [tokenizer.end_of_text]
    return [*ends, tokenizer.special[_OF_TURNS[1]]] if tokenizer.special.keys() >= {*_OF_TURNS} else ends


def configured_ends(folder: Path) -> list[int]:
    """The `eos_token_id` of config.json and generation_config.json, a number or a list in each."""
    ends: dict[int, None] = {}
    for path in (folder / "config.json", folder / GENERATION):
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            ends |= dict.fromkeys(found if isinstance(found, list) else [] if found is None else [found])
    return list(ends)
