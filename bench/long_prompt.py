"""How long and how much memory a prompt takes, up to 133,120 positions, on a network of nano's width.

    python bench/long_prompt.py [--lengths 8192 33280 133119] [--chunk 512] [--json]

Weights are random: only sizes matter here. Each length runs in a process of its own, whose peak of memory is its own.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time

import torch
from idle import warn_if_busy

from troth.model.decoder import Decoder
from troth.model.initialise import initialise
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system import ServeTable, load_system

POSITIONS = 133_120


def main() -> None:
    """Run, print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8_192, 33_280, 66_560, POSITIONS - 1])
    parser.add_argument("--chunk", type=int, default=512, help="prompt tokens a step")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    processes = multiprocessing.get_context("spawn")
    rows = []
    for length in options.lengths:
        with processes.Pool(1) as pool:
            rows.append(pool.apply(run, (length, options.chunk)))
        row = rows[-1]
        if not options.json:
            rate = row["tokens"] / row["seconds"]
            print(
                f"{row['tokens']:>9,} tokens  {row['seconds']:7.1f} s  {rate:8,.0f} tokens/s"
                f"  {row['peak_mib']:7.0f} MiB at the peak, {row['start_mib']:.0f} before"
            )
    if options.json:
        print(json.dumps(rows, indent=2))


def run(length: int, chunk: int) -> dict[str, float]:
    """Prefill one prompt and decode one token."""
    config = load_system("nano", [f"model.max_position_embeddings={POSITIONS}"]).model
    model = initialise(Decoder(config), 0).eval()
    start = peak_mib()
    tokenizer = Tokenizer({bytes([byte]): byte for byte in range(256)})
    engine = Engine(model, tokenizer, ServeTable(cache_tokens=POSITIONS, max_step_tokens=chunk))
    prompt = torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(1)).tolist()
    began = time.perf_counter()
    greedy = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
    engine.generate([Request(tuple(prompt), greedy)])
    seconds = time.perf_counter() - began
    return {"tokens": length, "seconds": seconds, "peak_mib": peak_mib(), "start_mib": start}


def peak_mib() -> float:
    """The most memory that this process has held (kilobytes on Linux, bytes on macOS)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
