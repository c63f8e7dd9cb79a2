"""Rows of the ledger by value or by words."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from troth.curate.integrate.ledger import open_table

Row = dict[str, Any]
_AT_ONCE = 500


def rows_where(
    folder: Path, name: str, column: str, values: Collection[str], generation: int | None = None,
    limit: int | None = None, columns: Sequence[str] | None = None,
) -> list[Row]:  # fmt: skip
    """Rows of a table whose `column` is one of `values`, in the order in which they were written."""
    data = open_table(folder, name, generation)
    wanted = sorted(set(values))
    if data is None or not wanted:
        return []
    found: list[Row] = []
    for start in range(0, len(wanted), _AT_ONCE):
        listed = ", ".join(map(quoted, wanted[start : start + _AT_ONCE]))
        room = None if limit is None else limit - len(found)
        found += data.to_table(columns, f"{column} in ({listed})", limit=room).to_pylist()
        if limit is not None and len(found) >= limit:
            break
    return found


def rows_like(
    folder: Path, name: str, condition: str, limit: int, columns: Sequence[str], generation: int | None = None
) -> list[Row]:
    """The first rows of a table for which an SQL condition holds."""
    data = open_table(folder, name, generation)
    return data.to_table(filter=condition, limit=limit, columns=list(columns)).to_pylist() if data else []


def search(
    folder: Path, name: str, column: str, words: str, limit: int, columns: Sequence[str], generation: int | None = None
) -> list[Row]:
    """The rows whose `column` has most in common with `words` by BM25, best first, with `_score`."""
    data = open_table(folder, name, generation)
    if data is None or not words.strip() or not any(i.name == f"{column}_words" for i in data.describe_indices()):
        return []
    query = {"query": words, "columns": [column]}
    rows = data.scanner(columns=[*columns, "_score"], full_text_query=query, limit=limit).to_table().to_pylist()
    return sorted(rows, key=lambda row: -row["_score"])


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
