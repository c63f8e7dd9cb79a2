"""The folder of a curation: each stage writes its work in parts, and a part that is done is never done again.

`OUT/work/STAGE/00007.TABLE.parquet` is table TABLE of part 7 of a stage. The part's mark `00007.done` appears after all
its tables, so whatever the moment at which a run is killed, what has a mark is whole and what has none is made anew.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TypeVar

from troth.curate.rows import RowWriter, read_rows

T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """The parts of one stage of the curation in `out`."""

    out: Path
    stage: str

    def file(self, part: int, table: str, suffix: str = "parquet") -> Path:
        """Where a table of a part stands."""
        return self.folder / f"{part:05d}.{table}.{suffix}"

    @property
    def folder(self) -> Path:
        """`OUT/work/STAGE`."""
        return self.out / "work" / self.stage

    def is_done(self, part: int) -> bool:
        """Whether all of a part stands there."""
        return self._mark(part).exists()

    def finish(self, part: int) -> None:
        """Mark a part as done, after its tables were written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._mark(part).touch()

    def write(self, part: int, table: str, row: type[T], rows: Iterable[T]) -> int:
        """Write one table of a part; see `write_rows`."""
        with self.writer(part, table, row) as writer:
            writer.add_all(rows)
        return writer.count

    def writer(self, part: int, table: str, row: type[T]) -> RowWriter[T]:
        """Rows of one table of a part as they come; see `RowWriter`."""
        has_text = any(field.name == "text" for field in fields(row))  # type: ignore[arg-type]
        weigh: Callable[[T], int] = (lambda one: len(one.text)) if has_text else lambda one: 0  # type: ignore[attr-defined]
        return RowWriter(self.file(part, table), row, weigh=weigh)

    def read(self, part: int, table: str, row: type[T]) -> Iterator[T]:
        """The rows of one table of a part; none where the part has no such table."""
        path = self.file(part, table)
        return read_rows(path, row) if path.exists() else iter(())

    def read_all(self, parts: Iterable[int], table: str, row: type[T]) -> Iterator[T]:
        """The rows of one table of several parts, one part after the other."""
        return chain.from_iterable(self.read(part, table, row) for part in parts)

    def _mark(self, part: int) -> Path:
        return self.folder / f"{part:05d}.done"
