"""Which of llama.cpp's ways of splitting a text before BPE is a tokenizer's: it knows them by name, as files of the
families that it was written for have them.

A tokenizer is known by what it does to a text that no two of them split alike, for the same way can be written as many
patterns.
"""

from collections.abc import Sequence
from typing import Any

from troth.model.tokenizer_json import PATTERN

_ENGLISH = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LARGE, _SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE, _SPACES = r"[^\r\n\p{L}\p{N}]?", r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SIGNS = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_DEEPSEEK_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
    rf"|{_SPACES}"
)
_WITHOUT_SPACES = (
    "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f"
    "\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)
_WAYS: dict[str, Sequence[str]] = {
    "gpt-2": (),
    "qwen2": (PATTERN,),
    "llama-bpe": (PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|"),),
    "gpt-4o": (
        rf"{_BEFORE}{_LARGE}*{_SMALL}+{_ENGLISH}?|{_BEFORE}{_LARGE}+{_SMALL}*{_ENGLISH}?|\p{{N}}{{1,3}}|{_SIGNS}",
    ),
    "tekken": (rf"{_BEFORE}{_LARGE}*{_SMALL}+|{_BEFORE}{_LARGE}+{_SMALL}*|\p{{N}}|{_SIGNS}",),
    "deepseek-v3": (r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", _DEEPSEEK_WORDS),
    "afmoe": (r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", _WITHOUT_SPACES, _DEEPSEEK_WORDS),
}
"""llama.cpp's names of the patterns that split a text one after another; without any, ByteLevel's own does."""
_TELLING = (
    "It's IT'S don't DON'T he'll 'tis x'y  camelCase HTTPServer ABCdef \u00c9cole caf\u00e9 cafe\u0301 na\u00efveTE "
    "1 12 123 1234 12345678 3.14 1,000 a1b22c333 v2.0 \u00bd\u00b2 .word (word) _x $5 #tag a/b/c // \n/x --\n\n ==>\r\n"
    "\u6771\u4eac\u306f\u6674\u308c \u4e2d\u6587abc \ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d"
    "\u0926\u0940 \u0627\u0644\u0639 \t\ttab   three\n  indented\n\n\n  end \U0001f642\U0001f642 !?  \n   "
)


def llama_cpp_splitting(pre_tokenizer: dict[str, Any]) -> str | None:
    """llama.cpp's name of what the `pre_tokenizer` of a byte-level tokenizer.json does; None where it has none."""
    found = _split(pre_tokenizer)
    return next((name for name, patterns in _WAYS.items() if _split(_written(patterns)) == found), None)


def known() -> str:
    """The names, for messages."""
    return ", ".join(f"'{name}'" for name in _WAYS)


def _written(patterns: Sequence[str]) -> dict[str, Any]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": not patterns}
    splits = [{"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} for p in patterns]
    return {"type": "Sequence", "pretokenizers": [*splits, level]}


def _split(pre_tokenizer: dict[str, Any]) -> list[Any]:
    import json

    from tokenizers import Tokenizer, models

    whole = json.loads(Tokenizer(models.BPE()).to_str()) | {"pre_tokenizer": pre_tokenizer}
    found: list[Any] = Tokenizer.from_str(json.dumps(whole)).pre_tokenizer.pre_tokenize_str(_TELLING)
    return found
