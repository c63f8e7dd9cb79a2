"""Settings that name what is not there are refused before anything is collected."""

import pytest

from troth.curate.pipeline import Curation, curate
from troth.system import CurateTable


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"languages": ["xx"]}, "curate.languages: cannot tell xx"),
        ({"benchmarks": ["/nowhere.jsonl"]}, "curate.benchmarks: /nowhere.jsonl: no text"),
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
