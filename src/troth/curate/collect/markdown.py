"""Markdown to plain paragraphs, by the CommonMark parser pulldown-cmark (pyromark)."""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyromark

from troth.curate.collect.encoding import decode
from troth.curate.collect.page import visible_text
from troth.curate.collect.reader import Origin, document, read_whole
from troth.curate.collect.text import clean
from troth.curate.document import Document

_FRONT = re.compile(r"(?:---\n(.*?)\n?(?:---|\.\.\.)|\+\+\+\n(.*?)\n?\+\+\+)(?:\n|$)", re.DOTALL)
_TAGS = re.compile(r"<!--.*?-->|<[^<>]*>", re.DOTALL)
_BLOCKS = {
    "Paragraph", "Heading", "BlockQuote", "CodeBlock", "HtmlBlock", "List", "Item", "Table", "TableHead", "TableRow",
    "TableCell",
}  # fmt: skip
_ATTRIBUTES = re.compile(r"\{:[^{}\n]*\}")
"""Attribute lists, which kramdown and Jekyll know and CommonMark does not."""
_IMAGE = re.compile(r" ?!\[[^\]]*\](?:\([^()\s]*\)|\[[^\]]*\])")
_LINK = re.compile(r"\[([^\[\]]+)\](?:\([^()\s]*\)|\[[^\[\]]*\])")
_FIELD = re.compile(r"([A-Za-z_]+)(?::| *=)[ \t]*(.*)")


def read_markdown(stream: BinaryIO, origin: Origin) -> Iterator[Document]:
    """One document a file: its front matter of `key: value` lines (YAML; or TOML's, as Hugo has it), or its first
    heading where that has no title."""
    raw, encoding = decode(read_whole(stream))
    text = clean(raw)
    front = _FRONT.match(text)
    about: dict[str, str] = {}
    if front:
        fields = filter(None, map(_FIELD.fullmatch, (front[1] or front[2] or "").split("\n")))
        about = {field[1].lower(): field[2].strip().strip("\"'") for field in fields}
        text = text[front.end() :]
    blocks = list(_blocks(text))
    first = next((words for kind, words in blocks if kind == "Heading"), "")
    about.setdefault("title", first)
    yield document("\n\n".join(words for _, words in blocks), origin, about, encoding=encoding)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Kind and words of every block; a table row becomes `column: cell; column: cell`. Links and emphasis give their
    text, images and HTML tags within a line nothing."""
    words: list[str] = []
    cells: list[str] = []
    columns: list[str] = []
    images, kind = 0, ""
    events: Iterator[Any] = iter(pyromark.events(text, options=pyromark.Options.ENABLE_TABLES))
    for event in events:
        if isinstance(event, str):
            if event in ("SoftBreak", "HardBreak"):
                words.append(" ")
            continue
        (what, value), *_ = event.items()
        if what in ("Text", "Code", "Html"):
            if not images:
                words.append(value)
            continue
        name = value if isinstance(value, str) else next(iter(value))
        if name == "Image":
            images += 1 if what == "Start" else -1
        elif name not in _BLOCKS:
            continue
        elif what == "Start":
            yield from _block(kind, words)
            words, kind = [], name
            columns = [] if name == "Table" else columns
        elif name == "TableCell":
            cells.append(" ".join("".join(words).split()))
            words = []
        elif name == "TableHead":
            columns, cells = cells, []
        elif name == "TableRow":
            named = zip(columns, cells, strict=False)
            yield "row", "; ".join(f"{column}: {cell}" if column else cell for column, cell in named)
            cells = []
        else:
            yield from _block(kind, words)
            words, kind = [], ""


def _block(kind: str, words: list[str]) -> Iterator[tuple[str, str]]:
    text = "".join(words)
    if kind == "CodeBlock":
        yield kind, text.rstrip("\n")
    elif kind == "HtmlBlock":
        if _TAGS.sub("", text).strip():
            # Markdown inside HTML is left as it is by the parser.
            shown = _LINK.sub(r"\1", _IMAGE.sub("", _ATTRIBUTES.sub("", visible_text(text))))
            yield from ((kind, paragraph.strip()) for paragraph in shown.split("\n\n") if paragraph.strip())
    elif text := " ".join(_ATTRIBUTES.sub("", text).split()):
        yield kind, text
