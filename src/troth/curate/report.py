"""What a curation tells of itself in `report.json`: what came in, what became of it, and how far to trust that."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from troth.curate.collect.reader import Rejected
from troth.curate.parts import Parts
from troth.curate.records import CorrectionRow, Decision, Finding
from troth.curate.validate.canaries import Measure
from troth.curate.validate.cases import Case
from troth.curate.validate.caveat import caveat
from troth.curate.validate.fitted import Judge
from troth.curate.validate.stages import judged_documents
from troth.curate.validate.verifiers.endpoint import Spent


def counts(out: Path, parts: Sequence[int], judge: Judge, found: Measure) -> dict[str, Any]:
    """Counts over the finished stages in `out`, with the `judge`'s errors by publisher and what was `found` of planted
    errors."""

    def rows(stage: str, table: str, row: type) -> Iterator[Any]:
        return Parts(out, stage).read_all(parts, table, row)

    filtered = Counter((one.label, one.rule) for one in rows("filter", "decisions", Decision))
    findings = Counter((one.stance, one.time, one.nature) for one in rows("refine", "findings", Finding))
    spent = list(rows("opinions", "spent", Spent))
    documents = sum(1 for _ in rows("refine", "documents", _Named))
    claims = sum(1 for _ in rows("cases", "occurrences", _Counted))
    judged = next(judged_documents(out, len(parts)), None) is not None
    return {
        "collected": sum(1 for _ in rows("collect", "documents", _Named)),
        "set_aside": sum(1 for _ in rows("collect", "rejected", Rejected)),
        "documents": documents,
        "dropped": {rule: count for (label, rule), count in sorted(filtered.items()) if label == "dropped"},
        "changed": {rule: count for (label, rule), count in sorted(filtered.items()) if label == "changed"},
        "duplicates": sum(one.label == "dropped" for one in rows("duplicates", "decisions", Decision)),
        "claims": claims,
        "claims_with_evidence": sum(one.role == "stated" for one in rows("cases", "cases", Case)),
        "verdicts": {", ".join(axes): count for axes, count in sorted(findings.items())},
        "corrections": dict(Counter(one.kind for one in rows("refine", "corrections", CorrectionRow))),
        "canaries": asdict(found),
        "caveat": caveat(documents, judged, claims, found.recall.whole),
        "endpoint": {one.name: sum(getattr(row, one.name) for row in spent) for one in fields(Spent)} if spent else {},
        "estimated_error_by_publisher": dict(zip(judge.publishers, judge.error.tolist(), strict=True)),
    }


@dataclass(frozen=True)
class _Counted:
    """As little of a claim's row as can be read."""

    claim_id: str


@dataclass(frozen=True)
class _Named:
    """As little of a document as can be read."""

    source: str
