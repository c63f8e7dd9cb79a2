"""PDF to paragraphs, by pypdf."""

import io
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from troth.curate.collect.reader import Origin, document, read_whole
from troth.curate.collect.text import clean, unwrap
from troth.curate.document import Document

_LARGEST = 1 << 30


def read_pdf(stream: BinaryIO, origin: Origin) -> Iterator[Document]:
    """One document a file; the author counts as its publisher and the day of creation as its date.

    Raises ValueError for a broken file, one that needs a password, and one that holds only pictures of text.
    """
    from pypdf import PdfReader
    from pypdf.errors import FileNotDecryptedError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns without naming the file; what fails is raised
    try:
        pdf = PdfReader(io.BytesIO(read_whole(stream, _LARGEST)))
        pages = [clean(page.extract_text()).split("\n") for page in pdf.pages]
        entries: Mapping[str, object] = pdf.metadata or {}
        about = {
            "title": str(entries.get("/Title") or ""),
            "publisher": str(entries.get("/Author") or ""),
            "published": str(entries.get("/CreationDate") or ""),
        }
    except FileNotDecryptedError as error:
        raise ValueError("the PDF needs a password; save it without one") from error
    except Exception as error:  # pypdf lets what a malformed file provokes through: KeyError, TypeError, zlib.error
        raise ValueError(f"broken PDF: {type(error).__name__}: {error}") from error
    text = unwrap("\n".join(_body(pages)))
    if not text.strip():
        raise ValueError("no text in the PDF, only pictures; run text recognition (OCR) over it first")
    yield document(text, origin, about)


def _body(pages: list[list[str]]) -> Iterator[str]:
    """Lines of all pages, without page numbers and the lines that open or close at least half of three or more
    pages. A sentence may run on from page to page, so no empty line is put between two."""
    edges = Counter(shape for page in pages for shape in {_shape(page[0]), _shape(page[-1])})
    running = {shape for shape, times in edges.items() if times >= max(3, math.ceil(len(pages) / 2))}
    for page in pages:
        start = 1 if _shape(page[0]) in running else 0
        end = len(page) - 1 if _shape(page[-1]) in running and len(page) > start else len(page)
        for line in page[start:end]:
            if not re.fullmatch(r"\s*[-–—]?\s*(?:page\s+)?\d{1,4}\s*[-–—]?\s*", line, re.IGNORECASE):
                yield line


def _shape(line: str) -> str:
    return re.sub(r"\d+", "0", line.strip())
