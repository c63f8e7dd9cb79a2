"""Two plans side by side: one that was saved with `--json`, and one of now, by the numbers that a choice turns on."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Plan = dict[str, Any]
Read = Callable[[Plan], float | str]

KINDS = {"train": ("candidates", "goodputs", "duration"), "serve": ("regions", "choice", "planned")}
"""Keys by which a plan of `troth plan train` or `serve` is known."""


@dataclass(frozen=True)
class Difference:
    """A number or a word of both plans. difference and ratio, of the later one to the earlier, are None for words, and
    the ratio where the earlier number is 0."""

    name: str
    before: float | str
    after: float | str
    unit: str

    @property
    def difference(self) -> float | None:
        """What was added."""
        if isinstance(self.before, str) or isinstance(self.after, str):
            return None
        return self.after - self.before

    @property
    def ratio(self) -> float | None:
        """By which it was multiplied."""
        if isinstance(self.before, str) or isinstance(self.after, str) or not self.before:
            return None
        return self.after / self.before

    def cells(self) -> list[str]:
        """As they are read: name, before, after, difference, ratio; words that are the same have neither."""
        more = "" if self.difference is None else f"{'+' if self.difference > 0 else ''}{_said(self.difference)}"
        ratio = "" if self.ratio is None else f"× {self.ratio:.3g}"
        name = f"{self.name}, {self.unit}" if self.unit else self.name
        return [name, _said(self.before), _said(self.after), more, ratio]


def read_plan(path: Path, kind: str) -> Plan:
    """The plan in a file that `troth plan KIND --json` wrote. Raises ValueError where it is none, or another's."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"--compare {path}: no plan; save one with `troth plan {kind} ... --json > FILE`") from error
    for known, keys in KINDS.items():
        if isinstance(found, dict) and all(key in found for key in keys):
            if known == kind:
                return found
            raise ValueError(f"--compare {path}: a plan of `troth plan {known}`; expected one of `troth plan {kind}`")
    raise ValueError(f"--compare {path}: no plan; save one with `troth plan {kind} ... --json > FILE`")


def compare(before: Plan, after: Plan, kind: str) -> list[Difference]:
    """The rows of two plans of one kind. Raises ValueError where the earlier one lacks some of it."""
    try:
        rows = TRAINING if kind == "train" else _fleet_rows(before, after)
        return [Difference(name, read(before), read(after), unit) for name, unit, read in rows]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"--compare: the earlier plan has no {error}; save it anew with --json") from error


def _best(plan: Plan) -> Plan:
    found: Plan = plan["candidates"][0]
    return found


def _layout(plan: Plan) -> str:
    return ", ".join(f"{name} {_best(plan)['run'][name]}" for name in ("pp", "vpp", "cp", "tp", "ep", "dp_replicate"))


def _cheapest(plan: Plan) -> float | str:
    return min((one["dollars"] / 1e6 for one in plan["offers"] if one["dollars"] is not None), default="no price")


TRAINING: list[tuple[str, str, Read]] = [
    ("system", "", lambda p: p["system"]),
    ("GPU", "", lambda p: p["gpu"]["name"].upper()),
    ("GPUs", "", lambda p: p["gpus"]),
    ("of these working", "", lambda p: _best(p)["run"]["world"]),
    ("tokens", "billion", lambda p: p["tokens"] / 1e9),
    ("batch", "million tokens", lambda p: p["batch_tokens"] / 1e6),
    ("layout", "", _layout),
    ("step", "s", lambda p: _best(p)["seconds"]),
    ("tokens a second", "", lambda p: _best(p)["tokens_per_second"]),
    ("share of peak", "%", lambda p: 100 * _best(p)["mfu"]),
    ("memory of a GPU", "GB", lambda p: sum(_best(p)["memory"].values()) / 1e9),
    ("progress", "% of the time", lambda p: 100 * p["goodputs"][p["strategy"]]["share"]),
    ("after a failure", "", lambda p: p["strategy"]),
    ("time", "days", lambda p: p["duration"]["days"]),
    ("GPU-hours", "", lambda p: p["duration"]["days"] * 24 * p["duration"]["gpus"]),
    ("cheapest place", "million USD", _cheapest),
]


def _fleet_rows(before: Plan, after: Plan) -> list[tuple[str, str, Read]]:
    rows: list[tuple[str, str, Read]] = [
        ("GPU", "", lambda p: p["gpu"].upper()),
        ("parameters", "billion", lambda p: p["parameters"] / 1e9),
        ("weights and cache", "", lambda p: f"{p['weights']}, {p['cache']}"),
        ("users", "", lambda p: sum(region["users"] for region in p["regions"])),
        ("regions", "", lambda p: ", ".join(region["name"] for region in p["regions"])),
        ("TTFT asked for", "ms", lambda p: 1e3 * p["targets"]["ttft"]),
        ("TPOT asked for", "ms", lambda p: 1e3 * p["targets"]["tpot"]),
        ("TTFT planned, without the network", "ms", lambda p: 1e3 * p["planned"]["ttft"]),
        ("decode replica", "GPUs", lambda p: p["choice"]["decode"]["gpus"]),
        ("prefill replica", "GPUs", lambda p: p["choice"]["prefill"]["gpus"] if p["choice"]["prefill"] else 0),
        ("sequences at once", "a replica", lambda p: p["choice"]["batch"]),
        ("requests a second", "a replica", lambda p: p["choice"]["rate"]),
        ("a replica starts in", "s", lambda p: p["start"]),
        ("GPUs at the peak", "", lambda p: sum(region["gpus_at_peak"] for region in p["regions"])),
        ("GPUs at most", "", lambda p: p["gpus"]),
        ("cost", "USD an hour", lambda p: p["cost_per_hour"]),
    ]
    named = {region["name"] for region in before["regions"]}
    for name in (region["name"] for region in after["regions"] if region["name"] in named):
        rows += _region_rows(name)
    return rows


def _region_rows(name: str) -> list[tuple[str, str, Read]]:
    def region(plan: Plan) -> Plan:
        found: Plan = next(one for one in plan["regions"] if one["name"] == name)
        return found

    return [
        (f"{name}: median TTFT", "ms", lambda p: 1e3 * (region(p)["percentiles"]["ttft"][0] + region(p)["network"])),
        (f"{name}: median TPOT", "ms", lambda p: 1e3 * region(p)["percentiles"]["tpot"][0]),
        (f"{name}: within both", "% of requests", lambda p: 100 * region(p)["percentiles"]["within"]),
        (f"{name}: cost", "USD a million tokens", lambda p: region(p)["cost_per_million"]),
    ]


def _said(value: float | str) -> str:
    if isinstance(value, str):
        return value
    whole = abs(value) >= 1000 or value == int(value)
    return f"{value:,.0f}" if whole else f"{value:,.4g}"
