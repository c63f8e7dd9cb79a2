"""Collect: documents from files, from Troth's own pages and from Python."""

from troth.curate.collect.files import read_files
from troth.curate.collect.host import collect_python
from troth.curate.collect.library import library_pages
from troth.curate.collect.reader import Rejected
from troth.curate.collect.sources import Collected, collect

__all__ = ["Collected", "Rejected", "collect", "collect_python", "library_pages", "read_files"]
