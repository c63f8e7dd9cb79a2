"""What a run takes of days, GPU-hours, energy and money.

Power: 8 H100s drew at most 8.4 kW of their node's rated 10.2 (Latif et al., 2412.08602) and about 76% of it in heavy
training (Newkirk et al., 2506.14551); the network's from the switches' data sheet (NVIDIA QM9700).
"""

import math
from dataclasses import dataclass

from troth.plan.clouds import Cloud, Purchase, Rent, Shape
from troth.plan.gpus import Gpu, gpu_named

DAY = 24 * 3600.0
YEAR_HOURS = 365.25 * 24

IDLE_SHARE = 0.1
"""Of a GPU's power limit that it draws without work: about 70 W of an H100's 700."""

POWER_KNEE = 0.2
"""Model FLOP utilisation at which a GPU's draw is 1 - 1/e of the way from idle to its limit. Fitted to one figure: 76%
of 10.2 kW, less 2.8 kW of host, is 88% of 700 W a GPU, taken to be at a utilisation of 0.4."""

PORT_POWER = 27.0
"""Watts of a switch's port of 400 Gbit/s with its optics: 1,720 W over 64 (NVIDIA QM9700 data sheet, from memory)."""


@dataclass(frozen=True)
class Power:
    """Watts of one GPU's part of the system: the chip, its host, its network, and all of it with the hall."""

    gpu: float
    host: float
    network: float
    total: float


@dataclass(frozen=True)
class Duration:
    """How long a run takes, on how many GPUs with the spare ones."""

    days: float
    gpus: int

    @property
    def gpu_hours(self) -> float:
        return self.days * 24 * self.gpus


@dataclass(frozen=True)
class Offer:
    """What a run costs in one place, on whole nodes: USD in all and an hour and GPU, MWh; terms as in "on demand".

    Dollars are None where the place has the GPU but no published price. networks: how many of its largest are needed;
    above 1 the run spans networks that no publication says are joined at full speed; None where no size is published.
    """

    cloud: str
    shape: str
    terms: str
    gpus: int
    networks: int | None
    energy: float
    dollars: float | None
    dollars_per_gpu_hour: float | None
    date: str
    source: str


def duration(tokens: float, tokens_per_second: float, gpus: int, goodput: float = 1.0) -> Duration:
    """Of `tokens` at a failure-free `tokens_per_second` of which a share `goodput` lasts, on `gpus` (spares included).

    Raises ValueError where one of them is not positive or goodput is above 1.
    """
    for name, value in (("tokens", tokens), ("tokens_per_second", tokens_per_second), ("gpus", gpus)):
        if value <= 0:
            raise ValueError(f"{name} {value:g}: expected a positive number")
    if not 0 < goodput <= 1:
        raise ValueError(f"goodput {goodput:g}: expected a share above 0 and up to 1")
    return Duration(tokens / tokens_per_second / goodput / DAY, gpus)


def power(gpu: Gpu, shape: Shape, pue: float, mfu: float) -> Power:
    """Of one GPU of a shape in a hall of that PUE, at a model FLOP utilisation between 0 and 1."""
    if not 0 <= mfu <= 1:
        raise ValueError(f"mfu {mfu:g}: expected a share between 0 and 1")
    chip = gpu.power * (IDLE_SHARE + (1 - IDLE_SHARE) * (1 - math.exp(-mfu / POWER_KNEE)))
    host = shape.host_power / shape.gpus
    # A fat tree has two ports a link between tiers and one towards the node.
    ports = 2 * shape.network.tiers - 1
    network = PORT_POWER * ports * gpu.network * 8 / 400e9
    return Power(chip, host, network, (chip + host + network) * pue)


def offers(run: Duration, gpu: str, mfu: float, places: dict[str, Cloud]) -> list[Offer]:
    """The run on every place that has the GPU, cheapest first, those without a price last.

    Energy is paid apart only where a place has a price of electricity.
    """
    found = []
    for cloud_name, cloud in places.items():
        for shape_name, shape in cloud.shapes_with(gpu).items():
            nodes = -(-run.gpus // shape.gpus)
            gpus, hours, largest = nodes * shape.gpus, run.days * 24, shape.network.largest
            energy = power(gpu_named(gpu), shape, cloud.pue, mfu).total * gpus * hours / 1e6
            for terms, hourly, price in _node_prices(shape) or [("no published price", None, None)]:
                dollars = None if hourly is None else hourly * nodes * hours + energy * 1000 * cloud.electricity
                found.append(
                    Offer(
                        cloud=cloud_name,
                        shape=shape_name,
                        terms=terms,
                        gpus=gpus,
                        networks=-(-gpus // largest) if largest else None,
                        energy=energy,
                        dollars=dollars,
                        dollars_per_gpu_hour=None if dollars is None else dollars / (gpus * hours),
                        date=price.date.isoformat() if price else "",
                        source=price.source if price else "",
                    )
                )
    return sorted(found, key=lambda offer: math.inf if offer.dollars is None else offer.dollars)


def _node_prices(shape: Shape) -> list[tuple[str, float | None, Rent | Purchase | None]]:
    """Terms and USD an hour and node."""
    prices: list[tuple[str, float | None, Rent | Purchase | None]] = []
    if rent := shape.rent:
        terms = {"on demand": rent.on_demand, "1 year": rent.one_year, "3 years": rent.three_years}
        prices += [(term, hourly, rent) for term, hourly in terms.items() if hourly is not None]
    if bought := shape.purchase:
        yearly = bought.price * (1 / bought.years + bought.upkeep)
        prices.append((f"bought, used up in {bought.years:g} years", yearly / YEAR_HOURS, bought))
    return prices
