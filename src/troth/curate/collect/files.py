"""Files and folders of documents, in every format that Troth reads."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from troth.curate.collect.markdown import read_markdown
from troth.curate.collect.page import read_html
from troth.curate.collect.pdf import read_pdf
from troth.curate.collect.plain import read_plain
from troth.curate.collect.reader import Reader, Rejected
from troth.curate.collect.records import read_csv, read_json_lines
from troth.curate.document import Document

READERS: dict[str, Reader] = {
    ".md": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".txt": read_plain,
    ".jsonl": read_json_lines,
    ".csv": read_csv,
    ".pdf": read_pdf,
}


def read_files(
    path: str | Path, collection: str = "documents", seen: Callable[[str], None] | None = None
) -> tuple[list[Document], list[Rejected]]:
    """Documents of a file, or of all files below a folder in sorted order, and what had to be set aside.

    `source` is the path below `path` (the file's name where `path` is a file), with `#n` for the n-th record, from 0.
    Hidden files and folders are passed over, links to folders not followed. `seen` is told every file before it is
    read. Raises ValueError where `path` does not exist, or is one file of a kind that no reader knows.
    """
    root = Path(path)
    if not root.exists():
        raise ValueError(f"{path}: no such file or folder")
    if root.is_file() and root.suffix.lower() not in READERS:
        raise ValueError(f"{path}: cannot read this kind of file; known are {', '.join(READERS)}")
    documents: list[Document] = []
    rejected: list[Rejected] = []
    for file in _files(root):
        source = file.name if root.is_file() else file.relative_to(root).as_posix()
        if seen:
            seen(source)
        for found in _read(file, source, collection):
            if isinstance(found, Rejected):
                rejected.append(found)
            else:
                documents.append(found)
    return documents, rejected


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda file: file.relative_to(root).as_posix())


def _read(file: Path, source: str, collection: str) -> Iterator[Document | Rejected]:
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        yield Rejected(source, f"no reader for {file.suffix or 'a name without a suffix'}")
        return
    try:
        yield from reader(file.read_bytes(), source, collection)
    except (ValueError, OSError) as error:
        yield Rejected(source, str(error))
