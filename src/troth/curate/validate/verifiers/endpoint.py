"""A judge behind any OpenAI-compatible endpoint: one request a claim, a structured verdict back. The prompt is
`judge_prompt.md`."""

import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

from troth.curate.records import Stance, short_hash
from troth.curate.validate.verifiers.ask import Endpoint, Refused, Unreachable
from troth.curate.validate.verifiers.protocol import Judgement, Question
from troth.curate.validate.verifiers.rate_limit import RateLimit
from troth.curate.validate.verifiers.request_cache import RequestCache
from troth.system.curate import EndpointTable

_PROMPT = Path(__file__).with_name("judge_prompt.md")
_PASSAGES, _PASSAGE_CHARACTERS, _CHARACTERS_PER_TOKEN = 8, 1500, 4
_GIVEN_UP = 10
"""Requests without an answer, one after another, after which the endpoint counts as down."""
_SCHEMA = {
    "type": "object",
    "properties": {
        "verdict": {"type": "string", "enum": list(get_args(Stance))},
        "confidence": {"type": "number"},
        "correct_value": {"type": "string"},
        "reason": {"type": "string"},
    },
    "required": ["verdict", "confidence", "correct_value", "reason"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Spent:
    """What a judge has asked so far: answers that came from the cache, requests sent, tokens in and out of those, their
    cost in the currency of the prices, claims without a usable answer."""

    cached: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    unanswered: int = 0


@cache
def judge_prompt() -> str:
    """The instructions that every request begins with."""
    return _PROMPT.read_text(encoding="utf-8")


class EndpointJudge:
    """A verifier that asks a model elsewhere. Its raw score is the verdict's confidence, negative for `refuted`, 0 for
    `not_enough_evidence`. Claims without evidence are not asked about.

    Raises ValueError where the environment lacks the key, and from `judge` where the endpoint refuses the model, the
    key or the address, or does not answer; answers that came before are kept.
    """

    name = "endpoint"

    def __init__(self, table: EndpointTable, cache: Path):
        import httpx

        key = os.environ.get(table.api_key_env, "") if table.api_key_env else ""
        if table.api_key_env and not key:
            raise ValueError(f"curate.endpoint.api_key_env: the environment has no {table.api_key_env}")
        client = httpx.Client(timeout=table.timeout_seconds, limits=httpx.Limits(max_connections=table.concurrency))
        limit = RateLimit(table.requests_per_minute, table.tokens_per_minute)
        self._endpoint = Endpoint(client, table.url.rstrip("/"), key, limit, table.attempts)
        self._table, self._cache = table, RequestCache(cache)
        self._lock = threading.Lock()
        self._spent = Spent()
        self._silent = 0

    @property
    def model_hash(self) -> str:
        """Of its name: nobody outside sees its weights."""
        return short_hash(self._table.url, self._table.model)

    @property
    def prompt_hash(self) -> str:
        return short_hash(judge_prompt())

    @property
    def spent(self) -> Spent:
        """What was asked so far."""
        return self._spent

    def judge(self, questions: Sequence[Question]) -> list[Judgement | None]:
        with ThreadPoolExecutor(self._table.concurrency) as pool:
            futures = [pool.submit(self._one, question) for question in questions]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def write(self, instruction: str, text: str) -> str:
        """The model's own words on a text; empty where it does not answer. Raises ValueError as `judge` does."""
        messages = [{"role": "system", "content": instruction}, {"role": "user", "content": text}]
        room = 64 + 2 * len(text) // 3
        body = {"model": self._table.model, "messages": messages, "temperature": 0, "max_tokens": room}
        try:
            answer = self._ask(body)
        except Unreachable:
            return ""
        return str(answer["choices"][0]["message"].get("content") or "")

    def _one(self, question: Question) -> Judgement | None:
        if not question.evidence:
            return None
        try:
            answer = self._answer(question)
        except Unreachable:
            with self._lock:
                self._silent += 1
                self._spent = replace(self._spent, unanswered=self._spent.unanswered + 1)
                if self._silent >= _GIVEN_UP:
                    raise
            return None
        with self._lock:
            self._silent = 0
        judgement = read_verdict(answer["choices"][0]["message"].get("content") or "", question)
        if judgement is None:
            with self._lock:
                self._spent = replace(self._spent, unanswered=self._spent.unanswered + 1)
        return judgement

    def _answer(self, question: Question) -> dict[str, Any]:
        plain = self._cache.key(self._table.url, {"model": self._table.model, "response_format": "refused"})
        structured = self._cache.get(plain) is None
        try:
            return self._ask(self._body(question, structured))
        except Refused as error:
            if not structured or error.status not in (400, 404, 415, 422, 501):
                raise
            answer = self._ask(self._body(question, structured=False))
            self._cache.put(plain, {})
            return answer

    def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        key = self._cache.key(self._table.url, body)
        answer = self._cache.get(key)
        if answer is not None:
            self._count(cached=1)
            return answer
        expected = sum(len(m["content"]) for m in body["messages"]) // _CHARACTERS_PER_TOKEN + self._table.max_tokens
        answer = self._endpoint.ask(body, expected)
        self._cache.put(key, answer)
        usage = answer.get("usage") or {}
        tokens = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
        self._count(requests=1, tokens_in=tokens[0], tokens_out=tokens[1])
        return answer

    def _count(self, cached: int = 0, requests: int = 0, tokens_in: int = 0, tokens_out: int = 0) -> None:
        cost = (tokens_in * self._table.price_in + tokens_out * self._table.price_out) / 1e6
        with self._lock:
            s = self._spent
            self._spent = replace(
                s, cached=s.cached + cached, requests=s.requests + requests, tokens_in=s.tokens_in + tokens_in,
                tokens_out=s.tokens_out + tokens_out, cost=s.cost + cost,
            )  # fmt: skip

    def _body(self, question: Question, structured: bool) -> dict[str, Any]:
        rows = sorted(question.evidence, key=lambda row: (-row.likeness, row.ev_id))[:_PASSAGES]
        asked = {
            "sentence": question.sentence,
            "value": question.claim.object,
            "page_date": question.published,
            "passages": [
                {"publisher": row.publisher, "date": row.published_at, "text": row.span[:_PASSAGE_CHARACTERS]}
                for row in rows
            ],
        }
        body = {
            "model": self._table.model,
            "messages": [
                {"role": "system", "content": judge_prompt()},
                {"role": "user", "content": json.dumps(asked, ensure_ascii=False, indent=1)},
            ],
            "temperature": 0,
            "max_tokens": self._table.max_tokens,
        }
        if structured:
            schema = {"name": "verdict", "schema": _SCHEMA, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body


def read_verdict(text: str, question: Question) -> Judgement | None:
    """The verdict in an answer: the last JSON object in it that is one. None where there is none."""
    for start in reversed([i for i, c in enumerate(text) if c == "{"]):
        try:
            found, _ = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and found.get("verdict") in get_args(Stance):
            break
    else:
        return None
    try:
        confidence = min(1.0, max(0.0, float(found.get("confidence", 0.5))))
    except (TypeError, ValueError):
        return None
    stance: Stance = found["verdict"]
    answer = found.get("correct_value") if stance == "refuted" else ""
    answer = answer.strip() if isinstance(answer, str) and answer.strip() != question.claim.object else ""
    sign = {"supported": 1, "refuted": -1, "not_enough_evidence": 0}[stance]
    return Judgement(sign * confidence, stance, answer, " ".join(str(found.get("reason") or "").split()))
