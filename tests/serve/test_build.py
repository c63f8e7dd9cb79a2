"""A folder as a running application, in its process."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from troth.serve.build import build_app
from troth.system.serve import ServeTable


@pytest.fixture
def settings_of_the_process() -> Iterator[None]:
    """What a server sets for its whole process is set back."""
    seconds = sys.getswitchinterval()
    yield
    sys.setswitchinterval(seconds)
    gc.unfreeze()


@pytest.mark.usefixtures("settings_of_the_process")
def test_searches_for_garbage_while_serving_leave_out_what_was_loaded(folder: Path):
    before = len(gc.get_objects())
    app, engine, _ = build_app(folder, ServeTable(cache_tokens=256), "nano", {})
    searched = gc.get_objects()
    assert not any(one is app or one is engine for one in searched)
    assert len(searched) < before / 10
