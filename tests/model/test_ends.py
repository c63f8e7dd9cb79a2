"""Tokens at which a text ends, as the files of a folder name them."""

import json
import re

import pytest

from troth.model.ends import configured_ends


def test_both_files_name_them(tmp_path):
    (tmp_path / "config.json").write_text('{"eos_token_id": 7}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [9, 7]}')
    assert configured_ends(tmp_path) == [7, 9]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": null}')
    assert configured_ends(tmp_path) == [7]


@pytest.mark.parametrize("said", ["</s>", 1.5, True, {}, [7, [9]]], ids=str)
def test_what_is_no_token_is_named(tmp_path, said):
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": said}))
    with pytest.raises(ValueError, match=re.escape(f"{path}: eos_token_id=")):
        configured_ends(tmp_path)


@pytest.mark.parametrize("text", ["", "[7]", "null", "[" * 100_000], ids=["empty", "list", "null", "deep"])
def test_a_file_that_is_no_object_is_named(tmp_path, text):
    path = tmp_path / "generation_config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{path}: not readable")):
        configured_ends(tmp_path)
