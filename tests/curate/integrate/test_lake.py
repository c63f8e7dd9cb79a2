"""Exports are read back by the packages that they are made for."""

import json
from functools import partial

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyiceberg.catalog.sql import SqlCatalog

from troth.curate.document import Document
from troth.curate.integrate.feeds import stage_feeds
from troth.curate.integrate.lake import export_tables
from troth.curate.integrate.ledger import read_table, write_generation
from troth.curate.records import GenerationRow
from troth.curate.rows import write_rows

from .corpus import documents, write_curation


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = write_curation(tmp_path_factory.mktemp("finished"))
    write_rows(out / "documents" / "00000.parquet", Document, documents()[:3])
    write_generation(out / "ledger", GenerationRow(1, "", "{}", accepted=True), stage_feeds(out))
    return out


def read_parquet(to, name):
    return pq.read_table(to / name).to_pylist()


def read_delta(to, name):
    return DeltaTable(str(to / name)).to_pyarrow_table().to_pylist()


def read_iceberg(to, name):
    catalog = SqlCatalog("troth", uri=f"sqlite:///{to}/catalog.db", warehouse=to.as_uri())
    return catalog.load_table(f"troth.{name}").scan().to_arrow().to_pylist()


@pytest.mark.parametrize("read", [read_parquet, read_delta, read_iceberg])
def test_every_table_comes_back_with_its_rows(finished, tmp_path, read):
    form, to = read.__name__.removeprefix("read_"), tmp_path / "lake"
    rows = export_tables(finished, form, to)
    assert rows["curated"] == 3
    assert [row["text"] for row in read(to, "curated")] == [page.text for page in documents()[:3]]
    for name in ("documents", "rejected", "decisions", "claims", "evidence", "corrections", "generations"):
        expected = read_table(finished / "ledger", name)
        assert rows[name] == len(expected)
        assert read(to, name) == expected


def test_the_command_says_what_it_wrote(finished, tmp_path, run_here):
    run = partial(run_here, "export", finished)
    done = run("--delta", tmp_path / "lake", "--json")
    assert json.loads(done.stdout)["rows"]["claims"] == 8
    again = run("--delta", tmp_path / "lake")
    assert (again.returncode, again.stderr) == (2, f"troth: {tmp_path}/lake: exists already; name a new folder\n")
    assert "--parquet DIR, --delta DIR and --iceberg DIR" in run().stderr


def test_what_fails_half_way_leaves_nothing_behind(tmp_path):
    out = write_curation(tmp_path / "run")
    (out / "documents").mkdir()
    (out / "documents" / "00000.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="Parquet"):
        export_tables(out, "parquet", tmp_path / "lake")
    assert not (tmp_path / "lake").exists()
