"""Writing a store: columns are appended while the corpus streams past, and stems are counted and indexed."""

import json
import marshal
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import tantivy

from troth.curate.document import Document
from troth.curate.validate.company import CompanyWriter
from troth.curate.validate.phrases import PhraseWriter
from troth.curate.validate.sentences import sentences
from troth.curate.validate.store import PLACES, Speaker, analyzer, know_whitespace, mark, stem_number
from troth.curate.validate.subjects import SubjectRow, subject_at
from troth.curate.validate.values import Value, find_values

_FLUSH = 1 << 16


class _Columns:
    """The files of a store, appended to: of each sentence where it stands (its first character in its document, and the
    marks of the document's source, publisher and date), its stems, and what it says."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files = {name: (folder / f"{name}.bin").open("wb") for name in ("places", "stems", "said", "ends")}
        self._speakers = (folder / "speakers.bin").open("wb")
        self._places, self._ends = array("q"), array("q", (0, 0))
        self._said = self._stems = 0
        self._speaker = (0, 0)
        self._marks = (0, 0, 0)
        self._documents = array("q")
        self.count = 0

    def speak(self, speaker: Speaker) -> None:
        """The document of the sentences that follow."""
        start = self._speaker[1]
        self._speaker = start, start + self._speakers.write(marshal.dumps(astuple(speaker)))
        self._marks = mark(speaker.source), mark(speaker.publisher), mark(speaker.published)
        self._documents.extend((self._marks[0], self.count))

    def add(self, text: str, stems: "array[int]", values: Iterable[Value], about: str, start: int) -> None:
        """One more sentence; `stems` are 32-bit numbers in order."""
        told = [(one.start, one.end, one.text, one.kind, one.key, one.unit) for one in values]
        self._said += self._files["said"].write(marshal.dumps((text, told, about, self._speaker)))
        stems.tofile(self._files["stems"])
        self._stems += len(stems)
        self._places.extend((start, *self._marks))
        self._ends.extend((self._said, self._stems))
        self.count += 1
        if len(self._places) > _FLUSH:
            self._flush()

    def _flush(self) -> None:
        for name, numbers in (("places", self._places), ("ends", self._ends)):
            numbers.tofile(self._files[name])
            del numbers[:]

    def close(self) -> None:
        """Write what is left, and by the mark of each document's source where its sentences begin and end."""
        self._flush()
        marks_D, first_D = np.array(self._documents, np.int64).reshape(-1, 2).T
        documents_D3 = np.stack([marks_D, first_D, np.append(first_D, self.count)[1:]], axis=1)
        documents_D3[np.argsort(marks_D, kind="stable")].tofile(self._folder / "documents.bin")
        for file in (*self._files.values(), self._speakers):
            file.close()


def build_store(documents: Iterable[tuple[Document, int, Sequence[SubjectRow]]], names: set[str], folder: Path) -> int:
    """Write the store of the sentences of documents, each with its tier and what it speaks of where, and return how
    many there are.

    Rarity is the squared logarithm of how many sentences there are for each that has the stem, so that one name
    outweighs many ordinary words; what only one publisher ever says counts nothing, since nobody could share it.
    """
    stem_of = analyzer()
    columns = _Columns(folder)
    counts = np.zeros(PLACES, np.int32)
    spoken = np.full(PLACES, -1, np.int32)
    shared = np.zeros(PLACES, bool)
    publishers: dict[str, int] = {}
    writer = _index_writer(folder / "index")
    phrases, company = PhraseWriter(folder / "phrases"), CompanyWriter(folder / "company")
    for document, tier, subjects in documents:
        who = publishers.setdefault(document.publisher, len(publishers))
        about = document.source, document.sha, document.publisher, document.published, document.ancestors, tier
        columns.speak(Speaker(*about))
        said = array("I")
        for sentence in sentences(document):
            text = sentence.text
            stems = frozenset(stem_of.analyze(text))
            numbers = array("I", sorted({stem_number(stem) for stem in stems}))
            said.extend({number >> 1 for number in numbers})
            writer.add_document(tantivy.Document(at=columns.count, stem=" ".join(sorted(stems))))
            values = find_values(text, names)
            company.add(text, values)
            phrases.add(columns.count, text, values, mark(document.source))
            columns.add(text, numbers, values, subject_at(subjects, *sentence.bytes), sentence.start)
        places, times = np.unique(np.frombuffer(said, np.uint32), return_counts=True)
        counts[places] += times.astype(np.int32)
        before = spoken[places]
        shared[places] |= (before >= 0) & (before != who)
        spoken[places] = who
    columns.close()
    phrases.close()
    company.close()
    writer.commit()
    writer.wait_merging_threads()
    _write_rarity(columns.count, counts, shared, folder / "rarity.bin")
    (folder / "about.json").write_text(json.dumps({"names": sorted(names)}), encoding="utf-8")
    return columns.count


def _write_rarity(sentences: int, counts: np.ndarray, shared: np.ndarray, path: Path) -> None:
    """The rarity of each stem, of some at a time: as float64 all would take more memory than the rest of the stage."""
    with path.open("wb") as file:
        for first in range(0, PLACES, _FLUSH):
            counts_S, shared_S = counts[first : first + _FLUSH], shared[first : first + _FLUSH]
            rarity_S = np.where(shared_S, np.log(max(1, sentences) / np.maximum(counts_S, 1)) ** 2, 0.0)
            rarity_S.astype(np.float32).tofile(file)


def _index_writer(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    schema = tantivy.SchemaBuilder()
    schema.add_integer_field("at", fast=True)
    schema.add_text_field("stem", tokenizer_name="whitespace", index_option="freq")
    index = tantivy.Index(schema.build(), path=str(folder))
    know_whitespace(index)
    return index.writer(num_threads=1)
