"""The `troth` command: gathers the verbs, and turns a user's mistake into one line and exit code 2."""

import importlib
import os
import pkgutil
import sys

import typer

import troth.cli

# Threads that spin for long while they wait slow a shared machine to a crawl; threads that do not spin at all cost a
# third of the speed of an idle one. Read by libgomp when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

app = typer.Typer(
    name="troth",
    help="From raw documents to a served mixture-of-experts model whose training data can be explained claim by claim.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

for _module in pkgutil.iter_modules(troth.cli.__path__, "troth.cli."):
    if _module.name == __name__:
        continue
    _verb = importlib.import_module(_module.name)
    if hasattr(_verb, "command"):
        app.command(name=_module.name.rpartition(".")[2])(_verb.command)
    if hasattr(_verb, "app"):
        app.add_typer(_verb.app, name=_module.name.rpartition(".")[2])


def main() -> None:
    """Run the command line. ValueError and OSError are the user's to mend: one line on stderr, exit code 2."""
    try:
        app()
    except (ValueError, OSError) as error:
        print(f"troth: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("troth: interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(130)
