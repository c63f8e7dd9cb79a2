"""The GPUs that a plan can be for, from `data/gpus.toml`."""

import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
"""Where the planner's dated figures stand."""


@dataclass(frozen=True)
class Gpu:
    """A GPU and the system that it usually stands in, in bytes, seconds, operations and watts.

    peaks: operations a second of dense products by their precision (float32, bf16, float8, float4). domain: GPUs that
    reach each other without the network, at `link_bandwidth` bytes a second in each direction; network: bytes a second
    of each GPU and direction to all others; exponentials: that it computes a second, over others of its generation.
    """

    name: str
    year: int
    memory: float
    memory_bandwidth: float
    peaks: dict[str, float] = field(hash=False)
    domain: int
    link_bandwidth: float
    network: float
    power: float
    source: str
    exponentials: float = 1.0

    def peak(self, precision: str) -> float:
        """Operations a second. Raises ValueError where the GPU has no such products."""
        if precision not in self.peaks:
            raise ValueError(f"precision {precision}: {self.name} has {', '.join(self.peaks)}")
        return self.peaks[precision]


AROUND = re.compile(
    r"(?<![a-z0-9])(nvidia|amd|instinct|[dh]gx|sxm[2-6]?|hbm(2e|3e?)|nvl72|oam)(?![a-z0-9])|(?<=gb[23]00)nvl72"
)
"""Makers, systems, sockets and memories that names of GPUs stand among."""


def plain(name: str) -> str:
    """A name without capitals, spaces, hyphens and underscores, which nobody spells alike."""
    return re.sub(r"[\s_-]", "", name.lower())


@cache
def gpus() -> dict[str, Gpu]:
    """All of them by name, oldest first."""
    tables = tomllib.loads((DATA / "gpus.toml").read_text(encoding="utf-8"))
    return {name: _read(name, table) for name, table in tables.items()}


def gpu_named(name: str) -> Gpu:
    """The GPU of a name, of a cloud's shape that has it, or as a publication ("H100-80GB-SXM (Eos)", "DGX-H100",
    "GB200 NVL72") or a driver ("NVIDIA H100 80GB HBM3") calls it. PCIe cards and the NVL of two are others.

    Raises ValueError that names those known.
    """
    wanted = plain(AROUND.sub(" ", name.partition(" (")[0].lower()))
    for known, table in tomllib.loads((DATA / "gpus.toml").read_text(encoding="utf-8")).items():
        if wanted in {plain(AROUND.sub(" ", one.lower())) for one in (known, *table["names"])}:
            return gpus()[known]
    raise ValueError(f"GPU {name}: unknown; known are {', '.join(gpus())}, and the shapes of clouds that have them")


def _read(name: str, table: dict[str, Any]) -> Gpu:
    return Gpu(
        name,
        table["year"],
        memory=table["memory"] * 1e9,
        memory_bandwidth=table["memory_bandwidth"] * 1e9,
        peaks={precision: peak * 1e12 for precision, peak in table["peaks"].items()},
        domain=table["domain"],
        link_bandwidth=table["link_bandwidth"] * 1e9,
        network=table["network"] * 1e9 / 8,
        power=table["power"],
        source=table["source"],
        exponentials=table.get("exponentials", 1.0),
    )
