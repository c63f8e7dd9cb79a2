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
    """The `eos_token_id` of a folder."""
    return configured_tokens(folder, "eos_token_id")


def configured_tokens(folder: Path, key: str) -> list[int]:
    """What config.json and generation_config.json have under a key, a token's id or a list of such in each. Raises
    ValueError naming the file where it is neither."""
    tokens: dict[int, None] = {}
    for path in (folder / "config.json", folder / GENERATION):
        if path.exists():
            tokens |= dict.fromkeys(_tokens(path, key))
    return list(tokens)


def _tokens(path: Path, key: str) -> list[int]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get(key)
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise ValueError(f"{path}: not readable ({error})") from error
    tokens = found if isinstance(found, list) else [] if found is None else [found]
    if wrong := [token for token in tokens if type(token) is not int]:
        raise ValueError(f"{path}: {key}={wrong[0]!r}: expected a token's id, or a list of such")
    return tokens
