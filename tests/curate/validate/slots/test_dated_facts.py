"""The benchmark's prose, on a few countries: facts that changed are found, what stays is left, mistakes are mended."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
DATA = ROOT.parent / "shared/data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs the data for development")


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(ROOT / "bench"))
    import dated_facts

    yield dated_facts
    sys.path.remove(str(ROOT / "bench"))


@pytest.mark.parametrize(
    ("name", "countries"), [("factbook", 8), ("population", 12), ("leaders", 20), ("offices", 20)]
)
def test_facts_that_changed_are_superseded_and_others_left(bench, name, countries):
    facts = bench.SETS[name](DATA, countries)
    documents, key = bench.render(facts, bench.houses())
    score = bench.measure(documents, key)
    old, right = ("superseded", "stale"), ("current", "superseded")
    found = {label: sum(score.table.get((label, one), 0) for one in old) for label in ("current", "error", *old)}
    told = {
        label: sum(n for (one, _), n in score.table.items() if one == label) for label in ("current", *old, "error")
    }
    hits = found["superseded"] + found["stale"]
    assert hits > 0.95 * (told["superseded"] + told["stale"])
    assert hits > 0.95 * sum(found.values())
    assert score.table["error", "refuted"] > 0.8 * told["error"]
    assert sum(score.table.get((label, "refuted"), 0) for label in right) < 0.01 * (
        told["current"] + told["superseded"]
    )


def test_clean_prose_is_left_alone(bench):
    documents, key = bench.render(bench.SETS["factbook"](DATA, 8), bench.houses(careless=0.0, stale=0.0))
    table = bench.measure(documents, key).table
    assert sum(n for (_, found), n in table.items() if found == "refuted") <= 0.002 * len(key)
