"""What timelines find in dated prose of several publishers, told from tables of facts that changed.

    python bench/dated_facts.py [--data ../shared/data] [--set factbook population leaders offices] [--countries N]
    [--plain] [--json]

Four publishers tell the same facts in their own wordings, page layouts and habits of rounding; one is careless: a tenth
of its values are wrong, and a tenth are those of an earlier edition under the new date. The key says of each value
whether it was right at its date, whether it still is, and which differences are mere reformatting (these do not count).
What is measured is `troth.curate.validate`: superseded facts found and unchanged ones left; errors refuted and mended;
false alarms where nothing is wrong, with 95% intervals. With `--plain` each publisher has
three wordings that fit every fact.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from changing_facts import SETS
from dated_prose import Told, alike, render
from idle import warn_if_busy
from publishers import CASES, houses, plain_houses

from troth.curate.document import Document
from troth.curate.validate.slots import TimedVerdict, judge_documents


@dataclass(frozen=True)
class Score:
    """Counts of the key's labels against what was found, and the pace."""

    table: dict[tuple[str, str], int]
    claims: int
    megabytes: float
    seconds: float
    mended: int
    canaries: dict[str, float]

    def _sum(self, labels: Iterable[str], found: Iterable[str]) -> int:
        return sum(self.table.get((label, one), 0) for label in labels for one in found)

    def figures(self) -> dict[str, object]:
        """Precision, recall and false alarms; what may be mere reformatting (`unclear`) counts nowhere."""
        old, right = ("superseded", "stale"), ("current", "superseded")
        every = ("current", "superseded", "stale", "refuted", "missed")
        hits, all_old = self._sum(old, old), self._sum(old, every)
        wrongly_old = self._sum(("current", "error"), old)
        caught, all_wrong = self._sum(("error",), ("refuted",)), self._sum(("error",), every)
        placed = all_wrong - self._sum(("error",), ("missed",))
        alarms, all_right = self._sum(right, ("refuted",)), self._sum(right, every)
        return {
            "claims": self.claims, "superseded": all_old,
            "unchanged": self._sum(("current",), every), "errors": all_wrong,
            "superseded precision": _share(hits, hits + wrongly_old), "superseded recall": _share(hits, all_old),
            "unchanged touched": f"{self._sum(('current',), ('superseded', 'stale', 'refuted'))}",
            "error precision": _share(caught, caught + alarms), "error recall": _share(caught, all_wrong),
            "of those placed": _share(caught, placed), "mended": _share(self.mended, caught),
            "false alarms": _share(alarms, all_right),
            "MB/s of one core": round(self.megabytes / self.seconds, 2), **self.canaries,
        }  # fmt: skip


def _share(part: int, whole: int) -> str:
    """A share with its 95% interval (Wilson 1927)."""
    if not whole:
        return "-"
    p, z = part / whole, 1.96
    middle = (p + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z * ((p * (1 - p) + z * z / (4 * whole)) / whole) ** 0.5 / (1 + z * z / whole)
    return f"{100 * p:.2f}% ({100 * max(0.0, middle - half):.2f}-{100 * min(1.0, middle + half):.2f})"


def measure(documents: list[Document], key: list[Told]) -> Score:
    """Judge the documents without the key, then compare."""
    start = time.process_time()
    learned, verdicts = judge_documents(documents, seed=0)
    seconds = time.process_time() - start
    at: dict[str, list[tuple[int, int, TimedVerdict]]] = defaultdict(list)
    for verdict in verdicts:
        at[verdict.statement.source].append((verdict.statement.start, verdict.statement.end, verdict))
    table: dict[tuple[str, str], int] = defaultdict(int)
    mended = 0
    for one in key:
        verdict = next((v for start, end, v in at[one.source] if start < one.end and end > one.start), None)
        found = "missed" if verdict is None else _found(verdict)
        table[one.label, found] += 1
        if verdict and one.label == "error" and found == "refuted":
            mended += alike(verdict.answer, _bare(one.truth, verdict.answer))
    canaries = {
        "canaries": learned.planted,
        "canary recall": f"{learned.recall:.1%}",
        "canary mended": f"{learned.mended:.1%}",
    }
    size = sum(len(document.text.encode()) for document in documents) / 1e6
    return Score(dict(table), len(key), size, seconds, mended, canaries)


def _bare(value: str, other: str) -> str:
    """A value without its unit, if the other has none."""
    return value.removesuffix(" square kilometres") if "square" not in other else value


def _found(verdict: TimedVerdict) -> str:
    if verdict.note == "stale":
        return "stale"
    if verdict.stance == "refuted":
        return "refuted"
    return "superseded" if verdict.time == "superseded" else "current"


def main() -> None:
    """Measure each set with a careless publisher, with errors everywhere, and with none; print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1].parent / "shared/data")
    parser.add_argument("--set", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--countries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="publishers with interchangeable wordings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = {name: (plain_houses if options.plain else houses)(**rates) for name, rates in CASES.items()}
    warn_if_busy()
    results: dict[str, dict[str, object]] = {}
    for name in options.set:
        facts = SETS[name](options.data, options.countries)
        for case, publishers in cases.items():
            results[f"{name}, {case}"] = measure(*render(facts, publishers, options.seed)).figures()
            if not options.json:
                print(f"\n{name}, {case}")
                for label, value in results[f"{name}, {case}"].items():
                    print(f"  {label:<22} {value}")
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
