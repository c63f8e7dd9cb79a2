"""A small curation with known facts, as the stages leave it: parts that feed the ledger."""

from dataclasses import astuple
from pathlib import Path

from troth.curate.collect.reader import Rejected
from troth.curate.document import Document
from troth.curate.parts import Parts
from troth.curate.records import (
    ClaimRow,
    CorrectionRow,
    Decision,
    EvidenceRow,
    Finding,
    OccurrenceRow,
    VerdictRow,
    short_hash,
)

PAGES = {
    "atlas/norway.md": ("Norway", "Atlas House", "2021-05-01", "The capital of Norway is Oslo. It lies on a fjord."),
    "guide/norway.md": ("Travels in Norway", "Guide Press", "2018", "Visitors land in Oslo, the capital of Norway."),
    "blog/norway.md": ("My Norway", "A Blog", "2022", "The capital of Norway is Bergen. I liked it."),
    "atlas/angola-2016.md": ("Angola", "Atlas House", "2016-01-01", "The population is 25.8 million."),
    "atlas/angola-2024.md": ("Angola", "Atlas House", "2024-01-01", "The population is 36.7 million."),
    "guide/angola.md": ("Angola", "Guide Press", "2024-03", "Angola has a population of 36.7 million people."),
    "atlas/nile.md": ("Rivers", "Atlas House", "2020", "The longest river on Earth is the Nile."),
    "guide/amazon.md": ("Rivers", "Guide Press", "2021", "The longest river on Earth is the Amazon."),
    "guide/spam.md": ("Offers", "Guide Press", "2021", "Buy now. Buy now. Buy now."),
    "guide/copy.md": ("Norway", "Guide Press", "2022", "The capital of Norway is Oslo. It lies on a fjord."),
}
# Source, object, subject, stance, time, nature, p, answer, valid from, valid to, newer text.
FINDINGS = [
    ("atlas/norway.md", "Oslo", "Norway", "supported", "current", "fact", 0.97, "", "", "", ""),
    ("guide/norway.md", "Oslo", "Norway", "supported", "current", "fact", 0.96, "", "", "", ""),
    ("blog/norway.md", "Bergen", "Norway", "refuted", "current", "fact", 0.02, "Oslo", "", "", ""),
    ("atlas/angola-2016.md", "25.8 million", "Angola", "refuted", "superseded", "fact", 0.04, "36.7 million",
     "2016-01-01", "2024-01-01", "The population is 36.7 million."),
    ("atlas/angola-2024.md", "36.7 million", "Angola", "supported", "current", "fact", 0.95, "", "2024-01-01", "", ""),
    ("guide/angola.md", "36.7 million", "Angola", "supported", "current", "fact", 0.95, "", "2024-03", "", ""),
    ("atlas/nile.md", "the Nile", "Earth", "supported", "current", "contested", 0.6, "the Amazon", "", "", ""),
    ("guide/amazon.md", "the Amazon", "Earth", "supported", "current", "contested", 0.5, "the Nile", "", "", ""),
]  # fmt: skip


def documents() -> list[Document]:
    return [
        Document(source, "web", text, title, publisher, published, "2024-06-01", "CC-BY-4.0", "utf-8", "en")
        for source, (title, publisher, published, text) in PAGES.items()
    ]


def write_curation(out: Path, generation: int = 1) -> Path:
    """All stages of `documents()` in `out`, two parts each."""
    pages = {document.source: document for document in documents()}
    claims, places, findings, evidence, verdicts = [], [], [], [], []
    for source, said, subject, stance, time, nature, p, answer, since, until, newer in FINDINGS:
        page = pages[source]
        sentence = page.text.partition(". ")[0].removesuffix(".") + "."
        claim_id = short_hash(subject, sentence, since)
        at = page.text.index(said)
        place = OccurrenceRow(
            short_hash(source, claim_id), page.sha, source, 0, len(sentence.encode()), at, at + len(said), claim_id
        )
        claims.append(ClaimRow(claim_id, sentence, subject, "", said, "name", since, until, "", nature, True))
        places.append(place)
        findings.append(
            Finding(*astuple(place), stance, time, nature, p, answer, 0.9, "two publishers", "judge", until, newer)
        )
        verdicts.append(VerdictRow(claim_id, "judge", "", "", "", stance, p, p, generation, answer))
        for other, value, about, *_ in FINDINGS:
            if about == subject and other != source:
                words = pages[other].text.partition(". ")[0].removesuffix(".") + "."
                evidence.append(
                    EvidenceRow(
                        short_hash(claim_id, other), claim_id, pages[other].sha, other, pages[other].publisher,
                        pages[other].published, 0, (), words, value, "supported" if value == said else "refuted", 0.8,
                    )
                )  # fmt: skip
    wrong = next(finding for finding in findings if finding.answer == "Oslo")
    correction = CorrectionRow(
        wrong.occ_id, wrong.claim_id, wrong.source_id, wrong.doc_sha, wrong.byte_start, wrong.byte_end,
        "The capital of Norway is Bergen.", "The capital of Norway is Oslo.", "corrected", "judge", 0.02,
        "two publishers",
    )  # fmt: skip
    stages = {
        "collect": {"documents": (Document, list(pages.values())), "rejected": (Rejected, [Rejected("x.pdf", "torn")])},
        "filter": {"decisions": (Decision, [
            Decision("filter", "guide/spam.md", "dropped", "repeated_trigrams", 0.8, 0.5, "Buy now."),
        ])},
        "duplicates": {
            "documents": (Document, [page for page in pages.values() if page.title != "Offers"]),
            "decisions": (Decision, [
                Decision("duplicates", "guide/copy.md", "dropped", "exact_duplicate", 1.0, 1.0, "", "atlas/norway.md"),
            ]),
        },
        "cases": {"claims": (ClaimRow, claims), "occurrences": (OccurrenceRow, places)},
        "validate": {"evidence": (EvidenceRow, evidence), "verdicts": (VerdictRow, verdicts)},
        "refine": {"corrections": (CorrectionRow, [correction]), "findings": (Finding, findings)},
    }  # fmt: skip
    for stage, tables in stages.items():
        parts = Parts(out, stage)
        for part in range(2):
            for name, (row, rows) in tables.items():
                parts.write(part, name, row, rows[part::2])
            parts.finish(part)
    return out
