"""A document as it travels through curation."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """Plain text with what is known of where it comes from.

    `source` is a path or URI, with `#n` for the n-th record of a file; `published` an ISO date, or empty where
    unknown; `collection` the group whose training weight the document shares; `weight` how often training reads it
    next to the others of its collection.
    """

    source: str
    collection: str
    text: str
    title: str = ""
    publisher: str = ""
    published: str = ""
    licence: str = ""
    weight: float = 1.0

    @property
    def sha(self) -> str:
        """Identity of the text: the first 16 hexadecimal digits of its SHA-256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]
