"""`troth explain`: the whole story of one document or one claim of a curation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from troth.cli.options import AsJson, Ledger, print_json, read_ledger_path
from troth.cli.output import console, escape

if TYPE_CHECKING:
    from rich.text import Text

_CLAIMS_SHOWN, _EVIDENCE_SHOWN, _TEXT_SHOWN = 12, 6, 300
_COLOURS = {"supported": "green", "refuted": "red", "not_enough_evidence": "yellow"}


def command(
    subject: Annotated[
        str,
        typer.Argument(
            help="A document by its source or hash, a claim by its id (the start of one will do), or words of either.",
            metavar="DOC|CLAIM",
        ),
    ],
    ledger: Ledger,
    generation: Annotated[
        int | None, typer.Option("--generation", help="As of this generation (default: the newest).", metavar="N")
    ] = None,
    original: Annotated[
        bool, typer.Option("--original", help="Print the document's text as it was collected, and nothing else.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell the whole story of a document or a claim: origin, decisions, evidence, verdicts and corrections.

    Where several fit, they are listed.
    """
    folder = read_ledger_path(ledger)
    from troth.curate.integrate.explain import find_subjects, tell

    found = find_subjects(folder, subject, generation)
    if len(found) > 1:
        if as_json:
            print_json({"candidates": [vars(one) for one in found]})
            return
        console.print("Several fit; name one of them by its source or id:", soft_wrap=True)
        for one in found:
            console.print(f"  {one.kind:8}  {escape(one.id)}  {escape(one.about)}", soft_wrap=True)
        return
    story = tell(folder, found[0], generation)
    if original:
        if not story.get("texts"):
            raise ValueError(f"{subject}: no document with a text; --original goes with one that was collected")
        typer.echo(next(row["text"] for row in story["texts"] if row["form"] == "collected"))
    elif as_json:
        print_json(story)
    elif story["kind"] == "document":
        _print_document(story)
    else:
        _print_claim(story, story["corrections"], whole=True)
        _print_generations(story)


def _print_document(story: dict[str, Any]) -> None:
    console.print(f"[bold]{escape(story['id'])}[/bold]", soft_wrap=True)
    for row in story["texts"]:
        about = {
            "title": row["title"], "publisher": row["publisher"], "published": row["published_at"],
            "retrieved": row["retrieved_at"], "licence": row["licence"], "collection": row["collection"],
            "language": row["language"], "encoding": row["encoding"], "derived from": row["derived_from"],
            "models that wrote it": ", ".join(map(str, row["ancestors"])),
        }  # fmt: skip
        told = ", ".join(f"{name} {escape(value)}" for name, value in about.items() if value)
        size = len(row["text"].encode())
        console.print(f"  {row['form']} as {row['doc_sha']}, {size:,} bytes: {told}", soft_wrap=True)
    for reason in story["rejected"]:
        console.print(f"  [red]set aside[/red]: {escape(reason)}", soft_wrap=True)
    if story["decisions"]:
        console.print("\n[bold]Decisions[/bold]")
    for row in story["decisions"]:
        _print_decision(row)
    if story["copies"]:
        console.print(f"  stands for its copies: {escape(', '.join(story['copies']))}", soft_wrap=True)
    claims = story["claims"]
    corrected = {row["claim_id"] for row in story["corrections"]}
    telling = [one for one in claims if one["claim"]["claim_id"] in corrected or not _plainly_right(one)]
    shown = (telling + [one for one in claims if one not in telling])[:_CLAIMS_SHOWN]
    for one in shown:
        console.print()
        own = [row for row in story["corrections"] if row["claim_id"] == one["claim"]["claim_id"]]
        _print_claim(one, own, whole=False)
    if len(claims) > len(shown):
        console.print(f"\n{len(claims) - len(shown)} more claims; --json tells all", soft_wrap=True)
    if not claims and story["texts"]:
        console.print("\nNo claims of it were judged.")
    _print_generations(story)


def _plainly_right(told: dict[str, Any]) -> bool:
    return all(
        row["stance"] == "supported" and row["time"] != "superseded" and row["nature"] == "fact"
        for row in told["findings"]
    )


def _print_claim(told: dict[str, Any], corrections: list[dict[str, Any]], whole: bool) -> None:
    """A claim with all that bears on it; less of it where it is one of many of a document (not `whole`)."""
    _print_statement(told["claim"])
    for row in told["findings"] if whole else told["findings"][-1:]:
        _print_finding(row, whole)
    for row in told["occurrences"] if whole else []:
        _print_occurrence(row)
    nearest = sorted(told["evidence"], key=lambda row: -row["likeness"])
    for row in nearest if whole else nearest[:_EVIDENCE_SHOWN]:
        _print_evidence(row)
    for row in told["verdicts"]:
        _print_verdict(row)
    for row in told["decisions"]:
        _print_decision(row)
    for row in corrections:
        _print_correction(row, whole)


def _print_statement(claim: dict[str, Any]) -> None:
    console.print(f"[bold]Claim {claim['claim_id']}[/bold]: {escape(claim['text'])}", soft_wrap=True)
    when = f"from {claim['valid_from'] or '?'} to {claim['valid_to'] or 'now'}"
    about = [
        f"[bold]{escape(claim['object'])}[/bold] ({claim['kind']})", escape(claim["subject"]), escape(claim["place"]),
        when if claim["valid_from"] or claim["valid_to"] else "", "" if claim["checkworthy"] else "not check-worthy",
    ]  # fmt: skip
    console.print(f"  says {', '.join(filter(None, about))}", soft_wrap=True)


def _print_finding(row: dict[str, Any], whole: bool) -> None:
    answer = f"; rather {escape(row['answer'])} (p={row['p_answer']:.2f})" if row["answer"] else ""
    newer = f"; by {row['newer_on']}: {escape(row['newer_text'])}" if row["newer_on"] and row["newer_text"] else ""
    where = f" in {escape(row['source_id'])}" if whole else ""
    console.print(
        f"  generation {row['generation']}{where}: {_stance(row['stance'])}, {row['time']}, {row['nature']}, "
        f"p(true)={row['p_stated']:.2f}{answer}{newer}",
        soft_wrap=True,
    )


def _print_occurrence(row: dict[str, Any]) -> None:
    who = ", ".join(filter(None, (row.get("publisher"), row.get("published_at"))))
    place = f"{row['source_id']}, bytes {row['byte_start']}–{row['byte_end']}"
    console.print(f"  stands in {escape(place)}{f' ({escape(who)})' if who else ''}", soft_wrap=True)


def _print_evidence(row: dict[str, Any]) -> None:
    who = ", ".join(filter(None, (row["publisher"], row["published_at"], row["source_id"])))
    tier = ", reference" if row["source_tier"] else ""
    console.print(
        f"  {_stance(row['stance'])} by {escape(who)}{tier}: “{escape(_cut(row['span']))}” "
        f"states {escape(row['states'])}, likeness {row['likeness']:.2f}",
        soft_wrap=True,
    )


def _print_verdict(row: dict[str, Any]) -> None:
    answer = f", answers {escape(row['answer'])}" if row["answer"] else ""
    note = f" ({escape(row['note'])})" if row["note"] else ""
    console.print(
        f"  verdict of {escape(row['verifier'])} (generation {row['generation']}): {_stance(row['stance'])}, "
        f"score {row['raw_score']:.3g}, p={row['p_calibrated']:.2f}{answer}{note}",
        soft_wrap=True,
    )


def _print_correction(row: dict[str, Any], whole: bool) -> None:
    agreed = f", confirmed by {escape(row['reverified_by'])}" if row["reverified_by"] else ""
    place = f" in {escape(row['source_id'])}" if whole else ""
    console.print(f"  {row['kind']}{place} (generation {row['generation']}{agreed}):", soft_wrap=True)
    console.print(_diff(row["old"], row["new"]), soft_wrap=True)


def _print_decision(row: dict[str, Any]) -> None:
    limit = f", limit {row['limit']:.4g}" if row["limit"] else ""
    of = f" of {escape(row['replacement'])}" if row["stage"] == "duplicates" and row["replacement"] else ""
    console.print(
        f"  {row['stage']}: {row['label']}, {escape(row['rule'])}{of} (value {row['value']:.4g}{limit}), "
        f"generation {row['generation']}",
        soft_wrap=True,
    )
    if row["text"]:
        put = f" → “{escape(_cut(row['replacement']))}”" if row["replacement"] and not of else ""
        console.print(f"    “{escape(_cut(row['text']))}”{put}", soft_wrap=True)


def _print_generations(story: dict[str, Any]) -> None:
    for row in story["generations"]:
        state = "accepted" if row["accepted"] else f"refused: {escape(row['reason'])}"
        console.print(f"\nGeneration {row['gen']}: {state}", soft_wrap=True)


def _stance(stance: str) -> str:
    return f"[{_COLOURS[stance]}]{stance.replace('_', ' ')}[/{_COLOURS[stance]}]"


def _diff(old: str, new: str) -> Text:
    """The words that went in red, those that came in green."""
    import re
    from difflib import SequenceMatcher

    from rich.text import Text

    before, after = (re.findall(r"\s+|\S+", text) for text in (old, new))
    shown = Text("    ")
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            shown.append("".join(before[a:b]))
            continue
        if b > a:
            shown.append(f"[-{''.join(before[a:b])}-]", style="red strike")
        if d > c:
            shown.append(f"{{+{''.join(after[c:d])}+}}", style="green")
    return shown


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_SHOWN else f"{line[:_TEXT_SHOWN]}…"
