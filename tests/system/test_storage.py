"""One way to files elsewhere, for those who curate and those who train."""

import sys

import pytest
from fsspec.implementations.arrow import ArrowFSWrapper

from troth.system.storage import filesystem


def test_a_url_without_fsspecs_client_is_pyarrows(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    fs, path = filesystem("s3://bucket/of/others?region=us-east-1")
    assert isinstance(fs, ArrowFSWrapper)
    assert path == "bucket/of/others"


def test_what_nobody_knows_is_named(monkeypatch):
    with pytest.raises(ValueError, match="moon://far: Protocol not known: moon"):
        filesystem("moon://far")
    monkeypatch.setitem(sys.modules, "dropbox", None)
    monkeypatch.setitem(sys.modules, "dropboxdrivefs", None)
    with pytest.raises(ValueError, match=r"dropbox://folder: .*install"):
        filesystem("dropbox://folder")
