"""The mixture in which `troth train` reads curated documents: `data.toml`, each collection's share by its bytes and by
how much of what it says stands."""

import json
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from troth.curate.integrate.figures import Figures


@dataclass(frozen=True)
class Mixture:
    """Shares of the collections, which sum to 1, and what they come from: weighted bytes and the share that stands."""

    shares: dict[str, float]
    weighted_bytes: dict[str, float]
    standing: dict[str, float]


_PRIOR = 20
"""Judged claims that the average of all collections counts as much as, so that few verdicts move little."""


def mixture(figures: Figures) -> Mixture:
    """What a collection weighs is its bytes, each as often as its document is read, times the share of its judged
    claims that were not refuted; where nothing was judged, that of all collections."""
    judged, refuted = figures.judged, figures.refuted
    whole = sum(judged.values())
    average = 1 - sum(refuted.values()) / whole if whole else 1.0
    size = {name: part.weighted for name, part in sorted(figures.by["collection"].items())}
    stands = {
        name: (judged[name] - refuted[name] + _PRIOR * average) / (judged[name] + _PRIOR) for name in size
    }  # fmt: skip
    weights = {name: size[name] * stands[name] for name in size}
    total = sum(weights.values())
    return Mixture({name: weight / total for name, weight in weights.items()} if total else {}, size, stands)


def train_command(documents: Path, shares: dict[str, float]) -> str:
    """The command that trains on the mixture, as it is typed in a shell."""
    weights = quote(f"data.weights={_inline(shares)}")
    return f"troth train {quote(str(documents))} --set {weights} --out runs/curated"


def write_mixture(path: Path, documents: Path, found: Mixture) -> None:
    """Write the `[data]` table of a system file."""
    lines = [
        "# The [data] table of a system file. On the command line:",
        f"#   {train_command(documents, found.shares)}",
        "[data]",
        f"sources = [{_text(str(documents))}]",
        "",
        "[data.weights]",
        *(
            f"{_text(name)} = {share:.6g}  # {found.weighted_bytes[name]:,.0f} bytes as read, "
            f"{found.standing[name]:.1%} of judged claims not refuted"
            for name, share in found.shares.items()
        ),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _inline(shares: dict[str, float]) -> str:
    return "{" + ", ".join(f"{_text(name)} = {share:.6g}" for name, share in shares.items()) + "}"


def _text(text: str) -> str:
    """A TOML string; JSON's form is one."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
