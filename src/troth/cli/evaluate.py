"""`troth evaluate`: how truthful a model folder is, and which expert works on what."""

from pathlib import Path
from typing import Annotated

import typer

from troth.cli.options import AsJson, print_json


def command(
    model: Annotated[Path, typer.Argument(help="A model folder (config.json, model.safetensors, tokenizer.json).")],
    key: Annotated[Path | None, typer.Option("--key", help="JSON lines of id, question, options, answer.")] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option("--text", help="Text files: bits per byte and experts for each; may be repeated."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Ask held-out questions with options (by default the library's), measure texts, show the experts at work."""
    from dataclasses import asdict

    from rich.table import Table

    from troth.cli.show import console
    from troth.evaluate.questions import ask, read_key, truthfulness
    from troth.evaluate.routing import expert_shares
    from troth.evaluate.score import Scorer, bits_per_byte
    from troth.model.families.afmoe import load_weights
    from troth.model.tokenizer import Tokenizer

    network, tokenizer = load_weights(model), Tokenizer.load(model)
    answers = ask(Scorer(network, tokenizer), read_key(key))
    result = asdict(truthfulness(answers))
    texts = {str(path): path.read_text(encoding="utf-8") for path in text or ()}
    result["bits_per_byte"] = {name: bits_per_byte(network, tokenizer, [content]) for name, content in texts.items()}
    shares = expert_shares(network, tokenizer, {name: [content] for name, content in texts.items()})
    result["experts"] = {name: share.mean(0).tolist() for name, share in shares.items()}
    if json:
        print_json(result)
        return
    true = sum(answer.true for answer in answers)
    console.print(f"{true} of {len(answers)} true ({true / len(answers):.1%})")
    console.print(f"untouched facts {result['untouched']:.1%}, corrupted facts {result['corrupted']:.1%}")
    console.print(f"calibration error {result['calibration_error']:.3f}")
    if texts:
        table = Table("text", "bits per byte", *(f"expert {e}" for e in range(network.config.num_experts)))
        for name in texts:
            table.add_row(name, f"{result['bits_per_byte'][name]:.3f}", *(f"{s:.0%}" for s in result["experts"][name]))
        console.print(table)
