"""What a whole curation does to dated prose whose truth is known: the edits of all judges together, value by value.

    python bench/dated_curation.py [--data ../shared/data] [--set factbook] [--countries 12] [--seed 0] [--one-wording]
                                   [--plain] [--filters] [--show 20] [--json]

The prose is that of `dated_prose`, with its key; `--one-wording` has all four publishers write the same pages in the
same words, with `--plain` each of them has three wordings that fit every fact. Filters are off, so that every value
reaches the judges, unless `--filters` leaves them as they are by default: then values that went with their sentence
count as kept. A value that was right at its date may be dated once it is superseded, and must be left alone otherwise;
an error, and an old value under a new date, should be replaced by what is right.
"""

import argparse
import json
import re
import tempfile
from bisect import bisect_right
from collections import Counter
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from changing_facts import SETS
from dated_prose import Told, alike, render
from idle import warn_if_busy
from publishers import CASES, MERIDIAN, houses, plain_houses

from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.pipeline import Curation, curate
from troth.curate.records import CorrectionRow
from troth.curate.rows import write_rows
from troth.system import CurateTable

UNFILTERED = CurateTable(
    rules="none", languages=[], repeated_in=0, near_duplicate=1.0, toxic_above=None, personal_data=False,
    secrets=False, max_false_alarms=1.0, max_viewpoint_loss=1.0, workers=1,
)  # fmt: skip


def edits(
    documents: list[Document], folder: Path, settings: CurateTable
) -> tuple[dict[str, Any], list[CorrectionRow]]:
    """The report of a curation of documents, and the edits it made, by where they stand in the documents as given."""
    write_rows(folder / "raw.parquet", Document, documents)
    report = curate(Curation((str(folder / "raw.parquet"),), folder / "out", settings))
    refined, cleaned = Parts(folder / "out", "refine"), Parts(folder / "out", "duplicates")
    made = [row for part in parts_of(refined) for row in refined.read(part, "corrections", CorrectionRow)]
    given = {one.source: one.text.encode() for one in documents}
    left = {
        one.source: one.text.encode() for part in parts_of(cleaned) for one in cleaned.read(part, "documents", Document)
    }
    return report, [placed(row, given[row.source_id], left[row.source_id]) for row in made]


def placed(row: CorrectionRow, given: bytes, left: bytes) -> CorrectionRow:
    """An edit by where its sentence stood before filters cut others: there, where most around it is the same."""
    old, before, after = row.old.encode(), left[: row.byte_start], left[row.byte_end :]

    def alike_around(start: int) -> int:
        return max(_in_common(given[:start][::-1], before[::-1]), _in_common(given[start + len(old) :], after))

    start = max((found.start() for found in re.finditer(re.escape(old), given)), key=alike_around)
    return replace(row, byte_start=start, byte_end=start + len(old))


def _in_common(a: bytes, b: bytes) -> int:
    """How many bytes are the same before the first that is not."""
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def parts_of(stage: Parts) -> list[int]:
    """The parts of a finished stage."""
    return list(takewhile(stage.is_done, count()))


class Edits:
    """Edits by where they were made."""

    def __init__(self, made: list[CorrectionRow]):
        self._rows: dict[str, list[CorrectionRow]] = {}
        for row in sorted(made, key=lambda one: one.byte_start):
            self._rows.setdefault(row.source_id, []).append(row)
        self._starts = {source: [row.byte_start for row in rows] for source, rows in self._rows.items()}

    def at(self, source: str, start: int, end: int) -> CorrectionRow | None:
        """The edit of the sentence that bytes `start:end` of a document lie in."""
        at = bisect_right(self._starts.get(source, []), start) - 1
        row = self._rows[source][at] if at >= 0 else None
        return row if row and row.byte_end >= end else None


def fate(one: Told, row: CorrectionRow | None) -> str:
    """What an edit did to a value: its kind, `mended` for a correction that is right, or `kept`."""
    if row is None or row.kind != "corrected":
        return row.kind if row else "kept"
    rest = row.old.encode()[one.end - row.byte_start :].decode()
    value = row.new.encode()[one.start - row.byte_start :].decode(errors="ignore").removesuffix(rest)
    if value == one.text:
        return "kept"  # another value of the sentence was replaced
    right = any(alike(value, truth) for truth in (one.truth, one.truth.removesuffix(" square kilometres")))
    return "mended" if right else "corrected"


def is_wrong(label: str, what: str) -> bool:
    """Whether this must not happen to a value of this label."""
    return what in ("corrected", "dropped", "attributed") if label == "superseded" else (
        label == "current" and what != "kept"
    )


def main() -> None:
    """Curate each case and print what became of the values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1].parent / "shared/data")
    parser.add_argument("--set", default="factbook", choices=list(SETS))
    parser.add_argument("--countries", type=int, default=12)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one-wording", action="store_true", help="all publishers write the same pages")
    parser.add_argument("--filters", action="store_true", help="filters and duplicates as they are by default")
    parser.add_argument("--show", type=int, default=0, help="edits of right values to print, at most")
    parser.add_argument("--plain", action="store_true", help="publishers with interchangeable wordings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = {name: (plain_houses if options.plain else houses)(**rates) for name, rates in CASES.items()}
    warn_if_busy()
    facts = SETS[options.set](options.data, options.countries)
    settings = CurateTable(max_false_alarms=1.0, max_viewpoint_loss=1.0, workers=1) if options.filters else UNFILTERED
    results: dict[str, dict[str, Any]] = {}
    for name in options.cases:
        publishers = cases[name]
        if options.one_wording:
            publishers = [replace(one, wordings=MERIDIAN, layout="country", rounds=False) for one in publishers]
        documents, key = render(facts, publishers, options.seed)
        with tempfile.TemporaryDirectory() as folder:
            report, made = edits(documents, Path(folder), settings)
        found = Edits(made)
        told = [(one, row, fate(one, row)) for one in key for row in [found.at(one.source, one.start, one.end)]]
        table = Counter(f"{one.label}: {what}" for one, _, what in told)
        wrongly = [(one, row) for one, row, what in told if is_wrong(one.label, what)]
        measured = {kind: report["canaries"][kind]["share"] for kind in ("recall", "false_alarms")}
        results[name] = {"values": len(key), **dict(sorted(table.items())), "wrongly edited": len(wrongly), **measured}
        if not options.json:
            print(f"\n{options.set}, {name}")
            for label, value in results[name].items():
                print(f"  {label:<24} {value}")
            for one, row in wrongly[: options.show]:
                assert row
                print(f"  {row.kind} by {row.verdict}, {row.reverified_by}: {one.truth!r}: {row.old!r} -> {row.new!r}")
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
