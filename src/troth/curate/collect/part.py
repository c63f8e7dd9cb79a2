"""One part of a collection: its files are read one after the other, its documents written as they come."""

from collections.abc import Iterator
from pathlib import Path

from troth.curate.collect.files import form, read_file
from troth.curate.collect.host import collect_python
from troth.curate.collect.plan import PYTHON, Item, planned
from troth.curate.collect.reader import Origin, Rejected
from troth.curate.collect.storage import Source, line_slice, version
from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.progress import Counter
from troth.system.storage import filesystem


def collect_part(part: int, out: Path) -> None:
    """Read the files that `plan_collect` dealt to a part; write its tables `documents` and `rejected`.

    Memory holds a document of a format that can be read in pieces (JSON lines, CSV, Parquet, WARC, MediaWiki), else a
    file. Raises ValueError naming a file that is not as it was planned, and OSError where its store fails.
    """
    parts = Parts(out, "collect")
    rejected: list[Rejected] = []
    with Counter(parts, part) as counter:
        parts.write(part, "documents", Document, _documents(part, out, rejected, counter))
    parts.write(part, "rejected", Rejected, rejected)
    parts.finish(part)


def _documents(part: int, out: Path, rejected: list[Rejected], counter: Counter) -> Iterator[Document]:
    read = 0
    for item in planned(out, part):
        if item.root == PYTHON:
            yield from counter.documents(collect_python(item.size))
            continue
        source: Source | None = None
        for source, found in read_item(item):
            if isinstance(found, Document):
                counter.count(1, read + (source.count if source else 0))
                yield found
            else:
                rejected.append(found)
        read += item.bytes
        counter.count(0, read)


def read_item(item: Item) -> Iterator[tuple[Source | None, Document | Rejected]]:
    """What a file holds, each with the stream that it is read from. Raises as `collect_part` does."""
    fs, _ = filesystem(item.root)
    is_local = "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
    origin = Origin(
        item.source, item.collection, item.retrieved, item.licence, item.publisher, item.start, item.end,
        item.text_column,
    )  # fmt: skip
    try:
        info = fs.info(item.path)
        if item.version and (int(info.get("size") or 0), version(info)) != (item.size, item.version):
            raise ValueError(f"{item.source} changed since the collection was begun; curate anew")
        stream = open(item.path, "rb", buffering=0) if is_local else fs.open(item.path, "rb")  # noqa: SIM115
    except OSError as error:
        if item.version and isinstance(error, FileNotFoundError):
            raise ValueError(f"{item.source} is gone since the collection was begun; curate anew") from error
        is_broken = not item.version or isinstance(error, PermissionError)  # what has no version is a link to nowhere
        if not (is_local and is_broken):
            raise
        yield None, Rejected(item.source, str(error))
        return
    with stream:
        is_lines = item.end and form(item.path) != ".parquet"
        source = line_slice(stream, item.start, item.end) if is_lines else Source(stream)
        for found in read_file(source, item.path, origin):
            yield source, found
