"""The serving planner's steps beside the engine on this machine, and beside published figures.

    python bench/plan_serve.py [--kinds bfloat16 int8] [--batches 1 8 32] [--rounds 3] [--threads 2] [--json]
    python bench/plan_serve.py --published
    python bench/plan_serve.py --fit

The first predicts and measures decoding and prefill of the system nano and of the 175M network of bench/network.py
(both with random weights). The processor is described as the planner describes a GPU, by figures of the same run: the
bandwidth of a sum over 512 MiB, the rate of a product of 2048 x 2048 matrices in the faster of float32 and bfloat16,
and the time that a step, a layer and a sequence take of a network with next to no weights. None of it is fitted:
`ratio` is the measured speed over the predicted one: 1 is this machine's limit, more means that weights stay in caches.

--published prints what data/serving.toml says of GPUs beside the prediction; --fit searches the efficiencies of
`plan.serving.roofline` that make these agree best.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from idle import warn_if_busy
from model import SIZES, write_model
from serve import PROMPTS, matrix_rate, read_bandwidth
from steps import BEHIND, OUTPUT, decode, prefill, start

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.families.configs import read_config, to_hf_config
from troth.model.families.weights import save_weights
from troth.model.initialise import initialise
from troth.model.tokenizer import Tokenizer
from troth.plan.gpus import Gpu
from troth.plan.serving.published import predict, published, ratio
from troth.plan.serving.roofline import FITTED, Efficiency, Roofline, Shape
from troth.serve.engine.engine import Engine
from troth.system import load_system

KINDS = {"bfloat16": "bf16", "int8": "int8", "int4": "int4"}
MANY = 16
"""Sequences from which the time of one more is taken."""
BOUNDS = {
    "bandwidth": (0.7, 0.95), "products": (0.3, 0.75), "experts": (0.2, 0.75), "rows": (16, 128),
    "attention": (0.2, 0.9), "link": (0.3, 0.9), "network": (0.5, 0.95), "overlap": (0.2, 0.9),
    "imbalance": (1.05, 1.5), "layer": (5e-6, 80e-6), "step": (2e-4, 5e-3),
}  # fmt: skip
"""What is physically sensible of each efficiency."""


def main() -> None:
    """Run, print a table, or JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["bfloat16", "int8"], choices=KINDS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.fit:
        fit()
    elif options.published:
        show_published(FITTED)
    else:
        warn_if_busy()
        rows = measured(options)
        if options.json:
            print(json.dumps(rows, indent=2))
            return
        for row in rows:
            print(
                f"{row['model']:<5} {row['kind']:<9} {row['work']:<11} predicted {row['predicted']:>9,.0f} tokens/s"
                f"  measured {row['measured']:>9,.0f}  ratio {row['ratio']:>5.2f}"
            )


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each network, kind of weights and work."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folders = {model: Path(name) / model for model in ("nano", "175M", "one", "nine")}
        write_model(folders["175M"], SIZES)
        write_native(folders["nano"], load_system("nano").model)
        for model, layers in (("one", 1), ("nine", 9)):
            write_native(folders[model], smallest(layers))
        for kind in options.kinds:
            machine, efficiency = describe(folders, kind, options)
            for model in ("nano", "175M"):
                roofline = Roofline(read_config(folders[model]), Shape(machine, 1, 1, KINDS[kind]), efficiency)
                engine = start(folders[model], kind, options.threads, max(options.batches))
                for work, run, predicted in works(engine, roofline, options.batches):
                    run()
                    speed = statistics.median(run() for _ in range(options.rounds))
                    rows.append({
                        "model": model, "kind": kind, "work": work, "predicted": predicted, "measured": speed,
                        "ratio": speed / predicted,
                    })  # fmt: skip
                del engine
    return rows


def describe(folders: dict[str, Path], kind: str, options: argparse.Namespace) -> tuple[Gpu, Efficiency]:
    """This machine as a GPU that reaches what is measured of it."""
    one, nine, many = (
        step_seconds(start(folders[model], kind, options.threads, MANY), batch, options.rounds)
        for model, batch in (("one", 1), ("nine", 1), ("one", MANY))
    )
    layer, sequence = max(0.0, (nine - one) / 8), max(0.0, (many - one) / (MANY - 1))
    bandwidth, rate = read_bandwidth(options.threads), matrix_rate(options.threads)
    torch.set_num_threads(1)
    machine = Gpu("cpu", 0, 0.0, bandwidth, {"bf16": rate}, 1, 1.0, 1.0, 0.0, "measured")
    efficiency = Efficiency(
        bandwidth=1, products=1, experts=1, rows=0, attention=1, imbalance=1, layer=layer,
        step=max(0.0, one - layer - sequence), sequence=sequence,
    )  # fmt: skip
    return machine, efficiency


def step_seconds(engine: Engine, batch: int, rounds: int) -> float:
    """Seconds of a step in which so many sequences decode."""
    decode(engine, batch)
    return statistics.median(batch / decode(engine, batch) for _ in range(rounds))


def smallest(layers: int) -> ModelConfig:
    """A network that does everything and weighs nothing."""
    sizes = {
        "hidden_size": 32, "intermediate_size": 32, "moe_intermediate_size": 32, "num_hidden_layers": layers,
        "head_dim": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "num_experts": 2, "num_experts_per_tok": 1,
        "vocab_size": 2048,
    }  # fmt: skip
    return load_system("nano").model.model_copy(update=sizes)


def write_native(folder: Path, config: ModelConfig) -> None:
    """A model folder with random weights and a tokenizer that no measurement uses."""
    folder.mkdir()
    tokenizer = Tokenizer.train(["All that glitters is not gold. " * 20], 280)
    model = initialise(Decoder(config), 5)
    # Routers that start at zero would send every token to the same experts.
    for moe in model.moe_layers():
        torch.nn.init.normal_(moe.router.gate.weight, std=0.2, generator=torch.Generator().manual_seed(6))
    save_weights(model, to_hf_config(config, "bfloat16", tokenizer.end_of_text), folder)
    tokenizer.save(folder)


def works(engine: Engine, roofline: Roofline, batches: list[int]) -> Iterator[tuple[str, Any, float]]:
    """What is measured, how, and the tokens a second that are predicted."""
    for length in PROMPTS:
        step = roofline.step(0, 0, length, length / 2, prompts=1)
        seconds = float(step.seconds) + float(roofline.head(np.array(1.0)))
        yield f"prefill {length}", partial(prefill, engine, length), length / seconds
    for batch in batches:
        seconds = float(roofline.step(batch, BEHIND + OUTPUT // 2).seconds)
        yield f"decode {batch}", partial(decode, engine, batch), batch / seconds


def show_published(efficiency: Efficiency) -> None:
    """Each published figure, the prediction and their ratio; then how far off they are."""
    for row in published():
        shape = row.shape
        print(
            f"{row.source[:24]:<24} {row.kind:<7} {row.name:<12} {shape.gpus:>3} x {shape.gpu.name:<5} tp {shape.tp} "
            f"{row.input:>6} in {row.output:>6} out  published {row.value:>9,.4g}  predicted "
            f"{predict(row, efficiency):>9,.4g}  ratio {ratio(row, efficiency):>5.2f}"
        )
    off = np.abs([np.log(ratio(row, efficiency)) for row in published()])
    print(
        f"{len(off)} figures, off by a factor of {np.exp(np.median(off)):.2f} in the median, {np.exp(off.mean()):.2f} "
        f"on average, {np.exp(off.max()):.2f} at most; {(off < np.log(1.25)).mean():.0%} within 1.25, "
        f"{(off < np.log(1.5)).mean():.0%} within 1.5"
    )


def fit() -> None:
    """The least mean of absolute logarithms of ratios, by a search along one efficiency after the other."""

    def off(efficiency: Efficiency) -> float:
        return float(np.mean([abs(np.log(ratio(row, efficiency))) for row in published()]))

    best, least = FITTED, off(FITTED)
    stride = dict.fromkeys(BOUNDS, 0.25)
    for _ in range(12):
        for name, (low, high) in BOUNDS.items():
            for factor in (1 + stride[name], 1 / (1 + stride[name])):
                tried = replace(best, **{name: float(np.clip(getattr(best, name) * factor, low, high))})
                if (found := off(tried)) < least - 1e-5:
                    best, least = tried, found
                    break
            else:
                stride[name] /= 2
    print(f"{np.exp(off(FITTED)):.3f} -> {np.exp(least):.3f} on average, with {json.dumps(asdict(best), indent=2)}")


if __name__ == "__main__":
    main()
