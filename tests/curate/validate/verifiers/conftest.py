"""Questions to verifiers."""

from collections.abc import Callable

import pytest

from troth.curate.records import ClaimRow, EvidenceRow, short_hash
from troth.curate.validate.verifiers.protocol import Question


@pytest.fixture(scope="session")
def ask() -> Callable[..., Question]:
    """`ask(sentence, value, passages...)` is a question about a value of a sentence."""

    def build(sentence: str, value: str = "", *passages: str, start: int = -1, **fields: str) -> Question:
        about = {"subject": "", "relation": "", "valid_from": "", "valid_to": "", "place": ""} | fields
        claim_id = short_hash(sentence, value)
        claim = ClaimRow(claim_id, sentence, object=value, kind="quantity", nature="fact", checkworthy=True, **about)
        evidence = tuple(
            EvidenceRow(
                short_hash(span), claim_id, short_hash("page", span), f"page-{i}", f"publisher-{i}",
                published_at="2020", source_tier=0, ancestor_generations=(), span=span, states="",
                stance="not_enough_evidence", likeness=1.0,
            )
            for i, span in enumerate(passages)
        )  # fmt: skip
        return Question(claim, sentence, evidence, "2021-01-01", start)

    return build
