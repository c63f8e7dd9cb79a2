"""Documents from files of every kind, here and at URLs, one at a time; what cannot be read is named."""

import gzip
import json

import fsspec
import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from troth.train.documents import read_documents

TEXTS = [f"Text {number}, ünïcode and\na second line." for number in range(700)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def rows(texts=TEXTS):
    return [{"text": text, "source": "elsewhere"} for text in texts]


def write_parquet(path):
    pq.write_table(pa.Table.from_pylist(rows()), path, row_group_size=100)


def write_lance(path):
    lance.write_dataset(pa.Table.from_pylist(rows()), str(path))


WRITERS = {
    "web.parquet": write_parquet,
    "web.lance": write_lance,
    "web.jsonl": lambda path: path.write_bytes(lines(rows())),
    "web.json": lambda path: path.write_bytes(lines(rows()).rstrip().replace(b"\n", b"\r\n\n")),
    "web.jsonl.gz": lambda path: path.write_bytes(b"".join(gzip.compress(lines([row])) for row in rows())),
    "web.ndjson.zst": lambda path: path.write_bytes(pa.compress(lines(rows()), codec="zstd", asbytes=True)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_its_texts(tmp_path, name):
    WRITERS[name](tmp_path / name)
    expected = [("web", text, 1.0) for text in TEXTS]
    assert list(read_documents([str(tmp_path / name)])) == expected
    assert list(read_documents([f"file://{tmp_path / name}"])) == expected


def test_collections_and_weights_are_taken_where_they_are_given(tmp_path):
    given = [
        {"text": "a", "collection": "prose", "weight": 0.5},
        {"text": "b", "collection": None, "weight": None},
        {"text": "c", "collection": "", "weight": 2},
    ]
    expected = [("prose", "a", 0.5), ("mine.v2", "b", 1.0), ("mine.v2", "c", 2.0)]
    (tmp_path / "mine.v2.jsonl").write_bytes(lines(given))
    assert list(read_documents([str(tmp_path / "mine.v2.jsonl")])) == expected
    pq.write_table(pa.Table.from_pylist(given), tmp_path / "mine.v2.parquet")
    assert list(read_documents([str(tmp_path / "mine.v2.parquet")])) == expected


def test_a_folder_is_read_by_name_and_what_is_no_document_is_left(tmp_path):
    for name in ("b.jsonl", "a/z.jsonl", "a/.hidden.jsonl", "_temporary/x.jsonl", "readme.md", "c.jsonl.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(lines([{"text": name}]))
    lance.write_dataset(pa.table({"text": ["ledger"]}), str(tmp_path / "corpus.lance"))
    found = list(read_documents([str(tmp_path), str(tmp_path / "b.jsonl")]))
    assert found == [
        ("z", "a/z.jsonl", 1.0), ("b", "b.jsonl", 1.0), ("corpus", "ledger", 1.0), ("b", "b.jsonl", 1.0),
    ]  # fmt: skip


def test_a_bucket_is_read_like_a_folder(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/docs/one.jsonl.gz", gzip.compress(lines([{"text": "one"}])))
    write_parquet(tmp_path / "two.parquet")
    memory.pipe("/bucket/docs/two.parquet", (tmp_path / "two.parquet").read_bytes())
    try:
        found = list(read_documents(["memory://bucket/docs"]))
        assert found == [("one", "one", 1.0), *(("two", text, 1.0) for text in TEXTS)]
        memory.pipe("/bucket/docs/three.jsonl", b"{")
        with pytest.raises(ValueError, match=r"memory://.*three.jsonl, line 1: no JSON"):
            list(read_documents(["memory://bucket/docs"]))
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_file_is_not_read_further_than_needed(tmp_path):
    """The first documents are there although the end of the file is broken."""
    path = tmp_path / "large.jsonl"
    path.write_bytes(lines([{"text": "x" * 1_000}] * 5_000) + b"{broken")
    found = read_documents([str(path)])
    assert len([next(found) for _ in range(5_000)]) == 5_000
    with pytest.raises(ValueError, match=rf"{path}, line 5001: no JSON"):
        next(found)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_array_is_read_as_its_items(tmp_path, pack):
    """As Alpaca's and ShareGPT's files mostly are."""
    path = tmp_path / ("a.json" if pack is bytes else "a.json.gz")
    path.write_bytes(pack(json.dumps([{"text": "x"}, {"text": "y"}], indent=1).encode()))
    assert [text for _, text, _ in read_documents([str(path)])] == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"text": "x"}\n\n{"text": \n', "a.jsonl, line 3: no JSON"),
        ("a.jsonl", b'{"text": "x"}\n{"body": "y", "url": ""}\n', "a.jsonl, line 2: no 'text'; it has body, url"),
        ("a.jsonl", b'["x"]\n', "a.jsonl, line 1: a list; expected an object, with 'text'"),
        ("a.json", b'[\n {"text": "x"},\n {"body": "y"}\n]', "a.json, item 2: no 'text'; it has body"),
        ("a.json", b'[\n {"text": "x"}\n', "a.json, line 1: no JSON (Expecting ',' delimiter"),
        ("a.jsonl", b"null\n", "a.jsonl, line 1: a NoneType; expected an object"),
        ("a.jsonl", b'{"text": "\xff"}\n', "a.jsonl, line 1: no JSON"),
        ("a.jsonl", b'{"text": 3}\n', "a.jsonl, line 1: text=3; expected text"),
        ("a.jsonl", b'{"text": "x", "weight": 0}\n', "a.jsonl, line 1: weight=0; expected a number above 0"),
        ("a.jsonl", b'{"text": "x", "weight": NaN}\n', "a.jsonl, line 1: weight=nan; expected a number above 0"),
        ("a.jsonl", b'{"text": "x", "collection": 1}\n', "a.jsonl, line 1: collection=1; expected a name"),
        ("a.jsonl.gz", gzip.compress(lines(rows()))[:-20], "a.jsonl.gz: not readable"),
        ("a.jsonl.gz", b"no gzip", "a.jsonl.gz: not readable"),
        ("a.jsonl.zst", b"no zstd", "a.jsonl.zst: not readable"),
        ("a.parquet", b"no parquet", "a.parquet: not readable"),
        ("a.txt", b"text", "a.txt: nothing to read; expected Parquet, JSON lines or a Lance dataset"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r".") as caught:
        list(read_documents([str(tmp_path / name)]))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_lance_dataset_is_named(tmp_path):
    (tmp_path / "a.lance").mkdir()
    with pytest.raises(ValueError, match=r"a.lance: no Lance dataset"):
        list(read_documents([str(tmp_path)]))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("nowhere.jsonl", "nowhere.jsonl: cannot be read: no such file or folder"),
        ("nowhere.lance", "nowhere.lance: cannot be read"),
        ("memory://nowhere", "memory://nowhere: cannot be read"),
        ("rockets://moon/a.jsonl", "rockets://moon/a.jsonl: Protocol not known"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, monkeypatch, source, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=told):
        list(read_documents([source]))


def test_a_table_without_texts_says_what_it_has(tmp_path):
    table = pa.table({"body": ["x"], "url": ["y"]})
    pq.write_table(table, tmp_path / "a.parquet")
    lance.write_dataset(table, str(tmp_path / "a.lance"))
    for name in ("a.parquet", "a.lance"):
        with pytest.raises(ValueError, match=rf"{name}: no column 'text'; it has body, url"):
            list(read_documents([str(tmp_path / name)]))


def test_files_of_another_objective_say_which(tmp_path):
    chats, pairs = tmp_path / "chats.jsonl", tmp_path / "pairs.parquet"
    chats.write_text('{"messages": []}\n', encoding="utf-8")
    pq.write_table(pa.table({"prompt": ["a"], "chosen": ["b"], "rejected": ["c"]}), pairs)
    with pytest.raises(ValueError, match=r"no 'text'; it has messages, which train\.objective=chat reads$"):
        list(read_documents([str(chats)]))
    with pytest.raises(ValueError, match=r"it has prompt, chosen, rejected, which train\.objective=preference reads$"):
        list(read_documents([str(pairs)]))


def test_a_row_without_a_text_is_named(tmp_path):
    pq.write_table(pa.table({"text": ["x"] * 300 + [None]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet, row 300: text=None; expected text"):
        list(read_documents([str(tmp_path)]))
