"""The engine's thread: streams, limits, cancellation and failure."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Output, Request, RequestFailed
from troth.serve.engine.sampling_params import Grammar, Pattern, SamplingParams
from troth.serve.engine.sequence import Sequence
from troth.serve.engine.thread import EngineStopped, EngineThread, Overloaded, Unread

ENDLESS = SamplingParams(ignore_eos=True)
LONG = SamplingParams(ignore_eos=True, max_tokens=300)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def test_leaving_a_stream_cancels_its_requests(make_engine: Callable[..., Engine]):
    async def scenario() -> None:
        with EngineThread(make_engine(), 4, 4) as thread:
            with thread.submit([Request((1, 2, 3), ENDLESS), Request((4, 5), ENDLESS)]) as stream:
                first = await anext(stream)
                assert first.finish_reason is None
                assert thread.stats.running == 2
            await until(lambda: thread.stats.running == 0)
            assert thread.stats.free_blocks == thread.stats.blocks
            whole = [
                output async for output in thread.submit([Request((1,), SamplingParams(max_tokens=3, ignore_eos=True))])
            ]
            assert [output.finish_reason for output in whole] == [None, None, "length"]

    asyncio.run(scenario())


def test_a_step_wakes_the_loop_once_for_all_streams(make_engine: Callable[..., Engine], monkeypatch):
    engine = make_engine()
    steps = []
    step = engine.step
    monkeypatch.setattr(engine, "step", lambda: steps.append(outputs := step()) or outputs)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        woken = []
        call_soon = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: woken.append(call) or call_soon(*call))
        with EngineThread(engine, 4, 4) as thread:

            async def read(prompt: int) -> list[int]:
                request = Request((prompt,), SamplingParams(max_tokens=6, ignore_eos=True))
                return [output.output_tokens async for output in thread.submit([request])]

            assert await asyncio.gather(*map(read, range(1, 5))) == [[1, 2, 3, 4, 5, 6]] * 4
        assert len(woken) == sum(bool(outputs) for outputs in steps)

    asyncio.run(scenario())


def test_too_many_are_refused_all_or_none(make_engine: Callable[..., Engine]):
    async def scenario() -> None:
        with EngineThread(make_engine(max_batch=1), 1, 2) as thread:
            with thread.submit([Request((1,), ENDLESS), Request((1,), ENDLESS)]):
                with pytest.raises(Overloaded, match="more than 2 requests wait"):
                    thread.submit([Request((1,)), Request((1,))])
                with thread.submit([Request((1,), ENDLESS)]), pytest.raises(Overloaded):
                    thread.submit([Request((1,))])
            with thread.submit([Request((1,), ENDLESS) for _ in range(3)]) as stream:
                assert await anext(stream)
            with pytest.raises(ValueError, match="empty"):
                thread.submit([Request(())])

    asyncio.run(scenario())


def test_prompts_that_would_wait_too_long_are_refused(make_engine: Callable[..., Engine]):
    async def scenario() -> None:
        engine = make_engine(max_step_tokens=8)
        with EngineThread(engine, 4, 4, max_ttft=0.01) as thread:
            assert thread.expected_wait == 0
            long = Request((7,) * 4000, SamplingParams(max_tokens=1))
            with thread.submit([long]):
                await until(lambda: thread.stats.prefilled_tokens > 0)
                assert thread.expected_wait > 0.01
                with pytest.raises(Overloaded, match=r"first token would come after about .* 0.01 s") as refused:
                    thread.submit([Request((1,))])
                assert refused.value.retry_after > 0
            await until(lambda: thread.stats.pending_tokens == 0)
            with thread.submit([Request((1,), SamplingParams(max_tokens=1))]) as stream:
                assert (await anext(stream)).output_tokens == 1

    asyncio.run(scenario())


def test_what_nobody_reads_is_dropped(make_engine: Callable[..., Engine]):
    async def scenario() -> None:
        thread = EngineThread(make_engine(), 4, 4, max_unread=5)
        with thread, thread.submit([Request((1,), ENDLESS)]) as stream:
            assert (await anext(stream)).output_tokens == 1
            await until(lambda: thread.stats.running == 0)
            with pytest.raises(Unread, match="more than 5 tokens"):
                await anext(stream)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    asyncio.run(scenario())


def test_a_failing_engine_ends_streams_and_refuses_more(make_engine: Callable[..., Engine]):
    async def scenario() -> None:
        engine = make_engine()
        with EngineThread(engine, 4, 4) as thread, thread.submit([Request((1, 2, 3), ENDLESS)]) as stream:
            await anext(stream)
            del engine.runner
            with pytest.raises(EngineStopped):
                async for _ in stream:
                    pass
            assert not thread.alive
            with pytest.raises(EngineStopped) as refused:
                thread.submit([Request((1,))])
            assert isinstance(refused.value.__cause__, AttributeError)

    asyncio.run(scenario())


class Failing:
    """An observer in which something is wrong."""

    def submitted(self, request: Request) -> None: ...
    def output(self, output: Output) -> None:
        raise OverflowError(output.request_id)

    def cancelled(self, request_id: str) -> None:
        raise KeyError(request_id)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_who_waits_is_told_whatever_has_failed(make_engine: Callable[..., Engine]):
    async def scenario() -> None:
        thread = EngineThread(make_engine(), 4, 4)
        thread.observer = Failing()
        with thread:
            stream = thread.submit([Request((1,), ENDLESS)])
            async with asyncio.timeout(10):
                with pytest.raises(EngineStopped):
                    await anext(stream)

    asyncio.run(scenario())


WORDS = Grammar(value=Pattern(name="words", regex="[a-z ]*"))
PLACES = [
    ("penalties", "apply"), ("penalties", "append"), ("guide", "mask"), ("guide", "take"), ("unwanted", "avoid"),
    ("text", "push"),
]  # fmt: skip


def spoil_next(engine: Engine, spoil: Callable[[Sequence], None]) -> None:
    """Have the next request with a grammar spoiled as it is added: a text may be over before a test gets at it."""
    add = engine.add

    def spoiling(request: Request) -> str:
        made = add(request)
        if request.params.grammar is not None:
            engine.add = add
            spoil(engine._sequences[made])
        return made

    engine.add = spoiling


def allow_no_token(sequence: Sequence) -> None:
    sequence.guide.mask = lambda logits_V: logits_V.fill_(float("-inf"))


async def last_of(stream: AsyncIterator[Output]) -> Output:
    async for output in stream:
        last = output
    return last


@pytest.mark.parametrize(("part", "method"), PLACES, ids=str)
def test_a_fault_of_one_request_ends_that_one_only(make_engine: Callable[..., Engine], part: str, method: str):
    engine = make_engine()
    asked = SamplingParams(grammar=WORDS, ignore_eos=True, presence_penalty=1, bad_words=("x",))

    def fail_in_the_third_step(sequence: Sequence) -> None:
        works, calls = getattr(getattr(sequence, part), method), itertools.count(1)

        def fail(*values: object, **named: object) -> object:
            if next(calls) < 3:
                return works(*values, **named)
            raise ZeroDivisionError("a fault of its own")

        setattr(getattr(sequence, part), method, fail)

    async def scenario() -> None:
        spoil_next(engine, fail_in_the_third_step)
        with EngineThread(engine, 4, 4) as thread:
            with thread.submit([Request((1,), LONG)]) as other:
                both = thread.submit([Request((1, 2), asked), Request((1, 2), asked)])
                with both, pytest.raises(RequestFailed, match="ZeroDivisionError: a fault of its own"):
                    await last_of(both)
                await until(lambda: thread.stats.running <= 1)  # the second text of that stream is dropped, too
                assert (await last_of(other)).finish_reason == "length"
            await until(lambda: thread.stats.free_blocks == thread.stats.blocks)
            assert thread.alive

    asyncio.run(scenario())


def test_a_grammar_none_of_whose_tokens_has_a_score_ends_its_request_only(make_engine: Callable[..., Engine]):
    """A token that is drawn against it ends a text, and no others."""
    engine = make_engine()

    async def scenario() -> None:
        spoil_next(engine, allow_no_token)
        with EngineThread(engine, 4, 4) as thread, thread.submit([Request((1,), LONG)]) as other:
            spoiled = thread.submit([Request((1, 2), SamplingParams(grammar=WORDS, temperature=0))])
            with spoiled, pytest.raises(RequestFailed, match="was drawn against the grammar"):
                await last_of(spoiled)
            assert (await last_of(other)).finish_reason == "length"
            assert thread.alive

    asyncio.run(scenario())


def test_what_cannot_begin_fails_alone(make_engine: Callable[..., Engine], monkeypatch):
    """What was right when it was submitted may fail where it begins: memory lacks to compile its grammar again."""
    engine = make_engine()

    async def scenario() -> None:
        with EngineThread(engine, 4, 4) as thread, thread.submit([Request((1,), LONG)]) as other:
            await anext(other)
            asked = SamplingParams(grammar=WORDS)
            engine.prepare(asked)

            def lacking(_: object) -> None:
                raise MemoryError("no room for a grammar")

            monkeypatch.setattr(engine._grammars, "matcher", lacking)
            with thread.submit([Request((1, 2), asked)]) as stream, pytest.raises(RequestFailed, match="no room"):
                await anext(stream)
            assert (await last_of(other)).finish_reason == "length"
            assert thread.alive

    asyncio.run(scenario())


def test_texts_made_at_once_tell_a_fault(make_engine: Callable[..., Engine]):
    engine = make_engine()
    broken = Request((1, 2), SamplingParams(grammar=WORDS, temperature=0))
    spoil_next(engine, allow_no_token)
    with pytest.raises(RequestFailed, match="against the grammar"):
        engine.generate([broken, Request((1,), LONG)])
    assert not engine.has_work
    assert engine.stats.free_blocks == engine.stats.blocks
