"""[data]: where documents come from and how much of each kind a training run reads."""

from pydantic import Field

from troth.system.table import Table


class DataTable(Table):
    """`sources` are paths (files or folders), `python` for what the running Python carries, or `library` for the
    pages that Troth ships. `weights` gives the share of training tokens for each collection, by its name."""

    sources: list[str] = Field(min_length=1)
    weights: dict[str, float] = Field(default_factory=dict)
    max_python_bytes: int = Field(default=2_000_000, gt=0)
