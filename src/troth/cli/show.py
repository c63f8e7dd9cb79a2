"""`troth show`: what a network takes, exactly, without building it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from troth.cli.options import AsJson, Changes, SystemName, print_json, read_system
from troth.cli.output import console, figures_table
from troth.model.config import ModelConfig
from troth.model.counts import BYTES, count_parameters, count_parts, forward_flops, kv_cache_bytes


def command(
    model: Annotated[
        Path | None, typer.Option("--model", help="Show a model folder instead of the system.", metavar="FOLDER")
    ] = None,
    length: Annotated[
        int | None, typer.Option("--length", help="Tokens of a sequence (default: all positions).", min=1)
    ] = None,
    system: SystemName = "nano",
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Show parameters by part, operations per token, cache and weights of a system's network or a model folder."""
    config = _config(model) if model else read_system(system, changes).model
    tokens = length or config.max_position_embeddings
    if tokens > config.max_position_embeddings:
        raise ValueError(f"--length {tokens}: the network has {config.max_position_embeddings} positions")
    figures = describe(config, tokens)
    if as_json:
        print_json(figures)
    else:
        _print(str(model or system), figures)


def describe(config: ModelConfig, length: int) -> dict[str, Any]:
    """All figures of a network, for sequences of `length` tokens."""
    counts = count_parameters(config)
    flops = forward_flops(config, length)
    forward = sum(flops.values())
    cache = kv_cache_bytes(config, length, BYTES["bfloat16"])
    return {
        "parameters": {"total": counts.total, "active": counts.active},
        "parts": {n: {"total": part.total, "active": part.active} for n, part in count_parts(config).items()},
        "length": length,
        "flops_per_token": {"forward": forward, "backward": 2 * forward, "forward_by_part": flops},
        "kv_cache_bytes": {
            "sequence": cache,
            "per_token": cache / length,
            "per_token_at_the_end": cache - kv_cache_bytes(config, length - 1, BYTES["bfloat16"]),
        },
        "weight_bytes": {dtype: counts.total * size for dtype, size in BYTES.items()},
    }


def _config(folder: Path) -> ModelConfig:
    from troth.model.families.configs import read_config

    return read_config(folder)


def _print(name: str, figures: dict[str, Any]) -> None:
    table = figures_table("", "parameters", "active", "forward FLOPs a token", title=name)
    flops = figures["flops_per_token"]["forward_by_part"]
    for part, counts in figures["parts"].items():
        table.add_row(part, f"{counts['total']:,}", f"{counts['active']:,}", _scaled(flops.get(part, 0.0), 1000, ""))
    for part in (part for part in flops if part not in figures["parts"]):
        table.add_row(part, "", "", _scaled(flops[part], 1000, ""))
    whole = figures["parameters"]
    table.add_section()
    forward = _scaled(figures["flops_per_token"]["forward"], 1000, "")
    table.add_row("all", f"{whole['total']:,}", f"{whole['active']:,}", forward)
    console.print(table)
    cache, length = figures["kv_cache_bytes"], figures["length"]
    console.print(f"backward  {_scaled(figures['flops_per_token']['backward'], 1000, 'FLOP')} a token")
    console.print(
        f"cache     {_scaled(cache['sequence'], 1024, 'B')} for {length:,} tokens in bfloat16, "
        f"{_scaled(cache['per_token'], 1024, 'B')} a token",
        soft_wrap=True,
    )
    weights = [f"{_scaled(size, 1024, 'B')} in {dtype}" for dtype, size in figures["weight_bytes"].items()]
    console.print(f"weights   {', '.join(weights)}", soft_wrap=True)


def _scaled(value: float, base: int, unit: str) -> str:
    """A number with a prefix, such as 3.2 G or 1.5 KiB."""
    prefixes = ["", "K", "M", "G", "T", "P"]
    step = 0
    while value >= 999.5 and step < len(prefixes) - 1:
        value, step = value / base, step + 1
    middle = "i" if base == 1024 and step else ""
    return f"{value:.3g} {prefixes[step]}{middle}{unit}".rstrip()
