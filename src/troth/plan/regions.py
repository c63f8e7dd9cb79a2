"""Where clouds and users are, and how long light and routers take between them, from `data/regions.toml`.

Between continents packets follow the cables that there are, within one the great circle: the shortest way is taken.
"""

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from troth.plan.gpus import DATA

EARTH_RADIUS = 6371e3
"""Metres, mean."""

FIBRE_SPEED = 299_792_458 / 1.468
"""Metres a second: light in standard single-mode fibre, of group index 1.468 at 1,550 nm (Corning SMF-28)."""

LAST_MILE = 0.010
"""Seconds of round trip from a user's device to a nearby point of presence, over fixed lines: the FCC's tenth Measuring
Broadband America report has medians of 9 to 15 ms to a server close by for fibre, 15 to 25 for cable (from memory)."""


@dataclass(frozen=True)
class Region:
    """A city with the names that each cloud's regions there go by; latitude and longitude in degrees north and east."""

    name: str
    city: str
    azure: tuple[str, ...]
    oci: tuple[str, ...]
    latitude: float
    longitude: float


@dataclass(frozen=True)
class Route:
    """round trip = fixed + factor x that of light in fibre laid straight along the way, in seconds.

    error and worst: median and greatest relative error at the published round trips that it is fitted to; held_out: the
    median at another provider's.
    """

    factor: float
    fixed: float
    error: float
    worst: float
    held_out: float
    source: str


@cache
def regions() -> dict[str, Region]:
    """All of them by the name of their city."""
    return {
        name: Region(
            name, table["city"], tuple(table.get("azure", ())), tuple(table.get("oci", ())), *map(float, table["at"])
        )
        for name, table in _data()["regions"].items()
    }


def region_named(name: str) -> Region:
    """The region of a city or of a name that either cloud gives it, whatever its case, spaces and hyphens.

    Raises ValueError with the nearest names.
    """
    known: dict[str, Region] = {}
    spelled: dict[str, str] = {}
    for region in regions().values():
        for alias in (region.name, region.city, *region.azure, *region.oci):
            known[_plain(alias)] = region
            spelled.setdefault(_plain(alias), alias)
    if _plain(name) in known:
        return known[_plain(name)]
    near = [spelled[match] for match in difflib.get_close_matches(_plain(name), known, n=4, cutoff=0.5)]
    some = f"near it: {', '.join(near)}" if near else f"known are {', '.join(sorted(regions()))} and the clouds' names"
    raise ValueError(f"region {name}: unknown; {some}")


def distance(one: Region, other: Region) -> float:
    """Metres from one to the other over the cables that there are, each straight along the great circle."""
    names, metres = _ways()
    return float(metres[names[one.name], names[other.name]])


def round_trip(one: Region, other: Region) -> float:
    """Seconds between two regions on a provider's backbone; within a region what its fixed part is."""
    return route().fixed + route().factor * _light(one, other)


def user_round_trip(users: Region, region: Region) -> float:
    """Seconds between users around a city and a region: the last mile and the way from there."""
    return LAST_MILE + round_trip(users, region)


@cache
def route() -> Route:
    """The route factor fitted to the published round trips, by least relative squares."""
    light, measured = _published("round_trips")
    terms = np.stack([np.ones_like(light), light], axis=1) / measured[:, None]
    fixed, factor = np.linalg.lstsq(terms, np.ones_like(measured), rcond=None)[0]
    errors = np.abs((fixed + factor * light) / measured - 1)
    other_light, other_measured = _published("held_out_round_trips")
    held_out = np.median(np.abs((fixed + factor * other_light) / other_measured - 1))
    source = _data()["round_trips"]["source"]
    return Route(float(factor), float(fixed), float(np.median(errors)), float(errors.max()), float(held_out), source)


def _published(table: str) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of light in fibre and as measured, for each pair of a table."""
    pairs = _data()[table]["pairs"]
    light = [_light(regions()[one], regions()[other]) for one, other, _ in pairs]
    return np.array(light), np.array([milliseconds / 1e3 for _, _, milliseconds in pairs])


def _light(one: Region, other: Region) -> float:
    return 2 * distance(one, other) / FIBRE_SPEED


@cache
def _ways() -> tuple[dict[str, int], np.ndarray]:
    """Places by number, and the shortest ways between all of them in metres (Floyd and Warshall)."""
    places = {**_data()["regions"], **_data()["waypoints"]}
    numbers = {name: number for number, name in enumerate(places)}
    latitude, longitude = np.radians([place["at"] for place in places.values()]).T
    # Haversine.
    square = np.sin((latitude[:, None] - latitude) / 2) ** 2
    square += np.cos(latitude[:, None]) * np.cos(latitude) * np.sin((longitude[:, None] - longitude) / 2) ** 2
    straight = 2 * EARTH_RADIUS * np.arcsin(np.sqrt(square))
    zones = np.array([place["zone"] for place in places.values()])
    joined = zones[:, None] == zones
    for one, other in _data()["cables"]["ends"]:
        joined[numbers[one], numbers[other]] = joined[numbers[other], numbers[one]] = True
    metres = np.where(joined, straight, np.inf)
    for over in range(len(places)):
        metres = np.minimum(metres, metres[:, over, None] + metres[over])
    return numbers, metres


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((DATA / "regions.toml").read_text(encoding="utf-8"))
