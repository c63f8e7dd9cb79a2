"""Sources elsewhere: HTTP, S3 and Azure Blob by real servers on this machine, and any other file system of fsspec."""

import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from troth.curate.collect import collect_part, plan_collect
from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.system.storage import filesystem

from .object_stores import FILES, Bucket, Container


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
    with pytest.raises(ValueError, match="cannot be reached"):
        collected("http://127.0.0.1:9/a.txt", tmp_path / "nobody")


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


def test_azure_blob(tmp_path, served):
    try:
        import adlfs  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("fsspec's own client of Azure is installed; its settings are its own")
    settings = "enable_tls=false&credential_kind=anonymous"
    assert collected(f"abfs://account@{served(Container)}/corpus?{settings}", tmp_path) == ALL


def test_what_cannot_be_reached_is_named(tmp_path):
    with pytest.raises(ValueError, match="nosuch://bucket"):
        plan_collect(["nosuch://bucket/x"], tmp_path)
