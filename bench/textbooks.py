"""Errors planted in textbooks: how many of them curation catches and mends, and what it does to sentences that are right.

    python bench/textbooks.py [--data ../shared/data] [--books anatomy biology] [--pages 60] [--rate 0.1] [--seed 0]
                              [--show 20] [--json]

Each book, and the encyclopaedia articles of `wikitext` with them, speaks as one publisher. A share of the check-worthy
claims gets another value, by the planter of the canaries: one that the page states elsewhere, or digits moved, or a
name from anywhere. What the filters leave of the books is curated as it is and with the errors, and what was edited is
compared. `confirmed` are those planted errors whose true value another publisher states in a sentence alike.
"""

import argparse
import json
import re
import sys
import tempfile
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from dated_curation import edits, parts_of
from idle import warn_if_busy

from troth.curate.collect.part import collect_part
from troth.curate.collect.plan import plan_collect
from troth.curate.document import Document
from troth.curate.duplicates.stage import duplicates_part, find_duplicates
from troth.curate.filter.stage import filter_part
from troth.curate.parts import Parts
from troth.curate.records import CorrectionRow
from troth.curate.rows import write_rows
from troth.curate.validate.cases import ALIKE, Case
from troth.curate.validate.claims import Claim, find_claims, name_words
from troth.curate.validate.plant import plant
from troth.curate.validate.values import Value, comparable
from troth.system import CurateTable

BOOKS = ("anatomy", "biology", "chemistry", "us-history", "wikitext")


@dataclass(frozen=True)
class Planted:
    """An error: bytes `start:end` of a planted document, in a sentence that begins at byte `sentence`; `before` is
    where the true value stood in the original."""

    source: str
    sentence: int
    start: int
    end: int
    true: str
    wrong: str
    kind: str
    before: int


def read_books(data: Path, names: list[str], pages: int, seed: int) -> list[Document]:
    """Pages of each book, at most so many, drawn at random; all there are for 0."""
    found: list[Document] = []
    for name in names:
        documents = list(_articles(data) if name == "wikitext" else _pages(data / f"openstax_{name}/contents", name))
        random = np.random.default_rng((seed, len(name)))
        drawn = random.permutation(len(documents))[: pages or len(documents)]
        found += [documents[i] for i in sorted(drawn)]
    return found


def filtered(documents: list[Document]) -> list[Document]:
    """What filters and deduplication leave, by the default settings."""
    settings = CurateTable(workers=1)
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        write_rows(out / "raw.parquet", Document, documents)
        numbers = range(plan_collect([str(out / "raw.parquet")], out).parts)
        for part in numbers:
            collect_part(part, out)
            filter_part(part, out, settings)
        find_duplicates(numbers, out, settings)
        for part in numbers:
            duplicates_part(part, out, settings)
        return [one for part in numbers for one in Parts(out, "duplicates").read(part, "documents", Document)]


def _pages(folder: Path, name: str) -> Iterator[Document]:
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        for part in range(plan_collect([str(folder)], out).parts):
            collect_part(part, out)
            for one in Parts(out, "collect").read(part, "documents", Document):
                if len(one.text) > 500:
                    yield replace(one, source=f"{name}/{one.source}", publisher=name)


def _articles(data: Path) -> Iterator[Document]:
    """Articles of wikitext-2, with the blanks around punctuation taken out again."""
    folder = data / "wikitext2_valtest/word_language_model/data/wikitext-2"
    for path in sorted(folder.glob("*.txt")):
        pieces = re.split(r"(?m)^ = ([^=\n]+) = $", path.read_text(encoding="utf-8"))
        for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
            text = re.sub(r" @(.)@ ", r"\1", body)
            text = re.sub(r"(?m)^ =+ (.*?) =+ $", r"\n\n\1\n\n", text)
            text = re.sub(r" ([,.;:!?)%'’]|'s)", r"\1", re.sub(r"([($]) ", r"\1", text))
            yield Document(f"wikitext/{title}", "documents", text, title=title, publisher="wikitext")


def with_errors(documents: list[Document], rate: float, seed: int) -> tuple[list[Document], list[Planted], int]:
    """The documents with a share of their check-worthy claims misstated, at most one a sentence; what was planted; and
    how many such claims there were."""
    random = np.random.default_rng(seed)
    names = name_words(documents)
    claims = [[one for one in find_claims(document, names) if one.row().checkworthy] for document in documents]
    pool = [claim.value for several in claims for claim in several if claim.value.kind == "name"]
    found: list[Document] = []
    planted: list[Planted] = []
    for document, several in zip(documents, claims, strict=True):
        text, moved, last = document.text, 0, -1
        for claim in several:
            if random.random() > rate or claim.sentence.start == last:
                continue
            wrong = plant(claim.value, _nearby(claim, several), pool, random)
            if wrong is None:
                continue
            last = claim.sentence.start
            at = last + claim.value.start
            start = at + moved
            text = text[:start] + wrong.text + text[start + len(claim.value.text) :]
            moved += len(wrong.text) - len(claim.value.text)
            first = len(text[:start].encode())
            kind = "entity swapped" if claim.value.kind == "name" else "number moved"
            planted.append(
                Planted(
                    document.source, len(text[: last + moved - len(wrong.text) + len(claim.value.text)].encode()), first,
                    first + len(wrong.text.encode()), claim.value.text, wrong.text, kind,
                    len(document.text[:at].encode()),
                )
            )  # fmt: skip
        found.append(replace(document, text=text))
    return found, planted, sum(map(len, claims))


def _nearby(claim: Claim, several: list[Claim]) -> list[Value]:
    """Values that the page states elsewhere and that could stand in the claim's place."""
    return [one.value for one in several if comparable(claim.value, one.value)]


def confirmed(out: Path) -> set[tuple[str, int]]:
    """Where (source, byte) a claim stands that another publisher states in a sentence alike."""
    cases = Parts(out, "cases")
    return {
        (case.source_id, case.object_start) for part in parts_of(cases) for case in cases.read(part, "cases", Case)
        if case.role == "stated" and case.alike >= ALIKE
    }  # fmt: skip


def compare(planted: list[Planted], made: list[CorrectionRow]) -> tuple[dict[Planted, str], list[CorrectionRow]]:
    """What became of each planted error (`kept`, `mended`, `edited`), and the edits of other sentences."""
    by_source: dict[str, list[CorrectionRow]] = defaultdict(list)
    for row in sorted(made, key=lambda one: one.byte_start):
        by_source[row.source_id].append(row)
    fate: dict[Planted, str] = {}
    used: set[str] = set()
    for one in planted:
        rows = by_source.get(one.source, [])
        at = bisect_right([row.byte_start for row in rows], one.start) - 1
        row = rows[at] if at >= 0 and rows[at].byte_end >= one.end else None
        fate[one] = "kept"
        if row:
            used.add(row.occ_id)
            head = row.old.encode()[: one.start - row.byte_start]
            tail = row.old.encode()[one.end - row.byte_start :]
            right = head + one.true.encode() + tail
            fate[one] = "mended" if row.new.encode() == right else "edited"
    return fate, [row for row in made if row.occ_id not in used]


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / max(1, whole):.2f}%)"


def main() -> None:
    """Curate the books clean and with errors; print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1].parent / "shared/data")
    parser.add_argument("--books", nargs="+", default=["anatomy", "biology"], choices=BOOKS)
    parser.add_argument("--pages", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    warn_if_busy()
    documents = filtered(read_books(options.data, options.books, options.pages, options.seed))
    misstated, planted, claims = with_errors(documents, options.rate, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = options.keep or Path(folder)
        for name in ("clean", "planted"):
            (place / name).mkdir(parents=True, exist_ok=True)
        report, clean = edits(documents, place / "clean")
        both = confirmed(place / "clean/out")
        _, made = edits(misstated, place / "planted")
    fate, false = compare(planted, made)
    caught = [one for one in planted if fate[one] != "kept"]
    two = [one for one in planted if (one.source, one.before) in both]
    found = [one for one in two if fate[one] != "kept"]
    print("claims", claims, "planted", len(planted), "confirmed claims", len(both))
    print("clean: false corrections", share(len(clean), claims), Counter(row.kind for row in clean))
    print("coverage", share(len(caught), len(planted)), "mended", share(sum(fate[o] == "mended" for o in caught), len(caught)))
    print("precision", share(len(caught), len(caught) + len(false)))
    print("confirmed: recall", share(len(found), len(two)), "mended", share(sum(fate[o] == "mended" for o in found), len(found)))
    for kind in ("entity swapped", "number moved"):
        ones = [one for one in two if one.kind == kind]
        print("  ", kind, share(sum(fate[o] != "kept" for o in ones), len(ones)))
    for row in [*clean[: options.show], *false[: options.show]]:
        print(f"  {row.kind} [{row.verdict}/{row.reverified_by}] p={row.p_stated:.3f} {row.source_id}: {row.old!r} -> {row.new!r}")
    for one in [one for one in two if fate[one] == "kept"][: options.show]:
        print("  missed", one)


if __name__ == "__main__":
    main()
