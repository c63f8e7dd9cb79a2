"""Dated prose of several publishers, rendered from tables of facts that changed, with a key of what is right.

    python bench/dated_facts.py [--data ../shared/data] [--set factbook population leaders offices] [--countries N]
    [--json]

Four publishers tell the same facts in their own wordings, page layouts and habits of rounding; one is careless: a tenth
of its values are wrong, and a tenth are those of an earlier edition under the new date. The key says of each value
whether it was right at its date, whether it still is, and which differences are mere reformatting (these do not count).
What is measured is `troth.curate.validate`: superseded facts found and unchanged ones left; errors refuted and mended;
false alarms where nothing is wrong, with 95% intervals.
"""

import argparse
import csv
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from idle import warn_if_busy

from troth.curate.document import Document
from troth.curate.validate.slots import TimedVerdict, judge_documents


@dataclass(frozen=True)
class Fact:
    """One fact; `values` are what each edition (ISO date) says. `year` belongs to figures of one certain year."""

    subject: str
    relation: str
    values: dict[str, str]
    year: str = ""


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


@dataclass(frozen=True)
class House:
    """A publisher: its templates by relation, how it lays out pages, whether it rounds, and how often it errs."""

    name: str
    layout: str
    wordings: dict[str, tuple[str, ...]]
    rounds: bool = False
    lag: int = 0
    covers: float = 0.9
    wrong: float = 0.0
    stale: float = 0.0
    skips: frozenset[str] = field(default_factory=frozenset)


# -- tables ------------------------------------------------------------------------------------------------------------

_SIMPLE = {
    ("Population", ""): "population", ("Population", "total"): "population",
    ("Area", "total"): "area", ("Area", "land"): "land", ("Area", "water"): "water",
    ("Total fertility rate", ""): "fertility",
    ("Life expectancy at birth", "total population"): "life", ("Life expectancy at birth", "male"): "life_male",
    ("Life expectancy at birth", "female"): "life_female",
    ("Median age", "total"): "age", ("Median age", "male"): "age_male", ("Median age", "female"): "age_female",
    ("Internet users", "total"): "internet", ("Internet users", "percent of population"): "internet_share",
    ("Telephones - mobile cellular", "total subscriptions"): "mobile",
    ("Telephones - mobile cellular", "total"): "mobile",
    ("Telephones - mobile cellular", "subscriptions per 100 inhabitants"): "mobile_share",
    ("Capital", "name"): "capital", ("Capital", "geographic coordinates"): "coordinates",
    ("Capital", "time difference"): "clock", ("Government type", ""): "government", ("Languages", ""): "languages",
    ("Languages", "Languages"): "languages", ("Executive branch", "chief of state"): "chief",
    ("Executive branch", "cabinet"): "cabinet", ("Independence", ""): "independence",
}  # fmt: skip
_YEARLY = {"Unemployment rate": "jobless", "Inflation rate (consumer prices)": "inflation",
           "Real GDP (purchasing power parity)": "gdp"}  # fmt: skip
_NUMBER = re.compile(r"\$?-?\d[\d,]*(?:\.\d+)?%?(?: (?:million|billion|trillion))?")
_NUMERIC = {"population", "area", "land", "water", "fertility", "life", "life_male", "life_female", "age", "age_male",
            "age_female", "internet", "internet_share", "mobile", "mobile_share"}  # fmt: skip


def factbook(data: Path, countries: int) -> list[Fact]:
    """Facts of the World Factbook's editions, 2015 to 2024."""
    found: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    with (data / "factbook_years/factbook_versions.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["country"] not in ("", "none")]
    names = sorted({row["country"] for row in rows})
    chosen = set(np.random.default_rng(7).permutation(names)[:countries])
    for row in rows:
        if row["country"] not in chosen:
            continue
        subject = _plain_name(row["country"])
        relation = _SIMPLE.get((row["field"], row["subfield"].strip()))
        if relation and (value := _clean(relation, row["text"])):
            found[subject, relation, ""][row["edition_date"]] = value
        if yearly := _YEARLY.get(row["field"]):
            for year, value in _by_year(row["field"], row["subfield"], row["text"]):
                found[subject, yearly, year][row["edition_date"]] = value
    return [Fact(*key[:2], values, key[2]) for key, values in sorted(found.items())]


def _plain_name(country: str) -> str:
    name = re.sub(r"\s*\(.*", "", country)
    return " ".join(reversed(name.split(", "))) if ", " in name else name


def _clean(relation: str, text: str) -> str:
    """The value itself, without notes, estimates' dates and asides; empty where there is none."""
    text = re.split(r"\s*(?:;?\s*note\b\s*[-:]|\+\+)", text)[0].strip()
    if relation in _NUMERIC:
        match = _NUMBER.match(text)
        unit = {"area": " square kilometres", "land": " square kilometres", "water": " square kilometres"}
        return match.group() + unit.get(relation, "") if match and "NA" not in text else ""
    if relation == "chief":
        match = re.match(
            r"(?:President|King|Queen|Emperor|Amir|Sultan|Prince|Chairman|Supreme Leader)\b([^(;,]*)", text
        )
        return " ".join(word.capitalize() for word in match.group(1).split()) if match else ""
    if relation == "independence":
        match = re.match(r"\d{1,2} [A-Z][a-z]+ \d{4}", text)
        return match.group() if match else ""
    if relation == "clock":
        match = re.match(r"UTC[+-]?[\d:.]+", text)
        return match.group() if match else ""
    text = re.split(r"\s*[;:(]" if relation in ("capital", "cabinet", "government") else r"\s*[;:]", text)[0]
    text = re.sub(r"\s*\(\d{4}(?: est\.)?\)", "", text).strip(" .")
    return text if 2 < len(text) < 160 and text != "NA" else ""


def _by_year(name: str, sub: str, text: str) -> Iterator[tuple[str, str]]:
    if named := re.fullmatch(rf"{re.escape(name)} (\d{{4}})", sub):
        match = _NUMBER.match(text)
        if match:
            yield named.group(1), match.group()
    elif not sub:
        for part in re.split(r"\s*(?:\+\+|/)\s*", text):
            match, year = _NUMBER.match(part), re.search(r"\((\d{4}) est\.\)", part)
            if match and year:
                yield year.group(1), match.group()


def population(data: Path, countries: int) -> list[Fact]:
    """Revisions of the World Bank's population figures, every tenth year."""
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for path in sorted((data / "population_versions").glob("population_*.csv")):
        edition = path.name.split("_")[1]
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["Year"] in ("1970", "1980", "1990", "2000", "2005", "2010"):
                    found[_plain_name(row["Country Name"]), row["Year"]][edition] = f"{round(float(row['Value'])):,}"
    names = set(np.random.default_rng(7).permutation(sorted({name for name, _ in found}))[:countries])
    return [Fact(name, "people", values, year) for (name, year), values in sorted(found.items()) if name in names]


def leaders(data: Path, countries: int) -> list[Fact]:
    """Who led a state, in editions from 1990 to 2020."""
    terms: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    with (data / "reign_leaders/data_sets/leaderlist_3_21.csv").open(encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            if row["syear"]:
                end = f"{row['eyear']}-{int(row['emonth'] or 1):02d}-15" if row["eyear"] else "9999"
                start = f"{row['syear']}-{int(row['smonth'] or 1):02d}-{int(row['sdate'] or 1):02d}"
                terms[row["stateabb"]].append((start, end, row["leader"]))
    with (data / "reign_leaders/data_sets/regime_list.csv").open(encoding="utf-8", errors="replace") as file:
        codes = {row["cowcode"]: row["gwf_country"] for row in csv.DictReader(file)}
    with (data / "reign_leaders/data_sets/leaderlist_3_21.csv").open(encoding="utf-8", errors="replace") as file:
        names = {row["stateabb"]: codes.get(row["ccode"], "") for row in csv.DictReader(file)}
    editions = [f"{year}-06-30" for year in range(1990, 2021, 3)]
    facts = [Fact(names[state], "leader", _held(terms[state], editions)) for state in sorted(terms) if names[state]]
    chosen = np.random.default_rng(7).permutation(len(facts))[:countries]
    return [facts[i] for i in sorted(chosen) if facts[i].values]


def _held(terms: list[tuple[str, str, str]], editions: list[str]) -> dict[str, str]:
    held = {}
    for edition in editions:
        names = [name for start, end, name in terms if start <= edition < end]
        if len(names) == 1 and names[0].strip():
            held[edition] = " ".join(word[:1].upper() + word[1:] for word in names[0].split())
    return held


def offices(data: Path, countries: int) -> list[Fact]:
    """Presidents, vice presidents and senators of the United States, in yearly editions."""
    import yaml

    folder = data / "us_executive_legislators"
    people = yaml.load((folder / "executive.yaml").read_text(), yaml.CSafeLoader)
    people += yaml.load((folder / "legislators-current.yaml").read_text(), yaml.CSafeLoader)
    terms: dict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
    for person in people:
        name = f"{person['name']['first']} {person['name']['last']}"
        for term in person["terms"]:
            about = term["start"], term["end"], name
            if term["type"] in ("prez", "viceprez"):
                terms["the United States", term["type"]].append(about)
            elif term["type"] == "rep" and term["district"]:
                terms[f"{_STATES.get(term['state'], term['state'])}'s district {term['district']}", "rep"].append(about)
    editions = [f"{year}-09-01" for year in range(2004, 2026, 2)]
    facts = [Fact(*key, _held(terms[key], editions)) for key in sorted(terms)]
    facts = [fact for fact in facts if len(fact.values) > 1]
    chosen = np.random.default_rng(7).permutation(len(facts))[: 2 * countries]
    return [facts[i] for i in sorted(chosen)]


_STATES = {"CA": "California", "TX": "Texas", "NY": "New York", "FL": "Florida", "OH": "Ohio", "IL": "Illinois",
           "PA": "Pennsylvania", "GA": "Georgia", "NC": "North Carolina", "MI": "Michigan", "NJ": "New Jersey",
           "VA": "Virginia", "WA": "Washington", "AZ": "Arizona", "MA": "Massachusetts", "TN": "Tennessee",
           "IN": "Indiana", "MD": "Maryland", "MO": "Missouri", "WI": "Wisconsin", "CO": "Colorado"}  # fmt: skip


# -- four publishers ---------------------------------------------------------------------------------------------------

TOPICS = {
    "population": "Population", "area": "Area", "land": "Land area", "water": "Inland waters", "fertility": "Fertility",
    "life": "Life expectancy", "life_male": "Life expectancy of men", "life_female": "Life expectancy of women",
    "age": "Median age", "age_male": "Age of men", "age_female": "Age of women", "internet": "Internet users",
    "internet_share": "Internet access", "mobile": "Mobile telephones", "mobile_share": "Mobile telephone density",
    "capital": "Capitals", "coordinates": "Where capitals lie", "clock": "Time zones", "government": "Governments",
    "languages": "Languages", "chief": "Heads of state", "cabinet": "Cabinets", "independence": "Independence",
    "jobless": "Unemployment", "inflation": "Inflation", "gdp": "Gross domestic product", "people": "Census figures",
    "leader": "Leaders", "prez": "Presidency", "viceprez": "Vice presidency", "rep": "Representatives",
}  # fmt: skip
MERIDIAN = {
    "population": ("The population of {S} is {V}.",), "area": ("{S} covers a total area of {V}.",),
    "land": ("Of this, {V} are land.",), "water": ("Lakes and rivers take up {V}.",),
    "fertility": ("On average, a woman in {S} has {V} children.",),
    "life": ("Life expectancy at birth is {V} years.",), "life_male": ("Men can expect to live {V} years.",),
    "life_female": ("Women can expect to live {V} years.",), "age": ("The median age of the people is {V} years.",),
    "age_male": ("Among men the median age is {V} years.",),
    "age_female": ("Among women the median age is {V} years.",),
    "internet": ("Some {V} people use the internet.",), "internet_share": ("That is {V} of all inhabitants.",),
    "mobile": ("There are {V} mobile telephone subscriptions in {S}.",),
    "mobile_share": ("For every 100 inhabitants there are {V} of them.",),
    "capital": ("The capital of {S} is {V}.",), "coordinates": ("It lies at {V}.",),
    "clock": ("Clocks in the capital show {V}.",), "government": ("The government of {S} is a {V}.",),
    "languages": ("The languages spoken in {S} are {V}.",), "chief": ("The head of state of {S} is {V}.",),
    "cabinet": ("The cabinet is described thus: {V}.",), "independence": ("{S} became independent on {V}.",),
    "jobless": ("In {Y}, the unemployment rate of {S} was {V}.",),
    "inflation": ("Consumer prices rose by {V} in {Y}.",),
    "gdp": ("Real gross domestic product amounted to {V} in {Y}.",), "people": ("In {Y}, {S} had {V} inhabitants.",),
    "leader": ("The leader of {S} is {V}.",), "prez": ("The President of {S} is {V}.",),
    "viceprez": ("The Vice President of {S} is {V}.",), "rep": ("The member for {S} is {V}.",),
}  # fmt: skip
HARBOUR = {
    "population": ("The country is home to {V} people.", "Its inhabitants number {V}."),
    "area": ("It extends over {V} in all.", "Its whole territory measures {V}."), "land": ("Dry land makes up {V}.",),
    "water": ("Water covers {V}.",), "fertility": ("Women bear {V} children on average.",),
    "life": ("A newborn may hope for {V} years.", "People live to the age of {V} on average."),
    "life_male": ("For boys the expectation is {V} years.",),
    "life_female": ("For girls the expectation is {V} years.",),
    "age": ("Half of the people are younger than {V}.",), "age_male": ("Half of the men are younger than {V}.",),
    "age_female": ("Half of the women are younger than {V}.",), "internet": ("{V} people are online.",),
    "internet_share": ("{V} of the population are online.",), "mobile": ("Mobile phone contracts number {V}.",),
    "mobile_share": ("This makes {V} contracts for each hundred people.",),
    "capital": ("Its capital is {V}.", "The government sits in the capital, {V}."),
    "coordinates": ("The capital's position is {V}.",), "clock": ("The time zone is {V}.",),
    "government": ("Its form of government: {V}.",), "languages": ("Languages in use: {V}.",),
    "chief": ("{V} is head of state.", "The head of state is {V}."), "cabinet": ("As to the cabinet: {V}.",),
    "independence": ("Independence was gained on {V}.",), "jobless": ("Unemployment stood at {V} in {Y}.",),
    "inflation": ("Inflation in {Y} was {V}.",), "gdp": ("In {Y}, the economy produced {V}.",),
    "people": ("The population in {Y} was {V}.", "{V} people lived here in {Y}."),
    "leader": ("At its head stands {V}.", "It is led by {V}."), "prez": ("The presidency is held by {V}.",),
    "viceprez": ("The vice presidency is held by {V}.",), "rep": ("In the House it is represented by {V}.",),
}  # fmt: skip
ORBIS = {
    "population": ("In {E}, {S} counted {V} people.",), "area": ("{S} has an area of {V}.",),
    "land": ("{S} has {V} of land.",), "water": ("{S} has {V} of water.",),
    "fertility": ("Fertility in {S} is {V} children per woman.",), "life": ("In {S}, life expectancy is {V} years.",),
    "life_male": ("Men in {S} live {V} years on average.",),
    "life_female": ("Women in {S} live {V} years on average.",),
    "age": ("{S} has a median age of {V}.",), "age_male": ("The men of {S} have a median age of {V}.",),
    "age_female": ("The women of {S} have a median age of {V}.",), "internet": ("{S} has {V} users of the internet.",),
    "internet_share": ("In {S}, {V} of the population use the internet.",),
    "mobile": ("As of {E}, {S} has {V} mobile subscriptions.",),
    "mobile_share": ("In {S} there are {V} mobile subscriptions per 100 people.",),
    "capital": ("{V} is the capital of {S}.",), "coordinates": ("The capital of {S} is found at {V}.",),
    "clock": ("{S} keeps {V}.",), "government": ("{S} is a {V}.",), "languages": ("People in {S} speak {V}.",),
    "chief": ("In {E}, {V} is the head of state of {S}.",), "cabinet": ("The cabinet of {S}: {V}.",),
    "independence": ("{S} has been independent since {V}.",),
    "jobless": ("{S} had an unemployment rate of {V} in {Y}.",), "inflation": ("Prices in {S} went up {V} in {Y}.",),
    "gdp": ("The output of {S} in {Y} was worth {V}.",), "people": ("{S} had a population of {V} in {Y}.",),
    "leader": ("{V} leads {S}.",), "prez": ("{V} is the President of {S}.",),
    "viceprez": ("{V} is the Vice President of {S}.",), "rep": ("{V} represents {S}.",),
}  # fmt: skip
QUICK = {
    "population": ("Population today: {V}.",), "area": ("Size: {V}.",), "land": ("Land: {V}.",),
    "water": ("Waters: {V}.",), "fertility": ("Children per woman: {V}.",), "life": ("Average life span: {V} years.",),
    "life_male": ("Life span of a man: {V} years.",), "life_female": ("Life span of a woman: {V} years.",),
    "age": ("The middle age is {V}.",), "age_male": ("For males the middle age is {V}.",),
    "age_female": ("For females the middle age is {V}.",), "internet": ("Web users: {V}.",),
    "internet_share": ("Share of web users: {V}.",), "mobile": ("Cell phones: {V}.",),
    "mobile_share": ("Cell phones per hundred people: {V}.",), "capital": ("Did you know that the capital is {V}?",),
    "coordinates": ("You find the capital at {V}.",), "clock": ("Set your watch to {V}!",),
    "government": ("How {S} is ruled: {V}.",), "languages": ("You will hear {V}.",), "chief": ("Number one: {V}.",),
    "cabinet": ("In charge: {V}.",), "independence": ("Independence Day remembers {V}.",),
    "jobless": ("Out of work in {Y}: {V}.",), "inflation": ("Price rise in {Y}: {V}.",),
    "gdp": ("All that {S} made in {Y} was worth {V}.",), "people": ("Head count for {Y}: {V}.",),
    "leader": ("The boss is {V}.",), "prez": ("President: {V}.",), "viceprez": ("Vice President: {V}.",),
    "rep": ("Your representative is {V}.",),
}  # fmt: skip


def houses(wrong: float = 0.0, careless: float = 0.1, stale: float = 0.1) -> list[House]:
    """The four publishers; `wrong` is the error rate of the careful three."""
    return [
        House("Meridian Yearbook", "country", MERIDIAN, lag=20, wrong=wrong),
        House("Harbour Almanac", "profile", HARBOUR, rounds=True, lag=45, wrong=wrong),
        House("Orbis Tables in Words", "topic", ORBIS, lag=80, wrong=wrong, covers=0.8),
        House("Quick World", "headings", QUICK, lag=60, wrong=careless or wrong, stale=stale),
    ]


# -- rendering ---------------------------------------------------------------------------------------------------------


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
    if (digits and _NUMBER.match(value)) or re.match(r"\d+ [A-Z][a-z]+ \d{4}$", value):
        at = (
            digits[int(random.integers(min(3, len(digits))))]
            if _NUMBER.match(value)
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


# -- when two values are the same --------------------------------------------------------------------------------------


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


SETS = {"factbook": factbook, "population": population, "leaders": leaders, "offices": offices}


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """Counts of the key's labels against what was found, and the pace."""

    table: dict[tuple[str, str], int]
    claims: int
    megabytes: float
    seconds: float
    mended: int
    canaries: dict[str, float]

    def _sum(self, labels: Iterable[str], found: Iterable[str]) -> int:
        return sum(self.table.get((label, one), 0) for label in labels for one in found)

    def figures(self) -> dict[str, object]:
        """Precision, recall and false alarms; what may be mere reformatting (`unclear`) counts nowhere."""
        old, right = ("superseded", "stale"), ("current", "superseded")
        every = ("current", "superseded", "stale", "refuted", "missed")
        hits, all_old = self._sum(old, old), self._sum(old, every)
        wrongly_old = self._sum(("current", "error"), old)
        caught, all_wrong = self._sum(("error",), ("refuted",)), self._sum(("error",), every)
        placed = all_wrong - self._sum(("error",), ("missed",))
        alarms, all_right = self._sum(right, ("refuted",)), self._sum(right, every)
        return {
            "claims": self.claims, "superseded": all_old,
            "unchanged": self._sum(("current",), every), "errors": all_wrong,
            "superseded precision": _share(hits, hits + wrongly_old), "superseded recall": _share(hits, all_old),
            "unchanged touched": f"{self._sum(('current',), ('superseded', 'stale', 'refuted'))}",
            "error precision": _share(caught, caught + alarms), "error recall": _share(caught, all_wrong),
            "of those placed": _share(caught, placed), "mended": _share(self.mended, caught),
            "false alarms": _share(alarms, all_right),
            "MB/s of one core": round(self.megabytes / self.seconds, 2), **self.canaries,
        }  # fmt: skip


def _share(part: int, whole: int) -> str:
    """A share with its 95% interval (Wilson 1927)."""
    if not whole:
        return "-"
    p, z = part / whole, 1.96
    middle = (p + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z * ((p * (1 - p) + z * z / (4 * whole)) / whole) ** 0.5 / (1 + z * z / whole)
    return f"{100 * p:.2f}% ({100 * max(0.0, middle - half):.2f}-{100 * min(1.0, middle + half):.2f})"


def measure(documents: list[Document], key: list[Told]) -> Score:
    """Judge the documents without the key, then compare."""
    start = time.process_time()
    learned, verdicts = judge_documents(documents, seed=0)
    seconds = time.process_time() - start
    at: dict[str, list[tuple[int, int, TimedVerdict]]] = defaultdict(list)
    for verdict in verdicts:
        at[verdict.statement.source].append((verdict.statement.start, verdict.statement.end, verdict))
    table: dict[tuple[str, str], int] = defaultdict(int)
    mended = 0
    for one in key:
        verdict = next((v for start, end, v in at[one.source] if start < one.end and end > one.start), None)
        found = "missed" if verdict is None else _found(verdict)
        table[one.label, found] += 1
        if verdict and one.label == "error" and found == "refuted":
            mended += alike(verdict.answer, _bare(one.truth, verdict.answer))
    canaries = {
        "canaries": learned.planted,
        "canary recall": f"{learned.recall:.1%}",
        "canary mended": f"{learned.mended:.1%}",
    }
    size = sum(len(document.text.encode()) for document in documents) / 1e6
    return Score(dict(table), len(key), size, seconds, mended, canaries)


def _bare(value: str, other: str) -> str:
    """A value without its unit, if the other has none."""
    return value.removesuffix(" square kilometres") if "square" not in other else value


def _found(verdict: TimedVerdict) -> str:
    if verdict.note == "stale":
        return "stale"
    if verdict.stance == "refuted":
        return "refuted"
    return "superseded" if verdict.time == "superseded" else "current"


def main() -> None:
    """Measure each set with a careless publisher, with errors everywhere, and with none; print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1].parent / "shared/data")
    parser.add_argument("--set", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--countries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warn_if_busy()
    cases = {
        "one careless": houses(), "10% planted": houses(wrong=0.1, careless=0.1, stale=0.0),
        "clean": houses(careless=0.0, stale=0.0),
    }  # fmt: skip
    results: dict[str, dict[str, object]] = {}
    for name in options.set:
        facts = SETS[name](options.data, options.countries)
        for case, publishers in cases.items():
            results[f"{name}, {case}"] = measure(*render(facts, publishers, options.seed)).figures()
            if not options.json:
                print(f"\n{name}, {case}")
                for label, value in results[f"{name}, {case}"].items():
                    print(f"  {label:<22} {value}")
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
