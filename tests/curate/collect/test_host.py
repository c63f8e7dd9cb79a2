import re
import sys
from collections import Counter

import pytest

from troth.curate.collect.docstrings import docstring_prose
from troth.curate.collect.facts import fact_tables
from troth.curate.collect.host import collect_python


@pytest.fixture(scope="module")
def host():
    return collect_python(400_000)


def test_all_three_collections_are_filled_up_to_the_limit(host):
    sizes = Counter()
    for document in host:
        sizes[document.collection] += len(document.text.encode())
    assert set(sizes) == {"python-prose", "python-code", "python-facts"}
    assert all(100_000 < size <= 400_000 for size in sizes.values())
    assert len({document.source for document in host}) == len(host)
    assert all(document.text and document.title and document.licence == "PSF-2.0" for document in host)


def test_it_is_the_same_twice(host):
    assert collect_python(400_000) == host


def test_nothing_is_imported_for_it():
    before = set(sys.modules)
    collect_python(10_000)
    assert not {"antigravity", "this", "turtle", "pydoc_data.topics"} & (set(sys.modules) - before)


def test_a_smaller_limit_keeps_part_of_the_same_documents(host):
    few = collect_python(50_000)
    assert 0 < sum(len(document.text.encode()) for document in few) <= 150_000
    assert len(few) < len(host)


def test_prose_reads_as_sentences(host):
    prose = [document for document in host if document.collection == "python-prose"]
    assert any(document.source.startswith("python-prose/reference/") for document in prose)
    for document in prose:
        assert ">>>" not in document.text
        for paragraph in document.text.split("\n\n"):
            assert "\n" not in paragraph
            assert re.search(r"[.!?][\"')]*$", paragraph)


def test_docstrings_keep_their_sentences_only():
    source = '''"""Tools for maps.

    A map is built from *tiles*, each of which is
    loaded by :func:`load` when it is needed.

    >>> load(1)
    1

    ====  ====
    a     b
    ====  ====
    """

class Tile:
    "One square of the map, with its borders."
    def load(self):
        """Return the tile from the store, or raise an error.

            x = Tile().load()
        """
'''
    assert docstring_prose(source).split("\n\n") == [
        "A map is built from tiles, each of which is loaded by load when it is needed.",
        "One square of the map, with its borders.",
        "Return the tile from the store, or raise an error.",
    ]


def test_facts_are_true_and_come_in_three_wordings():
    tables = {table.name: table for table in fact_tables()}
    assert {"http-status", "characters", "entities", "keywords", "exceptions", "system-errors"} <= set(tables)
    assert all(len(table.wordings) >= 3 and table.rows for table in tables.values())

    def said(table):
        return {wording.format(**row) for wording in tables[table].wordings for row in tables[table].rows}

    assert "The HTTP status code 404 means Not Found." in said("http-status")
    assert "In Python, FileNotFoundError is a subclass of OSError." in said("exceptions")
    assert "The character α (U+03B1) is named GREEK SMALL LETTER ALPHA in Unicode." in said("characters")
    assert "In HTML, &euro; stands for the character €." in said("entities")
    if "time-zones" in tables:
        assert "The time zone Asia/Kolkata had the offset UTC+5:30 in January 2024." in said("time-zones")
        assert "In January 2024, clocks in St Johns were set to UTC-3:30." in said("time-zones")
