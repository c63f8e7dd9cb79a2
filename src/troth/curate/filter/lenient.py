"""Quality rules that doubt themselves: a value just past a limit is no proof, so a text goes where a value is past its
limit by a fifth, or two values are past theirs.

The limits are those of Gopher (Rae et al. 2021, appendix A1), C4 (Raffel et al. 2020, section 2.2) and FineWeb
(Penedo et al. 2024); ours are marked, and were looked at on textbooks.
"""

from collections.abc import Iterator

from troth.curate.filter import measures
from troth.curate.filter.finding import Finding
from troth.curate.filter.words import Words

MIN_MEAN_WORD_LENGTH = 3.0
"""Characters; Gopher."""
MAX_MEAN_WORD_LENGTH = 10.0
"""Characters; Gopher."""
MIN_ALPHABETIC = 0.8
"""Share of words with a letter in them; Gopher."""
MIN_PUNCTUATED = 0.12
"""Share of lines that end with punctuation, in texts of five lines or more; FineWeb."""
MAX_REPEATED_LINES = 0.3
"""Share of lines that repeat an earlier one; Gopher."""
MAX_TOP_TRIGRAM = 0.18
"""Share of characters in the most frequent three words in a row; Gopher."""
MAX_REPEATED_TRIGRAMS = 0.5
"""Share of threes of words that repeat an earlier one; ours."""
MAX_TOP_WORD = 0.1
"""Share of the most frequent word that carries meaning (keyword stuffing); ours."""
MIN_FUNCTION_WORDS = 0.15
"""Share of the words that hold English sentences together, such as the and of; ours, after Gopher's stop words."""
MAX_LOREM = 0.3
"""Share of words of the placeholder text; ours, as C4 drops every page that names it."""
CLEARLY = 0.2
"""How far past its limit a value alone suffices; ours."""
TABLE_FROM = 0.5
"""Share of lines that are rows from which a text counts as a table, whose words need not make sentences; ours."""
FIGURES_FROM = 0.08
"""Share of figures among the words from which a text says one fact after another and may name its subject each time;
ours."""
JUDGED_FROM = 50
"""Words from which shares say something; Gopher's lower limit for a document."""


def lenient(words: Words, min_words: int, language: Finding | None, *, english: bool = True) -> list[Finding]:
    """What speaks against a text, the clearest first; nothing where it is in doubt.

    `language` is what was found of its language; function words are counted in `english` only.
    """
    count = int(words.is_word.sum())
    few = Finding("few_words", count, min_words, least=True)
    if few.broken:
        return [few]
    if not count:
        return []
    lorem = Finding("lorem_ipsum", measures.lorem(words), MAX_LOREM)
    if lorem.broken:
        return [lorem]
    found = _findings(words, count, language, english=english)
    past = sorted((one for one in found if one.broken), key=lambda one: -one.excess)
    return past if past and (past[0].excess > CLEARLY or len(past) > 1) else []


def _findings(words: Words, count: int, language: Finding | None, *, english: bool) -> Iterator[Finding]:
    judged = count >= JUDGED_FROM
    if measures.rows(words.text) <= TABLE_FROM:
        length = measures.mean_length(words)
        yield Finding("mean_word_length", length, MIN_MEAN_WORD_LENGTH, least=True)
        alphabetic = measures.alphabetic(words)
        yield Finding("alphabetic", alphabetic, MIN_ALPHABETIC, least=True)
        yield Finding("mean_word_length", length, MAX_MEAN_WORD_LENGTH)
        if judged:
            if language:
                yield language
            if english:
                yield Finding("function_words", measures.function_words(words), MIN_FUNCTION_WORDS, least=True)
            yield Finding("punctuated_lines", measures.punctuated(words.text), MIN_PUNCTUATED, least=True)
            top, again = measures.trigrams(words)
            yield Finding("repeated_trigrams", again, MAX_REPEATED_TRIGRAMS)
            if 1 - alphabetic < FIGURES_FROM:
                yield Finding("top_trigram", top, MAX_TOP_TRIGRAM)
                yield Finding("keyword_stuffing", measures.top_word(words), MAX_TOP_WORD)
    if judged:
        yield Finding("repeated_lines", measures.repeated_lines(words), MAX_REPEATED_LINES)
