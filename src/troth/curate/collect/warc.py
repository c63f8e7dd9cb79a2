"""WARC archives of web pages (ISO 28500), by fastwarc: responses of HTML or plain text, and extracted text (WET)."""

import io
from collections.abc import Iterator
from urllib.parse import urlsplit

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from troth.curate.collect.encoding import decode
from troth.curate.collect.page import html_document
from troth.curate.collect.plain import plain_document
from troth.curate.collect.reader import Origin, Rejected, read_whole
from troth.curate.document import Document

_HTML = {"text/html", "application/xhtml+xml"}
_LARGEST = 16 << 20


def read_warc(stream: io.BufferedReader, origin: Origin) -> Iterator[Document | Rejected]:
    """One document a page, whose source is its URL, retrieved on the day of its record; `.gz` is unpacked here.

    The host of its URL is its publisher where the page names none. Answers other than 200, and pictures and other kinds
    of content, are passed over. An address that comes twice in one archive gets the record's number behind it.
    """
    seen: set[int] = set()
    number = -1
    kinds = WarcRecordType.response | WarcRecordType.conversion
    try:
        for number, record in enumerate(ArchiveIterator(stream, record_types=kinds, parse_http=False)):
            url = str(record.headers.get("WARC-Target-URI", "")).strip("<> ")
            url = url if "://" in url else origin.record(number)
            source = f"{url}#{number}" if hash(url) in seen else url
            seen.add(hash(url))
            try:
                yield from _page(record, source, origin)
            except ValueError as error:
                yield Rejected(source, str(error))
    except Exception as error:  # fastwarc lets errors of its unpackers through, which have no common base
        where = f" after record {number}" if number >= 0 else ""
        raise ValueError(f"broken WARC{where}: {type(error).__name__}: {error}") from error
    if number < 0:
        raise ValueError("no WARC: no response and no extracted text in it")


def _page(record: WarcRecord, source: str, origin: Origin) -> Iterator[Document]:
    stated = record.content_length
    if stated > _LARGEST:
        raise ValueError(f"{stated:,} bytes: more than {_LARGEST >> 20} MB")
    content = record.reader.read()
    if len(content) < stated:  # fastwarc itself says nothing of an archive that ends within a record.
        raise ValueError(f"cut: {len(content):,} of its {stated:,} bytes are there")
    if record.record_type == WarcRecordType.conversion:
        status, kind, charset, data = 200, "text/plain", "", content
    elif not record.is_http:  # of a name server, say
        return
    else:
        status, kind, charset, data = _answer(content)
    if status != 200 or kind not in {*_HTML, "text/plain"}:
        return
    date = str(record.headers.get("WARC-Date", ""))
    publisher = urlsplit(source).hostname or origin.publisher
    page = Origin(source, origin.collection, date[:10] or origin.retrieved, origin.licence, publisher)
    if kind in _HTML:
        yield html_document(data, page, charset)
    else:
        yield plain_document(*decode(data, charset), page)


def _answer(content: bytes) -> tuple[int, str, str, bytes]:
    """Status, content type, charset and body of what a server sent. A body may lie unpacked below headers that call it
    packed or chunked, for some crawlers keep these. Raises ValueError where it cannot be unpacked and is no page."""
    failed: OSError | None = None
    for packing in ("all", "content", "transfer", "none"):
        # Of a copy, for an archive cannot be read beyond a record whose own reader failed.
        answer = WarcRecord()
        answer.record_type, answer.is_http = WarcRecordType.response, True
        answer.set_bytes_content(content)
        try:
            answer.parse_http(auto_decode=packing)
            body = read_whole(answer.reader, _LARGEST)  # type: ignore[arg-type]
        except OSError as error:
            failed = failed or error
            continue
        if not failed or body.lstrip().startswith(b"<"):
            status = answer.http_headers.status_code if answer.http_headers else None
            charset = (answer.http_charset or "").strip("\"'")
            return status or 0, (answer.http_content_type or "").lower(), charset, body
    raise ValueError(f"broken answer: {failed}")
