"""A blank in every sentence: what is hidden and what stands around it are the sentence, and nothing is invented."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from troth.train.blanks import Blanks

NAMES = st.sampled_from(["Paris", "Rome", "Dodoma", "Mount Kenya", "1492", "3.5", "12,000", "Ada"])
WORDS = st.sampled_from(["the", "river", "was", "in", "of", "built", "and", "near", "metres", "high"])
SENTENCES = st.lists(st.one_of(NAMES, WORDS), min_size=5, max_size=9).map(lambda words: " ".join(words) + ".")


@pytest.fixture(scope="module")
def blanks(tokenizer):
    return Blanks(tokenizer)


def cut_sentences(tokenizer, window):
    """(prefix, middle, suffix) of each whole sentence in a window with blanks."""
    marks = [tokenizer.special[f"<|{name}|>"] for name in ("fim_prefix", "fim_suffix", "fim_middle", "end")]
    tokens = window.tolist()
    starts = [i for i, token in enumerate(tokens) if token == tokenizer.end_of_text]
    for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        sentence = tokens[start + 1 : end]
        if not set(marks) <= set(sentence):
            continue
        places = [sentence.index(mark) for mark in marks]
        assert places[0] == 0
        assert places == sorted(places)
        assert places[3] == len(sentence) - 1
        _, after, middle, end = places
        yield sentence[1:after], sentence[middle + 1 : end], sentence[after + 1 : middle]


def is_part(part, whole):
    """Whether `part` is `whole` with some items left out."""
    rest = iter(whole)
    return all(item in rest for item in part)


@given(st.lists(SENTENCES, min_size=1, max_size=8), st.integers(0, 2**32))
def test_a_blank_hides_whole_words_and_around_it_only_words_of_the_sentence_are_left(
    tokenizer, blanks, sentences, seed
):
    tokens = np.array([tokenizer.end_of_text, *tokenizer.encode(" ".join(sentences))])
    assume(all(4 <= len(tokenizer.encode(" " + sentence)) <= 64 for sentence in sentences))
    window = blanks.cut(tokens, np.random.default_rng(seed))
    assert window.shape == tokens.shape
    for prefix, middle, suffix in cut_sentences(tokenizer, window):
        assert middle
        hidden, *told = (tokenizer.decode(part) for part in (middle, prefix, suffix))
        assert any(
            is_part([*prefix, *middle, *suffix], tokenizer.encode(space + sentence)) and hidden in space + sentence
            for sentence in sentences for space in (" ", "")
        )  # fmt: skip
        # A blank begins and ends with a word: nothing of that word is left beside it.
        assert not (hidden[0].isalpha() and told[0][-1:].isalpha())
        assert not (hidden[-1].isalpha() and told[1][:1].isalpha())


def test_half_of_the_sentences_keep_every_word(tokenizer, blanks):
    sentence = " In 1492 Columbus sailed with 3 ships and about 90 men."
    whole = tokenizer.encode(sentence)
    tokens = np.array([tokenizer.end_of_text, *whole * 200])
    window = blanks.cut(tokens, np.random.default_rng(0))
    kept = [prefix + middle + suffix for prefix, middle, suffix in cut_sentences(tokenizer, window)]
    assert 0.4 < np.mean([tokens == whole for tokens in kept]) < 0.7
    assert np.mean([len(tokens) for tokens in kept]) > 0.75 * len(whole)


@given(st.lists(st.sampled_from([*range(265), 391, 392, 393]), min_size=1, max_size=120), st.integers(0, 2**32))
def test_any_tokens_at_all_can_have_blanks(tokenizer, blanks, ids, seed):
    ids = [token for token in ids if token < len(tokenizer.ranks)] or [0]
    tokens = np.array([tokenizer.end_of_text, *ids])
    window = blanks.cut(tokens, np.random.default_rng(seed))
    assert window.shape == tokens.shape
    shown = [part for sentence in cut_sentences(tokenizer, window) for part in sentence]
    assert all(middle for _, middle, _ in cut_sentences(tokenizer, window))
    assert is_part([token for part in shown for token in part], tokens.tolist())


def test_a_cut_window_is_long_enough_for_most_of_its_text(tokenizer, blanks):
    text = "In 1492 Columbus sailed with 3 ships and about 90 men. Rome was not built in 1 day. " * 10
    tokens = np.array([tokenizer.end_of_text, *tokenizer.encode(text)])
    window = blanks.cut(tokens, np.random.default_rng(0))
    kept = [part for sentence in cut_sentences(tokenizer, window) for part in sentence]
    assert sum(map(len, kept)) > 0.6 * len(tokens)
    hidden = [tokenizer.decode(middle) for _, middle, _ in cut_sentences(tokenizer, window)]
    assert any("1492" in blank or "Columbus" in blank or "Rome" in blank for blank in hidden)
