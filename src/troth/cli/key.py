"""`troth key`: makes and revokes the API keys of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from troth.cli.options import AsJson, print_json


def command(
    file: Annotated[Path, typer.Argument(help="Where keys are kept, as salted hashes; serve.api_keys names it.")],
    name: Annotated[str, typer.Argument(help="Whose key it is, as logs will call them.")],
    revoke: Annotated[bool, typer.Option("--revoke", help="Take the key of this name out instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it, this once. A running server takes up what changes in the file."""
    from troth.security.keys import add_key, revoke_key

    if revoke:
        revoke_key(file, name)
        said = {"name": name, "revoked": True}
    else:
        said = {"name": name, "key": add_key(file, name)}
    if as_json:
        print_json(said)
    elif not revoke:
        print(said["key"])
