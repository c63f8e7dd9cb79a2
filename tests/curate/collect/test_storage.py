"""Sources elsewhere: HTTP and S3 by real servers on this machine, and any other file system that fsspec has."""

import threading
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import fsspec
import pytest

from troth.curate.collect import collect_part, plan_collect
from troth.curate.collect.storage import filesystem
from troth.curate.document import Document
from troth.curate.parts import Parts

FILES = {"a.txt": b"A page that says one thing.", "b/c.jsonl": b'{"text": "One."}\n{"text": "Two."}\n'}


def collected(source: str, out: Path) -> list[tuple[str, str]]:
    plan = plan_collect([source], out)
    assert plan_collect([source], out) == plan
    for part in range(plan.parts):
        collect_part(part, out)
    return [(one.source, one.text) for one in Parts(out, "collect").read(0, "documents", Document)]


ALL = [("a.txt", "A page that says one thing."), ("b/c.jsonl#0", "One."), ("b/c.jsonl#1", "Two.")]


@pytest.fixture
def served():
    """Start a server and give its address."""
    started: list[ThreadingHTTPServer] = []

    def serve(handler) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield serve
    for server in started:
        server.shutdown()
        server.server_close()


def test_any_file_system_of_fsspec(tmp_path):
    memory = fsspec.filesystem("memory")
    for name, data in FILES.items():
        memory.pipe(f"/corpus/{name}", data)
    try:
        assert collected("memory://corpus", tmp_path) == ALL
    finally:
        memory.rm("/corpus", recursive=True)


def test_http(tmp_path, served):
    for name, data in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "in"))

        def log_message(self, *about):
            pass

    address = served(Quiet)
    assert collected(f"http://{address}/b/c.jsonl", tmp_path / "file") == [("c.jsonl#0", "One."), ("c.jsonl#1", "Two.")]
    assert collected(f"http://{address}/", tmp_path / "folder") == ALL
    with pytest.raises(ValueError, match=r"missing\.txt: no such file or folder"):
        plan_collect([f"http://{address}/missing.txt"], tmp_path / "missing")


class Bucket(BaseHTTPRequestHandler):
    """As much of S3 as reading takes: listing, heads and ranges of the bucket `corpus`."""

    def log_message(self, *about):
        pass

    def answer(self, status: int, body: bytes, kind="application/xml", **headers) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        _, bucket, *key = unquote(url.path).split("/", 2)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        name = key[0] if key else ""
        if bucket != "corpus" or (name and name not in FILES):
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif name:
            data = FILES[name]
            about = {"ETag": '"abc"', "Last_Modified": "Wed, 01 May 2024 10:00:00 GMT"}
            if asked := self.headers.get("Range"):
                start, _, end = asked.removeprefix("bytes=").partition("-")
                piece = data[int(start) : int(end) + 1]
                where = f"bytes {start}-{int(start) + len(piece) - 1}/{len(data)}"
                self.answer(206, piece, "text/plain", Content_Range=where, **about)
            else:
                self.answer(200, data, "text/plain", **about)
        else:
            self.answer(200, self.listing(query.get("prefix", ""), query.get("delimiter", "")))

    def listing(self, prefix: str, delimiter: str) -> bytes:
        below = [name for name in FILES if name.startswith(prefix)]
        folders = {name[: name.index(delimiter, len(prefix)) + 1] for name in below if delimiter in name[len(prefix) :]}
        files = [name for name in below if not delimiter or delimiter not in name[len(prefix) :]]
        entries = "".join(
            f"<Contents><Key>{name}</Key><Size>{len(FILES[name])}</Size><ETag>abc</ETag>"
            "<LastModified>2024-05-01T10:00:00.000Z</LastModified></Contents>"
            for name in files
        )
        common = "".join(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in folders)
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}{common}</ListBucketResult>".encode()


def test_s3_by_an_endpoint_as_oracle_and_others_offer_it(tmp_path, served, monkeypatch):
    try:
        import s3fs  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("fsspec's own client of S3 is installed; its settings are its own")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{served(Bucket)}")
    filesystem.cache_clear()
    assert collected("s3://corpus", tmp_path) == ALL
    filesystem.cache_clear()


def test_what_cannot_be_reached_is_named(tmp_path):
    with pytest.raises(ValueError, match="nosuch://bucket"):
        plan_collect(["nosuch://bucket/x"], tmp_path)
