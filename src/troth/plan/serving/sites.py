"""The regions of a fleet: what part of the users each has, how far they are, and what a GPU costs there."""

import math
from pathlib import Path

from troth.plan.clouds import clouds
from troth.plan.gpus import plain
from troth.plan.regions import Region, region_named, user_round_trip
from troth.plan.serving.region import Site


def sites_from(text: str, gpu: str, prices: Path | None = None) -> tuple[list[Site], dict[str, dict[str, float]]]:
    """Sites of "eastus:0.6,frankfurt:0.4" (equal shares where none is given), and the seconds of a round trip from the
    users near each to each. Users' clocks go by the sun.

    Raises ValueError where a region is unknown or named twice, where shares make no sense, or a GPU has no price there.
    """
    parts = [part.strip().partition(":") for part in text.split(",") if part.strip()]
    found = {name: region_named(name) for name, _, _ in parts}
    if not parts or len({region.name for region in found.values()}) < len(parts):
        raise ValueError(f"--regions {text}: expected different regions, such as eastus,frankfurt")
    shares = _shares(text, [share for _, _, share in parts])
    sites = [
        Site(name, share, round(region.longitude / 15), _price(name, region, gpu, prices))
        for (name, region), share in zip(found.items(), shares, strict=True)
    ]
    network = {
        users: {name: user_round_trip(near, region) for name, region in found.items()} for users, near in found.items()
    }
    return sites, network


def _shares(text: str, given: list[str]) -> list[float]:
    if not any(given):
        return [1 / len(given)] * len(given)
    try:
        shares = [float(share) for share in given]
    except ValueError as error:
        raise ValueError(f"--regions {text}: give every region a share, such as eastus:0.6,frankfurt:0.4") from error
    if not all(0 < share < math.inf for share in shares):
        raise ValueError(f"--regions {text}: shares must be above 0")
    return [share / sum(shares) for share in shares]


def _price(name: str, region: Region, gpu: str, prices: Path | None) -> float:
    """The least USD an hour and GPU, on demand, of the clouds that have the region; of the one whose name for it this
    is, if it is one's."""
    places = clouds(prices)
    offered = {"azure": region.azure, "oci": region.oci}
    known = [cloud for cloud, names in offered.items() if names]
    named = [cloud for cloud in known if plain(name) in map(plain, offered[cloud])] or known
    rents = {
        cloud: [shape.rent.on_demand / shape.gpus for shape in place.shapes_with(gpu).values() if shape.rent]
        for cloud, place in places.items()
    }
    found = [price for cloud in named for price in rents[cloud]]
    if not found:
        others = [cloud for cloud in known if rents[cloud]]
        near = f"{others[0]} has one in {offered[others[0]][0]}; or " if others else ""
        raise ValueError(f"--gpu {gpu}: no price in {' or '.join(named)}; {near}give one in a file to --prices")
    return min(found)
