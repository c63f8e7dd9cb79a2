"""[data]: where documents come from and how much of each kind a training run reads."""

from pydantic import Field, model_validator

from troth.system.table import Table


class Stage(Table):
    """From a share `from` of the run's rows on, other `weights` hold."""

    start: float = Field(alias="from", gt=0, lt=1)
    weights: dict[str, float] = Field(min_length=1)


class DataTable(Table):
    """`sources` are paths (files or folders), `python` for what the running Python carries, or `library` for the
    pages that Troth ships. `weights` gives the share of training tokens for each collection, by its name; `stages`
    change the weights in the course of a run."""

    sources: list[str] = Field(min_length=1)
    weights: dict[str, float] = Field(default_factory=dict)
    stages: list[Stage] = Field(default_factory=list)
    max_python_bytes: int = Field(default=2_000_000, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> "DataTable":
        starts = [stage.start for stage in self.stages]
        for before, after in zip(starts, starts[1:], strict=False):
            if before >= after:
                raise ValueError(f"a stage from={after} does not come after the one from={before} that stands before it")
        return self
