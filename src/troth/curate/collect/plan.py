"""What a run collects: every file of its sources in a fixed order, dealt into parts of about the same size.

The plan is written before anything is read, so that a run that goes on reads the same files in the same parts.
"""

import heapq
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby, pairwise, repeat, zip_longest
from pathlib import Path

import pyarrow.parquet as pq

from troth.curate.collect.columns import row_group_bytes
from troth.curate.collect.files import form, known_forms
from troth.curate.collect.library import library_pages
from troth.curate.collect.storage import PACKED, File, list_files
from troth.curate.parts import Parts
from troth.curate.rows import read_rows, write_rows
from troth.system.storage import filesystem

PYTHON = "python"
_PART_BYTES = 64 << 20
_FILE_BYTES = 16 << 10
"""What opening a file costs, in bytes read meanwhile."""


@dataclass(frozen=True)
class Item:
    """One file of a part: `root` is the source that was named, `path` what its file system calls the file, `source`
    the name that its documents get, `start` and `end` the slice of it (see `Origin`), with about so many `bytes`.
    `root` is `python` for what the running Python carries, up to `size` bytes of a kind."""

    part: int
    root: str
    path: str
    source: str
    collection: str
    size: int
    version: str
    retrieved: str
    licence: str
    bytes: int
    publisher: str = ""
    start: int = 0
    end: int = 0
    text_column: str = "text"


@dataclass(frozen=True)
class Plan:
    """How many parts, files and bytes there are to read; `part_bytes` are those of each part."""

    parts: int
    files: int
    bytes: int
    part_bytes: tuple[int, ...]


def plan_collect(
    sources: Sequence[str], out: Path, *, python_bytes: int = 2_000_000, part_bytes: int = _PART_BYTES,
    text_column: str = "text",
) -> Plan:  # fmt: skip
    """Write the plan of a run into `out`, or check that the one there still holds, and return its sizes.

    Sources are paths, fsspec URLs, `library` and `python`; one given twice counts once, and what lies in `out` not at
    all. Where two hold files of the same name, the sources of the later one begin with its path. Where documents name
    no publisher, each folder of a source counts as one, and so does each file that lies in none. `text_column` is the
    field of records that holds their text. Raises ValueError for a source that does not exist or is one file of an
    unknown kind, and where the sources are not those, or not as they were, when `out` was begun.
    """
    path = _path(out)
    with ExitStack() as stack:
        whole = _items(list(dict.fromkeys(sources)), out, path.parent, stack, python_bytes)
        named = (replace(item, text_column=text_column) for item in whole)
        items = _dealt((one for item in named for one in _sliced(item, part_bytes)), part_bytes)
        if path.exists():
            for was, now in zip_longest(read_rows(path, Item), items):
                _compare(was, now, out)
        else:
            write_rows(path, Item, items)
    return _sizes(path)


def check_sources(sources: Iterable[str], out: Path) -> None:
    """Raises ValueError as `plan_collect` does for a source that does not exist or is one file of an unknown kind, and
    where none has any file."""
    given = list(sources)
    found = [name in ("library", PYTHON) or next(_files(name, out), None) is not None for name in given]
    if given and not any(found):
        raise ValueError(f"{', '.join(given)}: no files to read")


def planned(out: Path, part: int) -> Iterator[Item]:
    """The files of one part, in their order."""
    for row in pq.read_table(_path(out), filters=[("part", "=", part)]).to_pylist():
        yield Item(**row)


def _path(out: Path) -> Path:
    return Parts(out, "collect").folder / "plan.parquet"


def _items(sources: list[str], out: Path, folder: Path, stack: ExitStack, python_bytes: int) -> Iterator[Item]:
    """Files of all sources, part 0. Lists of more than one source lie on disk until their names were compared."""
    folders = {name: str(library_pages()) if name == "library" else name for name in sources if name != PYTHON}
    if len(folders) > 1:
        lists = {name: folder / f"list-{number}.parquet" for number, name in enumerate(folders)}
        for name, file in lists.items():
            stack.callback(file.unlink, missing_ok=True)
            write_rows(file, File, _files(folders[name], out))
        doubled = _doubled([(one.name for one in read_rows(file, File)) for file in lists.values()])
    else:
        lists, doubled = {}, set()
    order = list(folders)
    for name in sources:
        if name == PYTHON:
            yield Item(0, PYTHON, "", PYTHON, "", python_bytes, platform.python_version(), "", "", python_bytes)
            continue
        collection = "library" if name == "library" else "documents"
        prefix = f"{name.rstrip('/')}/" if order.index(name) in doubled else ""
        files: Iterable[File] = read_rows(lists[name], File) if lists else _files(folders[name], out)
        for one in files:
            yield Item(
                0, folders[name], one.path, f"{prefix}{one.name}", collection, one.size, one.version, one.modified,
                one.licence, one.size, _publisher(one.name),
            )  # fmt: skip


def _publisher(name: str) -> str:
    """Who speaks in a file that does not say so: each folder of a source, or each file where there are none."""
    folder, below, _ = name.partition("/")
    return folder if below else folder.partition(".")[0] or folder


def _files(source: str, out: Path) -> Iterator[File]:
    if not source.strip():
        raise ValueError("a source is empty, as where a variable is not set; name a file, a folder or a URL")
    given = f"{Path(source).absolute()}/"
    own = tuple(place for place in (f"{out.absolute()}/", f"{out.resolve()}/") if not given.startswith(place))
    for file in list_files(source):
        if file.path.startswith(own):
            continue  # a run's own results, where they lie in the folder that it reads
        if file.path.rstrip("/").endswith(source.rstrip("/")) and "/" not in file.name and form(file.name) is None:
            raise ValueError(f"{source}: cannot read this kind of file; known are {known_forms()}")
        yield file


def _doubled(lists: Sequence[Iterable[str]]) -> set[int]:
    """Which lists, each in sorted order, have a name that an earlier one has too."""
    tagged = (zip(names, repeat(number)) for number, names in enumerate(lists))
    found: set[int] = set()
    for _, group in groupby(heapq.merge(*tagged), key=lambda pair: pair[0]):
        found.update(sorted(number for _, number in group)[1:])
    return found


def _sliced(item: Item, part_bytes: int) -> Iterator[Item]:
    """A file that is much larger than a part, where its format lets it be read from the middle."""
    bounds = [0]
    suffix = form(item.path) if item.root != PYTHON and item.size > 2 * part_bytes else ""
    if suffix in (".jsonl", ".ndjson") and not item.path.lower().endswith(PACKED):
        bounds = [*range(0, item.size, part_bytes), item.size]
        sizes = [end - start for start, end in pairwise(bounds)]
    elif suffix == ".parquet" and not item.path.lower().endswith(PACKED):
        fs, _ = filesystem(item.root)
        with fs.open(item.path, "rb") as stream:
            bounds, sizes = _grouped(row_group_bytes(stream), part_bytes)
    if len(bounds) <= 2:
        yield item
        return
    for (start, end), size in zip(pairwise(bounds), sizes, strict=True):
        yield replace(item, start=start, end=end, bytes=size)


def _grouped(sizes: list[int], most: int) -> tuple[list[int], list[int]]:
    """Bounds of runs of row groups, each of at most so many bytes where a group has not more, and their bytes."""
    bounds, sums = [0], [0]
    for group, size in enumerate(sizes):
        if sums[-1] and sums[-1] + size > most:
            bounds.append(group)
            sums.append(0)
        sums[-1] += size
    return [*bounds, len(sizes)], sums


def _dealt(items: Iterable[Item], part_bytes: int) -> Iterator[Item]:
    part = filled = 0
    for item in items:
        cost = item.bytes + _FILE_BYTES
        if filled and filled + cost > part_bytes:
            part, filled = part + 1, 0
        filled += cost
        yield replace(item, part=part)


def _compare(was: Item | None, now: Item | None, out: Path) -> None:
    if was is not None and now is not None and replace(was, retrieved="") == replace(now, retrieved=""):
        return
    assert was or now
    name = (was or now).source  # type: ignore[union-attr]
    if was is None or now is None or was.source != now.source:
        told = f"its sources are other than when it was begun, from {name} on"
    elif (was.size, was.version) != (now.size, now.version):
        told = f"{name} changed since it was begun"
    else:
        told = f"it was begun with other settings of its sources (see {name})"
    raise ValueError(f"{out}: {told}; curate into another folder, or remove this one")


def _sizes(path: Path) -> Plan:
    sizes: list[int] = []
    files = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["part", "bytes", "start"]):
            for part, size, start in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if part == len(sizes):
                    sizes.append(0)
                sizes[part] += size
                files += not start
    return Plan(len(sizes), files, sum(sizes), tuple(sizes))
