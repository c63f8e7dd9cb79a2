"""API keys: what is kept, what is recognised, and what a damaged file says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.security.keys import Keys, StoredKey, add_key, read_keys, revoke_key


def test_a_key_is_printed_once_and_kept_as_a_hash(tmp_path: Path):
    file = tmp_path / "keys.jsonl"
    ada, bob = add_key(file, "ada"), add_key(file, "bob")
    assert ada != bob
    assert len(ada) > 43, "256 random bits"
    assert not any(key in file.read_text() for key in (ada, bob))
    assert file.stat().st_mode & 0o777 == 0o600
    keys = Keys(["given"], file)
    assert [keys.holder(key) for key in (ada, bob, "given", ada[:-1], "")] == ["ada", "bob", "default", None, None]


def test_changes_of_the_file_are_taken_up(tmp_path: Path):
    file = tmp_path / "keys.jsonl"
    ada = add_key(file, "ada")
    keys = Keys(path=file)
    bob = add_key(file, "bob")
    assert keys.holder(bob) == "bob"
    revoke_key(file, "ada")
    assert keys.holder(ada) is None
    assert [key.name for key in read_keys(file)] == ["bob"]


def test_mistakes_name_the_file_and_the_name(tmp_path: Path):
    file = tmp_path / "keys.jsonl"
    add_key(file, "ada")
    with pytest.raises(ValueError, match="ada has a key already"):
        add_key(file, "ada")
    with pytest.raises(ValueError, match="no key of bob; there are ada"):
        revoke_key(file, "bob")
    with file.open("a") as lines:
        lines.write('{"name": "eve"}\n')
    with pytest.raises(ValueError, match="line 2: no key"):
        Keys(path=file)
    with pytest.raises(OSError, match="nowhere"):
        Keys(path=tmp_path / "nowhere")


@given(st.text(), st.text())
def test_only_the_same_key_matches(key: str, other: str):
    stored = StoredKey.of("someone", key)
    assert stored.matches(key)
    assert stored.matches(other) == (key == other)
