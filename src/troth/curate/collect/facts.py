"""Tables of facts that every installation of Python carries, each fact as a sentence in several wordings.

A document holds one wording of up to 40 facts of one table, so that a fact can be learned in one wording and asked
in another.
"""

import builtins
import errno
import html.entities
import http
import keyword
import os
import signal
import unicodedata
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from troth.curate.collect.zones import ZONES
from troth.curate.document import Document

_FACTS_A_DOCUMENT = 40


@dataclass(frozen=True)
class FactTable:
    """`wordings` are sentences with the names of the columns in braces; `rows` give the values."""

    name: str
    title: str
    wordings: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


def fact_documents() -> list[Document]:
    """All tables in all their wordings, as documents of the collection `python-facts`."""
    return [document for table in fact_tables() for document in _documents(table)]


def fact_tables() -> list[FactTable]:
    """The tables of this Python on this system, without those that the system lacks."""
    tables = [
        _http_status(), _system_errors(), _signals(), _characters(), _entities(), _time_zones(), _keywords(),
        _exceptions(),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def _documents(table: FactTable) -> Iterator[Document]:
    for wording, sentence in enumerate(table.wordings):
        for start in range(0, len(table.rows), _FACTS_A_DOCUMENT):
            rows = table.rows[start : start + _FACTS_A_DOCUMENT]
            text = "\n\n".join(sentence.format(**row) for row in rows)
            source = f"python-facts/{table.name}/{wording}#{start // _FACTS_A_DOCUMENT}"
            yield Document(source, "python-facts", text, title=table.title, kind="facts")


def _http_status() -> FactTable:
    statuses = list(http.HTTPStatus)
    return FactTable(
        "http-status",
        "HTTP status codes",
        (
            "The HTTP status code {code} means {phrase}.",
            "A web server that answers with the status {phrase} sends the code {code}.",
            "In HTTP, {phrase} is the reason phrase of status code {code}, which counts as {group}.",
        ),
        tuple({"code": str(s.value), "phrase": s.phrase, "group": _STATUS_GROUPS[s.value // 100]} for s in statuses),
    )


_STATUS_GROUPS = {1: "informational", 2: "a success", 3: "a redirection", 4: "a client error", 5: "a server error"}


def _system_errors() -> FactTable:
    rows = [{"name": name, "code": str(code), "says": os.strerror(code)} for code, name in errno.errorcode.items()]
    return FactTable(
        "system-errors",
        "System error codes",
        (
            'The system error {name} is described as "{says}".',
            'When a system call fails with {name}, the message reads "{says}".',
            'The message "{says}" belongs to the error code {name}, which is number {code} on this system.',
        ),
        tuple(sorted(rows, key=lambda row: int(row["code"]))),
    )


def _signals() -> FactTable:
    rows = [
        {"name": number.name, "says": (signal.strsignal(number) or "").partition(":")[0], "code": str(number.value)}
        for number in sorted(signal.Signals)
    ]
    return FactTable(
        "signals",
        "Signals",
        (
            'The signal {name} is described as "{says}".',
            "On this system, {name} is signal number {code}.",
            'A process that receives {name} gets the signal whose description is "{says}".',
        ),
        tuple(row for row in rows if row["says"]),
    )


def _characters() -> FactTable:
    common = [
        char
        for char in map(chr, [*range(0x21, 0x180), *range(0x2010, 0x2060), *range(0x2190, 0x2200)])
        if not char.isascii() or not char.isalnum()
    ]
    greek = [chr(code) for code in range(0x391, 0x3CA)]
    currency = [char for char in map(chr, range(0x20A0, 0x20D0)) if unicodedata.category(char) == "Sc"]
    named = [char for char in [*common, *greek, *currency] if char.isprintable() and unicodedata.name(char, "") != ""]
    return FactTable(
        "characters",
        "Names of characters",
        (
            "The character {char} (U+{code}) is named {name} in Unicode.",
            "Unicode gives the name {name} to the code point U+{code}, written {char}.",
            "The code point of {name} is U+{code}, and it looks like this: {char}",
        ),
        tuple({"char": char, "code": f"{ord(char):04X}", "name": unicodedata.name(char)} for char in named),
    )


def _entities() -> FactTable:
    chars = sorted((chr(code), name) for name, code in html.entities.name2codepoint.items())
    rows = [
        {"char": char, "entity": f"&{name};", "name": unicodedata.name(char)}
        for char, name in chars
        if char.isprintable() and unicodedata.name(char, "") != ""
    ]
    return FactTable(
        "entities",
        "HTML entities",
        (
            "In HTML, {entity} stands for the character {char}.",
            "The HTML entity for {name} is {entity}.",
            "A page that contains {entity} shows {char}, the character named {name}.",
        ),
        tuple(rows),
    )


def _time_zones() -> FactTable:
    rows = []
    for zone in ZONES:
        try:
            offset = datetime(2024, 1, 15, tzinfo=zoneinfo.ZoneInfo(zone)).utcoffset()
        except (zoneinfo.ZoneInfoNotFoundError, OSError):
            continue
        assert offset is not None
        hours, minutes = divmod(abs(offset).seconds // 60, 60)
        sign = "-" if offset.days < 0 else "+"
        city = zone.rpartition("/")[2].replace("_", " ")
        rows.append({"zone": zone, "city": city, "offset": f"UTC{sign}{hours}:{minutes:02}"})
    return FactTable(
        "time-zones",
        "Time zones",
        (
            "In January 2024, clocks in {city} were set to {offset}.",
            "The time zone {zone} had the offset {offset} in January 2024.",
            "The clocks of {city} followed {offset} in January 2024.",
        ),
        tuple(rows),
    )


def _keywords() -> FactTable:
    words = [(word, "keyword") for word in keyword.kwlist] + [(word, "soft keyword") for word in keyword.softkwlist]
    return FactTable(
        "keywords",
        "Keywords of Python",
        (
            "The word {word} is a {kind} of Python.",
            "Python lists {word} as a {kind}.",
            "Among the words with a meaning of their own in Python, {word} is a {kind}.",
        ),
        tuple({"word": word, "kind": kind} for word, kind in words),
    )


def _exceptions() -> FactTable:
    rows = [
        {"name": name, "base": found.__base__.__name__}
        for name, found in sorted(vars(builtins).items())
        if isinstance(found, type) and issubclass(found, BaseException) and found.__name__ == name and found.__base__
    ]
    return FactTable(
        "exceptions",
        "Exceptions of Python",
        (
            "In Python, {name} is a subclass of {base}.",
            "The built-in exception {name} derives from {base}.",
            "The base class of {name} is {base}, so code that catches {base} catches {name} too.",
        ),
        tuple(row for row in rows if row["base"] != "object"),
    )
