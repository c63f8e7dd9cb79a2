"""`troth ask`: what the curated documents know, with evidence and dates."""

from typing import TYPE_CHECKING, Annotated

import typer

from troth.cli.options import AsJson, Ledger, print_json, read_ledger_path
from troth.cli.output import console, escape

if TYPE_CHECKING:
    from troth.curate.integrate.standing import Answer

_SOURCES_SHOWN = 4


def command(
    question: Annotated[str, typer.Argument(help="A question, or a few words.", metavar="QUESTION")],
    ledger: Ledger,
    at: Annotated[
        str, typer.Option("--at", help="How things stood at this date: 2019, 2019-06 or 2019-06-30.", metavar="DATE")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", help="The most answers to show.", min=1)] = 5,
    as_json: AsJson = False,
) -> None:
    """Answer from the claims of a curation: what stands first, then what is superseded, unconfirmed or refuted."""
    folder = read_ledger_path(ledger)
    from dataclasses import asdict

    from troth.curate.integrate.ask import ask, documents_about, is_name

    answers = ask(folder, question, at, limit)
    about = {} if answers else documents_about(folder, question)
    if as_json:
        found = [asdict(answer) for answer in answers]
        print_json({"question": question, "at": at or None, "answers": found, "documents": about})
        return
    if about:
        console.print("No claim that was judged answers this, but these documents have its words:", soft_wrap=True)
        for source, rule in about.items():
            why = f" (dropped: {rule.replace('_', ' ')})" if rule else ""
            console.print(f"  {escape(source)}{why}", soft_wrap=True)
        console.print("`troth explain` tells what became of each.")
    elif not answers:
        console.print("The curated documents know nothing of this.")
    if answers and is_name(question):
        console.print(f"Of {escape(question.strip())} alone; a question gets narrower answers, --limit more of them.\n")
    for answer in answers:
        _print(answer, at)


def _print(answer: "Answer", at: str) -> None:
    since = f"since {answer.since}" if answer.since else ""
    span = f"{answer.since or '?'} to {answer.until}" if answer.until else since
    told = {
        "current": f"[green]stands{f' at {at}' if at else ''}[/green]",
        "contested": "[yellow]contested[/yellow]",
        "superseded": "[yellow]superseded[/yellow]",
        "unconfirmed": "[yellow]unconfirmed[/yellow]",
        "refuted": "[red]refuted[/red]",
    }[answer.standing]
    console.print(f"[bold]{escape(answer.object)}[/bold] — {escape(answer.text)}", soft_wrap=True)
    odds = "" if answer.p != answer.p else f"p={answer.p:.2f}"
    who = f"{len(answer.publishers)} publisher{'s' if len(answer.publishers) != 1 else ''}" if answer.publishers else ""
    console.print(f"  {', '.join(filter(None, (told, span, odds, who)))}, claim {answer.claim_id}", soft_wrap=True)
    if answer.rather:
        console.print(f"  rather: [bold]{escape(answer.rather)}[/bold]", soft_wrap=True)
    if answer.newer_text:
        console.print(f"  by {answer.until}: {escape(answer.newer_text)}", soft_wrap=True)
    for value, publishers in answer.sides.items():
        console.print(f"  [bold]{escape(value)}[/bold]: {escape(', '.join(publishers) or 'unnamed')}", soft_wrap=True)
    for source in answer.sources[:_SOURCES_SHOWN]:
        about = ", ".join(filter(None, (source.publisher, source.published_at, source.source_id)))
        denies = " [red](denies)[/red]" if source.stance == "refuted" else ""
        console.print(f"  “{escape(source.span)}” ({escape(about)}){denies}", soft_wrap=True)
    if len(answer.sources) > _SOURCES_SHOWN:
        console.print(f"  and {len(answer.sources) - _SOURCES_SHOWN} more", soft_wrap=True)
    console.print()
