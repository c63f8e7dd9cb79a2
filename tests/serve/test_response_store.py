"""What is kept of answers, for how long, and in which order it comes back."""

from pathlib import Path

import pytest

from troth.serve.api.response_store import ResponseStore


def answer(name: str, previous: str | None = None) -> dict:
    return {"id": name, "previous_response_id": previous, "output": [{"text": f"says {name}"}]}


def put(store: ResponseStore, *chain: str) -> None:
    for name, previous in zip(chain, [None, *chain], strict=False):
        store.put([{"asks": name}], answer(name, previous))


def test_a_chain_comes_oldest_first_and_breaks_where_a_part_is_gone():
    store = ResponseStore(None, most=10, days=1)
    put(store, "a", "b", "c")
    assert [stored.items[0]["asks"] for stored in store.chain("c")] == ["a", "b", "c"]
    assert store.get("b").response == answer("b", "a")
    assert store.delete("a")
    assert not store.delete("a")
    assert store.get("a") is None
    assert store.chain("c") == store.chain("nothing") == []
    assert store.get("c") is not None


def test_the_newest_are_kept_and_none_too_long(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    store = ResponseStore(None, most=3, days=1)
    for name in "abcd":
        now += 1
        put(store, name)
    assert [name for name in "abcd" if store.get(name)] == ["b", "c", "d"]
    now += 86_400
    put(store, "e")
    assert [name for name in "abcde" if store.get(name)] == ["d", "e"], "b and c are older than a day"


def test_a_file_outlives_the_server(tmp_path: Path):
    path = tmp_path / "responses.sqlite"
    store = ResponseStore(path, most=10, days=1)
    put(store, "a", "b")
    store.close()
    again = ResponseStore(path, most=10, days=1)
    assert len(again.chain("b")) == 2
    again.close()
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be looked at " * 20)
    with pytest.raises(ValueError, match=r"notes.txt: cannot hold responses"):
        ResponseStore(tmp_path / "notes.txt", most=10, days=1)
