"""An engine's own speed: tokens a second of whole steps, scheduling and sampling included, for the scripts beside."""

import time
from collections.abc import Mapping
from itertools import cycle, islice
from pathlib import Path

import torch

from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system import ServeTable

BEHIND, OUTPUT = 128, 32
"""Tokens of a prompt behind which texts are decoded, and tokens decoded of each."""


def start(
    folder: Path, kind: str, threads: int, most: int, adapters: Mapping[str, Path] | None = None, library: bool = True
) -> Engine:
    """An engine at its defaults but for the batch, whose prompts get all the time they want."""
    torch.set_num_threads(1 if library else threads)  # The library has threads of its own.
    table = ServeTable(max_batch=most, max_step_ms=1e6, cache_tokens=16_384, weights=kind, threads=threads)
    return Engine.from_folder(folder, table, adapters=adapters)


def prefill(engine: Engine, length: int, adapter: str | None = None) -> float:
    """Tokens a second of one prompt."""
    _add(engine, length, 1, adapter)
    start = time.perf_counter()
    while engine.has_work:
        engine.step()
    return length / (time.perf_counter() - start)


def decode(engine: Engine, batch: int, adapters: tuple[str | None, ...] = (None,)) -> float:
    """Tokens a second of texts that are all decoded, with these adapters in turn."""
    for adapter in islice(cycle(adapters), batch):
        _add(engine, BEHIND, 4 * OUTPUT, adapter)
    while engine.scheduler.waiting or any(sequence.pending > 1 for sequence in engine.scheduler.running):
        engine.step()
    start = time.perf_counter()
    tokens = sum(len(engine.step()) for _ in range(OUTPUT))
    seconds = time.perf_counter() - start
    assert tokens == batch * OUTPUT, "a text ended within the measurement"
    for sequence in list(engine.scheduler.running):
        engine.cancel(sequence.request.id)
    return tokens / seconds


def _add(engine: Engine, length: int, tokens: int, adapter: str | None) -> None:
    """Random tokens, never the same again, of which the cache would know."""
    prompt = torch.randint(0, engine.tokenizer.vocab_size, (length,)).tolist()
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
    engine.add(Request(tuple(prompt), params, adapter=adapter))
