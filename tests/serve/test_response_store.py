"""What is kept of answers, for how long, and in which order it comes back."""

import json
import sqlite3
import time
from pathlib import Path

import pytest

from troth.serve.api.response_store import ResponseStore


def answer(name: str, previous: str | None = None) -> dict:
    return {"id": name, "previous_response_id": previous, "output": [{"text": f"says {name}"}]}


def put(store: ResponseStore, *chain: str) -> None:
    for name, previous in zip(chain, [None, *chain], strict=False):
        store.put("ada", [{"asks": name}], answer(name, previous))


def test_a_chain_comes_oldest_first_and_breaks_where_a_part_is_gone():
    store = ResponseStore(None, most=10, most_bytes=10_000, days=1)
    put(store, "a", "b", "c")
    assert [stored.items[0]["asks"] for stored in store.chain("ada", "c")] == ["a", "b", "c"]
    assert store.get("ada", "b").response == answer("b", "a")
    assert store.delete("ada", "a")
    assert not store.delete("ada", "a")
    assert store.get("ada", "a") is None
    assert store.chain("ada", "c") == store.chain("ada", "nothing") == []
    assert store.get("ada", "c") is not None


def test_nobody_finds_what_another_asked():
    store = ResponseStore(None, most=10, most_bytes=10_000, days=1)
    put(store, "a", "b")
    assert store.get("bob", "b") is None
    assert store.chain("bob", "b") == []
    assert not store.delete("bob", "b")
    assert store.get(None, "b") is None
    assert store.get("ada", "b") is not None


def test_the_newest_are_kept_and_none_too_long(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    store = ResponseStore(None, most=3, most_bytes=10_000, days=1)
    for name in "abcd":
        now += 1
        put(store, name)
    assert [name for name in "abcd" if store.get("ada", name)] == ["b", "c", "d"]
    now += 86_400
    put(store, "e")
    assert [name for name in "abcde" if store.get("ada", name)] == ["d", "e"], "b and c are older than a day"


def test_all_together_are_no_larger_than_they_may_be():
    store = ResponseStore(None, most=10, most_bytes=1000, days=1)
    put(store, *"abc")
    store.put("ada", [{"asks": 850 * "x"}], answer("d"))
    assert [name for name in "abcd" if store.get("ada", name)] == ["d"]
    put(store, "e")
    assert [name for name in "abcde" if store.get("ada", name)] == ["e"]
    store.put("ada", [{"asks": 2000 * "x"}], answer("f"))
    assert not any(store.get("ada", name) for name in "abcdef")


def test_a_file_outlives_the_server(tmp_path: Path):
    path = tmp_path / "responses.sqlite"
    store = ResponseStore(path, most=10, most_bytes=10_000, days=1)
    put(store, "a", "b")
    store.close()
    again = ResponseStore(path, most=10, most_bytes=10_000, days=1)
    assert len(again.chain("ada", "b")) == 2
    again.close()
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be looked at " * 20)
    with pytest.raises(ValueError, match=r"notes.txt: cannot hold responses"):
        ResponseStore(tmp_path / "notes.txt", most=10, most_bytes=10_000, days=1)


def test_a_file_from_before_sizes_were_kept_is_read(tmp_path: Path):
    path = tmp_path / "responses.sqlite"
    columns = "id TEXT PRIMARY KEY, holder TEXT, previous TEXT, created REAL, input TEXT, response TEXT"
    with sqlite3.connect(path) as base:
        base.execute(f"CREATE TABLE responses ({columns}) STRICT")
        row = "a", "ada", None, time.time(), "[]", json.dumps(answer("a"))
        base.execute("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?)", row)
    store = ResponseStore(path, most=10, most_bytes=100, days=1)
    assert store.get("ada", "a").response == answer("a")
    put(store, "b")
    assert [name for name in "ab" if store.get("ada", name)] == ["b"]
