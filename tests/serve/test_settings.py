"""What settings of a server change that others know as options of vLLM's."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

import troth
from troth.model.tokenizer import Tokenizer
from troth.serve.build import chat_template
from troth.system.serve import ServeTable

Run = Callable[..., AbstractContextManager[str]]
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
