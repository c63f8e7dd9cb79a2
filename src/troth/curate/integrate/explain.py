"""The whole story of a document or of a claim, from the ledger: where it came from, what was decided, and why."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from troth.curate.integrate.ledger import generations, read_table
from troth.curate.integrate.look_up import Row, quoted, rows_like, rows_where, search

_HASH = re.compile(r"[0-9a-f]{4,16}")
_LISTED, _NAMES_SEARCHED, _COPIES = 10, 20_000, 1000
"""Of subjects that fit, of names that one is compared with where none fits, and of a document's copies, at most."""


@dataclass(frozen=True)
class Subject:
    """What a story is about: a document, by its source, or a claim, by its id; `about` shows people what it is."""

    kind: Literal["document", "claim"]
    id: str
    about: str


def find_subjects(folder: Path, asked: str, generation: int | None = None) -> list[Subject]:
    """What `asked` may mean: the source or the hash of a document, the id of a claim (or how one begins), or words.

    Where a name or an id fits, words are not searched for. Raises ValueError where there is no ledger, or where nothing
    fits, with what comes near.
    """
    if not generations(folder):
        raise ValueError(f"{folder}: no ledger of a finished curation")
    found = _by_name(folder, asked, generation) or _by_words(folder, asked, generation)
    if not found:
        near = ", ".join(_near(folder, asked, generation))
        raise ValueError(f"{asked}: neither a document, a claim nor words of one{f'; near it: {near}' if near else ''}")
    return found[:_LISTED]


def tell(folder: Path, subject: Subject, generation: int | None = None) -> dict[str, Any]:
    """The story as plain values, the same as `--json` prints."""
    about = _document if subject.kind == "document" else _claim
    return {"kind": subject.kind, "id": subject.id, **about(folder, subject.id, generation)}


def _by_name(folder: Path, asked: str, generation: int | None) -> list[Subject]:
    columns = ["source_id", "title"]
    rows = rows_where(folder, "documents", "source_id", [asked], generation, 1)
    if not rows:
        refused = rows_where(folder, "rejected", "source", [asked], generation, 1)
        if refused:
            return [Subject("document", asked, refused[0]["reason"])]
    if not rows and _HASH.fullmatch(asked):
        begins = f"starts_with({{}}, {quoted(asked)})"
        rows = rows_like(folder, "documents", begins.format("doc_sha"), _LISTED, columns, generation)
        claims = rows_like(folder, "claims", begins.format("claim_id"), _LISTED, ["claim_id", "text"], generation)
        if claims:
            return [*_documents(rows), *(Subject("claim", row["claim_id"], row["text"]) for row in claims)]
    if not rows:
        ends = f"ends_with(source_id, {quoted('/' + asked)})"
        rows = rows_like(folder, "documents", ends, 2 * _LISTED, columns, generation)
    return _documents(rows)


def _by_words(folder: Path, asked: str, generation: int | None) -> list[Subject]:
    claims = search(folder, "claims", "text", asked, _LISTED, ["claim_id", "text"], generation)
    columns = ["source_id", "title"]
    titles = search(folder, "documents", "title", asked, _LISTED, columns, generation)
    texts = search(folder, "documents", "text", asked, _LISTED, columns, generation)
    named = [row for row in titles if row["title"].casefold() == asked.casefold()]
    if named:
        return _documents(named)
    room = max(_LISTED // 2, _LISTED - len(claims))
    documents = _documents([*titles, *texts])[:room]
    told = [Subject("claim", row["claim_id"], row["text"]) for row in claims]
    return [*told[: _LISTED - len(documents)], *documents]


def _documents(rows: list[Row]) -> list[Subject]:
    return list({row["source_id"]: Subject("document", row["source_id"], row["title"]) for row in rows}.values())


def _near(folder: Path, asked: str, generation: int | None) -> list[str]:
    rows = rows_like(folder, "documents", "true", _NAMES_SEARCHED, ["source_id"], generation)
    names: set[str] = {row["source_id"] for row in rows}
    ends = {name.rpartition("/")[2]: name for name in sorted(names)}
    near = get_close_matches(asked, sorted(names), 3)
    return near or [ends[name] for name in get_close_matches(asked, list(ends), 3)]


def _document(folder: Path, source: str, generation: int | None) -> dict[str, Any]:
    texts = rows_where(folder, "documents", "source_id", [source], generation)
    findings = rows_where(folder, "findings", "source_id", [source], generation)
    places = rows_where(folder, "occurrences", "source_id", [source], generation)
    ids = {row["claim_id"] for row in places}
    repeats = f"stage = 'duplicates' and replacement = {quoted(source)}"
    copies = rows_like(folder, "decisions", repeats, _COPIES, ["subject"], generation)
    decisions = rows_where(folder, "decisions", "subject", [source], generation)
    return {
        "texts": texts,
        "rejected": [row["reason"] for row in rows_where(folder, "rejected", "source", [source], generation)],
        "decisions": decisions,
        "copies": sorted({row["subject"] for row in copies}),
        "claims": _told(folder, ids, places, findings, texts, generation),
        "corrections": rows_where(folder, "corrections", "source_id", [source], generation),
        "generations": _generations(folder, [*texts, *decisions, *findings]),
    }


def _claim(folder: Path, claim_id: str, generation: int | None) -> dict[str, Any]:
    places = rows_where(folder, "occurrences", "claim_id", [claim_id], generation)
    findings = rows_where(folder, "findings", "claim_id", [claim_id], generation)
    texts = rows_where(folder, "documents", "source_id", {row["source_id"] for row in places}, generation)
    (told,) = _told(folder, {claim_id}, places, findings, texts, generation)
    return {
        **told,
        "corrections": rows_where(folder, "corrections", "claim_id", [claim_id], generation),
        "generations": _generations(folder, [told["claim"], *findings]),
    }


def _told(
    folder: Path, ids: set[str], places: list[Row], findings: list[Row], texts: list[Row], generation: int | None
) -> list[dict[str, Any]]:
    """For each claim, in the order of its first occurrence, all that bears on it."""
    claims = {row["claim_id"]: row for row in rows_where(folder, "claims", "claim_id", ids, generation)}
    about = {name: _grouped(rows_where(folder, name, "claim_id", ids, generation)) for name in ("evidence", "verdicts")}
    decisions = _grouped(rows_where(folder, "decisions", "subject", ids, generation), "subject")
    whole = {(row["source_id"], row["doc_sha"]): row for row in texts}
    found, seen = _grouped(findings), _grouped([_shown(place, whole) for place in places])
    return [
        {
            "claim": claims[claim_id],
            "occurrences": seen.get(claim_id, []),
            "findings": found.get(claim_id, []),
            "evidence": about["evidence"].get(claim_id, []),
            "verdicts": about["verdicts"].get(claim_id, []),
            "decisions": decisions.get(claim_id, []),
        }
        for claim_id in (*dict.fromkeys(place["claim_id"] for place in places), *sorted(ids - seen.keys()))
        if claim_id in claims
    ]


def _shown(place: Row, texts: dict[tuple[str, str], Row]) -> Row:
    """An occurrence with its words, and who says them when."""
    document = texts.get((place["source_id"], place["doc_sha"]))
    if document is None:
        return place
    words = document["text"].encode()[place["byte_start"] : place["byte_end"]].decode(errors="replace")
    return {
        **place, "text": words, "publisher": document["publisher"], "published_at": document["published_at"],
    }  # fmt: skip


def _grouped(rows: list[Row], column: str = "claim_id") -> dict[str, list[Row]]:
    ordered = sorted(rows, key=lambda row: row[column])
    return {key: list(group) for key, group in groupby(ordered, key=lambda row: row[column])}


def _generations(folder: Path, rows: list[Row]) -> list[Row]:
    """The generations that have anything to say of this."""
    numbers = {row["generation"] for row in rows}
    return [row for row in read_table(folder, "generations") if row["gen"] in numbers]
