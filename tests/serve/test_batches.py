"""Files and batches as the OpenAI client uses them, over a server that is killed, cancelled and restarted."""

import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from troth.security.keys import add_key
from troth.serve.api.batch_input import problems, read_lines
from troth.serve.api.file_store import FileStore, open_state

from .conftest import ServeProcess, wait_until

Serve = Callable[..., AbstractContextManager[ServeProcess]]
CHAT = "/v1/chat/completions"


def line(custom_id: str, endpoint: str = CHAT, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": custom_id}]
    asked = {"model": "tiny", "messages": messages, "max_tokens": 4, "ignore_eos": True}
    return {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": body or asked}


def as_file(*lines: Any) -> tuple[str, bytes]:
    return "requests.jsonl", "".join(json.dumps(entry) + "\n" for entry in lines).encode()


def connect(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30)


def begin(client: openai.OpenAI, *lines: Any, endpoint: str = CHAT) -> Any:
    file = client.files.create(file=as_file(*lines), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"a": "b"})


def ended(client: openai.OpenAI, batch: Any) -> Any:
    open_ = ("validating", "in_progress", "finalizing", "cancelling")
    wait_until(lambda: client.batches.retrieve(batch.id).status not in open_, 90)
    return client.batches.retrieve(batch.id)


def results(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()] if file_id else []


@pytest.fixture(scope="module")
def client(run_server: Callable[..., AbstractContextManager[str]], tmp_path_factory) -> Iterator[openai.OpenAI]:
    with run_server(max_batch=4, files_dir=tmp_path_factory.mktemp("files") / "new") as url:
        yield connect(url)


def test_files_come_and_go(client: openai.OpenAI):
    name, data = as_file(line("a"))
    file = client.files.create(file=(name, data), purpose="batch")
    assert (file.object, file.filename, file.bytes, file.purpose) == ("file", name, len(data), "batch")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == data
    other = client.files.create(file=as_file(line("b")), purpose="batch")
    assert [found.id for found in client.files.list(limit=1)] == [other.id, file.id], "in pages, newest first"
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="No such file"):
        client.files.retrieve(file.id)
    with pytest.raises(openai.BadRequestError, match="only 'batch'"):
        client.files.create(file=as_file(line("a")), purpose="fine-tune")


def test_files_are_kept_as_long_as_was_said(client: openai.OpenAI):
    """From an hour to 30 days, and for ever where nothing was said."""
    hour: Any = {"anchor": "created_at", "seconds": 3600}
    file = client.files.create(file=as_file(line("a")), purpose="batch", expires_after=hour)
    assert client.files.retrieve(file.id).expires_at == file.created_at + 3600
    batch = client.batches.create(
        input_file_id=file.id, endpoint=CHAT, completion_window="24h", output_expires_after=hour
    )
    output = client.files.retrieve(ended(client, batch).output_file_id or "")
    assert output.expires_at == output.created_at + 3600
    assert client.files.create(file=as_file(line("a")), purpose="batch").expires_at is None
    for wrong in (hour | {"seconds": 60}, {"anchor": "created_at"}, hour | {"anchor": "last_use"}):
        with pytest.raises(openai.BadRequestError, match="expires_after"):
            client.files.create(file=as_file(line("a")), purpose="batch", expires_after=wrong)


def test_what_has_expired_is_not_found_and_goes(tmp_path: Path):
    """Also from folders of versions in which files stayed."""
    with sqlite3.connect(tmp_path / "state.sqlite") as old:
        columns = "id TEXT PRIMARY KEY, holder TEXT, filename TEXT, purpose TEXT, bytes INTEGER, created_at INTEGER"
        old.execute(f"CREATE TABLE files ({columns}) STRICT")
        old.execute("INSERT INTO files VALUES ('file-old', NULL, 'a', 'batch', 1, 1)")
    files = FileStore(tmp_path, open_state(tmp_path))
    short, long = (files.add(io.BytesIO(b"{}"), "b", "batch", None, seconds) for seconds in (-1, 3600))
    assert files.get(short.id, None) is None
    assert [file.id for file in files.all(None, None)] == [long.id, "file-old"]
    assert files.expired() == [short.id]


def test_a_batch_answers_every_line_and_tells_which_failed(client: openai.OpenAI):
    asked = [line(f"r{i}") for i in range(5)]
    asked[3] = line("r3", model="tiny", messages=[])
    batch = begin(client, *asked)
    assert (batch.object, batch.status, batch.endpoint, batch.metadata) == ("batch", "validating", CHAT, {"a": "b"})
    done = ended(client, batch)
    assert done.status == "completed"
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (5, 4, 1)
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at < done.expires_at
    good, bad = results(client, done.output_file_id), results(client, done.error_file_id)
    assert [result["custom_id"] for result in good] == ["r0", "r1", "r2", "r4"]
    assert {result["response"]["body"]["usage"]["completion_tokens"] for result in good} == {4}
    [failed] = bad
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("r3", 400)
    assert failed["response"]["body"]["error"]["param"] == "messages"
    assert client.batches.list().data[0].id == batch.id
    with pytest.raises(openai.ConflictError, match="is completed and cannot be cancelled"):
        client.batches.cancel(batch.id)


def test_a_line_that_is_no_text_fails_alone(client: openai.OpenAI):
    """Half of a surrogate pair, or no number, in a line: others are answered."""
    at = "/v1/completions"
    asked = [
        line("a", at, prompt="A bird"), line("b", at, prompt="A bird \ud83d"),
        line("c", at, prompt="A bird", model="\ud83d"), line("d", at, prompt="A bird", temperature=float("nan")),
    ]  # fmt: skip
    done = ended(client, begin(client, *asked, endpoint=at))
    assert done.status == "completed"
    assert [found["custom_id"] for found in results(client, done.output_file_id)] == ["a", "b"]
    bad = results(client, done.error_file_id)
    assert [(found["custom_id"], found["response"]["status_code"]) for found in bad] == [("c", 404), ("d", 400)]


def test_embeddings_in_a_batch(client: openai.OpenAI):
    done = ended(client, begin(client, line("e", "/v1/embeddings", input="A bird"), endpoint="/v1/embeddings"))
    [result] = results(client, done.output_file_id)
    assert len(result["response"]["body"]["data"][0]["embedding"]) == 64


def test_a_file_that_is_no_batch_fails_with_its_lines(client: openai.OpenAI):
    bad = [line("a"), "text", line("a"), line("b") | {"url": "/v1/embeddings"}, line("c", stream=True)]
    bad.append(line("d", deferred=True))
    batch = ended(client, begin(client, *bad))
    assert batch.status == "failed"
    assert [(error.line, error.code) for error in batch.errors.data] == [
        (2, "invalid_json_line"), (3, "duplicate_custom_id"), (4, "mismatched_endpoint"), (5, "invalid_request"),
        (6, "invalid_request"),
    ]  # fmt: skip
    assert ended(client, begin(client)).errors.data[0].code == "empty_file"
    with pytest.raises(openai.NotFoundError, match="No such file"):
        client.batches.create(input_file_id="file-x", endpoint=CHAT, completion_window="24h")


def test_a_file_that_is_sent_as_text_is_told(client: openai.OpenAI):
    told = httpx.post(f"{client.base_url}files", data={"file": "batch.jsonl", "purpose": "batch"})
    assert told.status_code == 400
    assert told.json()["error"]["message"] == "file: a text where a file has to be (curl -F file=@NAME)"


def test_a_form_that_cannot_be_read_is_told_as_one(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError, match="cannot be read as a form"):
        client.files.create(file=("n" * 5000, b"{}"), purpose="batch")


def test_a_cancelled_batch_keeps_what_it_has(client: openai.OpenAI):
    long = {"prompt": "A bird", "max_tokens": 4000, "ignore_eos": True}
    lines = [line("short", "/v1/completions", prompt="A bird", max_tokens=2)]
    lines += [line(f"long{i}", "/v1/completions", **long) for i in range(8)]
    batch = begin(client, *lines, endpoint="/v1/completions")
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 1)
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert client.completions.create(model="tiny", prompt="x", max_tokens=3).usage.completion_tokens <= 3
    done = ended(client, batch)
    assert done.status == "cancelled"
    assert "short" in [result["custom_id"] for result in results(client, done.output_file_id)]
    assert done.request_counts.completed < 9
    health = f"{client.base_url}".removesuffix("/v1/") + "/health"
    wait_until(lambda: httpx.get(health).json()["running"] == 0)


@pytest.mark.slow
def test_a_batch_survives_a_killed_server_and_belongs_to_its_key(serve_process: Serve, tmp_path: Path):
    options = ["--set", f"serve.files_dir={tmp_path / 'files'}", "--set", "serve.max_batch=2"]
    keys = tmp_path / "keys.jsonl"
    ours, theirs = add_key(keys, "us"), add_key(keys, "them")
    options += ["--set", f"serve.api_keys={keys}"]
    body = {"prompt": "A bird", "max_tokens": 60, "ignore_eos": True}
    lines = [line(f"r{i}", "/v1/completions", **body) for i in range(30)]
    with serve_process(*options) as process:
        client = connect(process.url, ours)
        batch = begin(client, *lines, endpoint="/v1/completions")
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 3)
        assert client.batches.retrieve(batch.id).status == "in_progress"
        before = client.batches.retrieve(batch.id).request_counts.completed
        process.process.kill()
    with serve_process(*options) as process:
        client = connect(process.url, ours)
        assert client.batches.retrieve(batch.id).request_counts.completed >= before
        done = ended(client, batch)
        assert done.status == "completed"
        assert [r["custom_id"] for r in results(client, done.output_file_id)] == [f"r{i}" for i in range(30)]
        other = connect(process.url, theirs)
        assert other.batches.list().data == other.files.list().data == []
        for look in (lambda: other.batches.retrieve(batch.id), lambda: other.files.content(done.output_file_id)):
            with pytest.raises(openai.NotFoundError):
                look()


def test_a_line_is_no_longer_than_a_request_can_be(tmp_path: Path):
    path = tmp_path / "input"
    whole = json.dumps(line("whole"))
    numbers = json.dumps(line("numbers", "/v1/completions", prompt=[1] * 600_000))
    path.write_text(f"{whole}\n{' ' * 4_000_000}{whole}\n\n{json.dumps(line('i' * 600))}\n{numbers}")
    count, wrong = problems(path, CHAT, 3_000_000)
    assert count == 4
    assert [(told["line"], told["code"]) for told in wrong] == [
        (2, "request_too_large"), (4, "invalid_value"), (5, "request_too_large"),
    ]  # fmt: skip


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="needs limits that another process can set")
def test_a_batch_waits_while_the_disk_is_full(serve_process: Serve, tmp_path: Path):
    with serve_process("--set", f"serve.files_dir={tmp_path}", "--set", "serve.max_batch=4") as process:
        client, server = connect(process.url), psutil.Process(process.process.pid)
        file = client.files.create(file=as_file(*(line(f"r{i}") for i in range(300))), purpose="batch")
        state = tmp_path / "state.sqlite-wal"
        # No file of the server's can grow beyond this, as if the disk were full.
        server.rlimit(psutil.RLIMIT_FSIZE, (state.stat().st_size + 60_000, psutil.RLIM_INFINITY))
        batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        wait_until(lambda: "waits for its disk" in process.log.read_text(), 30)
        assert client.batches.retrieve(batch.id).status == "in_progress"
        server.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        done = ended(client, batch)
        assert done.status == "completed"
        assert [r["custom_id"] for r in results(client, done.output_file_id)] == [f"r{i}" for i in range(300)]


def test_what_was_answered_stays_where_the_input_is_lost(serve_process: Serve, tmp_path: Path):
    options = ("--set", f"serve.files_dir={tmp_path}", "--set", "serve.max_batch=1")
    with serve_process(*options) as process:
        client = connect(process.url)
        batch = begin(client, *(line(f"r{i}") for i in range(2000)))
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed > 2)
        process.process.kill()
    (tmp_path / batch.input_file_id).unlink()
    with serve_process(*options) as process:
        client = connect(process.url)
        lost = ended(client, batch)
        assert (lost.status, lost.errors.data[0].code) == ("failed", "file_not_found")
        assert len(results(client, lost.output_file_id)) == lost.request_counts.completed > 2


def test_a_key_has_so_many_bytes(run_server: Callable[..., AbstractContextManager[str]], tmp_path: Path):
    with run_server(files_dir=tmp_path, files_bytes=1000) as url:
        client = connect(url)
        file = client.files.create(file=("a", b"x" * 600), purpose="batch")
        with pytest.raises(openai.BadRequestError, match=r"your files take 600 bytes, .* the 1,000 that they may"):
            client.files.create(file=("b", b"x" * 401), purpose="batch")
        client.files.create(file=("b", b"x" * 400), purpose="batch")
        client.files.delete(file.id)
        client.files.create(file=("c", b"x" * 600), purpose="batch")


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" ")), max_size=5))
def test_any_bytes_are_read_or_refused(tmp_path_factory, texts: list[bytes]):
    path = tmp_path_factory.mktemp("batch") / "input"
    good = [json.dumps(line(f"r{i}")).encode() for i in range(2)]
    path.write_bytes(b"\n".join([*good, *texts]))
    count, wrong = problems(path, CHAT, 10_000)
    assert count == 2 + sum(bool(text.strip()) for text in texts)
    if not wrong:
        assert [found.custom_id for found in read_lines(path, CHAT, 10_000)] == ["r0", "r1"]
