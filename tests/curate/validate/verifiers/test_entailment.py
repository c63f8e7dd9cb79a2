"""Verifiers that read what passages say: by comparing words, by a trained model, by a classifier."""

from pathlib import Path

import numpy as np
import pytest

import troth
from troth.curate.document import Document
from troth.curate.validate.verifiers.contradictions import contradictions
from troth.curate.validate.verifiers.entailment import EntailmentVerifier
from troth.curate.validate.verifiers.lexical import LexicalVerifier, lexical_score
from troth.curate.validate.verifiers.linear import Rows, fit, sigmoid
from troth.curate.validate.verifiers.trained import TrainedVerifier, train_verifier

PAGES = [
    Document(file.name, "library", file.read_text(encoding="utf-8", errors="replace"))
    for file in sorted((Path(troth.__file__).parent / "library/pages").rglob("*"))
    if file.suffix in (".md", ".txt")
]


def balanced(said, true):
    """The mean of the shares of supported and of contradicted claims that are found."""
    return (said[true].mean() + (~said[~true]).mean()) / 2


@pytest.fixture(scope="module")
def trained():
    return train_verifier(list(contradictions(PAGES[::2], np.random.default_rng(0))))


def test_contradictions_come_in_pairs_and_change_one_thing():
    made = list(contradictions(PAGES[::4], np.random.default_rng(1)))
    assert sum(pair.supported for pair in made) == len(made) / 2
    assert {pair.change for pair in made} == {"", "number", "name", "exchanged", "denied", "opposite"}
    assert {pair.kind for pair in made} == {"same sentence", "other sentence"}
    assert all(pair.claim not in pair.passage for pair in made if not pair.supported)
    assert made == list(contradictions(PAGES[::4], np.random.default_rng(1)))


def test_the_trained_verifier_beats_comparing_words_on_unseen_pages(trained):
    made = list(contradictions(PAGES[1::2], np.random.default_rng(2)))
    true = np.array([pair.supported for pair in made])
    ours = balanced(np.array([trained.score(pair.claim, pair.passage) for pair in made]) > 0, true)
    words = np.array([lexical_score(pair.claim, pair.passage) for pair in made])
    # Even with the limit that suits these very pages best.
    theirs = max(balanced(words > limit, true) for limit in np.linspace(-1, 1, 41))
    assert ours > 0.85
    assert ours > theirs + 0.05


def test_a_trained_verifier_comes_back_as_it_was(trained, tmp_path):
    trained.save(tmp_path / "trained.npz")
    again = TrainedVerifier.load(tmp_path / "trained.npz")
    assert np.array_equal(again.weights, trained.weights)
    assert again.model_hash == trained.model_hash
    (tmp_path / "trained.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"trained\.npz"):
        TrainedVerifier.load(tmp_path / "trained.npz")
    with pytest.raises(ValueError, match="supported and contradicted"):
        train_verifier([])


@pytest.mark.parametrize(
    ("passage", "stance"),
    [
        ("Founded on the river in 1624, Oslo grew fast.", "supported"),
        ("Oslo was founded in 1048 on the river.", "refuted"),
        ("Oslo was never founded on a river in 1624.", "refuted"),
        ("Bananas are yellow.", None),
    ],
)
def test_comparing_words_sees_numbers_and_denials(ask, passage, stance):
    (found,) = LexicalVerifier().judge([ask("Oslo was founded in 1624 on a river.", "1624", passage)])
    assert (found and found.stance) == stance


def test_opinions_are_weighed_over_documents(ask):
    sentence = "Oslo was founded in 1624 on a river."
    one = ask(sentence, "1624", "Oslo was founded in 1048 on the river.")
    two = ask(sentence, "1624", "Oslo was founded in 1048 on the river.", "On a river, Oslo was founded in 1624.")
    first, second = LexicalVerifier().judge([one, two])
    assert first.raw_score < second.raw_score < 1


class Labels:
    """A classifier of its own kind: what contains the claim's number entails it."""

    model_hash = "0123456789abcdef"

    def __init__(self, labels):
        self.labels = labels

    def classify(self, pairs):
        first, *rest = self.labels
        sure = [0.9 if "1624" in passage else 0.05 for passage, _ in pairs]
        return [{first: p} | dict.fromkeys(rest, (1 - p) / len(rest)) for p in sure]


def test_a_classifier_is_asked_about_each_document(ask):
    sentence, yes, no = "Oslo was founded in 1624.", "It was founded in 1624.", "It was founded in 1048."
    asked = ask(sentence, "1624", yes, no), ask("Alone.")
    verifier = EntailmentVerifier(Labels(("ENTAILMENT", "contradiction")))
    both, nothing = verifier.judge(asked)
    assert nothing is None
    assert both.stance in ("supported", "refuted", "not_enough_evidence")
    (single,) = verifier.judge([ask(sentence, "1624", yes)])
    assert single.stance == "supported"
    assert single.raw_score > 2 > abs(both.raw_score)
    assert verifier.model_hash == Labels.model_hash


def test_labels_that_say_nothing_are_named(ask):
    with pytest.raises(ValueError, match="LABEL_0, LABEL_1"):
        EntailmentVerifier(Labels(("LABEL_0", "LABEL_1"))).judge([ask("Oslo.", "", "Oslo.")])


def test_a_model_folder_is_a_classifier(ask, tmp_path):
    """A network small enough for a test, with a head that knows nothing: what counts is that all of it fits."""
    import torch

    from troth.evaluate.entail import EntailmentModel
    from troth.model.classifier import Classifier
    from troth.model.config import ModelConfig
    from troth.model.families.classifiers import save_classifier
    from troth.model.initialise import initialise
    from troth.model.tokenizer import Tokenizer

    tokenizer = Tokenizer.train(iter([page.text for page in PAGES[:5]]), 300)
    config = ModelConfig(
        vocab_size=300, hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_hidden_layers=2,
        num_dense_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=8, num_experts=4,
        num_experts_per_tok=2, num_shared_experts=1, sliding_window=8, max_position_embeddings=64,
    )  # fmt: skip
    model = Classifier(config, ("entailment", "neutral", "contradiction"))
    initialise(model.decoder, seed=1)
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(2))
    save_classifier(model, tmp_path, eos_token_id=0)
    tokenizer.save(tmp_path)
    classifier = EntailmentModel.load(tmp_path)
    pairs = [("A long passage about nothing at all. " * 9, "A claim."), ("Short.", "A claim."), ("Short.", "Another.")]
    together = classifier.classify(pairs)
    apart = [classifier.classify([pair])[0] for pair in pairs]
    for one, other in zip(together, apart, strict=True):
        assert sum(one.values()) == pytest.approx(1, abs=1e-5)
        assert one == pytest.approx(other, abs=1e-5)
    (found,) = EntailmentVerifier(classifier).judge([ask("A claim.", "", "A passage.")])
    assert found.note == "A passage."


def test_logistic_regression_finds_the_probabilities_that_made_the_labels():
    random = np.random.default_rng(0)
    rows = [[0, 1 + int(random.integers(3)), 4 + int(random.integers(2))] for _ in range(4000)]
    true = np.array([0.2, -1.0, 0.5, 1.0, 0.3, -0.3])
    labels = (random.random(4000) < sigmoid(Rows.of(rows).scores(true))).astype(float)
    found = fit(Rows.of(rows), labels, 6, ridge=1e-3)
    assert np.abs(sigmoid(Rows.of(rows).scores(found)) - sigmoid(Rows.of(rows).scores(true))).max() < 0.06
