"""Sentences as tokens of a few classes, in which a number, a date or a name is one token whatever it says.

What remains is the wording, which a publisher that tells like things of many subjects repeats (as in the mining of log
templates: He et al. 2017, Drain).
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from troth.curate.document import Document
from troth.curate.headings import is_heading
from troth.curate.validate.notes import MONTHS, NOTE
from troth.curate.validate.values import SPELLED

NUMBER, DATE, NAME, SUBJECT, YEAR = "0", "D", "N", "S", "Y"
SLOTS = frozenset((NUMBER, DATE, NAME, YEAR))
CLASSES = SLOTS | {SUBJECT}
_TOKEN = re.compile(
    rf"(?P<date>\b\d{{1,2}}(?:st|nd|rd|th)? (?:{MONTHS})\.?,? \d{{4}}\b|\b(?:{MONTHS})\.? \d{{1,2}}, \d{{4}}\b)"
    r"|(?P<year>\b(?:1\d|20)\d\d\b(?![,.]\d|[%\w]))"
    r"|(?P<number>[$€£]?[-−]?\b\d[\d,]*(?<!,)(?:\.\d+)?"
    r"(?:\s?%|(?:[ -](?:hundred|thousand|million|billion|trillion)\b)?)(?!\w))"
    rf"|(?P<spelled>(?i:\b{SPELLED.pattern}(?: (?:thousand|million|billion|trillion))?\b)(?![-'’]))"
    r"|(?P<mixed>[^\W_]*[+-]?\d[^\W_]*(?:[.:+-]\d[^\W_]*)*)"
    r"|(?P<word>[^\W\d_]+(?:[.](?=[^\W\d_][.\s]|[^\W\d_]\w))?(?:['’-][^\W\d_]+)*)"
    r"|(?P<mark>[^\w\s])"
)
_PARTICLES = frozenset(
    ("of", "de", "la", "le", "du", "da", "di", "van", "von", "der", "del", "el", "es", "al", "bin", "dos", "e", "y")
)
_NO_NAMES = frozenset(
    "a an the this that these those its their our your my his her at by for from in of on to with as since until "  # noqa: SIM905
    "before after during under over between among about and or but if when while where there here it they we you he "
    "she".split()
)
_END = re.compile(
    r"[.!?][\"')\]]*(?=\s+[\"'(\[]?[^\Wa-z_])|\n\s*\n"  # a full stop, a blank line,
    r"|\n(?=\s*(?:[-*•|#]|\d+[.)]\s|[A-Z][^\n.:]{1,40}:\s))"  # the next item of a list,
    r"|(?:(?<=\n)|\A)#[^\n]*\n"  # a heading
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Mt|No|vs|etc|e\.g|i\.e|c|ca|approx|Jr|Sr|Inc|Ltd|Prof|Gen|Col|"
    r"Rep|Sen|Gov|Rev|Hon|Lt|Brig|Maj|Capt|Adm)|(?<!\d )\b[A-Z])\.$"
)
_TITLE_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_NAME_WORDS, _ITEMS = 6, 3
_PAIR = re.compile(r"\S +[=–—-] +\S")


_FORMS = {"date": DATE, "year": YEAR, "number": NUMBER, "spelled": NUMBER, "mixed": NUMBER}
_SMALL = re.compile(r"\b[a-zß-öø-ÿ]+\b")
_INSIDE = re.compile(r"(?<=[a-zß-öø-ÿ,;] )[A-ZÀ-Þ][^\W\d_]*")


class Words:
    """What the corpus writes small, and what with a capital inside sentences. Words that begin no name are known."""

    def __init__(self) -> None:
        self.small: set[str] = set(_NO_NAMES)
        self.capital: set[str] = set()

    def add(self, text: str) -> None:
        """Take in a document's text."""
        self.small.update(_SMALL.findall(text))
        self.capital.update(_INSIDE.findall(text))

    def begins_name(self, word: str, following: str) -> bool:
        """Whether a sentence's first word is a name; `following` is the first letter of the next word."""
        word = word.removesuffix("'s").removesuffix("’s")
        if word.lower() in self.small:
            return False
        return word in self.capital or following.isupper()


class Subjects:
    """What pages and headings are about (see `plain_title`), to be recognised in a text."""

    def __init__(self, names: Iterable[str]):
        self.names = frozenset(name for name in names if name)
        self._longest: dict[str, int] = {}
        for name in self.names:
            first, *rest = name.split()
            self._longest[first] = max(self._longest.get(first, 0), len(rest) + 1)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def longest(self, first: str) -> int:
        """The most words that a name beginning with `first` has."""
        return min(_NAME_WORDS, self._longest.get(first, 0))


@dataclass(frozen=True, slots=True)
class Token:
    """`start:end` of the document's text; `form` is its class, or the word itself in small letters."""

    start: int
    end: int
    form: str


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence of a document: characters `start:end`, the heading under which it stands, and its tokens: their forms,
    and where each begins and ends, one after another."""

    start: int
    end: int
    heading: str
    forms: tuple[str, ...]
    bounds: "array[int]"

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Where the tokens from `first` to before `last` begin and end."""
        return self.bounds[2 * first], self.bounds[2 * last - 1]


def lines(document: Document, titles: Sequence[str], subjects: Subjects, words: Words) -> Iterator[Line]:
    """The sentences of a document.

    `titles` are what its page is about, as `plain_title` gives it. A sentence's first word is a name where the corpus
    writes it so inside sentences, or where another capital follows.
    """
    heading, about = "", frozenset(titles)
    for start, end, heads in pieces(document.text):
        if heads:
            heading = plain_title(document.text[start:end])
            about = frozenset((*titles, heading))
            continue
        tokens = tuple(tokenize(document.text, start, end, about, subjects, words))
        if tokens:
            forms = tuple([token.form for token in tokens])
            bounds = array("I", [at for token in tokens for at in (token.start, token.end)])
            yield Line(start, end, heading, forms, bounds)


def headings(document: Document) -> set[str]:
    """What the sections of a document are about."""
    return {plain_title(document.text[start:end]) for start, end, heads in pieces(document.text) if heads}


def pieces(text: str) -> Iterator[tuple[int, int, bool]]:
    """Where sentences (False) and headings (True) stand: a heading has no full stop and a block of its own, or marks.
    Several blocks in a row that could be headings, each of them a pair ("Coast – 40 km"), are a list."""
    for paired, group in groupby(_pieces(text), key=lambda piece: piece[2] and _is_pair(text[piece[0] : piece[1]])):
        run = list(group)
        yield from [(*piece[:2], False) for piece in run] if paired and len(run) >= _ITEMS else run


def _is_pair(block: str) -> bool:
    return not block.startswith("#") and _PAIR.search(block) is not None


def _pieces(text: str) -> Iterator[tuple[int, int, bool]]:
    start = 0
    for match in [*_END.finditer(text), None]:
        end = match.end() if match else len(text)
        if (
            match
            and match.group()[0] in ".!?"
            and _ABBREVIATION.search(text, max(0, match.start() - 12), match.start() + 1)
            and not _begins_sentence(text, end)
        ):
            continue
        body = text[start:end].strip()
        if body:
            first = start + text[start:end].index(body)
            last = first + len(body)
            alone = match is not None and match.group().count("\n") > 1
            yield first, last, body.startswith("#") or (alone and is_heading(body))
        start = end


def _begins_sentence(text: str, at: int) -> bool:
    """Whether what follows an abbreviation can be no part of a name."""
    following = _TITLE_WORD.search(text, at)
    return following is not None and following.group().lower() in _NO_NAMES


def plain_title(text: str) -> str:
    """A title or heading in small letters, without marks, years and the genitive's ending."""
    words = (word.removesuffix("'s").removesuffix("’s") for word in _TITLE_WORD.findall(text.lower()))
    return " ".join(word for word in words if not _is_year(word))


def tokenize(
    text: str, start: int, end: int, about: frozenset[str], subjects: Subjects, words: Words
) -> Iterator[Token]:
    """Tokens of one sentence; runs of capitalised words are one name, the page's own subject its own class. When a
    figure is from, in parentheses behind it, is no part of the wording: editions write it now and then."""
    found = [(m.start(), m.end(), m.lastgroup or "") for m in _TOKEN.finditer(text, start, end)]
    for note in NOTE.finditer(text, start, end):
        found = [one for one in found if not note.end("figure") <= one[0] < note.end()]
    at = 0
    while at < len(found):
        first, last, kind = found[at]
        if kind == "word" and text[first].isupper():
            size, form = _name_at(text, found, at, about, subjects, words)
            yield Token(first, found[at + size - 1][1], form)
            at += size
            continue
        yield Token(first, last, _FORMS.get(kind) or text[first:last])
        at += 1


def _name_at(
    text: str, found: list[tuple[int, int, str]], at: int, about: frozenset[str], subjects: Subjects, words: Words
) -> tuple[int, str]:
    """How many tokens the capitalised word at `at` takes as a name, and its form."""
    word = text[found[at][0] : found[at][1]]
    most = min(max(1, subjects.longest(plain_title(word))), len(found) - at)
    for size in range(most, 0, -1):
        if found[at + size - 1][2] == "mark":
            continue
        called = plain_title(text[found[at][0] : found[at + size - 1][1]])
        if called in about or called in subjects:
            return size, SUBJECT if called in about else NAME
    begins = all(kind == "mark" for _, _, kind in found[:at])
    if begins and not words.begins_name(
        word, text[found[at + 1][0]] if at + 1 < len(found) and found[at + 1][2] == "word" else ""
    ):
        return 1, word.lower()
    size = 1
    while at + size < len(found):
        nearby = text[found[at + size - 1][1] : found[at + size][0]]
        following = text[found[at + size][0] : found[at + size][1]]
        if found[at + size][2] == "word" and nearby in (" ", "") and following[0].isupper():
            size += 1
        elif (
            following in _PARTICLES and at + size + 1 < len(found)
            and text[found[at + size + 1][0]].isupper() and found[at + size + 1][2] == "word"
        ):  # fmt: skip
            size += 2
        elif following == "." and found[at + size][0] - found[at + size - 1][0] == 1 and at + size + 1 < len(found):
            size += 1
        else:
            break
    if begins and at + size < len(found) and text[found[at + size][0]] == ":":
        return size, plain_title(text[found[at][0] : found[at + size - 1][1]])
    return size, NAME


def _is_year(word: str) -> bool:
    return len(word) == 4 and word.isdigit() and word[:2] in ("18", "19", "20")
