"""Where GPUs can be rented or bought, and at what price, from `data/clouds.toml` or over it from a user's file."""

import datetime
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from troth.plan.gpus import DATA, gpu_named
from troth.system.table import Table


class Network(Table):
    """What joins the nodes. oversubscription: bandwidth below the uppermost tier of switches over that above it.

    rails: GPU i of all nodes has switches of its own; ports: of a switch, half of them towards nodes; pod: GPUs below
    one of the uppermost switches, where it is not what ports, tiers and rails make; largest: GPUs that one network
    joins at most, where published.
    """

    fabric: str
    tiers: int = Field(ge=1)
    oversubscription: float = Field(ge=1)
    rails: bool
    ports: int = Field(default=64, ge=2)
    pod: int | None = Field(default=None, ge=1)
    largest: int | None = Field(default=None, ge=1)


class Rent(Table):
    """USD an hour and node, without obligation or for one and three years; None where not published."""

    on_demand: float = Field(gt=0)
    one_year: float | None = Field(default=None, gt=0)
    three_years: float | None = Field(default=None, gt=0)
    date: datetime.date
    source: str


class Purchase(Table):
    """USD a node with its share of network and storage, used up in `years`; upkeep: a share of it a year."""

    price: float = Field(gt=0)
    years: float = Field(gt=0)
    upkeep: float = Field(ge=0)
    date: datetime.date
    source: str


class Shape(Table):
    """A node that a place offers; host_power in watts, of everything in it but the GPUs."""

    gpu: str
    gpus: int = Field(ge=1)
    host_power: float = Field(ge=0)
    network: Network
    rent: Rent | None = None
    purchase: Purchase | None = None

    @property
    def pod(self) -> int:
        """GPUs that reach each other below the uppermost tier of switches (a k-ary fat tree, Al-Fares et al., 2008),
        one such tree for each GPU of a node where there are rails."""
        n = self.network
        return n.pod or (n.ports // 2) ** (n.tiers - 1) * (self.gpus if n.rails else 1)

    @field_validator("gpu")
    @classmethod
    def _known(cls, name: str) -> str:
        return gpu_named(name).name


class Cloud(Table):
    """A place; pue: power of its halls over that of its machines; electricity in USD a kWh, where its user pays it."""

    pue: float = Field(ge=1)
    electricity: float = Field(default=0, ge=0)
    source: str
    shapes: dict[str, Shape]

    def shapes_with(self, gpu: str) -> dict[str, Shape]:
        """Those with a GPU of this name (of gpus.toml)."""
        return {name: shape for name, shape in self.shapes.items() if shape.gpu == gpu}


def clouds(prices: Path | None = None) -> dict[str, Cloud]:
    """All places by name; prices: a TOML file of the same layout whose entries replace single ones.

    Raises ValueError with one line that names the key and what is wrong with it.
    """
    tables = tomllib.loads((DATA / "clouds.toml").read_text(encoding="utf-8"))
    origin = "clouds.toml"
    if prices is not None:
        origin = f"--prices {prices}"
        try:
            _replace(tables, tomllib.loads(prices.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{origin}: {error}") from error
    return {name: _read(f"{origin}: {name}", table) for name, table in tables.items()}


def chosen(name: str, places: dict[str, Cloud]) -> tuple[dict[str, Cloud], Shape]:
    """The place with no other shape than the one that `PLACE:SHAPE` names, and that shape.

    Raises ValueError naming those that there are.
    """
    place, _, shape = name.partition(":")
    if place not in places:
        raise ValueError(f"--cloud {name}: expected PLACE:SHAPE, with a place of {', '.join(places)}")
    found = {known: one for known, one in places[place].shapes.items() if known.lower() == shape.lower()}
    if not found:
        raise ValueError(f"--cloud {name}: {place} has the shapes {', '.join(places[place].shapes)}")
    return {place: places[place].model_copy(update={"shapes": found})}, next(iter(found.values()))


def _replace(tables: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(tables.get(key), dict):
            _replace(tables[key], value)
        else:
            tables[key] = value


def _read(where: str, table: Any) -> Cloud:
    try:
        return Cloud.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([where, *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            raise ValueError(f"{key}: unknown key; the layout is that of {DATA / 'clouds.toml'}") from error
        if first["type"] == "missing":
            raise ValueError(f"{key}: missing; a new entry needs all keys of its table") from error
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{key}={first['input']!r}: {message[0].lower()}{message[1:]}") from error
