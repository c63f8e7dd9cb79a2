"""Errors planted in textbooks: how many curation catches and mends, and what it does to sentences that are right.

    python bench/textbooks.py [--data ../shared/data] [--books anatomy biology] [--pages 60] [--rate 0.1] [--seed 0]
                              [--json]

Each book, and the encyclopaedia articles of `wikitext` with them, speaks as one publisher. A share of the check-worthy
claims gets another value, by the planter of the canaries: one that the page states elsewhere, or digits moved, or a
name from anywhere. What the filters leave of the books is curated as it is and with the errors, and what was edited is
compared. `confirmed` are those planted errors whose true value another
publisher, or another page, states in a sentence alike.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from dated_curation import UNFILTERED, Edits, edits, parts_of
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
    """An error: bytes `start:end` of the misstated document; `before` is where the true value stood in the original."""

    source: str
    start: int
    end: int
    true: str
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
            end = first + len(wrong.text.encode())
            before = len(document.text[:at].encode())
            planted.append(Planted(document.source, first, end, claim.value.text, before))
        found.append(replace(document, text=text))
    return found, planted, sum(map(len, claims))


def _nearby(claim: Claim, several: list[Claim]) -> list[Value]:
    """Values that the page states elsewhere and that could stand in the claim's place."""
    return [one.value for one in several if comparable(claim.value, one.value)]


def confirmed(out: Path) -> set[tuple[str, int]]:
    """Where (source, byte) a claim stands that is also stated elsewhere, in a sentence alike."""
    cases = Parts(out, "cases")
    return {
        (case.source_id, case.object_start) for part in parts_of(cases) for case in cases.read(part, "cases", Case)
        if case.role == "stated" and case.alike >= ALIKE
    }  # fmt: skip


def mended(one: Planted, row: CorrectionRow) -> bool:
    """Whether an edit puts the true value back and changes nothing else."""
    old = row.old.encode()
    right = old[: one.start - row.byte_start] + one.true.encode() + old[one.end - row.byte_start :]
    return row.new.encode() == right


def share(part: int, whole: int) -> str:
    """A count with its share."""
    return f"{part} of {whole} ({part / max(1, whole):.2%})"


def main() -> None:
    """Curate the books clean and with errors; print what became of them, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1].parent / "shared/data")
    parser.add_argument("--books", nargs="+", default=["anatomy", "biology"], choices=BOOKS)
    parser.add_argument("--pages", type=int, default=60, help="pages of each book; 0 for all")
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="corrections of right sentences to print, at most")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    documents = filtered(read_books(options.data, options.books, options.pages, options.seed))
    misstated, planted, claims = with_errors(documents, options.rate, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("clean", "planted"):
            (Path(folder) / name).mkdir()
        _, clean = edits(documents, Path(folder) / "clean", UNFILTERED)
        told_alike = confirmed(Path(folder) / "clean/out")
        _, made = edits(misstated, Path(folder) / "planted", UNFILTERED)
    found = Edits(made)
    fate = {one: row for one in planted if (row := found.at(one.source, one.start, one.end))}
    hits = {row.occ_id for row in fate.values()}
    false = [row for row in made if row.occ_id not in hits]
    both = [one for one in planted if (one.source, one.before) in told_alike]
    corrected = [row for row in clean if row.kind != "attributed"]
    wrongly = [row for row in false if row.kind != "attributed"]
    figures = {
        "claims": claims, "planted": len(planted), "confirmed": len(both),
        "clean: wrongly corrected": share(len(corrected), claims), "clean: attributed": len(clean) - len(corrected),
        "coverage": share(len(fate), len(planted)),
        "recall of confirmed": share(sum(one in fate for one in both), len(both)),
        "mended": share(sum(mended(*one) for one in fate.items()), len(fate)),
        "precision": share(len(fate), len(fate) + len(wrongly)), "also attributed": len(false) - len(wrongly),
    }  # fmt: skip
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for label, value in figures.items():
        print(f"{label:<26} {value}")
    for row in [*corrected[: options.show], *wrongly[: options.show]]:
        print(f"  {row.kind} by {row.verdict}, {row.reverified_by}: {row.source_id}: {row.old!r} -> {row.new!r}")


if __name__ == "__main__":
    main()
