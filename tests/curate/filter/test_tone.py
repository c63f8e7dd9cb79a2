"""Toxic, loaded and foreign texts, by their words."""

import pytest

from troth.curate.filter.language import judged_language, language
from troth.curate.filter.loaded import loaded, tone
from troth.curate.filter.toxic import toxic
from troth.curate.filter.words import Words

PLAIN = "The council met on Monday and voted on the plan for the harbour, which forty members support. " * 4
LOADED = (
    "The corrupt regime and its shameless cronies betrayed us again. Everybody clearly knows that these liars are a "
    "disgrace, and their pathetic propaganda is simply an outrage. "
) * 2


def test_loaded_language_scores_higher_than_plain_words():
    plain, heated = tone(Words(PLAIN)), tone(Words(LOADED))
    assert plain.score < 0.01 < 0.1 < heated.score
    assert heated.blame > heated.praise == 0
    assert heated.one_sided == 1
    assert heated.subjective > plain.subjective
    assert loaded(Words(LOADED), 0.1).broken


def test_praise_and_blame_alike_count_half():
    both = tone(Words("A heroic deed, said some, and a disgraceful one, said others, when the harbour was closed." * 3))
    assert both.one_sided == 0
    assert both.score < both.praise + both.blame + both.subjective


def test_one_bad_word_condemns_no_text():
    assert not toxic(Words("He quoted the word shit and went on to explain it."), 0.01).broken
    assert toxic(Words("shit shit fucking asshole said the bitch, you fucking bastard"), 0.02).broken


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "The heart is a muscle that pumps blood through the body."),
        ("de", "Das Herz ist ein Muskel, der das Blut durch den Körper pumpt."),
        ("fr", "Le cœur est un muscle qui fait circuler le sang dans tout le corps."),
    ],
)
def test_languages_are_told_apart(code, text):
    ranked, found = judged_language(text * 20, ["en", "de", "fr"])
    assert next(iter(ranked)) == code
    assert not found.broken
    assert judged_language(text * 20, ["it"])[1].broken
    assert judged_language(text * 20, [])[1] is None


def test_figures_and_capitals_are_of_no_language():
    """Taken with them, nobody could tell what these plain sentences are."""
    people = {2000: "6,400,706", 2005: "7,364,862", 2010: "8,766,930"}
    text = " ".join(f"The population in {year} of Burundi was {n} as of 2012." for year, n in people.items())
    assert language(text)["en"] < 0.5
    ranked, found = judged_language(text, ["en"])
    assert next(iter(ranked)) == "en"
    assert not found.broken
