"""README.md of a curation: the dataset card, in the form that Hugging Face's hub reads."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from troth.curate.integrate.figures import GROUPS, Figures, Size
from troth.curate.integrate.mixture import Mixture, train_command

_HUB_LICENCES = {
    "apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "bsd-2-clause", "bsd-3-clause", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "mpl-2.0",
    "odc-by", "pddl", "unlicense", "artistic-2.0", "isc", "epl-2.0", "agpl-3.0", "odbl",
}  # fmt: skip
"""Names that the hub knows; others are `other`."""
_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip
_GROUP_ROWS = 20
_LIMITS = """\
A claim that only one publisher makes is never judged, and an error that most publishers share is taken for the truth.
Verdicts are probabilities: the figures of the planted errors say how many slip through. What is personal, toxic or
one-sided is found by rules, which miss what they do not know. Licences are what the sources state of themselves. The
original of every text is in the ledger: `troth explain DOC --ledger DIR` tells what became of it."""


def write_card(
    out: Path, figures: Figures, mixed: Mixture, report: Mapping[str, Any], name: str, generation: int
) -> Path:
    """Write `OUT/README.md`.

    Of the report it reads `canaries`, a `canaries.Measure` as a dict, and `balance`, a `balance.Balance` as JSON;
    either may be missing.
    """
    parts = [
        _front_matter(figures, name),
        f"# {name}\n\n{_summary(figures, generation)}",
        _section("Use", _use(out, mixed)),
        _section("What it holds", *(_group(group, figures.by[group]) for group in GROUPS)),
        _section("What was dropped and changed", _decisions(figures)),
        _section("Claims", _claims(figures)),
        _section("Planted errors", _canaries(report.get("canaries"))),
        _section("Balance before and after", _balance(report["balance"])) if report.get("balance") else "",
        _section("Limits", _LIMITS),
    ]
    path = out / "README.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


def _front_matter(figures: Figures, name: str) -> str:
    licences = sorted({_hub_licence(one) for one in figures.by["licence"]}) or ["unknown"]
    languages = sorted(one for one in figures.by["language"] if re.fullmatch("[a-z]{2,3}", one))
    count = figures.total.documents
    size = next((label for limit, label in _SIZES if count < limit), "n>1B")
    lines = [
        "---",
        f"pretty_name: {json.dumps(name, ensure_ascii=False)}",
        "license:" if len(licences) > 1 else f"license: {licences[0]}",
        *(f"- {one}" for one in licences if len(licences) > 1),
        *(["language:", *(f'- "{one}"' for one in languages)] if languages else []),
        f"size_categories:\n- {size}",
        "task_categories:\n- text-generation",
        "tags:\n- troth\n- curated",
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: documents/*.parquet",
        "---",
    ]
    return "\n".join(lines)


def _hub_licence(licence: str) -> str:
    plain = re.sub(r"[\s_]+", "-", licence.strip().lower())
    return plain if plain in _HUB_LICENCES else "other" if plain else "unknown"


def _summary(figures: Figures, generation: int) -> str:
    before, after = figures.collected, figures.total
    came = f" of {before.documents:,} collected ({_bytes(before.bytes)})" if before.documents else ""
    edits = sum(figures.corrections.values())
    return (
        f"{after.documents:,} documents, {_bytes(after.bytes)} of text{came}, curated by Troth as generation "
        f"{generation}. Files and records that could not be read: {figures.rejected:,}; claims found: "
        f"{figures.claims:,}; sentences edited: {edits:,}."
    )


def _use(out: Path, mixed: Mixture) -> str:
    rows = [
        {
            "collection": name, "share": f"{share:.1%}", "bytes as read": _bytes(mixed.weighted_bytes[name]),
            "judged claims not refuted": f"{mixed.standing[name]:.1%}",
        }
        for name, share in mixed.shares.items()
    ]  # fmt: skip
    command = train_command(Path("documents"), mixed.shares)
    return f"`data.toml` holds the mixture:\n\n{_table(rows)}\n\n```\n{command}\n```"


def _group(group: str, sizes: Mapping[str, Size]) -> str:
    ordered = sorted(sizes.items(), key=lambda item: (-item[1].bytes, item[0]))
    rows = [
        {group: value or "unknown", "documents": f"{size.documents:,}", "text": _bytes(size.bytes)}
        for value, size in ordered[:_GROUP_ROWS]
    ]
    rest = [size for _, size in ordered[_GROUP_ROWS:]]
    if rest:
        rows.append({
            group: f"{len(rest)} more", "documents": f"{sum(s.documents for s in rest):,}",
            "text": _bytes(sum(s.bytes for s in rest)),
        })  # fmt: skip
    return _table(rows)


def _decisions(figures: Figures) -> str:
    rows = [
        {"stage": stage, "what": label, "rule": rule, "times": f"{times:,}"}
        for (stage, label, rule), times in sorted(
            figures.decisions.items(), key=lambda item: (item[0][0], -item[1], item[0])
        )
        if stage != "policy"
    ]
    return _table(rows) if rows else "Nothing."


def _claims(figures: Figures) -> str:
    found = [
        {"stance": stance.replace("_", " "), "time": time, "nature": nature, "occurrences": f"{times:,}"}
        for (stance, time, nature), times in sorted(figures.findings.items(), key=lambda item: (-item[1], item[0]))
    ]
    edits = [{"edit": kind, "sentences": f"{times:,}"} for kind, times in sorted(figures.corrections.items())]
    judged = [
        {"verifier": verifier, "stance": stance.replace("_", " "), "verdicts": f"{times:,}"}
        for (verifier, stance), times in sorted(figures.verdicts.items())
    ]
    return "\n\n".join(filter(None, map(_table, (found, judged, edits)))) or "None were judged."


def _canaries(measure: Mapping[str, Any] | None) -> str:
    if not measure:
        return "No errors were planted."
    shares = {
        "planted errors caught": measure["recall"],
        **{f"  {kind}": share for kind, share in sorted(measure["by_kind"].items())},
        "corrections of these that put the right value back": measure["exactness"],
        "false alarms on statements that stand": measure["false_alarms"],
    }
    rows = [
        {
            "": label, "count": f"{share['count']:,} of {share['whole']:,}", "share": f"{share['share']:.2%}",
            "95% interval": f"{share['low']:.2%} to {share['high']:.2%}",
        }
        for label, share in shares.items()
    ]  # fmt: skip
    precision = (
        f"Where {measure['rate']:.1%} of the claims are wrong, {measure['precision']:.1%} "
        f"({measure['precision_low']:.1%} to {measure['precision_high']:.1%}) of those flagged are."
    )
    return f"{_table(rows)}\n\n{precision}"


def _balance(balance: Mapping[str, Any]) -> str:
    rows = [
        {
            "": line["axis"], "name": line["name"], "before": f"{line['before']:,}", "after": f"{line['after']:,}",
            "left": f"{line['after'] / line['before']:.0%}" if line["before"] else "new",
        }
        for line in balance["lines"]
    ]  # fmt: skip
    breadth = [
        {"": axis, "breadth before": before, "breadth after": after}
        for axis, (before, after) in balance["breadth"].items()
    ]
    before, after = balance["loaded"]
    about = (
        "Documents by topic, viewpoint and origin. Breadth is the number of equally large groups that would be as "
        f"mixed. Mean score of loaded language: {before:.3f} before, {after:.3f} after."
    )
    return "\n\n".join((about, _table(rows), _table(breadth)))


def _section(title: str, *parts: str) -> str:
    return "\n\n".join([f"## {title}", *filter(None, parts)])


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table; empty for no rows."""
    if not rows:
        return ""
    names = list(rows[0])
    lines: Iterable[Iterable[Any]] = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
