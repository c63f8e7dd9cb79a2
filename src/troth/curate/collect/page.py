"""HTML to the paragraphs of its main content, by resiliparse."""

import re
from collections.abc import Iterator

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from troth.curate.collect.reader import document
from troth.curate.collect.text import clean, decode
from troth.curate.document import Document

_NAMES = {
    "publisher": ("publisher", "dc.publisher", "og:site_name"),
    "published": ("date", "published", "dc.date", "article:published_time"),
    "licence": ("licence", "license", "dc.rights"),
}
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)


def read_html(data: bytes, source: str, collection: str) -> Iterator[Document]:
    """One document a file: `<title>`, the `<meta>` names publisher, date and licence, and the main content without
    navigation. Where no main content is found, all visible text."""
    tree = HTMLTree.parse(_decode(data))
    meta: dict[str, str] = {}
    for tag in tree.document.query_selector_all("meta[content]") if tree.document else []:
        name = tag.getattr("name") or tag.getattr("property")
        if name:
            meta.setdefault(name.lower(), tag.getattr("content") or "")
    about = {key: next((meta[name] for name in names if name in meta), "") for key, names in _NAMES.items()}
    about["title"] = tree.title or ""
    text = visible_text(tree, main_content=True) or visible_text(tree)
    yield document(text, source, collection, about)


def _decode(data: bytes) -> str:
    """The page's own `charset` decides; a page without one, or with a wrong one, is read as any other text."""
    declared = _CHARSET.search(data[:2048])
    if declared:
        try:
            return data.decode(declared[1].decode())
        except (LookupError, UnicodeDecodeError):
            pass
    return decode(data)


def visible_text(page: HTMLTree | str, main_content: bool = False) -> str:
    """Paragraphs of a page or a piece of HTML; a row of a table is one, with commas between its cells."""
    found = extract_plain_text(page, main_content=main_content, list_bullets=False, alt_texts=False)
    paragraphs: list[str] = []
    for block in clean(found).split("\n\n"):
        rows = [re.sub(r"\t+", ", ", line.strip()) for line in block.split("\n")]
        paragraphs += rows if "\t" in block else [" ".join(rows)]
    return "\n\n".join(words for words in (" ".join(p.split()) for p in paragraphs) if words)
