"""The files that go out with curated documents: the mixture, the dataset card, Croissant."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from troth.curate.integrate.card import write_card
from troth.curate.integrate.croissant import write_croissant
from troth.curate.integrate.figures import count
from troth.curate.integrate.mixture import Mixture, mixture, write_mixture


def publish(out: Path, report: Mapping[str, Any], generation: int, published: str) -> Mixture:
    """Write `data.toml`, `README.md` and `croissant.json` into `out`, beside `documents/`; gives the mixture.

    `report` is the run's, see `write_card`; `published` the ISO date of the run. The dataset is called as the folder.
    Raises ValueError where there are no curated documents.
    """
    figures = count(out)
    mixed = mixture(figures)
    name = out.resolve().name
    write_mixture(out / "data.toml", out / "documents", mixed)
    write_card(out, figures, mixed, report, name, generation)
    write_croissant(out, figures, name, published, generation)
    return mixed
