"""What a collection holds, by its name: prose, code or facts. Each kind has its own rules."""

from typing import Literal

Kind = Literal["prose", "code", "facts"]


def kind(collection: str) -> Kind:
    """`code` and `facts` for names that end in `-code` and `-facts`, `prose` for all others."""
    if collection.endswith("-code"):
        return "code"
    return "facts" if collection.endswith("-facts") else "prose"
