"""Which rows of one's own data are held out: a share of them, by what they begin with."""

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from troth.train.sources import Row

_PROMPTS = "text", "prompt", "instruction"
_TURNS = "messages", "conversations", "chosen"


@dataclass(frozen=True)
class Split:
    """The rows that are `held` out, or the others. Which side a row falls on follows from its text alone, or from its
    prompt up to the first answer: rows that are the same, or answer the same, are on one side, in every run."""

    share: float
    held: bool

    def __call__(self, row: Row) -> bool:
        """Whether it is on this side."""
        digest = blake2b(_beginning(row.values).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return (int.from_bytes(digest, "big") < self.share * 2**64) == self.held


def _beginning(values: dict[str, Any]) -> str:
    for name in _PROMPTS:
        if values.get(name):
            return json.dumps([values[name], values.get("input")], default=str)
    turns = next((values[name] for name in _TURNS if values.get(name)), None)
    if not isinstance(turns, list):
        return json.dumps(turns, default=str)
    asked = []
    for turn in turns:
        if isinstance(turn, dict) and (turn.get("role") or turn.get("from")) in ("assistant", "gpt", "chatgpt"):
            break
        asked.append(turn)
    return json.dumps(asked, default=str)
