"""How a claim stands, by what the ledger has on it: its last finding, its dates, and who says or denies it."""

import math
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from troth.curate.integrate.look_up import Row, rows_where

Standing = Literal["current", "contested", "superseded", "unconfirmed", "refuted"]
_ALIKE = 0.25
"""Likeness from which evidence is shown."""


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
class Known:
    """What the ledger has on one candidate: the claim, its last finding, and the titles and passages around it."""

    claim: Row
    finding: Row
    titles: str
    sources: tuple[Source, ...]


def known_of(folder: Path, ids: Collection[str]) -> list[Known]:
    """What the ledger has on claims."""
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
        known.append(Known(claim, finding, titles, (*sources, *said)))
    return known


def _by_claim(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["claim_id"]].append(row)
    return found


def answer_of(known: Known, at: str) -> Answer | None:
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


def _sides(known: Known) -> dict[str, list[str]]:
    sides: dict[str, list[str]] = {}
    for source in known.sources:
        who = sides.setdefault(source.states, [])
        if source.publisher and source.publisher not in who:
            who.append(source.publisher)
    return sides


def newest_of(answer: Answer) -> int:
    """The year of the newest source that says so; 0 where none has a date."""
    years = [s.published_at[:4] for s in answer.sources if s.stance in ("", "supported")]
    return max((int(year) for year in years if year.isdigit()), default=0)


def merged_answers(answers: list[Answer]) -> list[Answer]:
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
