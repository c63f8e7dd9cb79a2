"""Runs an engine in a thread of its own and hands its outputs to an event loop. Imports no torch."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol, Self

from troth.serve.engine.backlog import Backlog
from troth.serve.engine.request import EngineStats, Output, Request, RequestFailed, failed
from troth.serve.engine.sampling_params import SamplingParams

log = logging.getLogger(__name__)


class Steps(Protocol):
    """What the thread needs of an engine; `troth.serve.engine.engine.Engine` is the one."""

    def check(self, request: Request) -> None: ...
    async def rehearse(self, params: SamplingParams) -> None: ...
    def prepare(self, params: SamplingParams) -> None: ...
    def add(self, request: Request) -> str: ...
    def cancel(self, request_id: str) -> bool: ...
    def step(self) -> list[Output]: ...
    @property
    def has_work(self) -> bool: ...
    @property
    def stats(self) -> EngineStats: ...


class Observer(Protocol):
    """Told of every request's beginning (where it is submitted), outputs and early end (in the engine's thread)."""

    def submitted(self, request: Request) -> None: ...
    def output(self, output: Output) -> None: ...
    def cancelled(self, request_id: str) -> None: ...


class Overloaded(Exception):
    """More waits than the system allows, as the text says; trying again makes sense after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float):
        super().__init__(message)
        self.retry_after = retry_after


class EngineStopped(Exception):
    """The engine failed or was stopped while a request was at work."""


class Unread(Exception):
    """A request was cancelled because nobody read its outputs."""


class Stream:
    """Outputs of a few requests as they come: `with stream: async for output in stream`. Leaving cancels the rest.

    Raises EngineStopped in the loop where the engine ends before the requests do, RequestFailed where one of them has a
    fault of its own, and Unread where more outputs than `max_unread` a request have piled up: they are dropped and the
    requests cancelled.
    """

    def __init__(self, requests: list[Request], cancel: Callable[[list[str]], None], max_unread: int):
        self._open = {request.id for request in requests}
        self._most_unread = max_unread * len(requests)
        self._cancel = cancel
        self.loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Output | EngineStopped | Unread] = asyncio.Queue()

    def accept(self, outputs: Iterable[Output | EngineStopped]) -> None:
        """Called in the loop."""
        for output in outputs:
            self._queue.put_nowait(output)
        if self._queue.qsize() > self._most_unread:
            self._cancel(sorted(self._open))
            self._queue = asyncio.Queue()
            self._queue.put_nowait(Unread(f"more than {self._most_unread} tokens were waiting to be read"))

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Output:
        if not self._open:
            raise StopAsyncIteration
        output = await self._queue.get()
        if isinstance(output, EngineStopped | Unread):
            self._open.clear()
            raise output
        if output.finish_reason is not None:
            self._open.discard(output.request_id)
        if output.failure is not None:
            raise RequestFailed(output.failure)
        return output

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._cancel(sorted(self._open))
            self._open.clear()


def _hand_over(outputs: Mapping[Stream, list[Output | EngineStopped]]) -> None:
    """From the engine's thread to the streams; each event loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Stream]] = {}
    for stream in outputs:
        by_loop.setdefault(stream.loop, []).append(stream)

    def accept(streams: list[Stream]) -> None:
        for stream in streams:
            stream.accept(outputs[stream])

    for loop, streams in by_loop.items():
        try:
            loop.call_soon_threadsafe(accept, streams)
        except RuntimeError:  # the loop is closed, and so nobody listens
            log.debug("outputs dropped: the event loop is closed")


class EngineThread:
    """Steps an engine while there is work and sleeps while there is none. Use as a context, or `start` and `stop`.

    `max_batch + max_waiting` requests may be open at once, and the prompts that wait may keep a new one from its first
    token for `max_ttft` seconds, as far as the pace so far tells; `submit` raises Overloaded beyond that. Streams hold
    `max_unread` outputs a request.
    """

    def __init__(
        self, engine: Steps, max_batch: int, max_waiting: int, max_ttft: float = math.inf, max_unread: int = 4096
    ):
        self.observer: Observer | None = None
        self._engine = engine
        self._max_ttft = max_ttft
        self._max_unread = max_unread
        self._backlog = Backlog()
        self._most_open = max_batch + max_waiting
        self._max_waiting = max_waiting
        self._wake = threading.Condition()
        self._inbox: list[Callable[[], object]] = []
        self._inbox_tokens = 0
        self._streams: dict[str, Stream] = {}
        self._stopping = False
        self._failure: BaseException | None = None
        self._stats = engine.stats
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current step; open streams get EngineStopped."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether requests will be answered."""
        return self._thread.is_alive() and not self._stopping

    @property
    def stats(self) -> EngineStats:
        """Counts after the last step."""
        return self._stats

    async def prepare(self, params: SamplingParams) -> None:
        """Do beside the loop and the engine what a request needs before `submit`: compiling its grammar takes time.

        Raises ValueError where that is impossible or would take too long.
        """
        if params.grammar is not None:
            await self._engine.rehearse(params)
            await asyncio.to_thread(self._engine.prepare, params)

    @property
    def expected_wait(self) -> float:
        """Seconds until the prompts that now wait are computed, which a new one comes behind."""
        return self._backlog.seconds(self._stats.pending_tokens + self._inbox_tokens)

    def submit(self, requests: Iterable[Request]) -> Stream:
        """Queue requests, all or none, from a coroutine.

        Raises ValueError for a request that can never be served, Overloaded for too many, EngineStopped after an end.
        """
        requests = list(requests)
        if len(requests) > self._most_open:
            raise ValueError(
                f"{len(requests)} texts are asked for at once, and this server takes in {self._most_open} at most "
                "(serve.max_batch and serve.max_waiting)"
            )
        for request in requests:
            self._engine.check(request)
        with self._wake:
            if not self.alive:
                raise EngineStopped("the engine has stopped") from self._failure
            if len(self._streams) + len(requests) > self._most_open:
                raise Overloaded(
                    f"{len(requests)} more would make more than {self._max_waiting} requests wait: try again shortly",
                    self.expected_wait,
                )
            if (wait := self.expected_wait) > self._max_ttft:
                raise Overloaded(
                    f"the first token would come after about {wait:.0f} s, more than the {self._max_ttft:g} s that "
                    "this server lets wait: try again later",
                    wait - self._max_ttft,
                )
            for request in requests:
                if request.id in self._streams:
                    raise ValueError(f"request {request.id} is already at work")
            stream = Stream(requests, self._cancel, self._max_unread)
            for request in requests:
                self._streams[request.id] = stream
                self._inbox.append(partial(self._add, request))
                self._inbox_tokens += len(request.prompt)
                if self.observer is not None:
                    self.observer.submitted(request)
            self._wake.notify()
        return stream

    def _add(self, request: Request) -> None:
        """What was right when it was submitted may fail yet, as where memory lacks to compile a grammar again."""
        try:
            self._engine.add(request)
        except Exception as error:
            log.exception("request %s failed", request.id)
            self._deliver([failed(request, error)])

    def _cancel(self, request_ids: list[str]) -> None:
        with self._wake:
            for request_id in request_ids:
                if self._streams.pop(request_id, None) is not None:
                    self._inbox.append(partial(self._engine.cancel, request_id))
                    if self.observer is not None:
                        self.observer.cancelled(request_id)
            self._wake.notify()

    def _run(self) -> None:
        try:
            while True:
                with self._wake:
                    while not (self._inbox or self._engine.has_work or self._stopping):
                        self._wake.wait()
                    if self._stopping:
                        return
                    inbox, self._inbox = self._inbox, []
                    self._inbox_tokens = 0
                for command in inbox:
                    command()
                before = self._stats = self._engine.stats
                began = time.monotonic()
                outputs = self._engine.step()
                self._stats = self._engine.stats
                if before.pending_tokens:
                    self._backlog.add(self._stats.prefilled_tokens - before.prefilled_tokens, time.monotonic() - began)
                self._deliver(outputs)
        except BaseException as failure:
            self._failure = failure
            log.exception("the engine failed")
        finally:
            with self._wake:
                self._stopping = True
                streams, self._streams = self._streams, {}
            # First those who wait: what failed may have been the observer.
            _hand_over({stream: [EngineStopped("the engine has stopped")] for stream in streams.values()})
            if self.observer is not None:
                for request_id in streams:
                    self.observer.cancelled(request_id)

    def _deliver(self, outputs: list[Output]) -> None:
        by_stream: dict[Stream, list[Output | EngineStopped]] = {}
        with self._wake:
            for output in outputs:
                stream = self._streams.get(output.request_id)
                if stream is None:
                    continue
                by_stream.setdefault(stream, []).append(output)
                if self.observer is not None:
                    if output.failure is None:
                        self.observer.output(output)
                    else:
                        self.observer.cancelled(output.request_id)
                if output.finish_reason is not None:
                    del self._streams[output.request_id]
        _hand_over(by_stream)
