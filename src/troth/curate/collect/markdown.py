"""Markdown to plain paragraphs, by the CommonMark parser markdown-it."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from markdown_it import MarkdownIt
from markdown_it.token import Token

from troth.curate.collect.encoding import decode
from troth.curate.collect.page import visible_text
from troth.curate.collect.reader import Origin, document, read_whole
from troth.curate.collect.text import clean
from troth.curate.document import Document

_FRONT = re.compile(r"---\n(.*?)\n?(?:---|\.\.\.)(?:\n|$)", re.DOTALL)
_FIELD = re.compile(r"([A-Za-z]+):[ \t]*(.*)")


def read_markdown(stream: BinaryIO, origin: Origin) -> Iterator[Document]:
    """One document a file: its front matter of `key: value` lines, or its first heading where that has no title."""
    raw, encoding = decode(read_whole(stream))
    text = clean(raw)
    front = _FRONT.match(text)
    about: dict[str, str] = {}
    if front:
        fields = filter(None, map(_FIELD.fullmatch, front[1].split("\n")))
        about = {field[1].lower(): field[2].strip().strip("\"'") for field in fields}
        text = text[front.end() :]
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    blocks = list(_paragraphs(tokens))
    first = next((words for kind, words in blocks if kind == "heading"), "")
    about.setdefault("title", first)
    yield document("\n\n".join(words for _, words in blocks), origin, about, encoding=encoding)


def _paragraphs(tokens: list[Token]) -> Iterator[tuple[str, str]]:
    """Kind and text of every block; a table row becomes `column: cell; column: cell`."""
    columns: list[str] = []
    cells: list[str] = []
    opened = ""
    for token in tokens:
        if token.type == "table_open":
            columns = []
        elif token.type == "tr_open":
            cells = []
        elif token.type == "tr_close":
            if columns:
                named = zip(columns, cells, strict=True)
                yield "row", "; ".join(f"{name}: {cell}" if name else cell for name, cell in named)
            columns = columns or cells
        elif token.type.endswith("_open"):
            opened = token.type.removesuffix("_open")
        elif token.type in ("fence", "code_block"):
            yield "code", token.content.rstrip("\n")
        elif token.type == "html_block":
            yield from (("html", words) for words in visible_text(token.content).split("\n\n") if words)
        elif token.type == "inline":
            words = " ".join(_plain(token.children or []).split())
            if opened in ("th", "td"):
                cells.append(words)
            elif words:
                yield opened, words


def _plain(inlines: list[Token]) -> str:
    """Words of a line: links and emphasis give their text, images and HTML tags nothing."""
    breaks = {"softbreak": " ", "hardbreak": " "}
    kept = ("text", "code_inline", "text_special")
    return "".join(breaks.get(token.type, token.content if token.type in kept else "") for token in inlines)
