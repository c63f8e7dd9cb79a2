"""The curated documents as a knowledge base: a question, and the claims that answer it with their evidence and dates.

Claims are found by BM25 over their text, their subject and the titles of the pages that they stand on. What part of the
question's words they have decides whether they answer it; how they stand, how many publishers say so and how lately,
in which order.
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from troth.curate.integrate.ledger import open_table
from troth.curate.integrate.look_up import Row, rows_where, search
from troth.curate.validate.store import analyzer

Standing = Literal["current", "contested", "superseded", "unconfirmed", "refuted"]
_ORDER: tuple[Standing, ...] = "current", "contested", "superseded", "unconfirmed", "refuted"
_FOUND, _PAGES, _PLACES, _COUNTED = 200, 20, 2000, 10_000
"""At most: claims and pages that a search gives, claims of these pages, and claims that have a word."""
_NAME_WEIGHT, _ENOUGH, _NEAR_BEST = 2.0, 2 / 3, 0.75
"""What a name or figure of the question weighs over other words; the share of all this that an answer has; and the
share of the best one's share."""
_LEAST_MATCH, _KIND_ASKED_FOR, _ECHO = 0.3, 1.3, 0.4
"""Factors of an answer's score: BM25 counts from the first to 1; an object of the kind that is asked for; one that only
repeats the question."""
_ALIKE = 0.25
"""Likeness from which evidence is shown."""
_QUESTION = frozenset(
    "what which who whom whose when where why how many much long big large old far often is are was were do does did "  # noqa: SIM905
    "has have had can could will would there any tell me about please know it its as of".split()
)
_ASKED_FOR = (
    (re.compile(r"\b(?:when|what year|which year|what date|since when|until when)\b"), ("year", "date")),
    (re.compile(r"\bhow (?:many|much|long|big|large|old|far|tall|high|deep|fast|heavy|hot|cold)\b"), ("quantity",)),
    (re.compile(r"\b(?:who|whom|whose|where|which|what (?:city|country|person))\b"), ("name",)),
)
_YES_OR_NO = re.compile(r"\s*(?:is|are|was|were|do|does|did|has|have|had|can|could|will)\b", re.IGNORECASE)
_DATE = re.compile(r"\d{4}(?:-\d{2}(?:-\d{2})?)?")


@dataclass(frozen=True)
class Source:
    """A passage that says or denies what a claim says."""

    source_id: str
    publisher: str
    published_at: str
    span: str
    states: str
    stance: str


@dataclass(frozen=True)
class Answer:
    """A claim that answers a question. `rather` is the object that takes its place where it is refuted or superseded
    (`since`, `until` and `newer_text` tell when); `sides` the publishers of each value of a contested one."""

    claim_id: str
    text: str
    object: str
    standing: Standing
    since: str
    until: str
    rather: str
    newer_text: str
    p: float
    publishers: tuple[str, ...]
    sources: tuple[Source, ...]
    sides: dict[str, list[str]] = field(default_factory=dict)
    score: float = 0.0


@dataclass(frozen=True)
class _Known:
    """What the ledger has on one candidate: the claim, its last finding, and the titles and passages around it."""

    claim: Row
    finding: Row
    titles: str
    sources: tuple[Source, ...]
    bm25: float


def ask(folder: Path, question: str, at: str = "", limit: int = 5) -> list[Answer]:
    """The claims that answer a question, best first; none where the ledger knows nothing of it.

    With `at`, an ISO date or a year, how things stood then. What stands comes before what is superseded, unconfirmed or
    refuted. Raises ValueError for a date that is none.
    """
    if at and not _DATE.fullmatch(at):
        raise ValueError(f"--at {at}: expected a year or an ISO date, such as 2019 or 2019-06-30")
    wanted = _weights(folder, question)
    if not wanted:
        return []
    covered = []
    for known in _candidates(folder, question):
        stems = _stems(f"{known.claim['text']} {known.claim['subject']} {known.claim['place']} {known.titles}")
        coverage = sum(weight for stem, weight in wanted.items() if stem in stems) / sum(wanted.values())
        answer = _answer(known, at)
        if answer and coverage >= _ENOUGH:
            covered.append((coverage, known, answer))
    # What a sentence says that is refuted in another value is no answer by itself.
    wrong = {answer.text for _, _, answer in covered if answer.standing == "refuted"}
    covered = [one for one in covered if one[2].standing == "refuted" or one[2].text not in wrong]
    best = max((coverage for coverage, _, _ in covered), default=0.0)
    near = [(coverage, known, answer) for coverage, known, answer in covered if coverage >= _NEAR_BEST * best]
    newest = max((_newest(answer) for _, _, answer in near), default=0)
    most = max((known.bm25 for _, known, _ in near), default=0.0)
    kinds = next((kinds for pattern, kinds in _ASKED_FOR if pattern.search(question.lower())), ())
    echo = frozenset() if _YES_OR_NO.match(question) else frozenset(wanted)
    scored = [
        replace(answer, score=_score(coverage, known, answer, kinds, most, newest, echo))
        for coverage, known, answer in near
    ]
    return _merged(sorted(scored, key=lambda a: (_ORDER.index(a.standing), -a.score, a.claim_id)))[:limit]


def _candidates(folder: Path, question: str) -> list[_Known]:
    words = " ".join(word for word in re.findall(r"\w+", question) if word.lower() not in _QUESTION)
    bm25: dict[str, float] = defaultdict(float)
    for column in ("text", "subject"):
        for row in search(folder, "claims", column, words, _FOUND, ["claim_id"]):
            bm25[row["claim_id"]] += row["_score"]
    pages = search(folder, "documents", "title", words, _PAGES, ["source_id"])
    on_pages = rows_where(
        folder, "occurrences", "source_id", [row["source_id"] for row in pages], limit=_PLACES, columns=["claim_id"]
    )
    ids = {*bm25, *(row["claim_id"] for row in on_pages)}
    claims = rows_where(folder, "claims", "claim_id", ids)
    places, findings, evidence = (
        _by_claim(rows_where(folder, name, "claim_id", ids))
        for name in ("occurrences", "findings", "evidence")
    )
    named = {place["source_id"] for several in places.values() for place in several}
    columns = ["source_id", "title", "publisher", "published_at"]
    documents = {
        row["source_id"]: row for row in rows_where(folder, "documents", "source_id", named, columns=columns)
    }
    known = []
    for claim in claims:
        claim_id = claim["claim_id"]
        own = {place["source_id"]: documents.get(place["source_id"], {}) for place in places[claim_id]}
        sources = [
            Source(source, page.get("publisher", ""), page.get("published_at", ""), claim["text"], claim["object"], "")
            for source, page in own.items()
        ]
        nearest = sorted(evidence[claim_id], key=lambda e: (-e["likeness"], e["ev_id"]))
        passages = {(e["source_id"], e["span"]): e for e in reversed(nearest) if e["likeness"] >= _ALIKE}
        said = [
            Source(e["source_id"], e["publisher"], e["published_at"], e["span"], e["states"], e["stance"])
            for e in reversed(passages.values())
        ]
        titles = " ".join(page.get("title", "") for page in own.values())
        finding = max(findings[claim_id], key=lambda row: (row["generation"], row["newer_on"]), default={})
        known.append(_Known(claim, finding, titles, (*sources, *said), bm25[claim_id]))
    return known


def _by_claim(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["claim_id"]].append(row)
    return found


def _answer(known: _Known, at: str) -> Answer | None:
    """How a claim stands, now or at a date; None where it did not hold yet."""
    claim, finding = known.claim, known.finding
    stance, time = finding.get("stance", "not_enough_evidence"), finding.get("time", "undated")
    until = claim["valid_to"] or (finding["newer_on"] if time == "superseded" else "")
    stated = min((s.published_at for s in known.sources if not s.stance and s.published_at), default="")
    since = claim["valid_from"] or ("" if time == "undated" else stated)
    if at and claim["valid_from"] and claim["valid_from"][: len(at)] > at:
        return None
    # What happened at one point in time, such as an opening, is over and still so.
    happened = bool(claim["valid_to"]) and claim["valid_from"] == claim["valid_to"] and time != "superseded"
    ended = bool(until) and not happened and (not at or until[: len(at)] <= at)
    # What is superseded was right in its time, though it is refuted as it stands.
    was_right = time == "superseded"
    standing: Standing = (
        "refuted" if stance == "refuted" and not was_right
        else "contested" if "contested" in (finding.get("nature"), claim["nature"])
        else "superseded" if ended or (was_right and not at)
        else "current" if stance == "supported" or was_right
        else "unconfirmed"
    )  # fmt: skip
    agree = tuple(dict.fromkeys(s.publisher for s in known.sources if s.stance in ("", "supported") and s.publisher))
    gone = standing in ("refuted", "superseded")
    return Answer(
        claim["claim_id"], claim["text"], claim["object"], standing, since, until,
        finding.get("answer", "") if gone else "",
        finding.get("newer_text", "") if standing == "superseded" else "", finding.get("p_stated", math.nan), agree,
        known.sources, _sides(known) if standing == "contested" else {},
    )  # fmt: skip


def _sides(known: _Known) -> dict[str, list[str]]:
    sides: dict[str, list[str]] = {}
    for source in known.sources:
        who = sides.setdefault(source.states, [])
        if source.publisher and source.publisher not in who:
            who.append(source.publisher)
    return sides


def _score(
    coverage: float, known: _Known, answer: Answer, kinds: tuple[str, ...], most: float, newest: int,
    echo: frozenset[str],
) -> float:  # fmt: skip
    match = _LEAST_MATCH + (1 - _LEAST_MATCH) * (known.bm25 / most if most else 0.0)
    repeated = _ECHO if _stems(answer.object) <= echo else 1.0
    voices = 1 + 0.1 * math.log2(max(1, len(answer.publishers)))
    age = min(20, newest - _newest(answer)) if _newest(answer) else 20
    asked_for = _KIND_ASKED_FOR if known.claim["kind"] in kinds else 1.0
    sure = 1 - answer.p if answer.standing == "refuted" else answer.p
    credible = 1.0 if math.isnan(sure) or known.finding["time"] == "superseded" else 0.5 + 0.5 * sure
    return coverage**2 * match * voices * (1 - 0.005 * age) * asked_for * credible * repeated


def _newest(answer: Answer) -> int:
    years = [s.published_at[:4] for s in answer.sources if s.stance in ("", "supported")]
    return max((int(year) for year in years if year.isdigit()), default=0)


def _merged(answers: list[Answer]) -> list[Answer]:
    """What several claims say alike becomes one answer with the sources of all."""
    merged: list[Answer] = []
    for answer in answers:
        for number, other in enumerate(merged):
            alike = _key(answer.object) == _key(other.object)
            sided = _key(answer.object) in map(_key, other.sides)
            if answer.standing == other.standing and (alike or sided):
                sides = {value: list(who) for value, who in other.sides.items()}
                for value, who in answer.sides.items():
                    there = sides.setdefault(value, [])
                    there += [one for one in who if one not in there]
                sources = {(s.source_id, s.span): s for s in (*answer.sources, *other.sources)}
                publishers = other.publishers if sided and not alike else (*other.publishers, *answer.publishers)
                merged[number] = replace(
                    other, sources=(*other.sources, *(s for key, s in sources.items() if key not in _keys(other))),
                    publishers=tuple(dict.fromkeys(publishers)), sides=sides,
                )  # fmt: skip
                break
        else:
            merged.append(answer)
    return merged


def _keys(answer: Answer) -> set[tuple[str, str]]:
    return {(source.source_id, source.span) for source in answer.sources}


def _key(value: str) -> str:
    return re.sub(r"^(?:the|an?) ", "", " ".join(value.casefold().split()))


def _weights(folder: Path, question: str) -> dict[str, float]:
    """The stems of a question that say what it is about, by how rare they are in claims, names and figures doubly; none
    where it names what neither a claim nor a title has."""
    weights: dict[str, float] = {}
    claims = open_table(folder, "claims")
    whole = claims.count_rows() if claims else 0
    for first, word in enumerate(re.findall(r"\w+(?:[.,]\d+)*", question)):
        stems = _stems(word) if word.lower() not in _QUESTION else frozenset()
        if not stems or not whole:
            continue
        named = word[0].isupper() or word[0].isdigit()
        found = len(search(folder, "claims", "text", word, _COUNTED, ["_rowid"]))
        if not found and named and first and not any(
            search(folder, table, column, word, 1, ["_rowid"])
            for table, column in (("claims", "subject"), ("documents", "title"))
        ):
            return {}
        rarity = math.log(1 + whole / (found + 1)) * (_NAME_WEIGHT if named else 1.0)
        for stem in stems:
            weights[stem] = max(weights.get(stem, 0.0), rarity)
    return weights


def _stems(text: str) -> frozenset[str]:
    return frozenset(analyzer().analyze(text))
