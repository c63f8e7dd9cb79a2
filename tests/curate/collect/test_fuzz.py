"""Whatever bytes a file holds, its documents or the reason for their absence come of it, and never an error."""

import bz2
import gzip
import io
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from troth.curate.collect import Rejected
from troth.curate.collect.code import LANGUAGES
from troth.curate.collect.files import READERS, read_file
from troth.curate.collect.reader import Origin
from troth.curate.collect.storage import PACKED, Source
from troth.curate.document import Document

SUFFIXES = [suffix for suffix in READERS if suffix not in LANGUAGES] + [".py"]


def check(data: bytes, name: str) -> None:
    for one in read_file(Source(io.BytesIO(data)), name, Origin(name)):
        if isinstance(one, Document):
            assert one.text.strip()
            assert one.source.startswith(name) or "://" in one.source
            one.text.encode()
        else:
            assert isinstance(one, Rejected)
            assert one.reason


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000), st.sampled_from(["", *PACKED]))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_bytes(suffix, data, packed):
    check(data, f"x{suffix}{packed}")


def word() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("word/document.xml", "<w:document xmlns:w='/wordprocessingml/x'><w:body/></w:document>" * 2)
    return packed.getvalue()


def columns() -> bytes:
    packed = io.BytesIO()
    pq.write_table(pa.table({"text": ["One thing.", "Another."] * 20, "ancestors": [[1], None] * 20}), packed)
    return packed.getvalue()


WHOLE = {
    "a.parquet": columns(),
    "a.docx": word(),
    "a.xml.bz2": bz2.compress(b"<mediawiki><page><title>T</title><ns>0</ns><revision><text>{{a|[[b]]}} c'''d"
                              b"</text></revision></page></mediawiki>"),
    "a.jsonl.gz": gzip.compress(b'{"text": "One thing.", "ancestors": [1], "date": "2020"}\n' * 9),
    "a.csv": b"text,date\n" + b'"One, ""two"" things",2020\n' * 9,
    "a.html": b"<html><head><meta charset=utf-8><title>T</title></head><body><table><tr><td>1<td>2</table><p>Text.",
    "a.md": b"---\ntitle: T\n---\n# H\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n* x\n\n```\ncode\n```\n<p>html</p>\n",
    "a.warc": b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a.test/\r\nContent-Length: 64\r\n"
              b"Content-Type: application/http\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
              b"<p>Some text here</p>\r\n\r\n",
}  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), min_size=1, max_size=4), st.floats(0.2, 1))
@pytest.mark.parametrize("name", WHOLE)
def test_files_that_were_damaged(name, changes, kept):
    data = bytearray(WHOLE[name])
    for place, put in changes:
        at = int(place * (len(data) - 1))
        data[at : at + len(put)] = put
    check(bytes(data[: max(1, int(kept * len(data)))]), name)
