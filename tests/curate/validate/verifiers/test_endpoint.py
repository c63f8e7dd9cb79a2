"""A judge behind a real HTTP server that answers, fails, delays and asks to be left alone."""

import json
import subprocess
import sys
import textwrap
import threading
import time
from email.utils import formatdate

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from troth.curate.validate.verifiers.endpoint import EndpointJudge, judge_prompt, read_verdict
from troth.curate.validate.verifiers.rate_limit import RateLimit
from troth.system.curate import EndpointTable

SENTENCE = "Oslo was founded in 1624."


class Server:
    """Answers as its `plan` says, one entry a request; when that is used up, with a verdict on the passage."""

    def __init__(self):
        self.requests, self.keys, self.plan = [], [], []
        self.times = []
        self.busy = self.busiest = 0
        app = FastAPI()
        app.post("/v1/chat/completions")(self.answer)
        self.app = app

    async def answer(self, request: Request) -> Response:
        import asyncio

        body = await request.json()
        self.requests.append(body)
        self.times.append(time.monotonic())
        self.keys.append(request.headers.get("authorization"))
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            step = self.plan.pop(0) if self.plan else None
            await asyncio.sleep(step if isinstance(step, float) else 0.02)
            if isinstance(step, Response):
                return step
            if callable(step):
                return step(body)
            return verdict(body)
        finally:
            self.busy -= 1


def verdict(body):
    asked = json.loads(body["messages"][1]["content"])
    supported = any(asked["value"] in passage["text"] for passage in asked["passages"])
    found = {
        "verdict": "supported" if supported else "refuted", "confidence": 0.9,
        "correct_value": "" if supported else "1048", "reason": "Passage 1 says so.",
    }  # fmt: skip
    return completion(json.dumps(found))


def completion(text):
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    return answer(200, {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage})


def answer(status, data, **headers):
    return Response(json.dumps(data), status, {name.replace("_", "-"): str(v) for name, v in headers.items()})


def error(status, message="no", **headers):
    return answer(status, {"error": {"message": message}}, **headers)


def no_schema(body):
    return error(400, "response_format is not supported") if "response_format" in body else completion(
        'I think so. ```json\n{"verdict": "refuted", "confidence": 0.7, "correct_value": "1048", "reason": "x"}\n```'
    )  # fmt: skip


@pytest.fixture
def server():
    made = Server()
    running = uvicorn.Server(uvicorn.Config(made.app, port=0, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    made.url = f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/v1"
    yield made
    running.should_exit = True
    thread.join()


@pytest.fixture
def judge(server, tmp_path):
    def build(**changes):
        table = EndpointTable(url=server.url, model="judge-1", attempts=3, price_in=2, price_out=10, **changes)
        return EndpointJudge(table, tmp_path / "requests.sqlite")

    return build


def test_verdicts_with_their_cost(server, judge, ask):
    one = judge()
    evidence = ["It dates from 1624."], ["It dates from 1048."], []
    supported, refuted, silent = one.judge([ask(SENTENCE, "1624", *passages) for passages in evidence])
    assert (supported.stance, supported.raw_score, supported.answer) == ("supported", 0.9, "")
    assert (refuted.stance, refuted.raw_score, refuted.answer) == ("refuted", -0.9, "1048")
    assert refuted.note == "Passage 1 says so."
    assert silent is None
    assert len(server.requests) == one.spent.requests == 2
    assert one.spent.cost == pytest.approx(2 * (1000 * 2 + 100 * 10) / 1e6)
    (first, _) = server.requests
    assert first["response_format"]["json_schema"]["strict"] is True
    assert first["messages"][0]["content"] == judge_prompt()
    assert len(one.prompt_hash) == len(one.model_hash) == 16


def test_nothing_is_asked_twice(server, judge, ask):
    questions = [ask(f"Town {i} was founded in 1624.", "1624", "It dates from 1624.") for i in range(5)]
    first = judge().judge(questions[:3])
    again = judge()
    assert again.judge(questions)[:3] == first
    assert (again.spent.cached, again.spent.requests) == (3, 2)
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "trouble",
    [
        error(500), error(503, Retry_After="0"), error(429, Retry_After="1"),
        error(429, Retry_After=formatdate(time.time() + 1, usegmt=True)), answer(200, {"choices": []}), answer(200, []),
        Response("<html>", 200), 1.5,
    ],
)  # fmt: skip
def test_trouble_that_passes_is_waited_for(server, judge, ask, trouble):
    server.plan = [trouble]
    one = judge(timeout_seconds=1)
    (found,) = one.judge([ask(SENTENCE, "1624", "It dates from 1624.")])
    assert found.stance == "supported"
    assert len(server.requests) == 2
    if isinstance(trouble, Response) and trouble.headers.get("retry-after") == "1":
        assert server.times[1] - server.times[0] > 0.9


def test_an_endpoint_without_schemas_is_asked_for_json_in_text(server, judge, ask):
    server.plan = [no_schema] * 4
    questions = [ask(SENTENCE, "1624", "It dates from 1048."), ask(SENTENCE, "1624", "It dates from the year 1048.")]
    (found,) = judge().judge(questions[:1])
    assert (found.stance, found.raw_score, found.answer) == ("refuted", -0.7, "1048")
    assert judge().judge(questions)[0] == found
    assert [("response_format" in body) for body in server.requests] == [True, False, False]


def test_what_the_endpoint_refuses_is_one_line_without_the_key(server, judge, ask, monkeypatch, caplog):
    monkeypatch.setenv("JUDGE_KEY", "secret-123")
    server.plan = [error(401, "bad key")]
    with pytest.raises(ValueError, match="HTTP 401: bad key") as caught:
        judge(api_key_env="JUDGE_KEY").judge([ask(SENTENCE, "1624", "It dates from 1624.")])
    assert server.keys == ["Bearer secret-123"]
    assert "secret" not in str(caught.value) + caplog.text
    assert "\n" not in str(caught.value)
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(ValueError, match="JUDGE_KEY"):
        judge(api_key_env="JUDGE_KEY")


def test_one_claim_without_an_answer_stops_nobody_but_a_dead_endpoint_does(server, judge, ask):
    server.plan = [error(500, Retry_After="0")] * 3
    one = judge(concurrency=1)
    questions = [ask(f"Town {i} was founded in 1624.", "1624", "It dates from 1624.") for i in range(12)]
    lost, found = one.judge(questions[:2])
    assert lost is None
    assert found.stance == "supported"
    assert one.spent.unanswered == 1
    server.plan = [error(503, "down", Retry_After="0")] * 60
    with pytest.raises(ValueError, match="no answer in 3 attempts; the last: HTTP 503: down"):
        one.judge(questions)
    server.plan = []
    assert None not in one.judge(questions)


def test_requests_go_side_by_side_but_not_too_many(server, judge, ask):
    server.plan = [0.2] * 12
    questions = [ask(f"Town {i} was founded in 1624.", "1624", "It dates from 1624.") for i in range(12)]
    judge(concurrency=3).judge(questions)
    assert server.busiest == 3


def test_requests_and_tokens_a_minute():
    start = time.monotonic()
    limit = RateLimit(requests=1200)
    for _ in range(6):
        limit.wait(10)
    assert time.monotonic() - start >= 0.24
    limit, start = RateLimit(tokens=60_000), time.monotonic()
    limit.wait(200)
    limit.correct(200, 300)
    limit.wait(1)
    assert time.monotonic() - start >= 0.29


def test_a_killed_run_goes_on_where_it_was(server, ask, tmp_path):
    program = textwrap.dedent("""
        import sys
        sys.path[:0] = {path!r}
        from pathlib import Path
        from troth.curate.records import ClaimRow, EvidenceRow
        from troth.curate.validate.verifiers.endpoint import EndpointJudge
        from troth.curate.validate.verifiers.protocol import Question
        from troth.system.curate import EndpointTable
        table = EndpointTable(url={url!r}, model="judge-1", concurrency=2)
        questions = []
        for i in range(40):
            text = f"Town {{i}} was founded in 1624."
            claim = ClaimRow(str(i), text, "", "", "1624", "year", "", "", "", "fact", True)
            row = EvidenceRow("e", str(i), "d", "s", "p", "", 0, (), "It dates from 1624.", "", "supported", 1.0)
            questions.append(Question(claim, text, (row,)))
        print(len(EndpointJudge(table, Path({cache!r})).judge(questions)))
    """).format(path=sys.path, url=server.url, cache=str(tmp_path / "requests.sqlite"))
    server.plan = [0.1] * 100
    first = subprocess.Popen([sys.executable, "-c", program])
    while len(server.requests) < 10:
        time.sleep(0.01)
    first.kill()
    first.wait()
    time.sleep(0.3)
    before = len(server.requests)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "40\n"
    asked = [body["messages"][1]["content"] for body in server.requests]
    assert len(set(asked)) == 40
    assert before < 40
    assert len(asked) <= 42  # No more than was in flight is asked again.


@pytest.mark.parametrize(
    ("text", "stance"),
    [
        ('{"verdict": "supported", "confidence": 1, "correct_value": "", "reason": "r"}', "supported"),
        ('<think>{"verdict": "refuted"}</think> {"verdict": "supported", "confidence": 2}', "supported"),
        ('{"verdict": "not_enough_evidence"}', "not_enough_evidence"),
        ('{"verdict": "maybe"}', None),
        ('{"verdict": "supported", "confidence": "high"}', None),
        ("supported", None),
        ("", None),
        ("{" * 500, None),
    ],
)
def test_verdicts_are_read_wherever_they_stand(ask, text, stance):
    found = read_verdict(text, ask(SENTENCE, "1624"))
    assert (found and found.stance) == stance
    if found:
        assert -1 <= found.raw_score <= 1
