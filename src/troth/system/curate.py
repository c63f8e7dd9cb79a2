"""[curate]: what counts as a duplicate, as evidence, and as enough of it."""

from typing import Literal

from pydantic import Field

from troth.system.table import Table


class CurateTable(Table):
    """Thresholds and policy of curation. Shares and probabilities lie between 0 and 1.

    The policy says what becomes of a `superseded` statement, of a `contested` one, and of one that is hardly credible
    (its probability `drop_below`) and cannot be mended.
    """

    near_duplicate: float = Field(default=0.5, gt=0, le=1)
    min_words: int = Field(default=20, ge=0)
    evidence_top_k: int = Field(default=16, gt=0)
    canary_rate: float = Field(default=0.15, gt=0, lt=1)
    act_above: float = Field(default=0.3, gt=0, lt=1)
    drop_below: float = Field(default=0.15, ge=0, lt=1)
    superseded: Literal["date", "keep"] = "date"
    contested: Literal["attribute", "keep"] = "attribute"
    unmendable: Literal["drop", "label", "keep"] = "drop"
