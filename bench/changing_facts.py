"""Tables of facts that changed: what each edition of a reference work says of a subject.

The World Factbook's editions, revisions of World Bank populations, heads of state, and American offices.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Fact:
    """One fact; `values` are what each edition (ISO date) says. `year` belongs to figures of one certain year."""

    subject: str
    relation: str
    values: dict[str, str]
    year: str = ""


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
NUMBER = re.compile(r"\$?-?\d[\d,]*(?:\.\d+)?%?(?: (?:million|billion|trillion))?")
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
        match = NUMBER.match(text)
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
        match = NUMBER.match(text)
        if match:
            yield named.group(1), match.group()
    elif not sub:
        for part in re.split(r"\s*(?:\+\+|/)\s*", text):
            match, year = NUMBER.match(part), re.search(r"\((\d{4}) est\.\)", part)
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


SETS = {"factbook": factbook, "population": population, "leaders": leaders, "offices": offices}
