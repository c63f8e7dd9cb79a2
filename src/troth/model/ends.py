"""Tokens at which a text ends: of a tokenizer, of a folder, and of the turns that a chat template writes."""

import json
from pathlib import Path
from typing import Any

from troth.model.chat_template import ChatTemplate
from troth.model.tokenizer import Tokenizer

_OF_TURNS = "<|assistant|>", "<|end|>"
"""Where both are special, the second ends what follows the first; gpt-oss ends parts of a turn with it."""
_GENERATION = "generation_config.json"


def default_ends(tokenizer: Tokenizer) -> list[int]:
    """The tokenizer's end of text and, where it has one, end of turn."""
    ends = [tokenizer.end_of_text]
    return [*ends, tokenizer.special[_OF_TURNS[1]]] if tokenizer.special.keys() >= {*_OF_TURNS} else ends


def configured_ends(folder: Path) -> list[int]:
    """The `eos_token_id` of config.json and generation_config.json, a number or a list in each."""
    ends: dict[int, None] = {}
    for name in ("config.json", _GENERATION):
        found = _read(folder / name).get("eos_token_id")
        ends |= dict.fromkeys(found if isinstance(found, list) else [] if found is None else [found])
    return list(ends)


def trained_ends(tokenizer: Tokenizer, template: str, start: Path | None) -> list[int]:
    """Where texts of a model end that was trained with a chat template, perhaps from a folder on: at the end of the
    template's turns, first of all, and wherever the folder's and the tokenizer's end."""
    turn = _end_of_turn(template, tokenizer)
    configured = [] if start is None else configured_ends(start)
    return list(dict.fromkeys([*([] if turn is None else [turn]), *configured, *default_ends(tokenizer)]))


def _end_of_turn(template: str, tokenizer: Tokenizer) -> int | None:
    """The special token that ends what the assistant says; None where there is none or no answers are written."""
    messages = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    try:
        (example,) = ChatTemplate(template, tokenizer).examples(messages, [1])
    except ValueError:
        return None
    return example.ids[-1] if example.ids[-1] in tokenizer.special.values() else None


def save_ends(ends: list[int], folder: Path, start: Path | None) -> None:
    """Write generation_config.json, which other engines stop by; from that of a folder, what else it says stays."""
    settings = {} if start is None else _read(start / _GENERATION)
    (folder / _GENERATION).write_text(
        json.dumps(settings | {"eos_token_id": as_json(ends)}, indent=2), encoding="utf-8"
    )


def as_json(ends: list[int]) -> int | list[int]:
    """`eos_token_id` as files have it: a number where it is one."""
    return ends[0] if len(ends) == 1 else ends


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
