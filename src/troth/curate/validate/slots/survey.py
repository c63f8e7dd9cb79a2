"""What the corpus as a whole knows before its sentences are read: which words are names, and what pages are about."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from zlib import crc32

from troth.curate.document import Document
from troth.curate.validate.slots.tokens import CLASSES, NAME, Subjects, Words, headings, lines, plain_title

_MOST, _NEARLY, _FEW_TITLES = 0.5, 0.9, 3
_COMPANY = 1024
"""Kinds of company that are told apart."""
_OPENING = 8_000
"""Characters of a document in which it shows what it is about."""


@dataclass(frozen=True)
class Survey:
    """`words` written small or with a capital; what pages and sections are about (`subjects`); the words that say
    nothing of this, because most titles of a publisher have them (`usual`); and what documents without a title are
    about, by their source (`untitled`)."""

    words: Words
    subjects: Subjects
    usual: frozenset[str]
    untitled: Mapping[str, str]

    def subject(self, document: Document) -> str:
        """What a document is about."""
        return subject_of(document.title, self.usual) or self.untitled.get(document.source, "")


def survey(documents: Iterable[Document]) -> Survey:
    """Go through the corpus once, and once more where documents have no title; what is kept grows with its vocabulary,
    its titles and the number of documents without one."""
    words, names = Words(), set()
    titles: dict[str, set[str]] = defaultdict(set)
    for document in documents:
        words.add(document.text)
        titles[document.publisher].add(plain_title(document.title))
        names |= headings(document)
    usual = frozenset().union(*map(_usual, titles.values()))
    for title in set().union(*titles.values()):
        names |= {title, subject_of(title, usual)}
    untitled = _untitled(documents, words) if any("" in some for some in titles.values()) else {}
    return Survey(words, Subjects(names | set(untitled.values())), usual, untitled)


def _untitled(documents: Iterable[Document], words: Words) -> dict[str, str]:
    """What documents without a title are about: of the names in their first sentence, and of those in most of their
    sentences, the one that keeps the most different company in all of them, for what is said of a thing is more than
    what is said with a value. Names that most documents of a publisher have do not count."""
    company: dict[str, int] = defaultdict(int)
    candidates: dict[str, tuple[str, dict[str, str]]] = {}
    having: dict[str, Counter[str]] = defaultdict(Counter)
    nothing = Subjects(())
    for document in documents:
        if plain_title(document.title):
            continue
        told: list[list[str]] = []
        for line in lines(replace(document, text=document.text[:_OPENING]), (), nothing, words):
            spans = [line.span(at, at + 1) for at, form in enumerate(line.forms) if form == NAME]
            told.append([plain_title(document.text[start:end]) for start, end in spans])
            wording = " ".join((document.published, *(form for form in line.forms if form not in CLASSES)))
            for name in told[-1]:
                company[name] |= 1 << crc32(wording.encode()) % _COMPANY
        counts = Counter(name for names in told for name in dict.fromkeys(names) if name)
        some = [name for name, n in counts.items() if n >= _MOST * len(told) or name in told[0]]
        candidates[document.source] = document.publisher, {name: _whole(name, document.text) for name in some}
        having[document.publisher].update(["", *some])
    found: dict[str, str] = {}
    for source, (publisher, whole) in candidates.items():
        names = having[publisher]
        special = [name for name in whole if names[name] < _MOST * names[""]]
        if special:
            found[source] = whole[max(special, key=lambda name: company[name].bit_count())]
    return found


def _whole(name: str, text: str) -> str:
    """A name with the other that a text nearly always joins to it: Antigua and Barbuda."""
    other = r"[^\W\d_a-zß-öø-ÿ][\w’'-]*"
    told: list[str] = re.findall(rf"(?<!\w)(?i:{re.escape(name)})( and (?:the )?{other})?(?!\w)", text[:_OPENING])
    for rest, n in Counter(map(plain_title, told)).most_common(1):
        if rest and n >= _NEARLY * len(told):
            return f"{name} {rest}"
    return name


def _usual(titles: set[str]) -> set[str]:
    counts = Counter(word for title in titles for word in set(title.split()))
    return {word for word, n in counts.items() if n >= _MOST * len(titles)} if len(titles) >= _FEW_TITLES else set()


def subject_of(title: str, usual: frozenset[str]) -> str:
    """What a title, a heading or a name speaks of: its words in small letters, without the usual ones."""
    plain = plain_title(title)
    return " ".join(word for word in plain.split() if word not in usual) or plain
