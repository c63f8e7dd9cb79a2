"""Files of every format that Troth reads, by their suffixes."""

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from troth.curate.collect.code import LANGUAGES, read_code
from troth.curate.collect.columns import read_parquet
from troth.curate.collect.docx import read_docx
from troth.curate.collect.markdown import read_markdown
from troth.curate.collect.page import read_html
from troth.curate.collect.pdf import read_pdf
from troth.curate.collect.plain import read_bare, read_plain
from troth.curate.collect.reader import Origin, Rejected
from troth.curate.collect.records import read_json, read_json_lines
from troth.curate.collect.restructured import read_restructured
from troth.curate.collect.storage import PACKED, Source, unpacked
from troth.curate.collect.tables import read_csv, read_tsv
from troth.curate.collect.warc import read_warc
from troth.curate.collect.wiki import read_wiki
from troth.curate.document import Document

Reader = Callable[[Any, Origin], Iterator[Document | Rejected]]
"""An open file, read from its start, to documents one at a time; ValueError sets the rest of the file aside."""

READERS: dict[str, Reader] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".rst": read_restructured,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".txt": read_plain,
    ".text": read_plain,
    "": read_bare,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".warc": read_warc,
    ".wet": read_warc,
    ".xml": read_wiki,
    **dict.fromkeys(LANGUAGES, read_code),
}
_PROGRAMS = {"configure", "dockerfile", "gemfile", "gnumakefile", "jenkinsfile", "makefile", "rakefile", "vagrantfile"}
"""Programs whose names have no suffix; no reader takes them."""
_REPORTED = 1000
"""Broken records of one file that are listed; more are counted."""


def form(name: str) -> str | None:
    """The suffix that decides how a file is read, without that of its packing; None where no reader knows it. A name
    without a suffix, such as README, is that of a text."""
    path = PurePosixPath(name.lower())
    path = PurePosixPath(path.stem) if path.suffix in PACKED else path
    return path.suffix if path.suffix in READERS and path.name not in _PROGRAMS else None


def known_forms() -> str:
    """The formats, for messages."""
    named = ", ".join(suffix for suffix in READERS if suffix and suffix not in LANGUAGES)
    return f"{named}, source code, text without a suffix, and these packed as {', '.join(PACKED)}"


def read_file(source: Source, name: str, origin: Origin) -> Iterator[Document | Rejected]:
    """Documents of an open file and what had to be set aside; whatever is in the file, nothing else comes of it.

    Raises OSError where the file system fails, as opposed to the file.
    """
    suffix = form(name)
    if suffix is None:
        yield Rejected(origin.source, f"no reader for {PurePosixPath(name).suffix or PurePosixPath(name).name}")
        return
    broken = 0
    try:
        # The WARC reader unpacks these by itself, since each of its records is packed alone.
        packed = "" if suffix in (".warc", ".wet") and name.lower().endswith((".gz", ".zst")) else name
        with unpacked(source, packed) as content:
            for found in READERS[suffix](content, origin):
                if isinstance(found, Document):
                    yield found
                else:
                    broken += 1
                    if broken <= _REPORTED:
                        yield found
    except GeneratorExit:
        raise
    except Exception as error:  # what strangers' files provoke in parsers is open-ended
        if source.error:
            raise OSError(f"{origin.source}: {source.error}") from source.error
        yield Rejected(origin.source, str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}")
    if broken > _REPORTED:
        yield Rejected(origin.source, f"{broken - _REPORTED} more broken records")
