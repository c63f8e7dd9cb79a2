"""[cycle]: generations of data and model."""

from pydantic import Field

from troth.system.table import Table


class CycleTable(Table):
    """`folds` models cross-examine the corpus, each trained for `examiner_steps` on pages that it does not judge."""

    folds: int = Field(default=3, ge=2)
    examiner_steps: int = Field(default=2000, gt=0)
