"""Rows in Parquet and the folder of parts: what is read is what was written, and a part is whole or not there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.records import Decision, EvidenceRow
from troth.curate.rows import read_rows, write_rows

EVIDENCE = EvidenceRow("e", "c", "d", "s", "P", "2020", 1, (0, 2), "words", "five", "supported", 0.5)


@pytest.mark.parametrize(
    "row",
    [EVIDENCE, Decision("filter", "a.txt", "dropped", "few_words", 3.0, 20.0), Document("a", "b", "c", ancestors=(1,))],
    ids=lambda row: type(row).__name__,
)
def test_every_field_comes_back(tmp_path, row):
    write_rows(tmp_path / "rows.parquet", type(row), [row])
    assert list(read_rows(tmp_path / "rows.parquet", type(row))) == [row]


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20))
def test_any_text_comes_back_in_its_order(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("rows") / "documents.parquet"
    documents = [Document(str(number), "documents", text) for number, text in enumerate(texts)]
    assert write_rows(path, Document, documents, weigh=lambda one: 5_000_000) == len(documents)
    assert list(read_rows(path, Document)) == documents


def test_a_file_of_an_earlier_version_takes_defaults(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"source": ["a"], "collection": ["b"], "text": ["c"]}), tmp_path / "old.parquet")
    assert list(read_rows(tmp_path / "old.parquet", Document)) == [Document("a", "b", "c")]


def test_a_part_that_fails_leaves_nothing_behind_that_counts(tmp_path):
    parts = Parts(tmp_path, "filter")

    def broken():
        yield Document("a", "b", "c")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        parts.write(3, "documents", Document, broken())
    assert list(parts.read(3, "documents", Document)) == []
    assert not parts.is_done(3)
    parts.write(3, "documents", Document, [Document("a", "b", "c")])
    parts.finish(3)
    assert parts.is_done(3)
    assert [document.text for document in parts.read(3, "documents", Document)] == ["c"]
