"""Plain text, with an optional head of `Title:`, `Publisher:`, `Published:` and `Licence:` lines."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from troth.curate.collect.encoding import decode
from troth.curate.collect.reader import Origin, document, read_whole
from troth.curate.collect.text import clean, unwrap
from troth.curate.document import Document

_HEAD = re.compile(r"(Title|Publisher|Published|Date|Licence|License):[ \t]*(.*)", re.IGNORECASE)


def read_plain(stream: BinaryIO, origin: Origin) -> Iterator[Document]:
    """One document a file; the head counts only where every line before the first empty one belongs to it."""
    yield plain_document(*decode(read_whole(stream)), origin)


def read_bare(stream: BinaryIO, origin: Origin) -> Iterator[Document]:
    """A file whose name has no suffix, such as README: plain text, if it is one. Raises ValueError where it is not."""
    data = read_whole(stream)
    try:
        text, encoding = decode(data)
    except ValueError as error:
        raise ValueError(f"a name without a suffix is read as text, and this is none: {error}") from error
    if text.startswith("#!"):
        raise ValueError("a script whose name has no suffix")
    yield plain_document(text, encoding, origin)


def plain_document(text: str, encoding: str, origin: Origin) -> Document:
    """A document from plain text."""
    text = clean(text)
    head, _, body = text.partition("\n\n")
    fields = [_HEAD.fullmatch(line) for line in head.split("\n")]
    told = {field[1].lower(): field[2] for field in fields if field}
    if not all(fields):
        told, body = {}, text
    return document(unwrap(body), origin, told, encoding=encoding)
