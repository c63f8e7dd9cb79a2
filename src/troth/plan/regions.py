"""Regions of clouds, and how long a message takes between places."""

import math
import tomllib
from dataclasses import dataclass

from troth.plan.gpus import DATA


@dataclass(frozen=True)
class Region:
    """A region; degrees north and east, and its name in each cloud."""

    name: str
    city: str
    latitude: float
    longitude: float
    clouds: dict[str, str]


def region_named(name: str) -> Region:
    """By its name here or in a cloud, or its city. Raises ValueError naming those known."""
    tables = tomllib.loads((DATA / "regions.toml").read_text(encoding="utf-8"))
    for known, table in tables.items():
        if name.lower() in {known, table["city"].lower(), *table["clouds"].values()}:
            return Region(known, **table)
    raise ValueError(f"region {name}: unknown; known are {', '.join(tables)}")


def round_trip(one: Region, other: Region) -> float:
    """Seconds there and back in fibre."""
    a, b = math.radians(one.latitude), math.radians(other.latitude)
    turn = math.radians(other.longitude - one.longitude)
    angle = math.acos(min(1.0, math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(turn)))
    return 0.02 + 2 * 1.4 * angle * 6371e3 / 2e8
