"""MediaWiki dumps (https://www.mediawiki.org/xml/): the newest text of each article as plain paragraphs."""

import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from troth.curate.collect.reader import Origin, Rejected, document
from troth.curate.collect.wikitext import plain_wikitext
from troth.curate.collect.xml import refuse_doctype
from troth.curate.document import Document

_PIECE = 1 << 20
_LARGEST = 16 << 20
_OF_PAGE = {"title", "ns", "timestamp", "text", "format", "model"}


def read_wiki(stream: io.BufferedReader, origin: Origin) -> Iterator[Document | Rejected]:
    """Pages of the main namespace but for redirects, numbered among all pages from 0; memory holds a few of them.

    The date of the last revision is when a page was published, the wiki's name its publisher. A dump does not name its
    licence. Raises ValueError where the file is broken from some place on, or is XML of another kind.
    """
    pages = _Pages()
    parser = ET.XMLParser(target=pages)
    try:
        while piece := stream.read(_PIECE):
            parser.feed(piece)
            yield from _documents(pages, origin)
        parser.close()
    except (ET.ParseError, LookupError) as error:
        raise ValueError(f"broken XML: {error}") from error
    yield from _documents(pages, origin)


def _documents(pages: "_Pages", origin: Origin) -> Iterator[Document | Rejected]:
    while pages.ready:
        number, about = pages.ready.popleft()
        where = origin.record(number)
        try:
            if "too_long" in about:
                raise ValueError(f"a page of more than {_LARGEST >> 20} MB")
            text = plain_wikitext(about.get("text", ""))
            told = {
                "title": about.get("title", ""),
                "published": about.get("timestamp", ""),
                "publisher": pages.site,
            }
            yield document(text, origin, told, where, encoding="utf-8")
        except ValueError as error:
            yield Rejected(where, str(error))


@dataclass
class _Pages:
    """Target of an XML parser: collects what a page says, one page at a time."""

    site: str = ""
    ready: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)
    number: int = 0
    page: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    size: int = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition("}")[2]
        if not self.path and name != "mediawiki":
            raise ValueError(f"no MediaWiki dump: its root element is {name}")
        self.path.append(name)
        self.words, self.size = [], 0
        if name == "page":
            self.page = {}
        elif name == "redirect":
            self.page["redirect"] = attributes.get("title", "")

    def data(self, text: str) -> None:
        if self.path[-1] in _OF_PAGE or self.path[-1] == "sitename":
            self.size += len(text)
            if self.size <= _LARGEST:
                self.words.append(text)
            else:
                self.page["too_long"] = ""

    def end(self, tag: str) -> None:
        name = self.path.pop()
        if name in _OF_PAGE:
            self.page[name] = "".join(self.words)
        elif name == "sitename":
            self.site = "".join(self.words)
        elif name == "page":
            text = self.page.get("text", "")
            plain = self.page.get("model", "wikitext") == "wikitext"
            moved = "redirect" in self.page or text[:20].lstrip().upper().startswith("#REDIRECT")
            if self.page.get("ns", "0") == "0" and plain and not moved:
                self.ready.append((self.number, self.page))
            self.number += 1
            self.page = {}
        self.words, self.size = [], 0

    def close(self) -> None:
        pass

    doctype = staticmethod(refuse_doctype)
