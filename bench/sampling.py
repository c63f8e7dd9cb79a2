"""Drawing tokens from scores, by the library, by the same in torch, by llama.cpp and by transformers.

    python bench/sampling.py [--vocabularies 32000 151936] [--batches 1 32] [--rounds 9] [--threads 2] [--json]

Scores are random with a standard deviation of 3, settings a plain temperature, top-p, and what Qwen3 recommends.
llama.cpp is the chain of its own samplers, through `llama-cpp-python` where that is installed, without the time that
it takes to write the scores down as candidates; it draws row by row, as its server does. transformers are its
processors of scores and `torch.multinomial`. Each round runs everyone once, in turn; a row gives medians, in
milliseconds for all rows of a batch.
"""

import argparse
import ctypes
import importlib.util
import json
import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from idle import warn_if_busy

from troth.model.decoder import Decoder
from troth.serve.engine.cpu.library import load
from troth.serve.engine.cpu.runner import CpuRunner
from troth.serve.engine.drawer import Drawer, TorchDrawer
from troth.serve.engine.kv_cache import KVCache
from troth.serve.engine.sampling_params import SamplingParams
from troth.system import load_system

SETTINGS = {
    "temperature 1": {},
    "top-p 0.9": {"top_p": 0.9},
    "Qwen3's": {"temperature": 0.6, "top_k": 20, "top_p": 0.95},
}
Prepare = Callable[[torch.Tensor, SamplingParams], Callable[[], object]]
"""Makes ready to draw a token from each row of scores; what it gives draws them."""


def main() -> None:
    """Run, print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", nargs="+", type=int, default=[32_000, 151_936])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    torch.set_num_threads(options.threads)
    everyone = programs(options.threads)
    rows = [
        row(everyone, vocabulary, batch, name, options.rounds)
        for vocabulary in options.vocabularies for batch in options.batches for name in SETTINGS
    ]  # fmt: skip
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for found in rows:
        times = "  ".join(f"{name} {found[name]:8.3f}" for name in everyone)
        print(f"{found['vocabulary']:>7} x {found['batch']:<3} {found['settings']:<14} {times}  ms")


def row(everyone: dict[str, Prepare], vocabulary: int, batch: int, name: str, rounds: int) -> dict[str, Any]:
    """What one work takes each of the programs."""
    logits_SV = torch.randn(batch, vocabulary, generator=torch.Generator().manual_seed(0)) * 3
    params = SamplingParams(**SETTINGS[name])
    times = defaultdict(list)
    for _ in range(rounds):
        for program, prepare in everyone.items():
            draws = prepare(logits_SV, params)
            began = perf_counter()
            draws()
            times[program].append(1e3 * (perf_counter() - began))
    medians = {program: statistics.median(some) for program, some in times.items()}
    return {"vocabulary": vocabulary, "batch": batch, "settings": name, **medians}


def programs(threads: int) -> dict[str, Prepare]:
    """Everyone who can draw here."""
    everyone: dict[str, Prepare] = {"torch": troth(TorchDrawer()), "transformers": transformers}
    if load() is not None:
        model = Decoder(load_system("nano").model)
        cache = KVCache(model.config, 2, 2, 16, torch.float32, torch.device("cpu"))
        everyone = {"library": troth(CpuRunner(model, cache, "float32", 16, threads))} | everyone
    if importlib.util.find_spec("llama_cpp"):
        everyone["llama.cpp"] = llama
    return everyone


def troth(drawer: Drawer) -> Prepare:
    """With the same settings for all rows."""

    def prepare(logits_SV: torch.Tensor, params: SamplingParams) -> Callable[[], object]:
        count = len(logits_SV)
        return partial(drawer.draw, logits_SV, [params] * count, [0.5] * count)

    return prepare


def transformers(logits_SV: torch.Tensor, params: SamplingParams) -> Callable[[], object]:
    """As its `generate` does."""
    from transformers.generation import logits_process

    processors = [logits_process.TemperatureLogitsWarper(params.temperature)]
    if params.top_k:
        processors.append(logits_process.TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        processors.append(logits_process.TopPLogitsWarper(params.top_p))

    def draws() -> torch.Tensor:
        scores_SV = logits_SV
        for processor in processors:
            scores_SV = processor(None, scores_SV)
        return torch.multinomial(torch.softmax(scores_SV, dim=-1), 1)

    return draws


def llama(logits_SV: torch.Tensor, params: SamplingParams) -> Callable[[], object]:
    """By samplers in the order that llama.cpp has by default."""
    from llama_cpp import llama_cpp as api

    chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
    if params.top_k:
        api.llama_sampler_chain_add(chain, api.llama_sampler_init_top_k(params.top_k))
    if params.top_p < 1:
        api.llama_sampler_chain_add(chain, api.llama_sampler_init_top_p(params.top_p, 1))
    api.llama_sampler_chain_add(chain, api.llama_sampler_init_temp(params.temperature))
    api.llama_sampler_chain_add(chain, api.llama_sampler_init_dist(0))
    rows = [candidates(logits_V) for logits_V in logits_SV]

    def draws() -> None:
        for row in rows:
            api.llama_sampler_apply(chain, ctypes.byref(row))
        api.llama_sampler_free(chain)

    return draws


def candidates(logits_V: torch.Tensor) -> Any:
    """Scores as llama.cpp takes them."""
    from llama_cpp import llama_cpp as api

    rows = np.zeros(len(logits_V), dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    rows["id"] = np.arange(len(logits_V))
    rows["logit"] = logits_V.numpy()
    data = (api.llama_token_data * len(rows)).from_buffer(rows)
    return api.llama_token_data_array(data=data, size=len(rows), selected=-1, sorted=False)


if __name__ == "__main__":
    main()
