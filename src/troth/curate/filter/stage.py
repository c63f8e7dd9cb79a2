"""The stage `filter`: documents of a collected part that are worth keeping, why the others went, and fingerprints."""

from pathlib import Path

from troth.curate.document import Document
from troth.curate.duplicates.prints import PrintWriter
from troth.curate.filter.contamination import read_benchmarks
from troth.curate.filter.document import Aids, filter_document
from troth.curate.filter.language import known_languages
from troth.curate.filter.quality import load
from troth.curate.parts import Parts
from troth.curate.progress import Counter
from troth.curate.records import Decision
from troth.system import CurateTable

STAGE = "filter"


def filter_part(part: int, out: Path, settings: CurateTable) -> None:
    """Write `documents` and `decisions` of a part, and what the stage `duplicates` needs; once done, do nothing.

    Raises ValueError for a language that cannot be told and for a benchmark that cannot be read. Where a learned judge
    of quality is asked for, `fit_quality` has to come first.
    """
    parts = Parts(out, STAGE)
    if parts.is_done(part):
        return
    aids = read_aids(out, settings)
    with (
        parts.writer(part, "documents", Document) as documents,
        parts.writer(part, "decisions", Decision) as decisions,
        PrintWriter(parts, part) as prints,
        Counter(parts, part) as counter,
    ):
        for document in counter.documents(Parts(out, "collect").read(part, "documents", Document)):
            filtered = filter_document(document, settings, aids)
            decisions.add_all(filtered.decisions)
            if filtered.document:
                documents.add(filtered.document)
                prints.add(filtered.document, filtered.words)
    parts.finish(part)


def check_filters(settings: CurateTable) -> None:
    """Raises ValueError for a language that cannot be told and for a benchmark that cannot be read."""
    unknown = set(settings.languages) - set(known_languages())
    if unknown:
        known = ", ".join(known_languages())
        raise ValueError(f"curate.languages: cannot tell {', '.join(sorted(unknown))}; known are {known}")
    read_benchmarks(tuple(settings.benchmarks))


def read_aids(out: Path, settings: CurateTable) -> Aids:
    """What the filters of a curation need besides its settings. Raises ValueError as `check_filters` does."""
    check_filters(settings)
    model = load(quality_folder(out)) if settings.quality_below is not None else None
    return Aids(read_benchmarks(tuple(settings.benchmarks)), model)


def quality_folder(out: Path) -> Path:
    """Where the learned judge of quality of a curation stands."""
    return out / "quality"
