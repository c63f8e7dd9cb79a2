"""From what a page says to its HTML, by the templates beside the planner; the file needs nothing but itself."""

from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parents[1] / "templates"


def render(template: str, **said: Any) -> str:
    """The page of a template. Values are escaped but for `svg`, which pages draw themselves."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(template).render(**said)
