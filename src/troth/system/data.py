"""[data]: where documents come from and how much of each kind a training run reads."""

from itertools import pairwise

from pydantic import Field, NonNegativeFloat, model_validator

from troth.system.table import Table


class Stage(Table):
    """From a share `from` of the run's rows on, other `weights` hold."""

    start: float = Field(alias="from", gt=0, lt=1)
    weights: dict[str, NonNegativeFloat] = Field(min_length=1)


class DataTable(Table):
    """`sources` are paths (files or folders), `python` for what the running Python carries, or `library` for the
    pages that Troth ships. `weights` gives the share of training tokens for each collection, by its name; `stages`
    change the weights in the course of a run. Token shards at a URL are fetched ahead of use into the folder
    `shard_cache`, on a disk of each machine's own, which holds at most `shard_cache_bytes`; where it is not given, into
    `cache` in the run folder. Of each kind of text that Python carries (docstrings, code, facts) at most
    `max_python_bytes` are read."""

    sources: list[str] = Field(min_length=1)
    weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    stages: list[Stage] = Field(default_factory=list)
    shard_cache: str | None = None
    shard_cache_bytes: int = Field(default=2**38, gt=0)
    max_python_bytes: int = Field(default=2_000_000, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> "DataTable":
        for before, after in pairwise(stage.start for stage in self.stages):
            if before >= after:
                raise ValueError(f"stages: from={after} stands after from={before}; stages come in order")
        return self
