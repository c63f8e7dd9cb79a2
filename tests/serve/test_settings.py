"""What settings of a server change that others know as options of vLLM's."""

import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import openai
import pytest

import troth
from troth.model.tokenizer import Tokenizer
from troth.serve.build import chat_template
from troth.system.serve import ServeTable

from .conftest import ServeProcess

Run = Callable[..., AbstractContextManager[str]]
Serve = Callable[..., AbstractContextManager[ServeProcess]]
HELLO = [{"role": "user", "content": "A bird"}]


def test_pages_of_other_sites_ask_where_they_may(run_server: Run, server: str):
    """As browsers do: they ask whether they may, and show an answer, also a refusal, to pages that it names."""
    wanted = {"Origin": "https://chat.example", "Access-Control-Request-Method": "POST"}
    wanted["Access-Control-Request-Headers"] = "authorization,content-type"
    with run_server(allowed_origins=["https://chat.example"]) as url:
        asked = httpx.options(f"{url}/v1/chat/completions", headers=wanted)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == "https://chat.example"
        assert "authorization" in asked.headers["access-control-allow-headers"]
        for body, status in (({"prompt": "A", "max_tokens": 1}, 200), ({}, 400)):
            answer = httpx.post(f"{url}/v1/completions", json=body, headers={"Origin": "https://chat.example"})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == "https://chat.example"
            assert "x-request-id" in answer.headers["access-control-expose-headers"]
        other = wanted | {"Origin": "https://other.example"}
        assert httpx.options(f"{url}/v1/chat/completions", headers=other).status_code == 400
    assert httpx.options(f"{server}/v1/chat/completions", headers=wanted).status_code == 405


def test_a_model_has_further_names_and_a_shorter_context(run_server: Run):
    with run_server(aliases=["gpt-4o", "mine/tiny"], max_model_len=20) as url:
        listed = httpx.get(f"{url}/v1/models").json()["data"]
        assert [(model["id"], model["max_model_len"], model["parent"]) for model in listed] == [
            ("tiny", 20, None), ("gpt-4o", 20, None), ("mine/tiny", 20, None)
        ]  # fmt: skip
        assert httpx.get(f"{url}/v1/models/mine/tiny").json()["id"] == "mine/tiny"
        for name, status in (("tiny", 200), ("gpt-4o", 200), ("mine/tiny", 200), ("gpt-5", 404)):
            answer = httpx.post(f"{url}/v1/completions", json={"model": name, "prompt": [1] * 12, "ignore_eos": True})
            assert answer.status_code == status
            if status == 200:
                assert (answer.json()["model"], answer.json()["usage"]["total_tokens"]) == ("tiny", 20)
        long = httpx.post(f"{url}/v1/completions", json={"prompt": [1] * 20}).json()["error"]
        assert "19 fit: the model has 4096 positions, the cache 8192, serve.max_model_len is 20" in long["message"]
        assert long["code"] == "context_length_exceeded"


def test_chats_are_written_by_the_template_of_a_file(
    run_server: Run, tokenizer: Tokenizer, folder: Path, tmp_path: Path
):
    path = tmp_path / "own.jinja"
    path.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}{{ eos_token }}", "utf-8")
    with run_server(chat_template=path) as url:
        found = httpx.post(f"{url}/tokenize", json={"messages": HELLO}).json()
    assert found["tokens"] == tokenizer.encode_special("user: A bird<|endoftext|>")
    path.write_text("{% for %}", "utf-8")
    with pytest.raises(ValueError, match=r"serve.chat_template=.*own.jinja: the chat template is not valid"):
        chat_template(folder, ServeTable(chat_template=path), tokenizer)


def test_monitors_may_ask_for_heads_only(server: str):
    for path in ("/health", "/ready"):
        answer = httpx.head(f"{server}{path}")
        assert (answer.status_code, answer.content) == (200, b"")
    assert httpx.get(f"{server}/version").json() == {"version": troth.__version__}


def test_tls_is_spoken_by_a_certificate(
    serve_process: Serve, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    public, key = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(public))  # Whom clients trust.
    with serve_process("--ssl-certfile", str(public), "--ssl-keyfile", str(key)) as process:
        assert process.url.startswith("https://127.0.0.1:")
        client = openai.OpenAI(base_url=process.facts["url"], api_key="none", max_retries=0, timeout=30)
        stream = client.completions.create(model="tiny", prompt="A bird", max_tokens=5, stream=True)
        assert [event.choices[0].finish_reason for event in stream][-1] in ("length", "stop")
        with pytest.raises(httpx.TransportError):
            httpx.get(process.url.replace("https", "http"))


def test_what_is_no_certificate_is_told_before_anything_is_loaded(
    run_here: Callable[..., subprocess.CompletedProcess[str]], folder: Path, certificate: tuple[Path, Path]
):
    public, key = certificate
    for arguments, says in (
        (["--ssl-certfile", public], f"serve.ssl_certfile={public}: no certificate and key in PEM"),
        (["--ssl-certfile", "nowhere.pem"], "serve.ssl_certfile=nowhere.pem: no such file"),
        (["--ssl-keyfile", key], "serve.ssl_keyfile is the key of serve.ssl_certfile, which is not given"),
        (["--uds", "x", "--replicas", "2"], "are for one process: leave out --replicas"),
        (["--uds", key], f"cannot listen on {key}: Address already in use"),
    ):
        done = run_here("serve", folder, *arguments)
        assert (done.returncode, says in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr


def test_a_socket_of_the_file_system_takes_the_place_of_a_port(serve_process: Serve, tmp_path: Path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with serve_process("--uds", str(path)) as process:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url=process.url) as client:
            body = {"prompt": "A bird", "max_tokens": 5, "stream": True}
            assert client.post("/v1/completions", json=body).text.endswith("data: [DONE]\n\n")
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(timeout=60) == 0
    assert not path.exists()
