"""Published serving figures beside what the roofline says of the same replica, batch and lengths."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from troth.model.config import ModelConfig
from troth.plan.gpus import DATA, gpu_named
from troth.plan.serving.memory import most_sequences
from troth.plan.serving.roofline import FITTED, Efficiency, Roofline, Shape


@dataclass(frozen=True)
class Published:
    """A figure with what it was measured on; see data/serving.toml for the kinds and their units."""

    source: str
    kind: str
    model: ModelConfig
    name: str
    shape: Shape
    input: int
    output: int
    batch: int
    value: float


@cache
def published() -> tuple[Published, ...]:
    """All figures, source by source."""
    data = tomllib.loads((DATA / "serving.toml").read_text(encoding="utf-8"))
    models = {name: model_from(table) for name, table in data["models"].items()}
    return tuple(_rows(data, models))


def _rows(data: dict[str, Any], models: dict[str, ModelConfig]) -> Iterator[Published]:
    for source in data["sources"]:
        for row in source["rows"]:
            shape = Shape(gpu_named(row["gpu"]), row["gpus"], row["tp"], row["weights"], row["cache"])
            yield Published(
                source["name"], row["kind"], models[row["model"]], row["model"], shape, row["input"], row["output"],
                row["batch"], row["value"],
            )  # fmt: skip


def model_from(table: dict[str, Any]) -> ModelConfig:
    """A decoder of grouped queries with nothing but what the table says; dense where it names no experts."""
    plain = {
        "attention_gate": False, "qk_norm": "none", "post_norms": False, "rope_layers": "all", "num_shared_experts": 0,
        "max_position_embeddings": 131_072, "num_dense_layers": 0,
    }  # fmt: skip
    if "num_experts" not in table:
        plain |= {"num_dense_layers": table["num_hidden_layers"], "num_experts": 1, "num_experts_per_tok": 1}
        plain |= {"moe_intermediate_size": table["intermediate_size"]}
    return ModelConfig(**(plain | table))


def predict(row: Published, efficiency: Efficiency = FITTED) -> float:
    """The same figure by the roofline."""
    found = Roofline(row.model, row.shape, efficiency)
    gpus, context, seen = row.shape.gpus, row.input + row.output / 2, row.input / 2
    match row.kind:
        case "static":
            filled = found.step(0, 0, row.batch * row.input, seen).seconds
            return float(row.batch * row.output / (filled + row.output * found.step(row.batch, context).seconds) / gpus)
        case "ttft":
            return float(found.step(0, 0, row.input, seen, prompts=1).seconds)
        case "most":
            batch = min(float(row.batch), most_sequences(found, context))
            step = found.step(batch, context, batch * row.input / row.output, seen)
            return float(batch / step.seconds / gpus)
        case "prefill":
            return float(row.batch / found.step(0, 0, row.batch * gpus, seen).seconds)
        case "decode":
            return float(row.batch / found.step(row.batch * gpus, context).seconds)
    raise ValueError(f"kind {row.kind}: unknown; known are static, ttft, most, prefill, decode")


def ratio(row: Published, efficiency: Efficiency = FITTED) -> float:
    """Predicted speed over published speed: above 1 the planner promises too much."""
    found = predict(row, efficiency) / row.value
    return 1 / found if row.kind == "ttft" else found
