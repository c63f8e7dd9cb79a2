"""Ways of splitting a text are known by what they do, however they are written."""

import pytest

from troth.model.gguf.splitting import llama_cpp_splitting

REST = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + REST
LLAMA_IN_OTHER_WORDS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|" + REST
QWEN = LLAMA.replace("{1,3}", "")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WITHOUT = {"behavior": "Removed", "invert": True}


def split(*patterns, changes=(), **of_bytes):
    """The `pre_tokenizer` of a tokenizer.json."""
    steps = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False} | dict(changes)
        for pattern in patterns
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [*steps, level | of_bytes]}


@pytest.mark.parametrize(
    ("pre_tokenizer", "name"),
    [
        (split(LLAMA), "llama-bpe"),
        (split(LLAMA_IN_OTHER_WORDS), "llama-bpe"),
        (split(QWEN, changes=WITHOUT), "qwen2"),
        (split(TEKKEN), "tekken"),
        (split(use_regex=True)["pretokenizers"][0], "gpt-2"),
        (split(), None),
        (split(r"\p{N}", use_regex=True), None),
        (split(QWEN, add_prefix_space=True), None),
    ],
)
def test_a_way_of_splitting_has_a_name_there(pre_tokenizer, name):
    assert llama_cpp_splitting(pre_tokenizer) == name
