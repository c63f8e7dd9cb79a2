"""What a whole curation does to dated prose whose truth is known: the edits of all judges together, value by value.

    python bench/dated_curation.py [--data ../shared/data] [--set factbook] [--countries 12] [--show 20] [--json]

The prose is that of `dated_facts`, with its key. Filters are off, so that every value reaches the judges. A value that
was right at its date may be dated once it is superseded, and must be left otherwise; an error should be corrected.
"""

import argparse
import json
import tempfile
from bisect import bisect_right
from collections import Counter
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from dated_facts import SETS, Told, alike, houses, render
from idle import warn_if_busy

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


def edits(documents: list[Document], folder: Path) -> tuple[dict[str, Any], list[CorrectionRow]]:
    """The report of a curation of documents that no filter touches, and the edits it made."""
    write_rows(folder / "raw.parquet", Document, documents)
    out = folder / "out"
    report = curate(Curation((str(folder / "raw.parquet"),), out, UNFILTERED, say=lambda text: None))
    refined = Parts(out, "refine")
    return report, [row for part in parts_of(refined) for row in refined.read(part, "corrections", CorrectionRow)]


def parts_of(stage: Parts) -> list[int]:
    """The parts of a finished stage."""
    return list(takewhile(stage.is_done, count()))


def compare(key: list[Told], made: list[CorrectionRow]) -> tuple[Counter[tuple[str, str]], list[tuple[Told, CorrectionRow]]]:
    """How often a value of each label met each kind of edit (`kept` for none, `mended` for a correction that is
    right), and the edits of values that were right."""
    spans: dict[str, list[CorrectionRow]] = {}
    for row in sorted(made, key=lambda one: one.byte_start):
        spans.setdefault(row.source_id, []).append(row)
    starts = {source: [row.byte_start for row in rows] for source, rows in spans.items()}
    table: Counter[tuple[str, str]] = Counter()
    wrong: list[tuple[Told, CorrectionRow]] = []
    for one in key:
        rows = spans.get(one.source, [])
        at = bisect_right(starts.get(one.source, []), one.start) - 1
        row = rows[at] if at >= 0 and rows[at].byte_end >= one.end else None
        kind = row.kind if row else "kept"
        if row and kind == "corrected":
            new = row.new.encode()[one.start - row.byte_start :].decode(errors="ignore")
            kept = row.old.encode()[one.end - row.byte_start :]
            value = new.removesuffix(kept.decode())
            if value == one.text:
                kind = "kept"  # another value of the sentence was replaced
            elif alike(value, one.truth) or alike(value, one.truth.removesuffix(" square kilometres")):
                kind = "mended"
        table[one.label, kind] += 1
        if row and (kind in ("corrected", "dropped", "attributed") and one.label in ("current", "superseded") or
                    kind == "dated" and one.label == "current"):
            wrong.append((one, row))
    return table, wrong


def figures(table: Counter[tuple[str, str]]) -> dict[str, str]:
    """Shares with their intervals."""
    return {}


def main() -> None:
    """Curate each case and print what became of the values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1].parent / "shared/data")
    parser.add_argument("--set", default="factbook", choices=list(SETS))
    parser.add_argument("--countries", type=int, default=12)
    parser.add_argument("--cases", nargs="+", default=["one careless"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    warn_if_busy()
    cases = {
        "one careless": houses(), "10% planted": houses(wrong=0.1, careless=0.1, stale=0.0),
        "clean": houses(careless=0.0, stale=0.0),
    }  # fmt: skip
    facts = SETS[options.set](options.data, options.countries)
    for name in options.cases:
        documents, key = render(facts, cases[name], options.seed)
        with tempfile.TemporaryDirectory() as folder:
            where = options.keep / name.replace(" ", "_") if options.keep else Path(folder)
            where.mkdir(parents=True, exist_ok=True)
            report, made = edits(documents, where)
        table, wrong = compare(key, made)
        print(name, len(key), "values", "canaries", report["canaries"]["false_alarms"], report["canaries"]["recall"])
        for (label, kind), count in sorted(table.items()):
            print(f"  {label:<12} {kind:<12} {count}")
        for one, row in wrong[: options.show]:
            print(f"  {row.kind} [{row.verdict}/{row.reverified_by}] p={row.p_stated:.3f} {one.label} {one.text!r} (true {one.truth!r}): {row.old!r} -> {row.new!r}")


if __name__ == "__main__":
    main()
