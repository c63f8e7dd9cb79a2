"""Documents to train on, read as a stream from files of every kind (`sources`)."""

from collections.abc import Iterator, Sequence

from troth.train.sources import Row, Wanted, every_row, read_rows

_HEAVIEST = 100


def read_documents(sources: Sequence[str], wanted: Wanted = every_row) -> Iterator[tuple[str, str, float]]:
    """(collection, text, weight) of the `wanted` documents of files, folders and URLs, which `read_rows` describes.

    A document has a `text`; its `collection` is the file's name where it names none, its `weight` 1. Raises ValueError
    naming the file, and the line or row, that cannot be read.
    """
    return map(_document, read_rows(sources, ("text",), ("collection", "weight"), wanted))


def _document(row: Row) -> tuple[str, str, float]:
    text, collection, weight = (row.values.get(column) for column in ("text", "collection", "weight"))
    if not isinstance(text, str):
        raise ValueError(f"{row.place}: text={text!r}; expected text")
    if not isinstance(collection, str | None):
        raise ValueError(f"{row.place}: collection={collection!r}; expected a name")
    if weight is None:
        weight = 1.0
    elif not (isinstance(weight, int | float) and 0 < weight <= _HEAVIEST):
        raise ValueError(f"{row.place}: weight={weight!r}; expected a number above 0, at most {_HEAVIEST}")
    return collection or row.file, text, float(weight)
