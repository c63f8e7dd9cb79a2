"""Training and prefill of one network here and in transformers, on the same weights, beside the machine's matrix rate.

    python bench/network.py [--dtypes bfloat16 float32] [--batch 4] [--length 512] [--rounds 5] [--json]

The network is a Qwen3-MoE of 175 million parameters, 43 million active (random weights: only sizes matter). Each round
times every contestant once, in turn; a row gives the median. transformers runs with each of its implementations of
experts that works here, and the fastest counts. `of the limit` are the operations of the network's products (forward,
and twice that backward) in the time, over the rate of a 2048 x 2048 x 2048 product in that dtype in the same run; on a
CUDA device the products are of 8192. With --mini, layers have the sizes of the system `mini`.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from idle import warn_if_busy

from troth.model.counts import count_parameters, forward_flops
from troth.model.decoder import Decoder
from troth.model.families.weights import load_weights
from troth.system import load_system
from troth.train.loss import next_token_loss
from troth.train.memory import keep_freed_memory

SIZES = {
    "vocab_size": 32_000, "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "head_dim": 64,
    "num_key_value_heads": 2, "num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 512,
    "intermediate_size": 512, "max_position_embeddings": 8_192, "norm_topk_prob": True, "tie_word_embeddings": True,
}  # fmt: skip
EXPERTS = "grouped_mm", "eager"
"""What transformers offers for many tokens; its third way copies the weights of each token's experts."""


def main() -> None:
    """Run, print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--batch", type=int, default=4, help="sequences")
    parser.add_argument("--length", type=int, default=512, help="tokens of a sequence")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mini", action="store_true", help="layers of the sizes of the system mini")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = SIZES | (mini_sizes() if options.mini else {})
    tokens = torch.randint(sizes["vocab_size"], (options.batch, options.length + 1), device=device)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_weights(Path(folder), sizes)
        for name in options.dtypes:
            rows += run(Path(folder), getattr(torch, name), tokens, options.rounds, device)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(
            f"{row['dtype']:<9} {row['work']:<17} {row['program']:<24} {row['tokens_per_second']:>9,.0f} tokens/s"
            f"  {row['of_limit']:>4.0%} of the limit  {row['ratio']:>5.2f}x"
        )


def mini_sizes() -> dict[str, Any]:
    """The layers of the system `mini`, as far as Qwen3-MoE has them; four of them."""
    shape = load_system("mini").model.model_dump()
    kept = {key: shape[key] for key in SIZES if key in shape and key != "tie_word_embeddings"}
    return kept | {"num_hidden_layers": 4}


def write_weights(folder: Path, sizes: dict[str, Any]) -> None:
    """A model folder of transformers with random weights."""
    from transformers import AutoModelForCausalLM, Qwen3MoeConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(Qwen3MoeConfig(**sizes), dtype=torch.bfloat16).save_pretrained(folder)


def run(folder: Path, dtype: torch.dtype, tokens: torch.Tensor, rounds: int, device: str) -> list[dict[str, Any]]:
    """The rows of one dtype."""
    inputs = tokens[:, :-1]
    ours = load_weights(folder, dtype, device)
    works: dict[tuple[str, str], Callable[[], object]] = {
        ("train", "troth"): lambda: train_ours(ours, tokens),
        ("prefill", "troth"): lambda: prefill_ours(ours, inputs),
    }
    expected = prefill_ours(ours, inputs)
    for experts in EXPERTS:
        theirs = load_theirs(folder, dtype, device, experts)
        # The same network, up to the rounding of the dtype.
        difference = (prefill_theirs(theirs, inputs) - expected).float().norm() / expected.float().norm()
        assert difference < 0.1, f"transformers computes something else: {difference}"
        works["train", f"transformers {experts}"] = lambda theirs=theirs: train_theirs(theirs, tokens)
        works["prefill", f"transformers {experts}"] = lambda theirs=theirs: prefill_theirs(theirs, inputs)
    for work in works.values():
        work()
    limits: list[float] = []
    times: dict[tuple[str, str], list[float]] = {key: [] for key in works}
    for _ in range(rounds):
        limits.append(matrix_rate(dtype, device))
        for key, work in works.items():
            times[key].append(seconds(work, device))
    limit = statistics.median(limits)
    medians = {key: statistics.median(measured) for key, measured in times.items()}
    flops = forward_flops(ours.config, inputs.shape[1])
    rows = []
    for (work, program), median in medians.items():
        peer = min(other for (kind, name), other in medians.items() if kind == work and name != "troth")
        # Prefill needs the scores of each sequence's last token only.
        operations = 3 * sum(flops.values()) if work == "train" else sum(flops.values()) - flops["head"]
        rows.append({
            "dtype": str(dtype).removeprefix("torch."), "work": work, "program": program, "device": device,
            "sequences": inputs.shape[0], "length": inputs.shape[1], "tokens_per_second": inputs.numel() / median,
            "of_limit": operations * inputs.numel() / median / limit, "limit_gflops": limit / 1e9,
            "ratio": peer / median, "active": count_parameters(ours.config).active,
        })  # fmt: skip
    return rows


def load_theirs(folder: Path, dtype: torch.dtype, device: str, experts: str) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, experts_implementation=experts).to(device)


def train_ours(model: Decoder, tokens: torch.Tensor) -> None:
    model.train().zero_grad()
    h_BTD = model(tokens[:, :-1])
    next_token_loss(h_BTD.flatten(0, 1), model.lm_head.weight, tokens[:, 1:].flatten(), 0.0).backward()


def train_theirs(model: Any, tokens: torch.Tensor) -> None:
    model.train().zero_grad()
    scores = model(input_ids=tokens[:, :-1], use_cache=False).logits
    torch.nn.functional.cross_entropy(scores.flatten(0, 1).float(), tokens[:, 1:].flatten()).backward()


@torch.inference_mode()
def prefill_ours(model: Decoder, inputs: torch.Tensor) -> torch.Tensor:
    return model.eval().logits(model(inputs)[:, -1])


@torch.inference_mode()
def prefill_theirs(model: Any, inputs: torch.Tensor) -> torch.Tensor:
    return model.eval()(input_ids=inputs, use_cache=False, logits_to_keep=1).logits[:, -1]


def seconds(work: Callable[[], object], device: str) -> float:
    """How long one call takes."""
    finish(device)
    start = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - start


def finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_rate(dtype: torch.dtype, device: str) -> float:
    """Operations a second of one large product, the best of five."""
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: a @ b, device) for _ in range(5))


if __name__ == "__main__":
    main()
