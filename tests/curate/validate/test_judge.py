"""The judge: learns what tells true from planted, and weighs publishers by how often they are contradicted."""

import numpy as np
import pytest

from troth.curate.document import Document
from troth.curate.validate.claims import find_claims
from troth.curate.validate.judge import Voices, fit, posteriors, publisher_errors, softmax
from troth.curate.validate.values import Value


def test_judge_learns_to_follow_what_told_true_from_planted():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3, 2))
    true = np.argmax(x[:, :, 0] + 0.1 * random.normal(size=(300, 3)), axis=1)
    theta = fit(x, np.ones((300, 3), bool), true, np.ones(300))
    assert theta[0] > 3 * abs(theta[1])
    assert np.mean(np.argmax(softmax(x @ theta), axis=1) == true) > 0.9


def test_weights_are_the_best_where_a_full_newton_step_overshoots():
    random = np.random.default_rng(0)
    true = np.where(random.random(400) < 0.1, 1, 0)  # the first candidate nearly always, the last one never
    word = random.random((400, 8))
    word[np.arange(400), true] += 1
    word[:, -1] = 0
    x = np.zeros((400, 8, 4))
    x[:, 0, 0], x[:, :, 1], x[:, :, 2], x[:, -1, 3] = 1, word, word > 0.5, 1
    counts = np.where(true == 0, 0.85, 0.15)
    theta = fit(x, np.ones((400, 8), bool), true, counts)
    gained = counts @ (x[np.arange(400), true] - np.einsum("nc,nck->nk", softmax(x @ theta), x))
    assert gained == pytest.approx(0.1 * theta, abs=1e-4)  # what the ridge takes


def test_a_candidate_that_is_not_there_gets_no_probability():
    p = softmax(np.array([[1.0, 5.0, 2.0]]), np.array([[True, False, True]]))
    assert p[0, 1] == 0
    assert p.sum() == pytest.approx(1)


def test_the_word_of_a_publisher_that_errs_often_counts_less():
    careless, careful, other = range(3)
    scores = np.array([[0.0, 3.0]] * 60 + [[3.0, 0.0]] * 140 + [[0.0, 0.0]] * 2)
    speakers = np.array([careless] * 100 + [careful] * 100 + [other] * 2)
    mask = np.ones(scores.shape, bool)
    heard = Voices(np.array([200, 201]), np.array([1, 1]), np.array([careless, careful]), np.array([1.0, 1.0]))
    errors = publisher_errors(scores, mask, heard, speakers, 3, rate=0.15)
    p = posteriors(scores, mask, heard, speakers, errors, rate=0.15)
    assert errors[careless] > 2 * errors[careful]
    assert p[-2, 0] > 0.5 > p[-1, 0]


def test_a_misstated_claim_is_the_sentence_with_another_value():
    page = Document("a", "documents", "Rain fell. The capital of Peru is Lima, on the coast.")
    claim = next(claim for claim in find_claims(page, {"Peru", "Lima"}) if claim.value.text == "Lima")
    error = claim.with_value(Value(0, 8, "Atlantis", "name", "atlantis"))
    assert error.sentence.text == "The capital of Peru is Atlantis, on the coast."
    assert error.sentence.text[error.value.start : error.value.end] == "Atlantis"
    assert error.row().claim_id != claim.row().claim_id


def test_a_place_is_in_bytes_of_the_text():
    page = Document("a", "documents", "Ärger in Köln. The river of Köln is the Rhine.")
    claim = next(claim for claim in find_claims(page, {"Köln", "Rhine"}) if claim.value.text == "Rhine")
    place, data = claim.occurrence("id"), page.text.encode()
    assert data[place.byte_start : place.byte_end].decode() == "The river of Köln is the Rhine."
    assert data[place.object_start : place.object_end].decode() == "Rhine"
