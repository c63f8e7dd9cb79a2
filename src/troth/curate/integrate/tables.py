"""The tables of the ledger: what a row is, which columns make it the same row again, and what is searched.

Rows are those of `curate/records.py`, each with the generation that wrote it.
"""

from dataclasses import dataclass

import pyarrow as pa

from troth.curate.collect.reader import Rejected
from troth.curate.records import (
    ClaimRow,
    CorrectionRow,
    Decision,
    EvidenceRow,
    Finding,
    OccurrenceRow,
    VerdictRow,
)
from troth.curate.rows import schema


@dataclass(frozen=True)
class DocumentRow:
    """A text with where it comes from. `form` is `collected` for the text as it was found, from which everything can be
    made again, and `cleaned` for one that the filters changed, to which the bytes of occurrences refer."""

    doc_sha: str
    source_id: str
    form: str
    collection: str
    title: str
    publisher: str
    published_at: str
    retrieved_at: str
    licence: str
    encoding: str
    language: str
    kind: str
    ancestors: tuple[int, ...]
    derived_from: str
    weight: float
    text: str


@dataclass(frozen=True)
class LedgerTable:
    """A table of the ledger. Rows that have the same `key` are written once, by the generation that comes first; where
    there is no key, every generation adds its own. `index` are columns looked up by value, `search` by words."""

    name: str
    row: type
    key: tuple[str, ...] = ()
    index: tuple[str, ...] = ()
    search: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The row's columns and `generation`."""
        own = schema(self.row)
        return own if "generation" in own.names else own.append(pa.field("generation", pa.int64()))


TABLES = {
    table.name: table
    for table in (
        LedgerTable("documents", DocumentRow, ("source_id", "doc_sha"), ("source_id", "doc_sha"), ("title", "text")),
        LedgerTable("rejected", Rejected, (), ("source",)),
        LedgerTable("decisions", Decision, (), ("subject",)),
        LedgerTable("claims", ClaimRow, ("claim_id",), ("claim_id",), ("subject", "text")),
        LedgerTable("occurrences", OccurrenceRow, ("occ_id",), ("occ_id", "claim_id", "source_id")),
        LedgerTable("evidence", EvidenceRow, ("ev_id",), ("claim_id",)),
        LedgerTable("verdicts", VerdictRow, (), ("claim_id",)),
        LedgerTable("findings", Finding, (), ("claim_id", "source_id")),
        LedgerTable("corrections", CorrectionRow, (), ("source_id", "claim_id")),
    )
}
