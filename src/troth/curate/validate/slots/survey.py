"""What the corpus as a whole knows before its sentences are read: which words are names, and what pages are about."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from troth.curate.document import Document
from troth.curate.validate.slots.tokens import Subjects, Words, headings, plain_title

_MOST, _FEW_TITLES = 0.5, 3


@dataclass(frozen=True)
class Survey:
    """`words` written small or with a capital; what pages and sections are about (`subjects`); and the words that say
    nothing of this, because most titles of a publisher have them (`usual`)."""

    words: Words
    subjects: Subjects
    usual: frozenset[str]


def survey(documents: Iterable[Document]) -> Survey:
    """Go through the corpus once; what is kept grows with its vocabulary and its titles only."""
    words, names = Words(), set()
    titles: dict[str, set[str]] = defaultdict(set)
    for document in documents:
        words.add(document.text)
        titles[document.publisher].add(plain_title(document.title))
        names |= headings(document)
    usual = frozenset().union(*map(_usual, titles.values()))
    for title in set().union(*titles.values()):
        names |= {title, subject_of(title, usual)}
    return Survey(words, Subjects(names), usual)


def _usual(titles: set[str]) -> set[str]:
    counts = Counter(word for title in titles for word in set(title.split()))
    return {word for word, n in counts.items() if n >= _MOST * len(titles)} if len(titles) >= _FEW_TITLES else set()


def subject_of(title: str, usual: frozenset[str]) -> str:
    """What a title, a heading or a name speaks of: its words in small letters, without the usual ones."""
    plain = plain_title(title)
    return " ".join(word for word in plain.split() if word not in usual) or plain
