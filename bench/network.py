"""Training and prefill of one network here and in transformers, on the same weights, beside the machine's matrix rate.

    python bench/network.py [--dtypes bfloat16 float32] [--batch 4] [--length 512] [--rounds 5] [--json]

The network is a Qwen3-MoE of 175 million parameters, 43 million active (`model.py`). Each round times every program
once, in turn; a row gives the median, and the ratio to the faster of transformers' two ways, as they are. Prompts are
taken by the plain forward pass and, on a CPU, by the serving engine too. (With the allocator told to keep freed memory,
as Troth's trainer does, transformers is faster too: the rows of "memory kept".) Every timed call follows an untimed
one, on other tokens, as in training: how many go to each expert is new each time. `of the limit` are the operations of
the network's products, forward and twice that backward, in the time, over the rate of a product of 2048 x 2048 matrices
(8192 on a CUDA device) in that dtype in the same run. With --mini, layers have the sizes of the system `mini`.
bfloat16 is left out, unless asked for, on processors of which torch multiplies it number by number (those of AVX2
alone): a step of transformers would take half an hour there.
"""

import argparse
import itertools
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from idle import warn_if_busy
from model import SIZES, TOKENS, mini_sizes, write_model

from troth.model.counts import forward_flops
from troth.model.families.configs import read_config
from troth.model.families.weights import load_weights
from troth.model.products import onednn_has_bf16
from troth.train.loss import next_token_loss
from troth.train.memory import keep_freed_memory

OURS, ENGINE = "troth", "troth, serving engine"
PROGRAMS = OURS, "transformers grouped_mm", "transformers eager", "transformers grouped_mm, memory kept"
"""These are transformers' experts for many tokens; its third way copies the weights of each token's experts."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Work = Callable[[torch.Tensor], torch.Tensor | None]


def main() -> None:
    """Run, print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"] if has_bf16() else ["float32"])
    parser.add_argument("--batch", type=int, default=4, help="sequences")
    parser.add_argument("--length", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mini", action="store_true", help="layers of the sizes of the system mini")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    sizes = SIZES | (mini_sizes() if options.mini else {})
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), sizes)
        for name in options.dtypes:
            rows += run(Path(folder), name, (options.batch, options.length), options.rounds)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(
            f"{row['dtype']:<9} {row['work']:<17} {row['program']:<37} {row['tokens_per_second']:>9,.0f} tokens/s"
            f"  {row['of_limit']:>4.0%} of the limit  {row['ratio']:>5.2f}x"
        )


def has_bf16() -> bool:
    """Whether bfloat16 is more than a way to save memory here."""
    return DEVICE == "cuda" or onednn_has_bf16()


def run(folder: Path, dtype: str, shape: tuple[int, int], rounds: int) -> list[dict[str, Any]]:
    """The rows of one dtype. Each program runs in a process of its own, which waits while others are timed."""
    processes = multiprocessing.get_context("spawn")
    pipes = {}

    def start(program: str) -> None:
        pipes[program], there = processes.Pipe()
        processes.Process(target=contestant, args=(there, folder, program, dtype, shape), daemon=True).start()

    def ask(program: str, work: str) -> Any:
        pipes[program].send(work)
        return pipes[program].recv()

    for program in PROGRAMS:
        start(program)
    scores = {program: torch.tensor(ask(program, "scores")) for program in PROGRAMS}
    for program, found in scores.items():
        # The same network, up to the rounding of the dtype.
        difference = (found - scores[OURS]).norm() / scores[OURS].norm()
        assert difference < 0.1, f"{program} computes something else: {difference}"
    programs = {"train": PROGRAMS, "prefill": PROGRAMS}
    if DEVICE == "cpu":
        start(ENGINE)
        chosen = torch.tensor(ask(ENGINE, "scores"))
        # Of the tokens that the tokenizer knows.
        lost = scores[OURS][:, :TOKENS].amax(-1) - scores[OURS].gather(1, chosen[:, None])[:, 0]
        assert (lost < 0.1 * scores[OURS].std(-1)).all(), f"{ENGINE} chooses other tokens: {lost}"
        programs["prefill"] = OURS, ENGINE, *PROGRAMS[1:]
    limits: list[float] = []
    times = {(work, program): list[float]() for work, some in programs.items() for program in some}
    for _ in range(rounds):
        limits.append(ask(OURS, "matrix_rate"))
        for work, program in times:
            ask(program, work)
            times[work, program].append(ask(program, work))
    config = read_config(folder)
    flops, tokens = forward_flops(config, shape[1]), shape[0] * shape[1]
    limit = statistics.median(limits)
    medians = {key: statistics.median(measured) for key, measured in times.items()}
    rows = []
    for (work, program), median in medians.items():
        peer = min(medians[work, other] for other in PROGRAMS[1:3])
        # Prefill needs the scores of each sequence's last token only.
        operations = 3 * sum(flops.values()) if work == "train" else sum(flops.values()) - flops["head"]
        rows.append({
            "dtype": dtype, "work": work, "program": program, "device": DEVICE, "sequences": shape[0],
            "length": shape[1], "tokens_per_second": tokens / median, "fastest": tokens / min(times[work, program]),
            "of_limit": operations * tokens / median / limit, "limit_gflops": limit / 1e9, "ratio": peer / median,
        })  # fmt: skip
    return rows


def contestant(pipe: Any, folder: Path, program: str, dtype_name: str, shape: tuple[int, int]) -> None:
    """Answer each work that comes through the pipe with its seconds, until the parent is gone."""
    if program == OURS or "kept" in program:
        keep_freed_memory()
    dtype, generator = getattr(torch, dtype_name), torch.Generator().manual_seed(1)

    def draw() -> torch.Tensor:
        return torch.randint(TOKENS - 100, (shape[0], shape[1] + 1), generator=generator).to(DEVICE)

    first = draw()
    train, prefill = PROGRAM_OF.get(program, theirs)(folder, dtype, program)
    while True:
        try:
            work = pipe.recv()
        except EOFError:
            return
        if work == "scores":
            pipe.send(prefill(first).tolist())
        elif work == "matrix_rate":
            pipe.send(matrix_rate(dtype))
        else:
            pipe.send(seconds(partial(train if work == "train" else prefill, draw())))


def ours(folder: Path, dtype: torch.dtype, program: str) -> tuple[Work, Work]:
    """Training and prefill by the plain forward pass."""
    model = load_weights(folder, dtype, DEVICE)

    def train(tokens: torch.Tensor) -> None:
        model.train().zero_grad()
        h_BTD = model(tokens[:, :-1])
        next_token_loss(h_BTD.flatten(0, 1), model.lm_head.weight, tokens[:, 1:].flatten(), 0.0).backward()

    @torch.inference_mode()
    def prefill(tokens: torch.Tensor) -> torch.Tensor:
        last = torch.tensor([tokens.shape[1] - 2], device=tokens.device)
        return model.eval().logits(model(tokens[:, :-1], wanted_W=last)[:, 0]).float()

    return train, prefill


def engine(folder: Path, dtype: torch.dtype, program: str) -> tuple[Work, Work]:
    """Prefill by the engine with its defaults; it gives the next tokens instead of their scores."""
    from troth.serve.engine.engine import Engine
    from troth.serve.engine.request import Request
    from troth.serve.engine.sampling_params import SamplingParams
    from troth.system import ServeTable

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # The library has threads of its own.
    weights = str(dtype).removeprefix("torch.")
    table = ServeTable(max_step_ms=1e6, cache_tokens=16_384, weights=weights, threads=threads)
    serving = Engine.from_folder(folder, table)
    calls = itertools.count()
    greedily = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)

    def prefill(tokens: torch.Tensor) -> torch.Tensor:
        # Each time another first token, for nothing is to be found in the prefix cache.
        offset = next(calls)
        requests = [Request((row[0] + offset, *row[1:]), greedily) for row in tokens[:, :-1].tolist()]
        return torch.tensor([outputs[0].tokens[0].id for outputs in serving.generate(requests)])

    return prefill, prefill


def theirs(folder: Path, dtype: torch.dtype, program: str) -> tuple[Work, Work]:
    """Training and prefill by transformers."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    experts = program.removeprefix("transformers ").partition(",")[0]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, experts_implementation=experts).to(DEVICE)

    def train(tokens: torch.Tensor) -> None:
        model.train().zero_grad()
        scores = model(input_ids=tokens[:, :-1], use_cache=False).logits
        torch.nn.functional.cross_entropy(scores.flatten(0, 1).float(), tokens[:, 1:].flatten()).backward()

    @torch.inference_mode()
    def prefill(tokens: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = model.eval()(input_ids=tokens[:, :-1], use_cache=False, logits_to_keep=1).logits[:, -1]
        return scores.float()

    return train, prefill


PROGRAM_OF = {OURS: ours, ENGINE: engine}


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    finish()
    start = time.perf_counter()
    work()
    finish()
    return time.perf_counter() - start


def finish() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def matrix_rate(dtype: torch.dtype) -> float:
    """Operations a second of one large product, the best of five."""
    size = 8192 if DEVICE == "cuda" else 2048
    a, b = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b) for _ in range(5))


if __name__ == "__main__":
    main()
