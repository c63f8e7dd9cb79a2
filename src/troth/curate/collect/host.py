"""Documents that every installation of Python carries: its documentation, its standard library and tables of facts.

Sources are parsed, never imported, so nothing in them runs. On the same Python the result is always the same.
"""

import ast
import hashlib
import os
import platform
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from troth.curate.collect.dates import iso_date
from troth.curate.collect.docstrings import docstring_prose, sentences
from troth.curate.collect.facts import fact_documents
from troth.curate.document import Document

_LEFT_OUT = {
    "__pycache__", "_bundled", "antigravity.py", "dist-packages", "idlelib", "idle_test", "lib2to3", "pydoc_data",
    "site-packages", "sitecustomize.py", "test", "tests", "this.py", "turtledemo", "usercustomize.py",
}  # fmt: skip
_CODE_BYTES = range(1_000, 40_001)


def collect_python(max_bytes: int) -> list[Document]:
    """The collections `python-prose` (docstrings, one document a module, and the reference that `help()` shows, one
    a topic), `python-code` (modules of 1 to 40 kB) and `python-facts`, each of at most `max_bytes` bytes of UTF-8.

    What exceeds that is left out by the hash of its source, so a smaller limit draws evenly from the whole; a
    collection counts as full from 95% of the limit.
    """
    modules = _modules()
    prose = {f"python-prose/{path}": partial(_module_prose, path, file) for path, file in modules.items()}
    code = {f"python-code/{path}": partial(_module_code, path, file) for path, file in modules.items()}
    facts = {document.source: partial(replace, document) for document in fact_documents()}
    published = iso_date(platform.python_build()[1])
    return [
        replace(document, publisher="Python Software Foundation", published=published, licence="PSF-2.0")
        for candidates in (prose | _topics(), code, facts)
        for document in _drawn(candidates, max_bytes)
    ]


def _drawn(candidates: Mapping[str, Callable[[], Document]], max_bytes: int) -> list[Document]:
    """Documents are made in the order in which they are drawn, and no more of them than fit."""
    kept: list[Document] = []
    left = max_bytes
    for source in sorted(candidates, key=lambda source: hashlib.sha256(source.encode()).digest()):
        if left < 0.05 * max_bytes:
            break
        document = candidates[source]()
        size = len(document.text.encode())
        if 0 < size <= left:
            kept.append(document)
            left -= size
    return sorted(kept, key=lambda document: document.source)


def _modules() -> dict[str, Path]:
    """The modules of the standard library, by their paths below it."""
    root = Path(sysconfig.get_path("stdlib"))
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        for name in names:
            if name.endswith(".py") and name not in _LEFT_OUT and not name.startswith("_sysconfigdata"):
                file = Path(folder, name)
                found[file.relative_to(root).as_posix()] = file
    return found


def _module_prose(path: str, file: Path) -> Document:
    return Document(f"python-prose/{path}", "python-prose", docstring_prose(_source(file)), title=_name(path))


def _module_code(path: str, file: Path) -> Document:
    """Empty for what is too small, too large, or a table of characters rather than a program."""
    source = _source(file)
    ordinary = len(source) in _CODE_BYTES and not path.startswith("encodings/")
    return Document(f"python-code/{path}", "python-code", source if ordinary else "", _name(path), kind="code")


def _name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _source(file: Path) -> str:
    """Text of a module, or empty where it cannot be read as UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _topics() -> dict[str, Callable[[], Document]]:
    """The language reference, from the one assignment `topics = {name: text}` of `pydoc_data.topics`."""
    file = Path(sysconfig.get_path("stdlib"), "pydoc_data", "topics.py")
    found: dict[str, Callable[[], Document]] = {}
    for statement in ast.parse(_source(file)).body:
        if isinstance(statement, ast.Assign):
            for name, text in ast.literal_eval(statement.value).items():
                source = f"python-prose/reference/{name}"
                found[source] = partial(_topic, source, text)
    return found


def _topic(source: str, text: str) -> Document:
    title = text.strip().partition("\n")[0].replace('"', "")
    return Document(source, "python-prose", "\n\n".join(dict.fromkeys(sentences(text))), title=title)
