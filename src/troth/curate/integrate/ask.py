"""The curated documents as a knowledge base: a question, and the claims that answer it with their evidence and dates.

Claims are found by BM25 over their text, their subject and the titles of the pages that they stand on. What part of the
question's words they have decides whether they answer it; how they stand, how many publishers say so and how lately,
in which order.
"""

import math
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from troth.curate.integrate.ledger import open_table
from troth.curate.integrate.look_up import rows_where, search
from troth.curate.integrate.standing import Answer, Known, Standing, answer_of, known_of, merged_answers, newest_of
from troth.curate.validate.store import analyzer

_ORDER: tuple[Standing, ...] = "current", "contested", "superseded", "unconfirmed", "refuted"
_FOUND, _PAGES, _PLACES, _COUNTED = 200, 20, 2000, 10_000
"""At most: claims and pages that a search gives, claims of these pages, and claims that have a word."""
_NAME_WEIGHT, _ENOUGH, _NEAR_BEST = 2.0, 2 / 3, 0.75
"""What a name or figure of the question weighs over other words; the share of all this that an answer has; and the
share of the best one's share."""
_LEAST_MATCH, _KIND_ASKED_FOR, _ECHO = 0.3, 1.3, 0.4
"""Factors of an answer's score: BM25 counts from the first to 1; an object of the kind that is asked for; one that only
repeats the question."""
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
_JOINED = frozenset("of the and de la le du da di von van der den al el bin".split())  # noqa: SIM905
_DATE = re.compile(r"\d{4}(?:-\d{2}(?:-\d{2})?)?")


def ask(folder: Path, question: str, at: str = "", limit: int = 5) -> list[Answer]:
    """The claims that answer a question, best first; none where the ledger knows nothing of it.

    With `at`, an ISO date or a year, how things stood then. What stands comes before what is superseded, unconfirmed or
    refuted. A name alone (see `is_name`) asks for what is said of it, rather than for what it is named in.
    Raises ValueError for a date that is none.
    """
    if at and not _DATE.fullmatch(at):
        raise ValueError(f"--at {at}: expected a year or an ISO date, such as 2019 or 2019-06-30")
    wanted = _weights(folder, question)
    if not wanted:
        return []
    bm25 = _found(folder, question)
    covered = []
    for known in known_of(folder, bm25):
        stems = _stems(f"{known.claim['text']} {known.claim['subject']} {known.claim['place']} {known.titles}")
        coverage = sum(weight for stem, weight in wanted.items() if stem in stems) / sum(wanted.values())
        answer = answer_of(known, at)
        if answer and coverage >= _ENOUGH:
            covered.append((coverage, known, answer))
    if is_name(question):
        called = _stems(question)
        told_of = [one for one in covered if called <= _stems(f"{one[1].claim['subject']} {one[1].titles}")]
        covered = [one for one in told_of if not _stems(one[2].object) <= called] or covered
    # What a sentence says that is refuted in another value is no answer by itself.
    wrong = {answer.text for _, _, answer in covered if answer.standing == "refuted"}
    covered = [one for one in covered if one[2].standing == "refuted" or one[2].text not in wrong]
    best = max((coverage for coverage, _, _ in covered), default=0.0)
    near = [(coverage, known, answer) for coverage, known, answer in covered if coverage >= _NEAR_BEST * best]
    newest = max((newest_of(answer) for _, _, answer in near), default=0)
    most = max((bm25[answer.claim_id] for _, _, answer in near), default=0.0) or 1.0
    kinds = next((kinds for pattern, kinds in _ASKED_FOR if pattern.search(question.lower())), ())
    echo = frozenset() if _YES_OR_NO.match(question) else frozenset(wanted)
    scored = [
        replace(answer, score=_score(coverage, bm25[answer.claim_id] / most, known, answer, kinds, newest, echo))
        for coverage, known, answer in near
    ]
    return merged_answers(sorted(scored, key=lambda a: (_ORDER.index(a.standing), -a.score, a.claim_id)))[:limit]


def is_name(question: str) -> bool:
    """Whether a question is nothing but a name: one word, or several with capitals and what joins them."""
    words = re.findall(r"[^\W_]+(?:['’.-][^\W_]+)*", question)
    if not words or "?" in question or any(word.lower() in _QUESTION - _JOINED for word in words):
        return False
    return all(word[0].isupper() or word in _JOINED for word in words) or len(words) == 1


def documents_about(folder: Path, question: str, limit: int = 3) -> dict[str, str]:
    """Where a question has no answer: sources of documents that have its words, though no claim that was judged says
    it, and the rule by which each was dropped, empty for those that stayed."""
    words = [word for word in re.findall(r"\w+", question) if word.lower() not in _QUESTION]
    wanted = _stems(" ".join(words))
    rows = search(folder, "documents", "text", " ".join(words), _PAGES, ["source_id", "title", "text"])
    near = [row for row in rows if len(wanted & _stems(f"{row['title']} {row['text']}")) >= _ENOUGH * len(wanted)]
    sources = list(dict.fromkeys(row["source_id"] for row in near))[:limit]
    dropped = {
        row["subject"]: row["rule"] for row in reversed(rows_where(folder, "decisions", "subject", sources))
        if row["label"] == "dropped"
    }  # fmt: skip
    return {source: dropped.get(source, "") for source in sources}


def _found(folder: Path, question: str) -> dict[str, float]:
    """Ids of claims that may answer, by BM25's scores: 0 for those that only stand on a page whose title was found."""
    words = " ".join(word for word in re.findall(r"\w+", question) if word.lower() not in _QUESTION)
    bm25: dict[str, float] = defaultdict(float)
    for column in ("text", "subject"):
        for row in search(folder, "claims", column, words, _FOUND, ["claim_id"]):
            bm25[row["claim_id"]] += row["_score"]
    pages = search(folder, "documents", "title", words, _PAGES, ["source_id"])
    on_pages = rows_where(
        folder, "occurrences", "source_id", [row["source_id"] for row in pages], limit=_PLACES, columns=["claim_id"]
    )
    return dict.fromkeys((row["claim_id"] for row in on_pages), 0.0) | bm25


def _score(
    coverage: float, bm25: float, known: Known, answer: Answer, kinds: tuple[str, ...], newest: int,
    echo: frozenset[str],
) -> float:  # fmt: skip
    match = _LEAST_MATCH + (1 - _LEAST_MATCH) * bm25
    repeated = _ECHO if _stems(answer.object) <= echo else 1.0
    voices = 1 + 0.1 * math.log2(max(1, len(answer.publishers)))
    age = min(20, newest - newest_of(answer)) if newest_of(answer) else 20
    asked_for = _KIND_ASKED_FOR if known.claim["kind"] in kinds else 1.0
    sure = 1 - answer.p if answer.standing == "refuted" else answer.p
    credible = 1.0 if math.isnan(sure) or known.finding["time"] == "superseded" else 0.5 + 0.5 * sure
    return coverage**2 * match * voices * (1 - 0.005 * age) * asked_for * credible * repeated


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
