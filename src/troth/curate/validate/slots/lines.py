"""The sentences of one publisher in flat arrays, some 12 bytes a token: all of them are held while its wordings are
found, and as objects of their own they would take many times their text."""

from array import array

from troth.curate.validate.slots.tokens import Line

LONGEST = 40
"""Tokens of a wording, at most."""
_FARTHEST = (1 << 16) - 1


class Lines:
    """Sentences by their numbers, in the order in which they were added; `span` is not known of long ones."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._words: list[str] = []
        self._forms, self._bounds = array("I"), array("H")
        self._first, self._start, self._size = array("Q", (0,)), array("I"), array("I")
        self._headings: list[str] = []
        self._long = bytearray()

    def __len__(self) -> int:
        return len(self._headings)

    def add(self, line: Line) -> None:
        """One more; of a longer one than a wording may be the first tokens."""
        forms, bounds = line.forms[:LONGEST], line.bounds[: 2 * LONGEST]
        is_far = bounds[-1] - line.start > _FARTHEST
        for form in forms:
            if form not in self._numbers:
                self._numbers[form] = len(self._words)
                self._words.append(form)
        self._forms.extend([self._numbers[form] for form in forms])
        self._bounds.extend([0 if is_far else at - line.start for at in bounds])
        self._long.append(is_far or len(line.forms) > LONGEST)
        self._first.append(len(self._forms))
        self._start.append(line.start)
        self._size.append(line.end - line.start)
        self._headings.append(line.heading)

    def is_long(self, at: int) -> bool:
        """Whether a sentence is longer than any wording may be."""
        return bool(self._long[at])

    def tokens(self, at: int) -> int:
        """How many tokens of a sentence are known."""
        return self._first[at + 1] - self._first[at]

    def forms(self, at: int) -> tuple[str, ...]:
        """The forms of a sentence's tokens."""
        words = self._words
        return tuple([words[number] for number in self._forms[self._first[at] : self._first[at + 1]]])

    def form(self, at: int, token: int) -> str:
        """One of them."""
        return self._words[self._forms[self._first[at] + token]]

    def span(self, at: int, first: int, last: int) -> tuple[int, int]:
        """Where the tokens from `first` to before `last` begin and end in the document."""
        start, tokens = self._start[at], self._first[at]
        return start + self._bounds[2 * (tokens + first)], start + self._bounds[2 * (tokens + last) - 1]

    def place(self, at: int) -> tuple[int, int]:
        """Where a sentence begins and ends in its document."""
        return self._start[at], self._start[at] + self._size[at]

    def heading(self, at: int) -> str:
        """The heading under which a sentence stands."""
        return self._headings[at]
