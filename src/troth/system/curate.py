"""[curate]: what counts as a duplicate, as evidence, and as enough of it."""

from pydantic import Field

from troth.system.table import Table


class CurateTable(Table):
    """Thresholds of curation. Shares and probabilities lie between 0 and 1."""

    near_duplicate: float = Field(default=0.5, gt=0, le=1)
    min_words: int = Field(default=20, ge=0)
    evidence_top_k: int = Field(default=16, gt=0)
    canary_rate: float = Field(default=0.15, gt=0, lt=1)
    act_above: float = Field(default=0.3, gt=0, lt=1)
