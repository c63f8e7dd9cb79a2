"""Tokens at which a text ends."""

import json
from pathlib import Path

from troth.model.tokenizer import Tokenizer

END_OF_TURN = "<|end|>"


def default_ends(tokenizer: Tokenizer) -> set[int]:
    """The tokenizer's end of text and, where it has one, end of turn."""
    return {tokenizer.end_of_text} | {tokenizer.special[text] for text in (END_OF_TURN,) if text in tokenizer.special}


def configured_ends(folder: Path) -> set[int]:
    """The `eos_token_id` of config.json and generation_config.json, a number or a list in each."""
    ends: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            ends |= set(found) if isinstance(found, list) else {found} - {None}
    return ends
