"""Collect: documents from files and object stores, from Troth's own pages and from Python."""

from troth.curate.collect.host import collect_python
from troth.curate.collect.library import library_pages
from troth.curate.collect.part import collect_part
from troth.curate.collect.plan import Plan, plan_collect
from troth.curate.collect.reader import Rejected
from troth.curate.collect.sources import Collected, collect

__all__ = [
    "Collected", "Plan", "Rejected", "collect", "collect_part", "collect_python", "library_pages", "plan_collect",
]  # fmt: skip
