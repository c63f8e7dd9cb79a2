"""Collect: documents from files, from Troth's own pages and from Python, without junk and duplicates."""

from troth.curate.collect.dedup import Duplicate, drop_duplicates
from troth.curate.collect.host import collect_python
from troth.curate.collect.junk import Drop, drop_junk
from troth.curate.collect.library import library_pages
from troth.curate.collect.part import collect_part
from troth.curate.collect.plan import Plan, plan_collect
from troth.curate.collect.reader import Rejected
from troth.curate.collect.sources import Collected, collect

__all__ = [
    "Collected", "Drop", "Duplicate", "Plan", "Rejected", "collect", "collect_part", "collect_python",
    "drop_duplicates", "drop_junk", "library_pages", "plan_collect",
]  # fmt: skip
