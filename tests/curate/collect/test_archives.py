"""Archives of many pages: WARC files and MediaWiki dumps, read page by page and packed in any way."""

import bz2
import gzip
import io
import lzma
import zlib

import pyarrow as pa
import pytest
from fastwarc.warc import ArchiveIterator

from troth.curate.collect import Rejected
from troth.curate.collect.files import read_file
from troth.curate.collect.reader import Origin
from troth.curate.collect.storage import Source
from troth.curate.collect.wikitext import plain_wikitext
from troth.curate.document import Document


def read(data: bytes, name: str) -> list[Document | Rejected]:
    return list(read_file(Source(io.BytesIO(data)), name, Origin(name, retrieved="2024-05-01", licence="CC-BY-SA-4.0")))


def record(url: str, body: bytes, head: str = "Content-Type: text/html", status: int = 200, kind="response") -> bytes:
    answer = f"HTTP/1.1 {status} OK\r\n{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    block = answer if kind == "response" else body
    of_block = "application/http; msgtype=response" if kind == "response" else "text/plain"
    about = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{zlib.crc32(url.encode() + body):032x}>\r\n"
        f"WARC-Target-URI: {url}\r\nWARC-Date: 2023-07-08T09:10:11Z\r\nContent-Type: {of_block}\r\n"
        f"Content-Length: {len(block)}\r\n\r\n"
    )
    return about.encode() + block + b"\r\n\r\n"


PAGE = b"<html><head><title>Cells</title></head><body><article><p>A cell is small, and it lives.</p></article></body>"
POLISH = "<html><body><p>Łódź jest miastem.</p></body></html>".encode("iso-8859-2")


def test_warc():
    records = [
        record("http://a.test/cells", PAGE),
        record("http://a.test/lodz", POLISH, "Content-Type: text/html; charset=iso-8859-2"),
        record("http://a.test/packed", gzip.compress(PAGE), "Content-Type: text/html\r\nContent-Encoding: gzip"),
        record("http://a.test/gone", PAGE, status=404),
        record("http://a.test/cat.png", b"\x89PNG", "Content-Type: image/png"),
        record("http://a.test/cells", PAGE),
        record("http://a.test/empty", b"<html></html>"),
        record("http://a.test/wet", b"Extracted text.", kind="conversion"),
    ]
    for packed, name in ((b"".join(records), "a.warc"), (b"".join(map(gzip.compress, records)), "a.warc.gz")):
        found = read(packed, name)
        documents = [one for one in found if isinstance(one, Document)]
        assert [(d.source, d.text) for d in documents] == [
            ("http://a.test/cells", "A cell is small, and it lives."),
            ("http://a.test/lodz", "Łódź jest miastem."),
            ("http://a.test/packed", "A cell is small, and it lives."),
            ("http://a.test/cells#5", "A cell is small, and it lives."),
            ("http://a.test/wet", "Extracted text."),
        ]
        assert {d.retrieved for d in documents} == {"2023-07-08"}
        assert "a.test" in {d.publisher for d in documents}
        assert [d.encoding for d in documents[:2]] == ["utf-8", "iso8859-2"]
        assert [one for one in found if isinstance(one, Rejected)] == [Rejected("http://a.test/empty", "no text")]
    assert len(list(ArchiveIterator(io.BytesIO(b"".join(records))))) == len(records)


def test_what_a_server_sent_wrong_is_of_no_other_record():
    gzipped = "Content-Type: text/html\r\nContent-Encoding: gzip"
    chunked = "Content-Type: text/html\r\nTransfer-Encoding: chunked"
    records = [
        record("http://a.test/unpacked", PAGE, gzipped),
        record("http://a.test/whole", PAGE, chunked),
        record("http://a.test/broken", gzip.compress(PAGE)[:12] + 40 * b"\xff", gzipped),
        record("dns:a.test", b"", kind="response").replace(b"application/http; msgtype=response", b"text/dns"),
        record("http://a.test/lodz", POLISH, 'Content-Type: text/html; charset="iso-8859-2"'),
    ]
    unpacked, whole, broken, lodz = read(b"".join(map(gzip.compress, records)), "a.warc.gz")
    assert [unpacked.text, whole.text, lodz.text] == ["A cell is small, and it lives."] * 2 + ["Łódź jest miastem."]
    assert (broken.source, broken.reason[:14]) == ("http://a.test/broken", "broken answer:")


@pytest.mark.parametrize("cut", [9, 20, 40, 60])
@pytest.mark.parametrize("pack", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_a_warc_that_is_cut_keeps_the_pages_before(pack, cut):
    whole = pack(record("http://a.test/1", PAGE)) + pack(record("http://a.test/2", PAGE))
    first, *others = read(whole[:-cut], "a.warc.gz" if pack is gzip.compress else "a.warc")
    assert first.source == "http://a.test/1"
    if cut > 9:  # The last nine bytes of a packed record are behind its text.
        [cut_off] = others
        assert cut_off.source == "http://a.test/2"
        assert "cut: " in cut_off.reason


@pytest.mark.parametrize("pack", [gzip, bz2, lzma])
def test_a_packed_file_that_is_cut_keeps_the_lines_before(pack):
    lines = [f'{{"text": "Line {number} and {zlib.crc32(str(number).encode())}."}}\n' for number in range(60_000)]
    packed = pack.compress("".join(lines).encode())
    suffix = {gzip: "gz", bz2: "bz2", lzma: "xz"}[pack]
    *kept, last = read(packed[: len(packed) // 2], f"lines.jsonl.{suffix}")
    assert all(isinstance(one, Document) for one in kept)
    assert len(kept) > 5_000
    assert isinstance(last, Rejected)
    assert "ended before" in last.reason


def page(title: str, text: str, ns: int = 0, more: str = "") -> str:
    return (
        f"<page><title>{title}</title><ns>{ns}</ns><id>7</id>{more}<revision><id>8</id>"
        f"<timestamp>2024-02-03T04:05:06Z</timestamp><contributor><username>U</username></contributor>"
        f"<model>wikitext</model><text xml:space='preserve'>{text}</text></revision></page>"
    )


def dump(*pages: str) -> bytes:
    site = "<siteinfo><sitename>Wiki of rivers</sitename><namespaces><namespace key='0'/></namespaces></siteinfo>"
    space = "http://www.mediawiki.org/xml/export-0.11/"
    return f"<mediawiki xmlns='{space}' xml:lang='en'>{site}{''.join(pages)}</mediawiki>".encode()


RIVERS = dump(
    page("Nile", "The &lt;b&gt;Nile&lt;/b&gt; is a [[river]]."),
    page("Talk:Nile", "Is it?", ns=1),
    page("The Nile", "#REDIRECT [[Nile]]", more="<redirect title='Nile'/>"),
    page("Po", "The '''Po''' &amp; its valley."),
)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("d.xml", lambda data: data),
        ("d.xml.bz2", lambda data: bz2.compress(data[:900]) + bz2.compress(data[900:])),
        ("d.xml.gz", gzip.compress),
        ("d.xml.xz", lzma.compress),
        ("d.xml.zst", lambda data: pa.compress(data, "zstd", asbytes=True)),
    ],
)
def test_mediawiki(name, pack):
    found = read(pack(RIVERS), name)
    assert [(d.source, d.title, d.text) for d in found] == [
        (f"{name}#0", "Nile", "The Nile is a river."),
        (f"{name}#3", "Po", "The Po & its valley."),
    ]
    about = found[0]
    assert (about.publisher, about.published, about.licence) == ("Wiki of rivers", "2024-02-03", "CC-BY-SA-4.0")


def test_a_broken_dump_keeps_the_pages_before_and_other_xml_is_named():
    *pages, broken = read(RIVERS[:-80], "d.xml")
    assert [d.title for d in pages] == ["Nile"]
    assert "broken XML" in broken.reason
    assert [one.reason for one in read(b"<rss></rss>", "feed.xml")] == ["no MediaWiki dump: its root element is rss"]
    (refused,) = read(b"<!DOCTYPE mediawiki [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>" + RIVERS, "d.xml")
    assert "document type declaration" in refused.reason
    packed = bz2.compress(RIVERS * 1)
    (cut,) = read(packed[: len(packed) // 2], "d.xml.bz2")
    assert isinstance(cut, Rejected)


WIKITEXT = """{{Infobox river|length={{convert|6650|km}}}}
The '''Nile''' ({{lang|ar|النيل}}) flows {{convert|6650|km|mi}} to the [[Mediterranean Sea|sea]].<ref>A book.</ref> See
[http://a.test its page] &mdash; or [[Egypt]].[[File:Nile.jpg|thumb|A picture]]<!-- hidden -->

== Course ==
* It rises in [[Lake Victoria]].
* It ends in a ''delta''.

{| class="wikitable"
! Country !! Length
|-
| Egypt || 1500
|-
| Sudan || [[km|1100]]
|}
[[Category:Rivers]]
[[de:Nil]]
"""


def test_wikitext():
    assert plain_wikitext(WIKITEXT).split("\n\n") == [
        "The Nile (النيل) flows 6650 km to the sea. See",
        "its page — or Egypt.",
        "Course",
        "It rises in Lake Victoria.",
        "It ends in a delta.",
        "Country: Egypt; Length: 1500",
        "Country: Sudan; Length: 1100",
    ]
