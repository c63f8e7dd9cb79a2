"""Training the learned judge of quality, before the stage `filter`, on a bounded sample."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from troth.curate.document import Document
from troth.curate.filter import quality
from troth.curate.filter.document import Aids, filter_document
from troth.curate.filter.quality import Features, features
from troth.curate.filter.stage import quality_folder
from troth.curate.filter.words import Words
from troth.curate.parts import Parts
from troth.system import CurateTable

SAMPLE = 20_000
"""Examples of each kind at most; of more, those whose hashes come first."""
_SEED = 0


def fit_quality(numbers: Sequence[int], out: Path, settings: CurateTable) -> None:
    """Train and save the judge where `settings` asks for one and none stands yet.

    `numbers` are the collected parts, from which examples are taken where the user names none. Raises ValueError where
    there are too few examples, or where `quality_examples` lacks a folder.
    """
    folder = quality_folder(out)
    if settings.quality_below is None or (folder / "model.json").exists():
        return
    if settings.quality_examples:
        good, bad = (
            _sample((text, features(Words(text))) for text in _texts(Path(settings.quality_examples) / kind))
            for kind in ("good", "bad")
        )
    else:
        rules = settings.model_copy(update={
            "quality_below": None, "personal_data": False, "secrets": False, "benchmarks": [],
        })  # fmt: skip
        if settings.rules == "none":
            rules = rules.model_copy(update={"rules": "published"})
        good, bad = (
            _sample((text, found) for text, found, passed in _judged(numbers, out, rules) if passed is wanted)
            for wanted in (True, False)
        )
    quality.save(quality.train(good, bad, _SEED), folder)


def check_examples(settings: CurateTable) -> None:
    """Raises ValueError where `quality_examples` lacks a folder and the judge is asked for."""
    if settings.quality_below is not None and settings.quality_examples:
        for kind in ("good", "bad"):
            next(_texts(Path(settings.quality_examples) / kind), None)


def _judged(numbers: Sequence[int], out: Path, rules: CurateTable) -> Iterator[tuple[str, Features, bool]]:
    """Prose, its features, and whether it passes the rules."""
    for part in numbers:
        for document in Parts(out, "collect").read(part, "documents", Document):
            if document.kind == "prose":
                passed = filter_document(document, rules, Aids()).document is not None
                yield document.text, features(Words(document.text)), passed


def _sample(examples: Iterable[tuple[str, Features]]) -> list[Features]:
    """At most SAMPLE of them, the same whatever their order."""
    heap: list[tuple[int, int, Features]] = []
    for number, (text, found) in enumerate(examples):
        item = (-int(Words(text).lower.sum() & 0xFFFFFFFFFFFF), -number, found)
        if len(heap) < SAMPLE:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)
    return [found for _, _, found in sorted(heap, key=lambda one: one[:2], reverse=True)]


def _texts(folder: Path) -> Iterator[str]:
    """Texts of a folder: each .txt or .md file is one, each row of a Parquet file one in its column `text`."""
    if not folder.is_dir():
        raise ValueError(f"curate.quality_examples: no folder {folder}; good/ and bad/ hold .txt, .md, .parquet")
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".txt", ".md"):
            yield file.read_text(encoding="utf-8", errors="replace")
        elif file.suffix == ".parquet":
            with pq.ParquetFile(file) as table:
                for batch in table.iter_batches(1024, columns=["text"]):
                    yield from batch.column("text").to_pylist()
