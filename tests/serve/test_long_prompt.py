"""A prompt of all positions is served in memory that grows in proportion to it, not to its square."""

import multiprocessing
import re
import resource
import sys
from pathlib import Path

import pytest
import torch

from troth.model.decoder import Decoder
from troth.model.initialise import initialise
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system import ServeTable, load_system

POSITIONS = 133_120
NOISE = 1 / 32
"""GiB by which peaks of the same work differ."""


def peak_after(length: int) -> float:
    """Serve a random prompt on a network of nano's width and return the most memory that the process held, in GiB."""
    config = load_system("nano", [f"model.max_position_embeddings={POSITIONS}"]).model
    model = initialise(Decoder(config), 0).eval()
    tokenizer = Tokenizer({bytes([byte]): byte for byte in range(256)})
    engine = Engine(model, tokenizer, ServeTable(cache_tokens=POSITIONS))
    prompt = tuple(torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(1)).tolist())
    greedy = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
    with pytest.raises(ValueError, match="133121 tokens, but at most 133119 fit"):
        engine.generate([Request((*prompt, *[0] * (POSITIONS + 1 - length)), greedy)])
    [outputs] = engine.generate([Request(prompt, greedy)])
    assert len(outputs[-1].tokens) == 1
    return peak()


def peak() -> float:
    """The most memory that this process held, in GiB. On Linux getrusage also knows the peak of the process that
    started this one, /proc does not."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8")).group(1)) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


@pytest.mark.slow
def test_all_positions_fit_into_four_gibibytes():
    """In processes of their own, whose peaks are their own."""
    peaks = []
    for length in (16_640, 33_280, POSITIONS - 1):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks.append(pool.apply(peak_after, (length,)))
    short, middle, whole = peaks
    assert whole < 4
    # The longest exceeds the shortest by seven times as many tokens as the middle one does. In the library little but
    # the cache is left to grow, which is there from the start; some MiB are the allocator's.
    # Where that is all, the middle one may be less than the shortest.
    assert whole - short < 1.5 * 7 * max(middle - short, 0) + NOISE
