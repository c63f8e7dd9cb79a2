"""Examples of any length laid into rows of one length, so that few places stay empty: best fit, longest first.

Rows are filled once and read in another order every epoch; each example attends to itself only, so its neighbours do
not matter to it.
"""

import bisect

import numpy as np


def pack(lengths_E: np.ndarray, size: int) -> list[list[int]]:
    """Rows of indices whose lengths, at most `size` each, add up to at most `size`."""
    assert lengths_E.max(initial=0) <= size
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}
    gaps: list[int] = []
    for i in np.argsort(-lengths_E, kind="stable").tolist():
        length = int(lengths_E[i])
        place = bisect.bisect_left(gaps, length)
        if place == len(gaps):
            rows.append([])
            row, gap = len(rows) - 1, size
        else:
            gap = gaps[place]
            row = open_rows[gap].pop()
            if not open_rows[gap]:
                del open_rows[gap]
                gaps.pop(place)
        rows[row].append(i)
        if left := gap - length:
            if left not in open_rows:
                open_rows[left] = []
                bisect.insort(gaps, left)
            open_rows[left].append(row)
    return rows


class Order:
    """The endless sequence of `rows` rows, each once an epoch, newly shuffled every epoch by `seed`."""

    def __init__(self, rows: int, seed: int):
        self.rows, self.seed = rows, seed
        self._epoch, self._shuffled = -1, np.empty(0, dtype=np.int64)

    def __getitem__(self, place: int) -> int:
        epoch, at = divmod(place, self.rows)
        if epoch != self._epoch:
            self._epoch = epoch
            self._shuffled = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        return int(self._shuffled[at])
