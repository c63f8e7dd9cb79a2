"""Word documents, tables and Parquet: what is in them comes out as plain lines, and ancestry is kept."""

import gzip
import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from troth.curate.collect import Rejected
from troth.curate.collect.files import read_file
from troth.curate.collect.reader import Origin
from troth.curate.collect.storage import Source
from troth.curate.document import Document
from troth.curate.rows import write_rows


def read(data: bytes, name: str) -> list[Document | Rejected]:
    return list(read_file(Source(io.BytesIO(data)), name, Origin(name, retrieved="2024-05-01")))


WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
BODY = f"""<?xml version="1.0" encoding="UTF-8"?>
<w:document xmlns:w="{WORD}" xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><w:body>
<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Rivers</w:t></w:r></w:p>
<w:p><w:r><w:t xml:space="preserve">The Nile </w:t></w:r><w:del><w:r><w:delText>isn't</w:delText></w:r></w:del>
<w:hyperlink><w:r><w:t>is long</w:t></w:r></w:hyperlink><w:r><w:tab/><w:t>&amp; old.</w:t></w:r></w:p>
<w:tbl><w:tr><w:tc><w:p><w:r><w:t>River</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>km</w:t></w:r></w:p></w:tc></w:tr>
<w:tr><w:tc><w:p><w:r><w:t>Nile</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>6650</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
<w:sdt><w:sdtContent><w:p><w:r><w:t>Within a control.</w:t></w:r></w:p></w:sdtContent></w:sdt>
</w:body></w:document>"""
CORE = """<cp:coreProperties xmlns:cp="c" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="t">
<dc:title>On rivers</dc:title><dc:creator>Field Press</dc:creator>
<dcterms:created>2021-03-12T08:00:00Z</dcterms:created>
</cp:coreProperties>"""


def docx(body: str = BODY, core: str | None = CORE, main: str = "word/document.xml") -> bytes:
    packed = io.BytesIO()
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as package:
        one = f"<Relationship Type='{kind}' Target='/{main}'/>"
        package.writestr("_rels/.rels", f"<Relationships>{one}</Relationships>")
        package.writestr(main, body)
        if core:
            package.writestr("docProps/core.xml", core)
    return packed.getvalue()


def test_docx():
    (document,) = read(docx(), "rivers.docx")
    assert document.text.split("\n\n") == [
        "Rivers", "The Nile is long & old.", "River: Nile; km: 6650", "Within a control.",
    ]  # fmt: skip
    assert (document.title, document.publisher, document.published) == ("On rivers", "Field Press", "2021-03-12")
    assert document.retrieved == "2024-05-01"
    (untitled,) = read(docx(core=None), "rivers.docx")
    assert (untitled.title, untitled.publisher) == ("Rivers", "")
    (online,) = read(docx(main="word/document2.xml"), "rivers.docx")
    assert online == document


def test_docx_that_would_grow_or_read_other_files_is_refused():
    bomb = f'<!DOCTYPE w [<!ENTITY a "{"a" * 50}"><!ENTITY b "&a;&a;&a;">]>{BODY.partition("?>")[2]}'
    (refused,) = read(docx(bomb), "bomb.docx")
    assert "document type declaration" in refused.reason
    (refused,) = read(docx(" " * (129 << 20)), "bomb.docx")
    assert "unpacks to more than 128 MB" in refused.reason


def test_tables_become_lines():
    (table,) = read(b"Country;Capital;Area\nFrance;Paris;\nPeru;Lima;1285216\n", "a/big_cities.csv")
    assert (table.kind, table.title, table.source) == ("table", "big cities", "a/big_cities.csv")
    assert table.text == "Country: France; Capital: Paris\nCountry: Peru; Capital: Lima; Area: 1285216"
    (table, short) = read(b"a\tb\n1\t2\n3\n", "x.tsv")
    assert (short, table) if isinstance(table, Rejected) else (table, short)
    found = {type(one): one for one in (table, short)}
    assert found[Document].text == "a: 1; b: 2"
    assert found[Rejected] == Rejected("x.tsv#row1", "1 fields where the head has 2")


def test_a_line_that_is_no_text_is_set_aside_alone():
    found = read(b"text,date\nOne.,2020\nT\0wo.,2021\nThree.,2022\n", "a.csv")
    assert [(one.source, one.text) for one in found if isinstance(one, Document)] == [
        ("a.csv#0", "One."), ("a.csv#2", "Three."),
    ]  # fmt: skip
    (broken,) = (one for one in found if isinstance(one, Rejected))
    assert broken.source == "a.csv#1"
    assert "NUL" in broken.reason
    rejected, table = sorted(read(b"a,b\n1,2\n\0,3\n4,5\n", "x.csv"), key=lambda one: isinstance(one, Document))
    assert (rejected.source, table.text) == ("x.csv#row1", "a: 1; b: 2\na: 4; b: 5")


def test_lines_may_end_as_on_old_macs():
    (table,) = read(b'a,b\r1,"two\rlines"\r3,4', "x.csv")
    assert table.text == "a: 1; b: two lines\na: 3; b: 4"
    one, two = read(b"text,date\rOne.,2020\rTwo.,2021\r", "a.csv")
    assert (one.text, two.text, two.published) == ("One.", "Two.", "2021")


def test_a_long_table_becomes_several_documents():
    rows = "".join(f"{number},{'word ' * 20}\n" for number in range(2000))
    tables = read(f"n,words\n{rows}".encode(), "long.csv")
    assert [table.source for table in tables] == [f"long.csv#{number}" for number in range(len(tables))]
    assert all(len(table.text) <= 65536 for table in tables)
    assert [line.partition(";")[0] for table in tables for line in table.text.split("\n")] == [
        f"n: {number}" for number in range(2000)
    ]


def parquet(columns: dict[str, list]) -> bytes:
    packed = io.BytesIO()
    pq.write_table(pa.table(columns), packed, row_group_size=2)
    return packed.getvalue()


def test_parquet_with_and_without_a_text_column():
    columns = {"Text": ["One.", None, "Three."], "date": ["2020", "2021", None], "views": [1, 2, 3]}
    one, none, three = read(parquet(columns), "a.parquet")
    assert [(one.source, one.text, one.published), (three.source, three.published)] == [
        ("a.parquet#0", "One.", "2020"), ("a.parquet#2", ""),
    ]  # fmt: skip
    assert none == Rejected("a.parquet#1", "no text")
    (table,) = read(parquet({"name": ["Nile", "Po"], "km": [6650, None]}), "rivers.parquet")
    assert (table.kind, table.text) == ("table", "name: Nile; km: 6650\nname: Po")
    (wrong,) = read(parquet({"text": [1, 2]}), "a.parquet")
    assert wrong.reason == "the column text holds int64, not text"
    categories = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array(["One.", "Two.", "One."]).dictionary_encode()}), categories)
    assert [one.text for one in read(categories.getvalue(), "a.parquet")] == ["One.", "Two.", "One."]


def test_a_few_kilobytes_of_parquet_do_not_become_gigabytes():
    """A text that comes again is in the file once."""
    texts = pa.DictionaryArray.from_arrays([0] * 12 + [1], ["z" * (65 << 20), "Short."])
    packed = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), packed, compression="zstd", store_schema=False)
    assert packed.tell() < 100_000
    most, found = 0, []
    for one in read_file(Source(packed), "a.parquet", Origin("a.parquet")):
        most = max(most, pa.total_allocated_bytes())
        found.append(one)
    assert found[0] == Rejected("a.parquet#0", "larger than 64 MB, too large to be read as one document; split it")
    assert found[12].text == "Short."
    assert most < 600e6


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet"])
def test_the_text_may_stand_in_another_column(name):
    rows = [{"Text": "not this", "content": f"{word} cell, dividing.", "date": "2020"} for word in ("One", "Two")]
    lines = "\n".join(map(json.dumps, rows))
    sheet = "Text\tCONTENT\tdate\n" + "".join("\t".join(row.values()) + "\n" for row in rows)
    data = {
        ".jsonl": lines.encode(), ".json": json.dumps(rows).encode("utf-16"), ".tsv": sheet.encode(),
        ".csv": ("\n\nsep=;\n" + sheet.replace("\t", ";")).encode(),
        ".parquet": parquet({key: [row[key] for row in rows] for key in rows[0]}),
    }[name[1:]]  # fmt: skip
    origin = Origin(name, text_column="content")
    found = list(read_file(Source(io.BytesIO(data)), name, origin))
    assert [(one.text, one.published, one.kind) for one in found] == [
        ("One cell, dividing.", "2020", "prose"), ("Two cell, dividing.", "2020", "prose"),
    ]  # fmt: skip
    (wrong, *_) = read(lines.replace("content", "body").replace("Text", "id").encode(), "a.jsonl")
    assert wrong.reason == "no field text: it has id, body, date (curate.text_column names another)"


def test_what_troth_wrote_keeps_its_ancestry(tmp_path):
    written = Document("x", "c", "def f():\n\treturn 1  # \u200b", kind="code", language="python", ancestors=(0, 3),
                       derived_from="0123456789abcdef", published="2020", retrieved="2023-01-01")  # fmt: skip
    write_rows(tmp_path / "documents.parquet", Document, [written])
    (again,) = read((tmp_path / "documents.parquet").read_bytes(), "documents.parquet")
    assert (again.text, again.kind, again.language) == (written.text, "code", "python")
    assert (again.ancestors, again.derived_from) == (written.ancestors, written.derived_from)
    assert (again.published, again.retrieved) == ("2020", "2023-01-01")
    record = {"text": "A line.", "ancestors": [1], "derived_from": "abc"}
    line, wrong = read(f"{json.dumps(record)}\n{json.dumps(record | {'ancestors': 'none'})}".encode(), "a.jsonl")
    assert (line.ancestors, line.derived_from) == ((1,), "abc")
    assert wrong == Rejected("a.jsonl#1", "ancestors='none'; expected a list of generations such as [0, 1]")


@pytest.mark.parametrize("text", ['[{"text": "One."}, {"title": "none"}]', '{"text": "One."}\n{"title": "none"}\n'])
def test_json_is_lines_or_an_array(text):
    assert [getattr(one, "text", None) for one in read(text.encode(), "a.json")] == ["One.", None]


def test_html_without_an_end_to_its_depth_is_set_aside():
    (deep,) = read(b"<div>" * 100_000 + b"Words." + b"</div>" * 100_000, "a.html")
    assert deep == Rejected("a.html", "elements are nested more than 1000 deep")
    (flat,) = read(b"<p>Words.<br>" * 5000, "a.html")
    assert flat.text.count("Words.") == 5000
    (note,) = read(b"Before.\n\n" + b"<div>" * 100_000 + b"Words.", "a.md")
    assert note.reason == deep.reason


def test_json_of_many_lines_is_one_record():
    (one,) = read(json.dumps({"title": "A", "text": "One."}, indent=2).encode(), "a.json")
    assert (one.title, one.text) == ("A", "One.")
    (other,) = read(json.dumps({"modules": [{"name": "fs"}] * 900}, indent=4).encode(), "b.json")
    assert other.reason == "no field text: it has modules (curate.text_column names another)"


def test_broken_records_are_listed_up_to_a_thousand_and_then_counted():
    found = read(b"{\n" * 1500, "a.jsonl")
    assert len(found) == 1001
    assert found[-1] == Rejected("a.jsonl", "500 more broken records")


RESTRUCTURED = """.. _cells:

:orphan:

=====
Cells
=====

.. module:: cells
   :synopsis: hidden

A :class:`~bio.Cell` *lives* in
``code_``; see `the page <http://a.test>`_, Python_ and :rfc:`1149` [1]_.

.. note:: It is small,
   as we said.

   Really.

.. image:: cell.png
   :alt: gone

   Gone too.

Walls
-----
.. function:: divide(cell)

   It divides, as in::

      divide(cell)

      divide(*cell)

   Then there are two.

* a wall that is
  thick
* a membrane

====  =====
Name  Count
====  =====
wall  1
====  =====

.. a comment
   of two lines

.. [1] By pigeon.
"""


def test_restructured_text():
    (document,) = read(RESTRUCTURED.encode(), "cells.rst")
    assert isinstance(document, Document)
    assert document.text.split("\n\n") == [
        "Cells", "A bio.Cell lives in code_; see the page, Python and RFC 1149.", "It is small, as we said.", "Really.",
        "Walls", "divide(cell)", "It divides, as in", "divide(cell)", "divide(*cell)", "Then there are two.",
        "a wall that is thick", "a membrane", "Name; Count", "wall; 1", "By pigeon.",
    ]  # fmt: skip
    assert (document.title, document.kind) == ("Cells", "prose")


@pytest.mark.parametrize("name", ["README", "1.", "mail/inbox", "NOTICE.gz"])
def test_a_name_without_a_suffix_is_that_of_a_text(name):
    data = b"A letter, as a mailbox keeps it."
    (document,) = read(gzip.compress(data) if name.endswith(".gz") else data, name)
    assert isinstance(document, Document)
    assert document.text == data.decode()


@pytest.mark.parametrize(
    ("name", "data"),
    [("run", b"#!/bin/sh"), ("object", b"\x7fELF\0\1"), ("Makefile", b"all:"), ("a.out", b"text")],
)  # fmt: skip
def test_what_has_no_suffix_and_is_no_text_is_set_aside(name, data):
    (rejected,) = read(data, name)
    assert isinstance(rejected, Rejected)
    assert "suffix" in rejected.reason or "no reader" in rejected.reason
