"""Dated prose of several publishers, rendered from facts that changed, with a key of what is right."""

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from changing_facts import NUMBER, Fact
from publishers import TOPICS, House

from troth.curate.document import Document


@dataclass(frozen=True)
class Told:
    """A value in a rendered document, bytes `start:end` of its text. `label` is right now (`current`), right at its
    date (`superseded`), an earlier value under a newer date (`stale`), never right (`error`) or, where old and new
    may be the same in other words, `unclear`; `truth` is what was true at its date, `now` what is true today."""

    source: str
    start: int
    end: int
    text: str
    label: str
    truth: str
    now: str
    fact: tuple[str, str, str]
    edition: str


def render(facts: list[Fact], publishers: list[House], seed: int = 0) -> tuple[list[Document], list[Told]]:
    """The documents, and the key."""
    random = np.random.default_rng(seed)
    editions = sorted({edition for fact in facts for edition in fact.values})
    pools: dict[str, list[str]] = defaultdict(list)
    for fact in facts:
        pools[fact.relation] += sorted(set(fact.values.values()))
    documents: list[Document] = []
    key: list[Told] = []
    for house in publishers:
        ours = [fact for fact in facts if random.random() < house.covers]
        for edition in editions:
            pages: dict[str, list[tuple[Fact, str, str]]] = defaultdict(list)
            for fact in ours:
                if edition in fact.values:
                    value, label = _what_it_says(fact, edition, house, pools[fact.relation], random)
                    pages[_page(house, fact)].append((fact, value, label))
            published = (date.fromisoformat(edition) + timedelta(days=house.lag)).isoformat()
            for title, told in pages.items():
                document, answers = _write(house, title, told, edition, published, random)
                documents.append(document)
                key += answers
    return documents, key


def _page(house: House, fact: Fact) -> str:
    if house.layout == "topic":
        return f"{TOPICS[fact.relation]} around the world"
    subject = fact.subject.removeprefix("the ")
    return {"country": subject, "profile": f"{subject}: a profile", "headings": "The world in brief"}[house.layout]


def _what_it_says(
    fact: Fact, edition: str, house: House, pool: list[str], random: np.random.Generator
) -> tuple[str, str]:
    truth = fact.values[edition]
    draw = random.random()
    if draw < house.wrong:
        wrong = _misstate(truth, pool, random)
        if not any(alike(wrong, value) for value in fact.values.values()):
            return wrong, "error"
    elif draw < house.wrong + house.stale:
        earlier = [value for when, value in sorted(fact.values.items()) if when < edition and differ(value, truth)]
        if earlier:
            return earlier[-1], "stale"
    return truth, ""


def _misstate(value: str, pool: list[str], random: np.random.Generator) -> str:
    digits = [m.start() for m in re.finditer(r"\d", value)]
    if (digits and NUMBER.match(value)) or re.match(r"\d+ [A-Z][a-z]+ \d{4}$", value):
        at = (
            digits[int(random.integers(min(3, len(digits))))]
            if NUMBER.match(value)
            else digits[-1 - int(random.integers(2))]
        )
        new = str((int(value[at]) + int(random.integers(1, 9))) % 10)
        new = new if at or new != "0" else str(random.integers(1, 9))
        return value[:at] + new + value[at + 1 :]
    return pool[int(random.integers(len(pool)))]


def _write(
    house: House,
    title: str,
    told: list[tuple[Fact, str, str]],
    edition: str,
    published: str,
    random: np.random.Generator,
) -> tuple[Document, list[Told]]:
    """One page: sentences in the house's order, in paragraphs of six, under a heading a subject where it has such."""
    groups: dict[str, list[tuple[Fact, str, str]]] = defaultdict(list)
    for one in told:
        groups[one[0].subject if house.layout == "headings" else ""].append(one)
    source = f"{house.name.lower().replace(' ', '-')}/{edition}/{title.lower().replace(' ', '-')}.md"
    text, answers = "", []
    for head, ones in groups.items():
        text += f"## {head}\n\n" if head else ""
        if house.layout == "profile":
            ones = [ones[i] for i in random.permutation(len(ones))]
        for number, (fact, value, label) in enumerate(ones):
            wordings = house.wordings[fact.relation]
            form = wordings[int(random.integers(len(wordings)))]
            shown = _rounded(value) if house.rounds else value
            before, after = form.split("{V}")
            fill = {"S": fact.subject, "Y": fact.year, "E": edition[:4]}
            before, after = before.format(**fill), after.format(**fill)
            if not before:
                shown = shown[0].upper() + shown[1:]
            else:
                before = before[0].upper() + before[1:]
            start = len((text + before).encode())
            text += before + shown + after + ("\n\n" if number % 6 == 5 else " ")
            answers.append((start, start + len(shown.encode()), shown, label, fact))
        text = text.rstrip() + "\n\n"
    document = Document(source, "documents", text, title=title, publisher=house.name, published=published)
    return document, [_answer(source, *answer, edition) for answer in answers]


def _answer(source: str, start: int, end: int, shown: str, label: str, fact: Fact, edition: str) -> Told:
    truth, now = fact.values[edition], fact.values[max(fact.values)]
    if not label:
        label = "current" if _rewritten(truth, shown, now) else "superseded" if differ(shown, now) else "unclear"
    elif label == "stale" and alike(shown, now):
        label = "unclear"
    return Told(source, start, end, shown, label, truth, now, (fact.subject, fact.relation, fact.year), edition)


def _rewritten(truth: str, shown: str, now: str) -> bool:
    """Whether what is true today is the same to the last figure, or would be rounded to the same."""
    x, y = _number(truth), _number(now)
    return x[0] == y[0] or shown == _rounded(now) != now if x and y else alike(shown, now)


def _rounded(value: str) -> str:
    """Large numbers to three figures: 19,625,353 is written 19.6 million."""
    match = re.match(r"[\d,]{7,}(?![.\d])", value)
    if not match:
        return value
    number = float(match.group().replace(",", ""))
    scale, word = (1e9, "billion") if number >= 1e9 else (1e6, "million")
    return f"{number / scale:.3g} {word}{value[match.end() :]}" if number >= 1e6 else value


def alike(a: str, b: str) -> bool:
    """Whether two values say the same, the coarser number deciding how closely; words in any order and case."""
    x, y = _number(a), _number(b)
    if x and y:
        return abs(x[0] - y[0]) <= max(x[1], y[1]) * 0.5000001
    return _words(a) == _words(b)


def differ(a: str, b: str) -> bool:
    """Whether two values surely say different things; names and phrases that share most words may not."""
    if alike(a, b):
        return False
    if (x := _number(a)) and (y := _number(b)):
        return f"{x[0]:.3g}" != f"{y[0]:.3g}" or (not a.endswith("00") and not b.endswith("00"))
    x, y = _words(a), _words(b)
    return len(x & y) / len(x | y) < 0.5 and not ({_surname(a)} & y or {_surname(b)} & x)


def _surname(text: str) -> str:
    return re.findall(r"[a-z0-9]+", text.lower())[-1]


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9à-ÿ]+", text.lower()))


def _number(text: str) -> tuple[float, float] | None:
    """A number and the worth of one unit of its last figure."""
    match = re.fullmatch(r"\$?(-?\d[\d,]*)(\.\d+)?%?(?: (million|billion|trillion))?(?: square kilometres)?", text)
    if not match:
        return None
    scale = {"million": 1e6, "billion": 1e9, "trillion": 1e12}.get(match.group(3) or "", 1.0)
    whole = match.group(1).replace(",", "")
    return float(whole + (match.group(2) or "")) * scale, scale * 10.0 ** -(len(match.group(2) or ".") - 1)
