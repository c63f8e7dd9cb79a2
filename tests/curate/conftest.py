"""A curation of statements of which two are wrong, once a session."""

import pytest

from .capitals import corpus, curated


@pytest.fixture(scope="session")
def outcome(tmp_path_factory):
    """The folder, the report, and the curated texts by their sources."""
    folder = tmp_path_factory.mktemp("curated")
    report, after = curated(folder, corpus({"Norway": "Bergen", "Japan": "Kyoto"}))
    return folder / "out", report, after
