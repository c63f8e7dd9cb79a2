"""Serves requests over the ranks of a torchrun and prints what was written: `two_ranks.py FOLDER SPECULATE`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from troth.serve.engine.engine import Engine
from troth.serve.engine.ranks import follow, torchrun_ranks
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system.serve import ServeTable


def texts(engine: Engine) -> list[list[int]]:
    """Tokens of greedy and drawn answers to prompts of several lengths."""
    requests = [
        Request(tuple(range(3, 3 + length)), SamplingParams(temperature=warm, seed=1, max_tokens=20, ignore_eos=True))
        for length in (1, 30, 70)
        for warm in (0.0, 0.8)
    ]
    return [[token.id for output in found for token in output.tokens] for found in engine.generate(requests)]


def embeddings(engine: Engine) -> list[tuple[float, ...]]:
    """Those of prompts of several lengths."""
    requests = [Request(tuple(range(3, 3 + length)), pooled=True) for length in (1, 30, 70)]
    return [found[0].embedding for found in engine.generate(requests)]


def written(engine: Engine) -> dict[str, Any]:
    """The texts and embeddings, and the bytes of weights and cache of this process."""
    weights = sum(parameter.nbytes for parameter in engine.model.parameters())
    vectors = embeddings(engine)
    return {"texts": texts(engine), "embeddings": vectors, "weights": weights, "cache": engine.cache.bytes}


def table(speculate: str) -> ServeTable:
    return ServeTable(cache_tokens=2048, max_step_tokens=48, speculate=speculate)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torchrun_ranks() as ranks:
        engine = Engine.from_folder(Path(sys.argv[1]), table(sys.argv[2]), device="cpu", ranks=ranks)
        if ranks is not None and ranks.rank:
            follow(engine.runner)
        else:
            print(json.dumps(written(engine)))
    sys.stdout.flush()
    os._exit(0)  # gloo's threads have aborted at the interpreter's end, once in many runs.
