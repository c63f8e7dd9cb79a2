import json
import os
import re
from datetime import datetime
from pathlib import Path

import pytest
from fpdf import FPDF
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfWriter

from troth.curate.collect import collect
from troth.curate.collect.encoding import decode
from troth.curate.collect.text import unwrap
from troth.system import DataTable

CELLS = (
    "A cell is the smallest unit of life. Every plant and every animal is built from cells, and each cell holds a copy "
    "of the instructions that it needs to grow and to divide."
)
WALLS = (
    "Plant cells have a wall of cellulose outside the membrane. Animal cells have none, which is one of the reasons "
    "why an animal can move and a tree cannot."
)


def wrapped(text: str, width: int = 60) -> str:
    return re.sub(rf"(.{{1,{width}}})(?: |$)", r"\1\n", text).rstrip("\n")


def read_files(path: Path):
    found = collect(DataTable(sources=[str(path)]))
    return found.documents, found.rejected


def read_one(path: Path):
    documents, rejected = read_files(path)
    assert rejected == []
    assert len(documents) == 1
    return documents[0]


def test_markdown(tmp_path):
    path = tmp_path / "cells.md"
    path.write_text(
        "---\ntitle: 'Cells: a start'\npublisher: Field Press\npublished: 2021-03-12\nlicence: CC-BY-4.0\n---\n"
        f"# About *cells*\n\n{wrapped(CELLS)}\n\n"
        "See [the **walls**](http://x.test/a), `cellulose` and ![pic](p.png).\n\n"
        "* first point\n* second point\n\n| Country | Capital |\n|---|---|\n| France | Paris |\n\n"
        "```python\nx = 1\n\ny = x\n```\n\n<p>In <b>HTML</b> too.</p>\n\n"
        '<div>\nA [cell][1]{: target="_window"} ![wall](w.png) divides{: class="term"}.\n</div>\n'
    )
    document = read_one(path)
    assert document.text.split("\n\n") == [
        "About cells", CELLS, "See the walls, cellulose and .", "first point", "second point",
        "Country: France; Capital: Paris", "x = 1", "y = x", "In HTML too.", "A cell divides.",
    ]  # fmt: skip
    assert (document.source, document.collection, document.title) == ("cells.md", "documents", "Cells: a start")
    assert (document.publisher, document.published, document.licence) == ("Field Press", "2021-03-12", "CC-BY-4.0")


def test_markdown_without_front_matter_takes_its_first_heading(tmp_path):
    (tmp_path / "a.md").write_text(f"Before.\n\n## The *heart*\n\n{CELLS}\n\n---\n\n# Later\n")
    document = read_one(tmp_path / "a.md")
    assert document.title == "The heart"
    assert document.published == ""
    assert CELLS in document.text


def test_markdown_with_the_front_matter_of_hugo(tmp_path):
    (tmp_path / "a.md").write_text(f'+++\ntitle = "Cells"\ndate = 2021-03-12\n+++\n\n{CELLS}\n')
    document = read_one(tmp_path / "a.md")
    assert (document.text, document.title, document.published) == (CELLS, "Cells", "2021-03-12")


def test_html_keeps_the_article_and_not_the_navigation(tmp_path):
    (tmp_path / "page.html").write_text(
        "<html><head><title>Cells &amp; walls</title><meta name='publisher' content='Field Press'>"
        "<meta name=date content='March 12, 2021'><meta name='licence' content='CC0-1.0'></head><body>"
        "<nav><ul><li><a href='/'>Home</a></li><li><a href='/shop'>Our shop</a></li></ul></nav>"
        f"<main><article><h1>Cells</h1><p>{wrapped(CELLS)}</p><p>{WALLS}</p></article></main>"
        "<script>var secret = 1;</script></body></html>"
    )
    document = read_one(tmp_path / "page.html")
    assert document.text.split("\n\n") == ["Cells", CELLS, WALLS]
    assert (document.title, document.publisher) == ("Cells & walls", "Field Press")
    assert (document.published, document.licence) == ("2021-03-12", "CC0-1.0")


@pytest.mark.parametrize(
    ("link", "licence"),
    [
        ("<a rel='license' href='https://creativecommons.org/licenses/by-sa/4.0/deed.en'>CC</a>", "CC-BY-SA-4.0"),
        ("<a rel='nofollow license' href='http://creativecommons.org/publicdomain/zero/1.0/'>CC0</a>", "CC0-1.0"),
        ("<a rel=license href=/terms>terms</a>", "/terms"),
        ("<a href='https://creativecommons.org/licenses/by/4.0/'>of a picture</a>", ""),
        ("<meta name=license content=MIT><a rel=license href=/terms>terms</a>", "MIT"),
    ],
)
def test_a_link_may_name_the_licence_of_a_page(tmp_path, link, licence):
    (tmp_path / "page.html").write_text(f"<title>Cells</title><p>{CELLS}</p>{link}", encoding="utf-8")
    (document,), _ = read_files(tmp_path)
    assert document.licence == licence


def test_html_is_read_in_the_encoding_that_it_declares(tmp_path):
    page = f"<meta charset='iso-8859-2'><title>Łódź</title><p>Łódź is a city. {CELLS}</p>"
    (tmp_path / "page.htm").write_bytes(page.encode("iso-8859-2"))
    document = read_one(tmp_path / "page.htm")
    assert document.title == "Łódź"
    assert document.text.startswith("Łódź is a city.")
    page = f"<?xml version='1.0' encoding='iso-8859-2'?>\n<html><p>Łódź is a city. {CELLS}</p></html>"
    (tmp_path / "page.xhtml").write_bytes(page.encode("iso-8859-2"))
    assert read_one(tmp_path / "page.xhtml").text.startswith("Łódź is a city.")


def test_plain_text_with_and_without_a_head(tmp_path):
    head = "Title: Cells\nPublisher: Field Press\nPublished: 12 March 2021\nLicence: CC0-1.0\n\n"
    (tmp_path / "a.txt").write_text(f"{head}{wrapped(CELLS)}\n\n{wrapped(WALLS)}\n")
    (tmp_path / "b.txt").write_text(f"Title: not a head,\nbecause this line is none\n\n{WALLS}\n")
    documents, _ = read_files(tmp_path)
    assert documents[0].text == f"{CELLS}\n\n{WALLS}"
    assert (documents[0].title, documents[0].published, documents[0].licence) == ("Cells", "2021-03-12", "CC0-1.0")
    assert documents[1].title == ""
    assert "not a head" in documents[1].text


def test_windows_1252_is_the_fallback(tmp_path):
    (tmp_path / "old.txt").write_bytes("The café’s “special” cost 5 €.".encode("cp1252"))
    assert read_one(tmp_path / "old.txt").text == "The café’s “special” cost 5 €."


def test_json_lines_number_their_records_and_set_broken_ones_aside(tmp_path):
    good = {"text": CELLS, "title": "Cells", "publisher": "P", "published": "2021-03-12T10:00:00Z", "licence": "CC0"}
    lines = [json.dumps(good), '{"text": "cut of', json.dumps({"title": "no text"}), "", json.dumps({"text": WALLS})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    documents, rejected = read_files(tmp_path)
    assert [(d.source, d.text, d.published) for d in documents] == [
        ("a.jsonl#0", CELLS, "2021-03-12"),
        ("a.jsonl#3", WALLS, ""),
    ]
    assert [(one.source, one.reason.split(":")[0]) for one in rejected] == [
        ("a.jsonl#1", "broken JSON"),
        ("a.jsonl#2", "no field text"),
    ]


@pytest.mark.parametrize(
    ("about", "publisher"),
    [
        ({"publisher": "P", "source": "S"}, "P"), ({"source": "The Survey"}, "The Survey"),
        ({"source": "b.test"}, "b.test"), ({"source": "France 24"}, "France 24"), ({"source": "c4"}, "c4"),
        ({"source": "doc-17", "url": "http://b.test"}, "b.test"), ({"source": "17"}, "a"),
        ({"source": "PMC123456"}, "a"),
        ({"source": "2f1a09c4-77d2-4a11-9a3e-0c8f5d2b6e10"}, "a"), ({"source": "wiki:en:17_3"}, "a"),
        ({"url": "https://www.b.test/a?b"}, "b.test"), ({"source": "dumps/a.txt", "url": "http://b.test"}, "b.test"),
        ({"source": "notes.md"}, "a"), ({}, "a"),
    ],
)  # fmt: skip
def test_a_record_may_name_its_publisher_as_source_or_by_its_address(tmp_path, about, publisher):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": CELLS, "published_at": "2021-03-12", **about}))
    (document,), _ = read_files(tmp_path)
    assert (document.publisher, document.published) == (publisher, "2021-03-12")


def test_csv(tmp_path):
    long = "word " * 40_000
    (tmp_path / "a.csv").write_text(
        f'Title,Text,Published\nCells,"{CELLS}\n\n{WALLS}",2021\nbroken,row\nempty,,2020\nlong,{long},2019\n'
    )
    documents, rejected = read_files(tmp_path)
    assert [(d.source, d.title, d.published) for d in documents] == [
        ("a.csv#0", "Cells", "2021"),
        ("a.csv#3", "long", "2019"),
    ]
    assert documents[0].text == f"{CELLS}\n\n{WALLS}"
    assert len(documents[1].text.split()) == 40_000
    assert [one.source for one in rejected] == ["a.csv#1", "a.csv#2"]


def test_a_csv_that_ends_inside_quotes_keeps_the_rows_before(tmp_path):
    (tmp_path / "a.csv").write_text(f'text\n{WALLS.replace(",", "")}\n"never closed\n')
    documents, rejected = read_files(tmp_path)
    assert [d.source for d in documents] == ["a.csv#0"]
    assert [one.source for one in rejected] == ["a.csv#1"]
    assert rejected[0].reason.startswith("broken CSV")


def write_pdf(path: Path, pages: list[list[str]]) -> None:
    pdf = FPDF()
    pdf.set_title("Cells")
    pdf.set_author("Field Press")
    pdf.set_creation_date(datetime(2021, 3, 12))
    pdf.set_font("helvetica", size=11)
    for number, paragraphs in enumerate(pages):
        pdf.add_page()
        pdf.cell(0, 10, f"Field Press Journal, page {number + 1}", new_x="LMARGIN", new_y="NEXT")
        for paragraph in paragraphs:
            pdf.multi_cell(0, 6, paragraph, align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.output(str(path))


def test_pdf(tmp_path):
    write_pdf(tmp_path / "a.pdf", [["The cell", CELLS, WALLS], [WALLS], [CELLS]])
    document = read_one(tmp_path / "a.pdf")
    assert document.text.split("\n\n") == ["The cell", CELLS, WALLS, WALLS, CELLS]
    assert (document.title, document.publisher, document.published) == ("Cells", "Field Press", "2021-03-12")


def test_broken_files_are_set_aside_and_the_rest_goes_on(tmp_path):
    write_pdf(tmp_path / "whole.pdf", [[CELLS]])
    (tmp_path / "cut.pdf").write_bytes((tmp_path / "whole.pdf").read_bytes()[:200])
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    (tmp_path / "empty.md").write_text("\n \n")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text("hidden")
    documents, rejected = read_files(tmp_path)
    assert [d.source for d in documents] == ["whole.pdf"]
    reasons = {one.source: one.reason for one in rejected}
    assert list(reasons) == ["binary.txt", "cut.pdf", "empty.md", "photo.png"]
    assert "broken PDF" in reasons["cut.pdf"]
    assert "UTF-8" in reasons["binary.txt"]
    assert reasons["empty.md"] == "no text"
    assert ".png" in reasons["photo.png"]


def test_names_that_cannot_be_opened_are_set_aside(tmp_path):
    (tmp_path / "good.txt").write_text("A page that can be read.")
    (tmp_path / "round.txt").symlink_to("round.txt")
    (tmp_path / "above").symlink_to("..")
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.txt")).write_text("A name in Latin-1.", encoding="utf-8")
    found = collect(DataTable(sources=[str(tmp_path)]))
    assert [one.source for one in found.documents] == ["good.txt"]
    reasons = {one.source: one.reason for one in found.rejected}
    assert reasons.keys() == {"round.txt", "above", "caf\\xe9.txt"}
    assert "a link to a folder that holds what is read" in reasons["above"]
    assert "symbolic links" in reasons["round.txt"]
    assert "not UTF-8" in reasons["caf\\xe9.txt"]


def test_what_keeps_a_pdf_from_being_read_is_said(tmp_path):
    scanned = FPDF()
    scanned.add_page()
    scanned.rect(10, 10, 50, 50)
    scanned.output(str(tmp_path / "scan.pdf"))
    locked = PdfWriter(tmp_path / "scan.pdf")
    locked.encrypt("secret")
    locked.write(tmp_path / "locked.pdf")
    _, (rejected,) = read_files(tmp_path / "scan.pdf")
    assert "OCR" in rejected.reason
    _, (rejected,) = read_files(tmp_path / "locked.pdf")
    assert "password" in rejected.reason


def test_folders_are_read_in_sorted_order_with_relative_sources(tmp_path):
    for name in ("b/two.txt", "a.txt", "b/c/three.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(CELLS)
    found = collect(DataTable(sources=[str(tmp_path)]))
    assert [d.source for d in found.documents] == ["a.txt", "b/c/three.md", "b/two.txt"]
    assert {d.collection for d in found.documents} == {"documents"}


def test_a_missing_path_and_an_unknown_kind_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        read_files(tmp_path / "nowhere")
    (tmp_path / "a.odp").write_text("x")
    with pytest.raises(ValueError, match=r"a\.odp.*\.pdf"):
        read_files(tmp_path / "a.odp")


words = st.lists(st.text("abcdefghijklmnopqrstuvwxyzäé", min_size=1, max_size=12), min_size=1, max_size=80)


@given(st.lists(words, min_size=1, max_size=5), st.integers(20, 100))
def test_unwrapping_loses_no_word_and_keeps_paragraphs_apart(paragraphs, width):
    text = "\n\n".join(wrapped(" ".join(paragraph), width) for paragraph in paragraphs)
    unwrapped = unwrap(text)
    assert unwrapped.split() == text.split()
    assert len(unwrapped.split("\n\n")) >= len(paragraphs)


def test_hyphens_at_line_ends():
    long = (
        "The membrane of an animal cell is a thin layer, and the mem-\nbrane of a well-\nknown plant "
        "is no thicker than it."
    )
    assert "the membrane of a well-known plant" in unwrap(long)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200))
def test_utf_8_is_read_as_it_was_written(text):
    assert decode(b"\xef\xbb\xbf" + text.encode()) == (text, "utf-8")


@given(words)
def test_json_lines_and_csv_hold_the_same_words(tmp_path_factory, listed):
    folder = tmp_path_factory.mktemp("records")
    text = " ".join(listed)
    (folder / "a.jsonl").write_text(json.dumps({"text": text}), encoding="utf-8")
    (folder / "b.csv").write_text(f'text\n"{text}"\n', encoding="utf-8")
    documents, _ = read_files(folder)
    assert [d.text for d in documents] == [text, text]
