"""One document through all filters: what is left of it, and a decision for all that was dropped or changed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from troth.curate.document import Document
from troth.curate.filter.boilerplate import boilerplate_lines
from troth.curate.filter.c4 import c4
from troth.curate.filter.contamination import NO_BENCHMARKS, Benchmarks, contamination
from troth.curate.filter.credentials import credentials
from troth.curate.filter.edits import apart, make
from troth.curate.filter.finding import Finding
from troth.curate.filter.fineweb import fineweb
from troth.curate.filter.gopher import quality
from troth.curate.filter.language import MIN_CHARACTERS, MIN_PROBABILITY, judged_language
from troth.curate.filter.lenient import lenient
from troth.curate.filter.loaded import loaded
from troth.curate.filter.personal import personal_data
from troth.curate.filter.quality import QualityModel
from troth.curate.filter.repetition import repetition
from troth.curate.filter.toxic import toxic
from troth.curate.filter.words import Words
from troth.curate.records import Decision
from troth.system import CurateTable


@dataclass(frozen=True)
class Aids:
    """What filters need besides the settings: text of benchmarks, and a judge of quality."""

    benchmarks: Benchmarks = NO_BENCHMARKS
    model: QualityModel | None = None


@dataclass(frozen=True)
class Filtered:
    """The `document` that is left, if any, with its `words`, and the `decisions`."""

    document: Document | None
    words: Words
    decisions: list[Decision]


def filter_document(document: Document, settings: CurateTable, aids: Aids) -> Filtered:
    """Apply the filters that `settings` asks for. Rules of quality, language and tone are for prose; facts pass all."""
    words = Words(document.text)
    decisions: list[Decision] = []
    if document.kind == "facts":
        return Filtered(document, words, decisions)
    if document.kind == "prose":
        spoken = None
        if len(document.text) >= MIN_CHARACTERS:
            ranked, spoken = judged_language(document.text, settings.languages)
            best, probability = next(iter(ranked.items()))
            document = replace(document, language=best if probability > MIN_PROBABILITY else document.language)
        document, words, against = _judged(document, words, spoken, settings, decisions)
        against = against or [found for found in _tone(words, settings, aids) if found.broken]
        if against:
            return _dropped(document, words, decisions, against)
    if aids.benchmarks.grams:
        found = contamination(words, aids.benchmarks)
        if found.whole.broken or len(found.paragraphs) > document.text.count("\n\n"):
            return _dropped(document, words, decisions, [found.whole])
        if found.paragraphs:
            text = document.text
            for start, end, count in reversed(found.paragraphs):
                decisions.append(_changed(document, Finding("benchmark", count, 0), document.text[start:end]))
                text = text[:start].rstrip("\n") + "\n\n" + text[end:].lstrip("\n")
            document = replace(document, text=text.strip("\n"))
            words = Words(document.text)
    document = _redacted(document, words, settings, decisions)
    return Filtered(document, words if document.text is words.text else Words(document.text), decisions)


def _judged(
    document: Document, words: Words, spoken: Finding | None, settings: CurateTable, decisions: list[Decision]
) -> tuple[Document, Words, list[Finding]]:
    """The document without lines that do not belong to it, and what the rules say against the rest."""
    english = document.language in ("en", "")
    match settings.rules:
        case "lenient":
            cut = boilerplate_lines(document.text)
            if cut:
                lines = document.text.split("\n")
                rules = [(lines[number], Finding(rule, 1, 0)) for number, rule in cut.items()]
                document, words = _without(document, _rest(document.text, cut.keys()), rules, decisions)
            return document, words, lenient(words, settings.min_words, spoken, english=english)
        case "published":
            asked = chain([spoken] if spoken else [], repetition(words), quality(words, english=english))
            if first := _first(asked):
                return document, words, [first]
            left = c4(document.text)
            if left.against:
                return document, words, left.against
            if left.gone:
                document, words = _without(document, left.text, left.gone, decisions)
            first = _first(fineweb(words))
            return document, words, [first] if first else []
        case _:
            return document, words, [spoken] if spoken and spoken.broken else []


def _rest(text: str, gone: Iterable[int]) -> str:
    """The text without the lines of these numbers, and without paragraphs of which nothing is left."""
    gone = frozenset(gone)
    kept: list[str] = []
    number = 0
    for paragraph in text.split("\n\n"):
        lines = paragraph.split("\n")
        left = [line for at, line in enumerate(lines, number) if at not in gone]
        if left:
            kept.append("\n".join(left))
        number += len(lines) + 1
    return "\n\n".join(kept)


def _first(findings: Iterable[Finding]) -> Finding | None:
    return next((one for one in findings if one.broken), None)


def _tone(words: Words, settings: CurateTable, aids: Aids) -> Iterator[Finding]:
    if settings.toxic_above is not None:
        yield toxic(words, settings.toxic_above)
    if settings.loaded_above is not None:
        yield loaded(words, settings.loaded_above)
    if settings.quality_below is not None and aids.model:
        yield aids.model.judge(words, settings.quality_below)


def _redacted(document: Document, words: Words, settings: CurateTable, decisions: list[Decision]) -> Document:
    edits = [
        *(credentials(words) if settings.secrets else ()),
        *(personal_data(words) if settings.personal_data else ()),
    ]
    if not edits:
        return document
    made = apart(edits)
    decisions += [
        Decision("filter", document.source, "changed", edit.rule, 1, 0, edit.shown, edit.new) for edit in made
    ]
    return replace(document, text=make(document.text, made))


def _without(
    document: Document, text: str, gone: list[tuple[str, Finding]], decisions: list[Decision]
) -> tuple[Document, Words]:
    decisions += [_changed(document, finding, line) for line, finding in gone]
    return replace(document, text=text), Words(text)


def _changed(document: Document, finding: Finding, text: str) -> Decision:
    return Decision("filter", document.source, "changed", finding.rule, finding.value, finding.limit, text)


def _dropped(document: Document, words: Words, decisions: list[Decision], against: list[Finding]) -> Filtered:
    """The first reason carries the text."""
    decisions += [
        Decision("filter", document.source, "dropped", one.rule, one.value, one.limit, "" if at else document.text)
        for at, one in enumerate(against)
    ]
    return Filtered(None, words, decisions)
