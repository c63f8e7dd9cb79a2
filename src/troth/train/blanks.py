"""Sentences with a blank: filling in the middle (Bavarian et al., 2207.14255) where it teaches facts.

A sentence becomes prefix, suffix, middle, so that the model learns to say from both sides what belongs between. Blanks
fall mostly on names and numbers (salient span masking, Guu et al., 2002.08909), which carry what there is to know.
Half of the sentences lose words around the blank (token deletion as in BART, Lewis et al., 1910.13461): a question
shares only a few words with the page that answers it, so no answer may hang on all of them. Each sentence is a
document of its own, as a question is.
"""

import numpy as np

from troth.model.tokenizer import Tokenizer

_SALIENT, _NUMBER = 0.8, 0.6
_THINNED, _MOST_LOST = 0.5, 0.6
"""The share of sentences that lose words, and the largest share of its words that one loses."""
_LONGEST = 64
_CONTINUES, _WORD, _DIGIT, _SPACE, _OTHER = range(5)


class Blanks:
    """Knows of each token whether it begins a word, is a digit, is a name's beginning, or ends a sentence."""

    def __init__(self, tokenizer: Tokenizer):
        self.prefix, self.suffix, self.middle, self.end = (
            tokenizer.special[f"<|{name}|>"] for name in ("fim_prefix", "fim_suffix", "fim_middle", "end")
        )
        self.end_of_text = tokenizer.end_of_text
        self.kind = np.full(tokenizer.vocab_size, _OTHER)
        self.capital = np.zeros(tokenizer.vocab_size, dtype=bool)
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
            self.capital[i] = word[:1].isupper()
            self.stops[i] = word.endswith((".", "!", "?")) or "\n" in text
        self.stops[self.end_of_text] = True

    def cut(self, tokens: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A window of the same length in which every sentence of `tokens` that still fits has a blank."""
        out: list[int] = []
        at = 0
        followed_by_digit = np.append(self.kind[tokens[1:]] == _DIGIT, False)
        ends = np.flatnonzero(self.stops[tokens] & ~followed_by_digit) + 1
        for end in [*ends, len(tokens)]:
            sentence = tokens[at : min(end, at + _LONGEST)]
            at = end
            sentence = sentence[sentence != self.end_of_text]
            if len(sentence) < 4:
                continue
            start, stop = self._blank(sentence, random)
            before, after = sentence[:start], sentence[stop:]
            if random.random() < _THINNED:
                lost = random.random() * _MOST_LOST
                before, after = self._thinned(before, lost, random), self._thinned(after, lost, random)
            row = [self.end_of_text, self.prefix, *before, self.suffix, *after]
            row += [self.middle, *sentence[start:stop], self.end]
            if len(out) + len(row) <= len(tokens):
                out += row
        out += [self.end_of_text] * (len(tokens) - len(out))
        return np.array(out, dtype=np.int64)

    def _thinned(self, part: np.ndarray, lost: float, random: np.random.Generator) -> np.ndarray:
        """Part of a sentence of which each word is left out with probability `lost`."""
        words = self._words(part) if len(part) else []
        kept = [part[start:end] for start, end in words if random.random() >= lost]
        return np.concatenate([part[:0], *kept])

    def _blank(self, sentence: np.ndarray, random: np.random.Generator) -> tuple[int, int]:
        """Where the blank begins and ends: one to a few words, a number with its unit now and then."""
        words = self._words(sentence)
        names = [i for i, (start, _) in enumerate(words) if self.capital[sentence[start]]]
        numbers = [i for i, (_, end) in enumerate(words) if self.kind[sentence[end - 1]] == _DIGIT]
        telling = numbers if numbers and (not names or random.random() < _NUMBER) else names
        if telling and random.random() < _SALIENT:
            first = last = int(random.choice(telling))
            while last + 1 in telling:
                last += 1
            while first - 1 in telling:
                first -= 1
            if telling is numbers and random.random() < 0.5:
                last = min(last + 1, len(words) - 1)
        else:
            first = int(random.integers(len(words)))
            last = min(len(words) - 1, first + int(random.integers(3)))
        return words[first][0], words[last][1]

    def _words(self, sentence: np.ndarray) -> list[tuple[int, int]]:
        """Spans of words, each with the space before it; a number's digits, commas and points are one word."""
        kinds = self.kind[sentence]
        starts = [0]
        for i in range(1, len(kinds)):
            joined = kinds[i] == _CONTINUES and kinds[i - 1] in (_SPACE, _WORD, _CONTINUES)
            if kinds[i] == _DIGIT:
                after_comma = i > 1 and kinds[i - 1] == _OTHER and kinds[i - 2] == _DIGIT
                joined = kinds[i - 1] in (_DIGIT, _SPACE) or after_comma
            elif kinds[i] == _OTHER:
                joined = i + 1 < len(kinds) and kinds[i - 1] == _DIGIT and kinds[i + 1] == _DIGIT
            if not joined:
                starts.append(i)
        return list(zip(starts, [*starts[1:], len(sentence)], strict=True))
