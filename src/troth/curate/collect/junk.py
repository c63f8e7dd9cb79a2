"""Quality rules: what is no prose worth reading goes, with the rule, the value and the limit that sent it.

The limits are those of Gopher (Rae et al. 2021, appendix A1), C4 (Raffel et al. 2020, section 2.2) and FineWeb
(Penedo et al. 2024); ours are marked, and were looked at on textbooks. A value just
past a limit is no proof: a document goes where a value is past its limit by a fifth, or two values are past theirs.
"""

from dataclasses import dataclass, replace
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from troth.curate.collect import measures
from troth.curate.collect.boilerplate import boilerplate_rule
from troth.curate.document import Document

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
MIN_ENGLISH = 0.5
"""Probability of English by py3langid; ours, as FineWeb's 0.65 is for another classifier."""
MAX_LOREM = 0.3
"""Share of words of the placeholder text; ours, as C4 drops every page that names it."""
CLEARLY = 0.2
"""How far past its limit a value alone suffices; ours."""
TABLE_FROM = 0.5
"""Share of lines that are rows from which a text counts as a table, whose words need not make sentences; ours."""
JUDGED_FROM = 50
"""Words from which shares say something; Gopher's lower limit for a document."""


@dataclass(frozen=True)
class Drop:
    """Text that was left out: the whole of a document, or one of its paragraphs."""

    rule: str
    value: float
    limit: float
    text: str


def drop_junk(document: Document, min_words: int) -> tuple[Document | None, list[Drop]]:
    """The document without its boilerplate, or None where all of it has to go, and what was dropped by which rule.

    Documents of code and of facts come back as they are.
    """
    if document.kind != "prose":
        return document, []
    kept: list[str] = []
    drops: list[Drop] = []
    for paragraph in document.text.split("\n\n"):
        lines = [(line, boilerplate_rule(line)) for line in paragraph.split("\n")]
        drops += [Drop(rule, 1.0, 0.0, line) for line, rule in lines if rule]
        if not all(rule for _, rule in lines):
            kept.append("\n".join(line for line, rule in lines if not rule))
    text = "\n\n".join(kept)
    reason = _reason(text, min_words)
    if reason:
        rule, value, limit = reason
        return None, [*drops, Drop(rule, value, limit, text)]
    return (replace(document, text=text) if drops else document), drops


def _reason(text: str, min_words: int) -> tuple[str, float, float] | None:
    """Rule, value and limit of what speaks most clearly against the text."""
    words = measures.words(text)
    if len(words) < min_words:
        return "few_words", len(words), min_words
    if not words:
        return None
    lorem = measures.lorem(words)
    if lorem > MAX_LOREM:
        return "lorem_ipsum", lorem, MAX_LOREM
    past = sorted(_past_limits(text, words), reverse=True)
    if past and (past[0][0] > CLEARLY or len(past) > 1):
        return past[0][1:]
    return None


def _past_limits(text: str, words: list[str]) -> list[tuple[float, str, float, float]]:
    """How far past its limit, rule, value and limit, of each rule that the text breaks."""
    least: list[tuple[str, float, float]] = []
    most: list[tuple[str, float, float]] = []
    if measures.rows(text) <= TABLE_FROM:
        length = measures.mean_length(words)
        least.append(("mean_word_length", length, MIN_MEAN_WORD_LENGTH))
        least.append(("alphabetic", measures.alphabetic(words), MIN_ALPHABETIC))
        most.append(("mean_word_length", length, MAX_MEAN_WORD_LENGTH))
        if len(words) >= JUDGED_FROM:
            least.append(("function_words", measures.function_words(words), MIN_FUNCTION_WORDS))
            least.append(("punctuated_lines", measures.punctuated(text), MIN_PUNCTUATED))
            least.append(("english", _english(text), MIN_ENGLISH))
            most.append(("top_trigram", measures.top_trigram(words), MAX_TOP_TRIGRAM))
            most.append(("repeated_trigrams", measures.repeated_trigrams(words), MAX_REPEATED_TRIGRAMS))
            most.append(("keyword_stuffing", measures.top_word(words), MAX_TOP_WORD))
    if len(words) >= JUDGED_FROM:
        most.append(("repeated_lines", measures.repeated_lines(text), MAX_REPEATED_LINES))
    found = [(1 - value / limit, rule, value, limit) for rule, value, limit in least if value < limit]
    return found + [(value / limit - 1, rule, value, limit) for rule, value, limit in most if value > limit]


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _english(text: str) -> float:
    return float(dict(_identifier().rank(text[:2_000]))["en"])
