"""Table look-ups: a claim about the subject of a row, in the words of a column's heading, against the cell.

Rows come from tables that the user names or from documents of kind `table` ("column: value; column: value" a line).
They lie in an SQLite file, so that memory stays flat and every worker reads the same ones.
"""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path

from troth import __version__
from troth.curate.document import Document
from troth.curate.memory import remembered
from troth.curate.records import short_hash
from troth.curate.validate.verifiers.exact import hedged
from troth.curate.validate.verifiers.numbers import Number, find_numbers
from troth.curate.validate.verifiers.protocol import Judgement, Question
from troth.curate.validate.verifiers.units import convert, unit_of

_SUBJECT_COLUMNS, _SUBJECT_WORDS, _ROWS, _ASKED_AT_ONCE = 2, 5, 256, 500
_SYMBOL, _MEASURED = 3, Fraction(1, 50)
"""Letters of a symbol, and by how much two measurements of the same may differ."""
_PLAIN_HEADINGS = frozenset({"value", "amount", "data", "figure", "number", "estimate", "text"})
_SMALL_WORDS = frozenset("the a an of in at for per and or by to is was are were has have had its total".split())  # noqa: SIM905
_BETWEEN = frozenset(
    "is was are were of at about approximately roughly around stands stood the a an to in had has have with "  # noqa: SIM905
    "estimated be reached reaches measures measured totals totalled equals year as".split()
)
_BREAK = re.compile(r"[;!?<>\n\"“”]|\. ")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def index_tables(path: Path, documents: Iterable[Document]) -> int:
    """Write the rows of table documents to the SQLite file `path`, which appears whole or, without a row, not at all;
    return how many there are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial)) as store, store:
        store.execute("PRAGMA journal_mode=OFF")
        store.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, title TEXT, source TEXT, cells TEXT)")
        store.execute("CREATE TABLE subjects (subject TEXT, id INTEGER, PRIMARY KEY (subject, id)) WITHOUT ROWID")
        count = 0
        for document in documents:
            title = document.title or Path(document.source.partition("#")[0]).stem
            for cells in _rows(document.text):
                count += 1
                row = (count, title, document.source, json.dumps(cells))
                store.execute("INSERT INTO rows VALUES (?, ?, ?, ?)", row)
                named = [value for value in cells.values() if re.search(r"[^\W\d_]{2}", value)][:_SUBJECT_COLUMNS]
                store.executemany(
                    "INSERT OR IGNORE INTO subjects VALUES (?, ?)",
                    [(_plain(value), count) for value in named if len(value.split()) <= _SUBJECT_WORDS],
                )
    if count:
        os.replace(partial, path)
    else:
        partial.unlink()
    return count


def _rows(text: str) -> Iterator[dict[str, str]]:
    for line in text.splitlines():
        parts = [part.partition(": ") for part in line.split("; ")]
        cells = {name.strip(): value.strip() for name, colon, value in parts if colon and value.strip()}
        if len(cells) > 1:
            yield cells


@dataclass(frozen=True)
class _Row:
    title: str
    source: str
    cells: dict[str, str]


@dataclass(frozen=True)
class _Found:
    """A cell that a claim is about."""

    subject: str
    column: str
    value: str
    source: str


@dataclass(frozen=True)
class TableLookup:
    """A verifier that knows the rows of an SQLite file made by `index_tables`."""

    path: Path

    name = "tables"
    prompt_hash = ""

    @cached_property
    def model_hash(self) -> str:
        """Of the rows themselves: another table is another witness."""
        rows = self._store.execute("SELECT count(*), coalesce(max(id), 0), coalesce(sum(length(cells)), 0) FROM rows")
        return short_hash(self.name, __version__, *map(str, rows.fetchone()))

    def judge(self, questions: Sequence[Question]) -> list[Judgement | None]:
        """Supported where the cell says the same, refuted, with the cell's value as answer, where it does not."""
        return [self._judge(question) for question in questions]

    @cached_property
    def _store(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, check_same_thread=False)

    def _judge(self, question: Question) -> Judgement | None:
        place = question.place
        if place is None or hedged(question.sentence):
            return None
        found = {(cell.subject, cell.column): cell for cell in self._cells(question, place)}
        values = {_plain(cell.value) for cell in found.values()}
        if len(values) != 1:
            return None
        return _compare(question, next(iter(found.values())))

    @cached_property
    def _about(self) -> Callable[[str], list[tuple[str, list[_Row]]]]:
        """`_look_up` for a text whose values are asked about one after another."""
        return lru_cache(maxsize=16)(self._look_up)

    def _look_up(self, text: str) -> list[tuple[str, list[_Row]]]:
        """The subjects that a text names, with their rows."""
        grams = _grams(text)
        known: list[str] = []
        for i in range(0, len(grams), _ASKED_AT_ONCE):
            some = grams[i : i + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(some))
            found = self._store.execute(f"SELECT DISTINCT subject FROM subjects WHERE subject IN ({marks})", some)
            known += [subject for (subject,) in found]
        about = []
        for subject in sorted(known):
            rows = self._store.execute(
                "SELECT title, source, cells FROM rows JOIN subjects USING (id) WHERE subject = ? LIMIT ?",
                (subject, _ROWS + 1),
            ).fetchall()
            if len(rows) <= _ROWS:
                about.append((subject, [_Row(title, source, json.loads(cells)) for title, source, cells in rows]))
        return about

    def _cells(self, question: Question, place: tuple[int, int]) -> Iterator[_Found]:
        start, end = place
        claim, sentence = question.claim, question.sentence
        about = self._about(sentence) + (self._about(claim.subject) if claim.subject else [])
        if not about:
            return
        rest = sentence[:start] + " \0 " + sentence[end:]
        said, relation = _stems(rest), _stems(claim.relation)
        own = _plain(claim.subject)
        for subject, rows in dict(about).items():
            if subject != own and not _stems(subject) <= said:
                continue  # It is the object itself.
            best: list[tuple[int, _Found]] = []
            for row in rows:
                if not _is_of_time(row.cells, question, rest) or not _is_written(row.cells, subject, sentence):
                    continue
                for column, value in list(row.cells.items())[1:]:
                    words = _heading(column, row.title)
                    if not words or _is_year(column) or _plain(value) == subject:
                        continue
                    given = subject == own and bool(relation) and words <= relation
                    if given or (words <= said and _beside(rest, words, subject)):
                        best.append((len(words), _Found(subject, column, value, row.source)))
            most = max((size for size, _ in best), default=0)
            yield from (cell for size, cell in best if size == most)


def _compare(question: Question, cell: _Found) -> Judgement | None:
    claim = question.claim
    told = f"{cell.source}: {cell.subject}, {cell.column}: {cell.value}"
    stated, known = list(find_numbers(claim.object)), list(find_numbers(cell.value))
    if len(stated) == 1 and len(known) == 1:
        number, value = stated[0], known[0].value
        one, two = _unit(claim.object, number), _unit(cell.value, known[0]) or unit_of(_in_brackets(cell.column))
        if one and two and one != two:
            converted = convert(value, two, one)
            if converted is None:
                return None
            value = converted
        before = question.sentence[: question.place[0]] if question.place else ""
        if before.endswith(("-", "−")):
            value = -value
        slack = max(number.rounded, known[0].rounded if one != two else known[0].half)
        if abs(value - number.value) <= slack:
            return Judgement(1.0, "supported", "", told)
        if known[0].places and abs(value - number.value) <= abs(value) * _MEASURED:
            return None
        answer = claim.object[: number.start] + number.written(value) + claim.object[number.end :]
        return Judgement(-1.0, "refuted", answer, told)
    if stated or known or len(cell.value.split()) > _SUBJECT_WORDS:
        return None
    first, second = set(_plain(claim.object).split()), set(_plain(cell.value).split())
    if first <= second or second <= first:
        return Judgement(1.0, "supported", "", told)
    if first & second or _plain(cell.value) in _plain(question.sentence):
        return None
    return Judgement(-1.0, "refuted", cell.value, told)


def _beside(rest: str, words: frozenset[str], subject: str) -> bool:
    """Whether heading and object stand next to each other, nothing between them but the subject and small words, and
    nothing before the subject but small words: "the height of Everest is ..."."""
    before, _, after = rest.partition("\0")
    before, after = _BREAK.split(before)[-1], _BREAK.split(after)[0]
    own = set(_stems(subject)) | words
    for text, backwards in ((before, True), (after, False)):
        tokens = [stem(word) for word in _WORD.findall(text)]
        tokens = tokens[::-1] if backwards else tokens
        seen: set[str] = set()
        for token in tokens:
            if token not in own and token not in _BETWEEN and not token.isdigit():
                break
            seen.add(token)
        if text is after and _plain(before).endswith(subject):
            seen |= _stems(subject)
        if words | _stems(subject) <= seen:
            return True
    return False


def _is_of_time(cells: dict[str, str], question: Question, rest: str) -> bool:
    """Whether a row with a year is of the claim's year."""
    years = [value for column, value in cells.items() if _is_year(column)]
    own = question.claim.valid_from[:4]
    return all(year[:4] == own or re.search(rf"\b{re.escape(year[:4])}\b", rest) for year in years)


def _is_written(cells: dict[str, str], subject: str, sentence: str) -> bool:
    """Whether a short subject, such as a symbol, stands there letter by letter: "Be" is not "be"."""
    if len(subject) > _SYMBOL:
        return True
    return any(_plain(cell) == subject and re.search(rf"\b{re.escape(cell)}\b", sentence) for cell in cells.values())


def _is_year(column: str) -> bool:
    return column.strip().lower() in ("year", "date", "as of", "edition", "edition_date")


@remembered(4096)
def _heading(column: str, title: str) -> frozenset[str]:
    """The words of a column's heading without its unit; those of the table's title where the heading says nothing."""
    words = _stems(re.sub(r"\([^)]*\)|\[[^]]*\]", " ", column.replace("_", " "))) - _SMALL_WORDS
    if words and words <= _PLAIN_HEADINGS:
        words = frozenset(word for word in _stems(title.replace("_", " ")) - _SMALL_WORDS if not word.isdigit())
    return words


def _in_brackets(column: str) -> str:
    found = re.search(r"[(\[]([^)\]]*)[)\]]", column)
    return found[1] if found else ""


def _unit(text: str, number: Number) -> str | None:
    return unit_of(text[number.end :].strip(" -,."))


def _grams(text: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(text)]
    sizes = range(_SUBJECT_WORDS, 0, -1)
    return list(dict.fromkeys(
        " ".join(words[i : i + size]) for size in sizes for i in range(len(words) - size + 1)
        if size > 1 or words[i] not in _SMALL_WORDS
    ))  # fmt: skip


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.lower())).removeprefix("the ")


def _stems(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in _WORD.findall(text))


def stem(word: str) -> str:
    """A word without case and plural."""
    word = word.lower().removesuffix("'s").removesuffix("’s")
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
