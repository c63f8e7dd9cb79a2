"""Sentences with a blank: filling in the middle (Bavarian et al., 2207.14255) where it teaches facts.

A sentence becomes prefix, suffix, middle, so that the model learns to say from both sides what belongs between. Blanks
fall mostly on names and numbers (salient span masking, Guu et al., 2002.08909), which carry what there is to know.
Half of the sentences lose words around the blank (token deletion as in BART, Lewis et al., 1910.13461): a question
shares only a few words with the page that answers it, so no answer may hang on all of them. Each sentence is a
document of its own, as a question is.
"""

import re

import numpy as np

from troth.model.tokenizer import BLANK_MARKS, Tokenizer

_SALIENT, _NUMBER = 0.8, 0.6
_THINNED, _MOST_LOST = 0.5, 0.6
"""The share of sentences that lose words, and the largest share of its words that one loses."""
_LONGEST = 64
_CONTINUES, _WORD, _DIGIT, _SPACE, _OTHER = b"CWDSO"
_WORDS = re.compile(rb"S?D+(?:OD+)*|[SWC]C*|O")
"""A word in the kinds of its tokens."""


def check_marks(tokenizer: Tokenizer) -> None:
    """Raise ValueError naming a special token that a tokenizer lacks for blanks."""
    if lost := [mark for mark in BLANK_MARKS if mark not in tokenizer.special]:
        raise ValueError(f"train.fill_in_middle: the tokenizer has no {lost[0]} for blanks; set it to 0")


class Blanks:
    """Knows of each token whether it begins a word, is a digit, is a name's beginning, or ends a sentence."""

    def __init__(self, tokenizer: Tokenizer):
        """Raises ValueError naming a special token that the tokenizer lacks for them."""
        check_marks(tokenizer)
        self.prefix, self.suffix, self.middle, self.end = (tokenizer.special[mark] for mark in BLANK_MARKS)
        self.end_of_text = tokenizer.end_of_text
        self.kind = np.full(tokenizer.vocab_size, _OTHER, dtype=np.uint8)
        self.capital: set[int] = set()
        self.stops = np.zeros(tokenizer.vocab_size, dtype=bool)
        for token, i in tokenizer.ranks.items():
            text = token.decode("utf-8", errors="replace")
            word = text.strip()
            if word.isdigit():
                self.kind[i] = _DIGIT
            elif word.isalpha():
                self.kind[i] = _WORD if text[0].isspace() else _CONTINUES
            elif text == " ":
                self.kind[i] = _SPACE
            if word[:1].isupper():
                self.capital.add(i)
            self.stops[i] = word.endswith((".", "!", "?")) or "\n" in text
        self.stops[self.end_of_text] = True

    def cut(self, tokens: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A window of the same length in which every sentence of `tokens` that still fits has a blank."""
        out: list[int] = []
        at = 0
        followed_by_digit = np.append(self.kind[tokens[1:]] == _DIGIT, False)
        ends = np.flatnonzero(self.stops[tokens] & ~followed_by_digit) + 1
        # Sentences are short, and then lists and bytes are several times as fast as arrays.
        window, kinds = tokens.tolist(), self.kind[tokens].tobytes()
        for end in [*ends.tolist(), len(window)]:
            sentence, kind = window[at : min(end, at + _LONGEST)], kinds[at : min(end, at + _LONGEST)]
            at = end
            if self.end_of_text in sentence:
                kept = [i for i, token in enumerate(sentence) if token != self.end_of_text]
                sentence, kind = [sentence[i] for i in kept], bytes(kind[i] for i in kept)
            if len(sentence) < 4:
                continue
            words = _words(kind)
            first, last = self._blank(sentence, kind, words, random)
            start, stop = words[first][0], words[last][1]
            before, after = sentence[:start], sentence[stop:]
            if random.random() < _THINNED:
                lost = random.random() * _MOST_LOST
                before = _thinned(sentence, words[:first], lost, random)
                after = _thinned(sentence, words[last + 1 :], lost, random)
            row = [self.end_of_text, self.prefix, *before, self.suffix, *after]
            row += [self.middle, *sentence[start:stop], self.end]
            if len(out) + len(row) <= len(window):
                out += row
        out += [self.end_of_text] * (len(window) - len(out))
        return np.array(out, dtype=np.int64)

    def _blank(
        self, sentence: list[int], kinds: bytes, words: list[tuple[int, int]], random: np.random.Generator
    ) -> tuple[int, int]:
        """The first and the last word of the blank: one to a few words, a number with its unit now and then."""
        names = [i for i, (start, _) in enumerate(words) if sentence[start] in self.capital]
        numbers = [i for i, (_, end) in enumerate(words) if kinds[end - 1] == _DIGIT]
        telling = numbers if numbers and (not names or random.random() < _NUMBER) else names
        if telling and random.random() < _SALIENT:
            first = last = telling[random.integers(len(telling))]
            while last + 1 in telling:
                last += 1
            while first - 1 in telling:
                first -= 1
            if telling is numbers and random.random() < 0.5:
                last = min(last + 1, len(words) - 1)
        else:
            first = int(random.integers(len(words)))
            last = min(len(words) - 1, first + int(random.integers(3)))
        return first, last


def _thinned(sentence: list[int], words: list[tuple[int, int]], lost: float, random: np.random.Generator) -> list[int]:
    """Some words of a sentence, of which each is left out with probability `lost`."""
    stays = (random.random(len(words)) >= lost).tolist()
    return [token for (start, end), stay in zip(words, stays, strict=True) if stay for token in sentence[start:end]]


def _words(kinds: bytes) -> list[tuple[int, int]]:
    """Spans of words, each with the space before it; a number's digits, commas and points are one word."""
    return [word.span() for word in _WORDS.finditer(kinds)]
