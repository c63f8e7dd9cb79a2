"""Settings that name what is not there are refused before anything is collected."""

import pytest

from troth.curate.pipeline import Curation, curate
from troth.system import CurateTable


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"languages": ["xx"]}, "curate.languages: cannot tell xx"),
        ({"benchmarks": ["/nowhere.jsonl"]}, "curate.benchmarks: /nowhere.jsonl: no text"),
        ({"references": ["/nowhere"]}, "curate.references: /nowhere: no such file or folder"),
        ({"tables": ["/nowhere.csv"]}, "curate.tables: /nowhere.csv: no such file"),
        ({"quality_below": 0.5, "quality_examples": "/nowhere"}, "curate.quality_examples: no folder /nowhere/good"),
        ({"verifiers": ["trained"], "trained_verifier": "/nowhere.npz"}, "/nowhere.npz: not a trained verifier"),
        ({"verifiers": ["entailment"]}, "curate.entailment_model: name a model folder"),
        ({"verifiers": ["endpoint"]}, "curate.endpoint: the endpoint judge needs this table"),
        ({"forms": ["rephrased"]}, "curate.forms: rephrased needs the table curate.endpoint"),
    ],
    ids=str,
)
def test_what_is_lacking_is_told_at_once(settings, message, tmp_path):
    (tmp_path / "page.md").write_text("Lima is the capital of Peru.", encoding="utf-8")
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=message):
        curate(Curation((str(tmp_path / "page.md"),), out, CurateTable(**settings)))
    assert not out.exists()


def test_a_mistaken_source_does_not_claim_the_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.md").write_text("Lima is the capital of Peru, and was so from the start.", encoding="utf-8")
    out, settings = tmp_path / "out", CurateTable(min_words=0)
    for name, told in {"pgae.md": "pgae.md: no such file or folder", "empty": "empty: no files to read"}.items():
        with pytest.raises(ValueError, match=told):
            curate(Curation((str(tmp_path / name),), out, settings))
        assert not out.exists()
    assert curate(Curation((str(tmp_path / "page.md"),), out, settings))["documents"] == 1


def test_an_empty_source_is_not_the_folder_at_hand(tmp_path):
    with pytest.raises(ValueError, match="a source is empty"):
        curate(Curation(("",), tmp_path / "out", CurateTable()))
