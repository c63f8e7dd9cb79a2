"""A curation that stands, once a session."""

from pathlib import Path

import pytest

from troth.curate.integrate.feeds import stage_feeds
from troth.curate.integrate.ledger import write_generation
from troth.curate.records import GenerationRow

from .corpus import write_curation


@pytest.fixture(scope="session")
def curation(tmp_path_factory) -> Path:
    out = write_curation(tmp_path_factory.mktemp("curation"))
    write_generation(out / "ledger", GenerationRow(1, "data", "{}", accepted=True), stage_feeds(out))
    return out
