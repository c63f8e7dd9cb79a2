"""HTML to the paragraphs of its main content, by resiliparse."""

import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import DOMContext, HTMLTree, traverse_dom

from troth.curate.collect.encoding import decode
from troth.curate.collect.licences import linked
from troth.curate.collect.reader import Origin, document, read_whole
from troth.curate.collect.text import clean
from troth.curate.document import Document

_NAMES = {
    "publisher": ("publisher", "dc.publisher", "og:site_name"),
    "published": ("date", "published", "dc.date", "article:published_time"),
    "licence": ("licence", "license", "dc.rights"),
}
_DEEPEST = 1000
"""Elements within each other that are read; browsers give up at 512. The time of extraction grows with the square."""
_CHARSET = re.compile(
    rb"(?:<meta[^>]{0,200}charset|^\s*<\?xml[^>]{0,200}encoding)\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE
)


def read_html(stream: BinaryIO, origin: Origin) -> Iterator[Document]:
    """One document a file: `<title>`, the `<meta>` names publisher, date and licence, or a link of `rel="license"` this
    one, and the main content without navigation. Where no main content is found, all visible text."""
    yield html_document(read_whole(stream), origin)


def html_document(data: bytes, origin: Origin, charset: str = "") -> Document:
    """A document from one page. `charset` is what the server declared; the page's own comes after it. Raises ValueError
    where the page has no text, or no end of elements within elements."""
    declared = _CHARSET.search(data[:2048])
    text, encoding = decode(data, charset or (declared[1].decode() if declared else ""))
    tree = _parsed(text)
    meta: dict[str, str] = {}
    # Of the slice each tag is at hand; the collection itself looks for it from the beginning.
    for tag in tree.document.query_selector_all("meta[content]")[:] if tree.document else []:
        name = tag.getattr("name") or tag.getattr("property")
        if name:
            meta.setdefault(name.lower(), tag.getattr("content") or "")
    told = {key: next((meta[name] for name in names if name in meta), "") for key, names in _NAMES.items()}
    told["title"] = tree.title or ""
    told["licence"] = told["licence"] or _linked_licence(tree)
    words = visible_text(tree, main_content=True) or visible_text(tree)
    return document(words, origin, told, encoding=encoding)


def _linked_licence(tree: HTMLTree) -> str:
    """What the first link of `rel="license"` leads to; empty for none."""
    found = tree.document.query_selector("[rel~=license][href]") if tree.document else None
    return linked(found.getattr("href") or "") if found else ""


def visible_text(page: HTMLTree | str, main_content: bool = False) -> str:
    """Paragraphs of a page or a piece of HTML; a row of a table is one, with commas between its cells."""
    page = _parsed(page) if isinstance(page, str) else page
    found = extract_plain_text(page, main_content=main_content, list_bullets=False, alt_texts=False)
    paragraphs: list[str] = []
    for block in clean(found).split("\n\n"):
        rows = [re.sub(r"\t+", ", ", line.strip()) for line in block.split("\n")]
        paragraphs += rows if "\t" in block else [" ".join(rows)]
    return "\n\n".join(words for words in (" ".join(p.split()) for p in paragraphs) if words)


def _parsed(text: str) -> HTMLTree:
    """Raises ValueError where elements are nested deeper than `_DEEPEST`."""
    tree = HTMLTree.parse(text)
    if tree.body is not None and _deepest(text) > _DEEPEST:
        traverse_dom(tree.body, _refuse_depth, elements_only=True)
    return tree


def _deepest(text: str) -> int:
    """How deep elements can be nested at most: tags that open and were not closed yet, though some need not be."""
    raw = np.frombuffer(text.encode(errors="replace"), np.uint8)
    after = raw[np.flatnonzero(raw[:-1] == ord("<")) + 1]
    opens = (after | 32 >= ord("a")) & (after | 32 <= ord("z"))
    return int((opens.astype(np.int64) - (after == ord("/"))).cumsum().max(initial=0))


def _refuse_depth(context: DOMContext) -> None:
    if context.depth > _DEEPEST:
        raise ValueError(f"elements are nested more than {_DEEPEST} deep")
