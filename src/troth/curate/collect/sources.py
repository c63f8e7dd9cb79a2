"""All documents of a run at once, for runs that fit into memory."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from troth.curate.collect.host import collect_python
from troth.curate.collect.part import read_item
from troth.curate.collect.plan import PYTHON, plan_collect, planned
from troth.curate.collect.reader import Rejected
from troth.curate.document import Document
from troth.system import DataTable


@dataclass(frozen=True)
class Collected:
    """What the sources gave, in their order, and what could not be read."""

    documents: list[Document]
    rejected: list[Rejected]


def collect(data: DataTable, text_column: str = "text") -> Collected:
    """Documents of `[data] sources`; see `plan_collect` for what these are and how their documents are named.

    Raises ValueError for a path that does not exist.
    """
    found = Collected([], [])
    with TemporaryDirectory() as folder:
        plan = plan_collect(data.sources, Path(folder), python_bytes=data.max_python_bytes, text_column=text_column)
        for item in (item for part in range(plan.parts) for item in planned(Path(folder), part)):
            if item.root == PYTHON:
                found.documents.extend(collect_python(item.size))
                continue
            for _, one in read_item(item):
                if isinstance(one, Document):
                    found.documents.append(one)
                else:
                    found.rejected.append(one)
    return found
