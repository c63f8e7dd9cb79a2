"""A document as it travels through curation."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal["prose", "code", "facts", "table"]
"""What a document holds. `facts` are short statements in few wordings; a `table` has one row a line. Each kind has its
own rules."""


@dataclass(frozen=True)
class Document:
    """Plain text with what is known of where it comes from.

    `source` is a path or URI, with `#n` for the n-th record of a file; `published` and `retrieved` ISO dates (`2021`,
    `2021-03`, `2021-03-12`), or empty where unknown; `encoding` what the bytes were decoded from; `language` the ISO
    639-1 code of prose, or the name of a programming language. `collection` is the group whose training weight the
    document shares; `weight` how often training reads it next to the others of its collection.

    `ancestors` are the generations of models that had a hand in the text, none for what people wrote; `derived_from`
    is the `sha` of the document that it rephrases.
    """

    source: str
    collection: str
    text: str
    title: str = ""
    publisher: str = ""
    published: str = ""
    retrieved: str = ""
    licence: str = ""
    encoding: str = ""
    language: str = ""
    kind: Kind = "prose"
    ancestors: tuple[int, ...] = ()
    derived_from: str = ""
    weight: float = 1.0

    @cached_property
    def sha(self) -> str:
        """Identity of the text: the first 16 hexadecimal digits of its SHA-256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]
