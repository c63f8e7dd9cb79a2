"""Wikitext to plain paragraphs, by the parser mwparserfromhell."""

import re
from collections.abc import Iterator

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Node, Tag, Template, Text, Wikilink
from mwparserfromhell.wikicode import Wikicode

from troth.curate.collect.text import clean

_NOT_READ = {
    "ref", "references", "gallery", "math", "chem", "ce", "score", "timeline", "imagemap", "graph", "mapframe",
    "templatedata", "templatestyles", "syntaxhighlight", "source", "style", "script", "indicator",
}  # fmt: skip
_BREAKS = {"br", "hr", "p", "div", "blockquote", "center", "poem", "li", "ul", "ol", "dl"}
_OF_THE_WIKI = re.compile(r"\s*:?\s*(?:file|image|media|category)\s*:", re.IGNORECASE)
_LIST = re.compile(r"^[*#:;]+\s*", re.MULTILINE)
_MARKS = re.compile(r"'{2,5}|__[A-Z]+__")
_LANGUAGE_LINK = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*:")


def plain_wikitext(wikitext: str) -> str:
    """Paragraphs with an empty line between two: headings, sentences with the words of their links, list items, and
    the rows of tables as `column: cell; column: cell`.

    Templates and references are left out, but for a measure (`convert`) and a phrase that is only marked (`lang`,
    `nowrap`), without which a sentence would have a hole. Raises ValueError where the text cannot be parsed.
    """
    try:
        code = mwparserfromhell.parse(wikitext, skip_style_tags=True)
        text = "".join(_plain(code))
    except (RecursionError, mwparserfromhell.parser.ParserError) as error:
        raise ValueError(f"wikitext that cannot be parsed: {type(error).__name__}") from error
    text = _LIST.sub("\n", _MARKS.sub("", text))
    text = re.sub(r"[ \t]+([,.;])|\(\s*[,;]?\s*\)", r"\1", text)
    paragraphs = (" ".join(block.split()) for block in re.split(r"\n", clean(text)))
    return "\n\n".join(filter(None, paragraphs))


def _plain(code: Wikicode | None) -> Iterator[str]:
    for node in code.nodes if code is not None else ():
        yield from _words(node)


def _words(node: Node) -> Iterator[str]:
    match node:
        case Text():
            yield node.value
        case Wikilink():
            yield from _link(node)
        case ExternalLink():
            yield from _plain(node.title)
        case HTMLEntity():
            yield node.normalize()
        case Heading():
            yield "\n"
            yield from _plain(node.title)
            yield "\n"
        case Template():
            yield from _template(node)
        case Tag():
            yield from _tag(node)


def _link(link: Wikilink) -> Iterator[str]:
    target = str(link.title)
    if _OF_THE_WIKI.match(target):
        if target.lstrip().startswith(":"):
            yield from _plain(link.text)
    elif link.text is not None:
        yield from _plain(link.text)
    elif not _LANGUAGE_LINK.match(target):
        yield target.partition("#")[0] or target


def _template(template: Template) -> Iterator[str]:
    name = str(template.name).strip().lower()
    given = [parameter.value for parameter in template.params if not parameter.showkey]
    if name in ("convert", "cvt") and len(given) > 1:
        yield f"{str(given[0]).strip()} {str(given[1]).strip()}"
    elif name in ("nowrap", "nobr", "small", "abbr", "em", "strong") and given:
        yield from _plain(given[0])
    elif name in ("lang", "transl", "transliteration") and len(given) > 1:
        yield from _plain(given[-1])


def _tag(tag: Tag) -> Iterator[str]:
    name = str(tag.tag).strip().lower()
    if name in _NOT_READ:
        return
    if name == "table":
        yield "\n" + "\n".join(_rows(tag)) + "\n"
        return
    if name in _BREAKS:
        yield "\n"
    yield from _plain(tag.contents)
    if name in _BREAKS and name != "br":
        yield "\n"


def _rows(table: Tag) -> Iterator[str]:
    columns: list[str] = []
    for row in _cells(table):
        found = [(str(cell.tag), " ".join("".join(_plain(cell.contents)).split())) for cell in row]
        cells = [words for _, words in found]
        if not columns and all(tag == "th" for tag, _ in found):
            columns = cells
            continue
        names = columns if len(columns) == len(cells) else [""] * len(cells)
        yield "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(names, cells, strict=True) if cell)


def _cells(table: Tag) -> Iterator[list[Tag]]:
    """The cells of each row that has any; those before the first mark of a row are a row too."""
    row: list[Tag] = []
    for tag in _tags(table):
        name = str(tag.tag)
        if name in ("th", "td"):
            row.append(tag)
        elif name == "tr":
            yield from filter(None, [row])
            row = []
            yield from filter(None, [[cell for cell in _tags(tag) if str(cell.tag) in ("th", "td")]])
    yield from filter(None, [row])


def _tags(tag: Tag) -> Iterator[Tag]:
    """The tags within one, where `tbody` and the like do not count as a step."""
    for node in tag.contents.nodes if tag.contents is not None else ():
        if isinstance(node, Tag):
            yield from _tags(node) if str(node.tag) in ("tbody", "thead", "tfoot") else [node]
