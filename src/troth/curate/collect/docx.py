"""Word documents (.docx, ECMA-376) to paragraphs, by the standard library's zip and XML readers."""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO
from xml.etree import ElementTree as ET

from troth.curate.collect.reader import Origin, document, read_whole
from troth.curate.collect.text import clean
from troth.curate.collect.xml import xml_tree
from troth.curate.document import Document

_WORD = re.compile(r"\{[^}]*/wordprocessingml/[^}]*\}(.*)")
_LARGEST = 512 << 20
_UNPACKED = 128 << 20
"""No part of a file is unpacked beyond this, whatever it claims of its size."""
_BLANKS = {"tab": " ", "br": " ", "cr": " ", "noBreakHyphen": "-"}
_LEFT_OUT = {"del", "moveFrom", "instrText", "pPr", "rPr"}


def read_docx(stream: BinaryIO, origin: Origin) -> Iterator[Document]:
    """One document a file: its title, author (as publisher) and day of creation, headings, paragraphs, and tables with
    a row a line as `column: cell; column: cell`. Deleted text, comments and notes are left out."""
    try:
        with zipfile.ZipFile(io.BytesIO(read_whole(stream, _LARGEST))) as package:
            main = _unpacked(package, _main(package))
            core = _unpacked(package, "docProps/core.xml") if "docProps/core.xml" in package.namelist() else b"<none/>"
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"broken DOCX: {error}") from error
    properties = {element.tag.rpartition("}")[2]: element.text or "" for element in xml_tree(core)}
    about = {
        "title": properties.get("title", ""),
        "publisher": properties.get("creator", ""),
        "published": properties.get("created", ""),
    }
    body = next((element for element in xml_tree(main) if _name(element) == "body"), None)
    blocks = [] if body is None else list(_blocks(body))
    about["title"] = about["title"] or next((words for style, words in blocks if style == "heading"), "")
    yield document(clean("\n\n".join(words for _, words in blocks)), origin, about, encoding="utf-8")


def _main(package: zipfile.ZipFile) -> str:
    """Where the text is: Word itself, in a browser, calls it word/document2.xml."""
    if "_rels/.rels" in package.namelist():
        for element in xml_tree(_unpacked(package, "_rels/.rels")):
            if element.get("Type", "").endswith("/officeDocument"):
                return element.get("Target", "").lstrip("/")
    return "word/document.xml"


def _unpacked(package: zipfile.ZipFile, name: str) -> bytes:
    with package.open(name) as member:
        data = member.read(_UNPACKED + 1)
    if len(data) > _UNPACKED:
        raise ValueError(f"broken DOCX: {name} unpacks to more than {_UNPACKED >> 20} MB")
    return data


def _name(element: ET.Element) -> str:
    match = _WORD.fullmatch(element.tag)
    return match[1] if match else ""


def _blocks(parent: ET.Element) -> Iterator[tuple[str, str]]:
    """Kind and words of every paragraph and table row below, in reading order."""
    for element in parent:
        match _name(element):
            case "p":
                words = " ".join("".join(_words(element)).split())
                if words:
                    yield "heading" if _is_heading(element) else "paragraph", words
            case "tbl":
                yield from (("row", row) for row in _rows(element))
            case name if name not in _LEFT_OUT:
                yield from _blocks(element)


def _words(element: ET.Element) -> Iterator[str]:
    for child in element:
        name = _name(child)
        if name == "t":
            yield child.text or ""
        elif name in _BLANKS:
            yield _BLANKS[name]
        elif name not in _LEFT_OUT and not child.tag.endswith("}Fallback"):
            yield from _words(child)


def _is_heading(paragraph: ET.Element) -> bool:
    styles = (value for node in paragraph.iter() if _name(node) == "pStyle" for value in node.attrib.values())
    return any(re.match(r"heading|title", style, re.IGNORECASE) for style in styles)


def _rows(table: ET.Element) -> Iterator[str]:
    """The first row names the columns, as in other formats; a table of one row is that row."""
    rows = [[_cell(cell) for cell in row if _name(cell) == "tc"] for row in table if _name(row) == "tr"]
    columns = rows[0] if len(rows) > 1 else []
    for row in rows[1:] or rows:
        names = columns if len(columns) == len(row) else [""] * len(row)
        cells = (f"{name}: {cell}" if name else cell for name, cell in zip(names, row, strict=True) if cell)
        if line := "; ".join(cells):
            yield line


def _cell(cell: ET.Element) -> str:
    return " ".join(words for _, words in _blocks(cell))
