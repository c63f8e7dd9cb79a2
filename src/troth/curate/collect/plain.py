"""Plain text, with an optional head of `Title:`, `Publisher:`, `Published:` and `Licence:` lines."""

import re
from collections.abc import Iterator

from troth.curate.collect.reader import document
from troth.curate.collect.text import clean, decode, unwrap
from troth.curate.document import Document

_HEAD = re.compile(r"(Title|Publisher|Published|Date|Licence|License):[ \t]*(.*)", re.IGNORECASE)


def read_plain(data: bytes, source: str, collection: str) -> Iterator[Document]:
    """One document a file; the head counts only where every line before the first empty one belongs to it."""
    text = clean(decode(data))
    head, _, body = text.partition("\n\n")
    fields = [_HEAD.fullmatch(line) for line in head.split("\n")]
    about = {field[1].lower(): field[2] for field in fields if field}
    if not all(fields):
        about, body = {}, text
    yield document(unwrap(body), source, collection, about)
