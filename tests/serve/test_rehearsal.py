"""Schemas tried in a process of their own: what takes XGrammar minutes is refused, and delays nobody."""

import asyncio
import contextlib
import json
import time
from typing import Any

import httpx
import openai
import psutil
import pytest

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.rehearsal import MOST_SECONDS, Rehearsals
from troth.serve.engine.sampling_params import Grammar, Json


def of_schema(schema: dict[str, Any]) -> Grammar:
    return Grammar(value=Json(name="schema", schema_text=json.dumps(schema)))


# Any key may be left out, so that at each all those behind it may come next: half a minute's compiling.
GIANT = {"type": "object", "properties": {f"p{i}": {} for i in range(1800)}}


def at_work() -> set[int]:
    """Processes of trials, which are grandchildren of this one."""
    return {grandchild.pid for child in psutil.Process().children() for grandchild in child.children()}


def test_a_giant_schema_is_refused_and_others_are_answered_meanwhile(client: openai.OpenAI):
    def ask(schema: dict[str, Any]) -> openai.types.chat.ChatCompletion:
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        messages = [{"role": "user", "content": "Answer."}]
        return client.with_options(timeout=120).chat.completions.create(
            model="tiny", messages=messages, response_format=form, max_tokens=60, seed=1
        )

    assert json.loads(ask({"const": "yes"}).choices[0].message.content) == "yes"
    with pytest.raises(
        openai.BadRequestError, match=r"schema: too large: it cannot be compiled"
    ) as error:
        ask(GIANT)
    assert error.value.param == "response_format"
    began = time.monotonic()
    with pytest.raises(openai.BadRequestError, match="too large"):
        ask(GIANT)
    assert time.monotonic() - began < 2, "it is not tried again"
    assert json.loads(ask({"type": "boolean"}).choices[0].message.content) in (True, False)


def test_a_trial_ends_with_whoever_waits_for_it_and_with_its_process(tokenizer: Tokenizer):
    async def run() -> None:
        rehearse = Rehearsals(tokenizer, [tokenizer.end_of_text])
        before = at_work()
        await rehearse(of_schema({"type": "boolean"}))
        with pytest.raises(ValueError, match=r'^schema: Unsupported type "wizard"'):
            await rehearse(of_schema({"type": "wizard"}))
        heavy = asyncio.create_task(rehearse(of_schema(GIANT)))
        async with asyncio.timeout(30):
            while not at_work() - before:
                await asyncio.sleep(0.02)
            await rehearse(of_schema({"type": "null"}))
            assert not heavy.done(), "a small schema does not wait for a giant one"
            heavy.cancel()
            while at_work() - before:
                await asyncio.sleep(0.02)

    asyncio.run(run())


def test_a_trial_ends_with_the_client_that_waits_for_it(server: str):
    schema = {"title": "asked by one who leaves"} | GIANT
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Answer."}], "response_format": form}

    async def run() -> None:
        before = at_work()
        async with httpx.AsyncClient(timeout=60) as client, asyncio.timeout(30):
            asking = asyncio.create_task(client.post(f"{server}/v1/chat/completions", json=body))
            while not (begun := at_work() - before):
                await asyncio.sleep(0.02)
            [trial] = map(psutil.Process, begun)
            asking.cancel()
            spent = 0.0
            with contextlib.suppress(psutil.NoSuchProcess):
                while trial.is_running():
                    spent = trial.cpu_times().user
                    await asyncio.sleep(0.02)
        assert spent < MOST_SECONDS / 2, "it ended by itself"

    asyncio.run(run())


def test_a_process_that_was_ended_is_replaced(tokenizer: Tokenizer):
    async def run() -> None:
        rehearse = Rehearsals(tokenizer, [tokenizer.end_of_text])
        before = {child.pid for child in psutil.Process().children()}
        await rehearse(of_schema({"type": "boolean"}))
        [server] = [child for child in psutil.Process().children() if child.pid not in before]
        server.kill()
        server.wait()
        await rehearse(of_schema({"type": "null"}))

    asyncio.run(run())
