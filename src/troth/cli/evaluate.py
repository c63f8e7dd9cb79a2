"""`troth evaluate`: how truthful a model folder is, and which expert works on what."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from troth.cli.options import AsJson, Changes, SystemName, print_json, read_system
from troth.cli.output import console


def command(
    model: Annotated[Path, typer.Argument(help="A model folder (config.json, model.safetensors, tokenizer.json).")],
    key: Annotated[
        Path | None, typer.Option("--key", help="JSON lines of id, question, options, answer (default: the library's).")
    ] = None,
    system: SystemName = "nano",
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Ask held-out questions; on samples of the system's documents, measure bits per byte and show experts at work."""
    settings = read_system(system, changes)
    from dataclasses import asdict

    from troth.curate.collect import collect
    from troth.evaluate.questions import ask, read_key, truthfulness
    from troth.evaluate.routing import expert_shares
    from troth.evaluate.score import Scorer, bits_per_byte
    from troth.evaluate.texts import sample_by_kind
    from troth.model.families.weights import load_weights
    from troth.model.tokenizer import Tokenizer

    network, tokenizer = load_weights(model), Tokenizer.load(model)
    answers = ask(Scorer(network, tokenizer), read_key(key))
    texts = sample_by_kind((d.collection, d.text) for d in collect(settings.data).documents)
    result = asdict(truthfulness(answers))
    result["bits_per_byte"] = {kind: bits_per_byte(network, tokenizer, members) for kind, members in texts.items()}
    result["experts"] = {k: share.mean(0).tolist() for k, share in expert_shares(network, tokenizer, texts).items()}
    if as_json:
        print_json(result)
        return
    true = sum(answer.true for answer in answers)
    console.print(f"{true} of {len(answers)} questions answered truly ({true / len(answers):.1%})")
    console.print(f"untouched facts {result['untouched']:.1%}, corrupted facts {result['corrupted']:.1%}")
    console.print(f"calibration error {result['calibration_error']:.3f}")
    table = Table("", *result["experts"], title="Experts' shares of the tokens")
    table.add_row("bits per byte", *(f"{bits:.3f}" for bits in result["bits_per_byte"].values()), end_section=True)
    for expert, shares in enumerate(zip(*result["experts"].values(), strict=True)):
        table.add_row(f"expert {expert}", *(f"{share:.1%}" for share in shares))
    console.print(table)
