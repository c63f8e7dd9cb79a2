"""reStructuredText to plain paragraphs, as far as manuals use it: no document tree, and no directive is carried out."""

import re
from collections.abc import Iterator
from textwrap import dedent
from typing import BinaryIO

from troth.curate.collect.docstrings import unmarked
from troth.curate.collect.encoding import decode
from troth.curate.collect.reader import Origin, document, read_whole
from troth.curate.collect.text import clean
from troth.curate.document import Document

_RULE = re.compile(r"\s*([=\-~^`'\"*+#:.<>_!$%&(),/;?@\[\]{|}\\])\1{2,}\s*")
_TABLE_RULE = re.compile(r"\s*(?:\+(?:[-=]+\+)+|[=-]{2,}(?:\s+[=-]{2,})+)\s*")
_DIRECTIVE = re.compile(r"\.\. (?:\|[^|]+\| )?([\w:.+-]+)::\s*(.*)")
_NOTE = re.compile(r"\.\. \[[^\]]+\]\s+")
_OPTION = re.compile(r"\s*:[\w -]+:(?: .*)?")
_FIELD = re.compile(r":[\w-]+:")
_ITEM = re.compile(r"\s*(?:[-*+•]|\(?(?:\d{1,3}|#|[a-z])[.)])\s+")
_LINE = re.compile(r"\s*\| ?")
_LINK = re.compile(
    r"(?<![\w`])`(?=\S)(?:([^`<]+?)\s*<[^>`]*>|([^`]*[^`\s]))`__?|(?<![\w`])([A-Za-z][A-Za-z0-9.+-]*)__?(?![\w`(])"
)
_STANDARD = re.compile(r":(rfc|pep):(?=`\d)")
_FOOTNOTE = re.compile(r"\s*\[[#*\w.-]+\]_(?!\w)")
_PROGRAMS = {"code", "code-block", "sourcecode", "parsed-literal", "doctest", "testcode", "math"}
_PASSED_OVER = {
    "class", "contents", "csv-table", "currentmodule", "default-role", "figure", "graphviz", "highlight", "image",
    "include", "index", "list-table", "literalinclude", "meta", "module", "raw", "role", "sectionauthor",
    "tabularcolumns", "testsetup", "title", "toctree", "unicode",
}  # fmt: skip


def read_restructured(stream: BinaryIO, origin: Origin) -> Iterator[Document]:
    """One document a file, its title the first heading. Comments, targets of links, pictures, and lists of contents
    are left out; notes and what is said of functions and classes stay."""
    raw, encoding = decode(read_whole(stream))
    blocks = list(_blocks(clean(raw).expandtabs(8)))
    title = next((words for kind, words in blocks if kind == "heading"), "")
    yield document("\n\n".join(words for _, words in blocks), origin, {"title": title}, encoding=encoding)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Kind and words of each block, which empty lines keep apart."""
    below, level = "", -1  # what to do with blocks that are indented deeper than a level
    for block in re.split(r"\n\s*\n(?=\s*\S)", text):
        lines = block.strip("\n").split("\n")
        if _indent(lines[0]) <= level:
            below, level = "", -1
        if below == "passed over":
            continue
        if below == "program" or lines[0].lstrip().startswith(">>>"):
            yield "program", dedent("\n".join(lines))
            continue
        for part in _parts(lines):
            first = part[0].strip()
            if first.startswith("__ ") or _FIELD.fullmatch(first):
                continue  # a link's target, or what a program is to know of the page
            if first.startswith(".."):
                level = _indent(part[0])
                below, told = _explicit(first, part[1:])
                yield from told
                continue
            yield from _plain(part)
            if part[-1].endswith("::"):
                below, level = "program", _indent(part[0])


def _parts(lines: list[str]) -> Iterator[list[str]]:
    """A block, parted where explicit markup begins that needs no empty line before it."""
    start = 0
    for number in range(1, len(lines)):
        if lines[number].lstrip().startswith(".. ") and _indent(lines[number]) <= _indent(lines[start]):
            yield lines[start:number]
            start = number
    yield lines[start:]


def _explicit(first: str, rest: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """What becomes of the blocks below a directive, a comment, a target or a footnote, and what its own says."""
    directive = _DIRECTIVE.fullmatch(first)
    if not directive:
        note = _NOTE.match(first)
        return ("", list(_plain([first[note.end() :], *rest]))) if note else ("passed over", [])
    name, argument = directive[1].rpartition(":")[2], directive[2]
    rest = dedent("\n".join(line for line in rest if not _OPTION.fullmatch(line))).split("\n")
    if name in _PROGRAMS:
        return "program", [("program", "\n".join(rest))] if any(rest) else []
    if name in _PASSED_OVER and ":" not in directive[1]:
        return "passed over", []
    said = any(letter.isalpha() for letter in "".join(rest) or argument)  # rather than the number of a version alone
    return "", list(_plain([argument, *rest])) if said else []


def _plain(lines: list[str]) -> Iterator[tuple[str, str]]:
    """A heading, the rows of a table, or paragraphs: items of a list and what stands deeper are ones of their own."""
    if len(lines) > 1 and _RULE.fullmatch(lines[0]) and not _RULE.fullmatch(lines[1]):
        lines = lines[1:]
    if len(lines) > 1 and _RULE.fullmatch(lines[1]):
        yield "heading", _words(lines[:1])
        lines = lines[2:]
    if any(map(_TABLE_RULE.fullmatch, lines)):
        rows = (re.sub(r"\s*\|\s*|\s{2,}", "; ", line.strip().strip("|").strip()) for line in lines if _is_text(line))
        yield from (("row", words) for row in rows if (words := _words([row])))
        return
    waiting: list[str] = []
    for line in filter(_is_text, lines):
        starts = _ITEM.match(line) or _LINE.match(line)
        if waiting and (starts or (_indent(line) != _indent(waiting[-1]) and not _ITEM.match(waiting[-1]))):
            yield "paragraph", _words(waiting)
            waiting = []
        waiting.append(line)
    if waiting and (words := _words(waiting)):
        yield "paragraph", words


def _is_text(line: str) -> bool:
    return not _RULE.fullmatch(line) and not _TABLE_RULE.fullmatch(line)


def _words(lines: list[str]) -> str:
    text = " ".join(" ".join(lines).split())
    if mark := _ITEM.match(text) or _LINE.match(text):
        text = text[mark.end() :]
    text = _STANDARD.sub(lambda found: f"{found[1].upper()} ", text)
    return unmarked(_LINK.sub(lambda found: next(filter(None, found.groups())), _FOOTNOTE.sub("", text)))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
