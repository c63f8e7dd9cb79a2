"""All documents of a run, from the sources that `[data]` names."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from troth.curate.collect.files import read_files
from troth.curate.collect.host import collect_python
from troth.curate.collect.library import library_pages
from troth.curate.collect.reader import Rejected
from troth.curate.document import Document
from troth.system import DataTable


@dataclass(frozen=True)
class Collected:
    """What the sources gave, in their order, and what could not be read."""

    documents: list[Document]
    rejected: list[Rejected]


def collect(data: DataTable, progress: Callable[[str], None] | None = None) -> Collected:
    """Documents of `python`, `library` and paths, whose collection is named `documents`. A source given twice counts
    once, and where two paths hold files of the same name the later one's sources begin with its path.

    `progress` is told each source and file before it is read. Raises ValueError for a path that does not exist.
    """
    documents: list[Document] = []
    rejected: list[Rejected] = []
    for name in dict.fromkeys(data.sources):
        if progress:
            progress(name)
        if name == "python":
            documents += collect_python(data.max_python_bytes)
            continue
        path, collection = (library_pages(), "library") if name == "library" else (name, "documents")
        found, broken = read_files(path, collection, progress)
        taken = {document.source for document in documents}
        if not taken.isdisjoint(document.source for document in found):
            found = [replace(document, source=f"{name}/{document.source}") for document in found]
            broken = [replace(one, source=f"{name}/{one.source}") for one in broken]
        documents += found
        rejected += broken
    return Collected(documents, rejected)
