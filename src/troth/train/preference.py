"""Preference tuning: batches of pairs, and direct preference optimisation (DPO, Rafailov et al., 2305.18290).

What the reference thinks of the answers is computed once, before anything is trained (`reference`): no second network
is held while training.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from troth.train.batches import Batch
from troth.train.examples import Examples
from troth.train.packing import Order, pack


@dataclass(frozen=True)
class PreferenceBatch(Batch):
    """`inputs`, `targets` and `documents` are [rows, time] with an even number of rows: document d of row 2r is the
    chosen answer of pair `pairs[r, d]` with its prompt, document d of row 2r + 1, at the same places, the rejected one.
    `pairs` is -1 where a row has no such document, and there `reference`, the log-probabilities [rows / 2, documents,
    chosen and rejected] under the network before it is tuned, is not a number."""

    pairs: np.ndarray
    reference: np.ndarray

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return int((self.pairs >= 0).sum())


class Preferences:
    """Rows of `time` tokens over tokenised pairs: a pure function of (seed, row).

    An answer is cut at the end where it has, with its prompt, more than `time` + 1 tokens: `cut` counts such pairs, and
    `lost` those of them that are left out, because nothing of an answer remained. An epoch has `epoch_rows` rows, two
    for each double row. Raises ValueError where nothing remains.
    """

    def __init__(self, examples: Examples, *, time: int, seed: int, padding: int):
        self.examples, self.time, self.padding = examples, time, padding
        self.version = examples.sha256
        longest = (examples.ends - examples.starts - 1).reshape(-1, 2).max(1)
        kept = np.flatnonzero(examples.firsts.reshape(-1, 2).max(1) <= time)
        if not len(kept):
            raise ValueError(f"train.sequence_length={time}: no pair has answers that begin so early; raise it")
        self.cut, self.lost = int((longest > time).sum()), len(longest) - len(kept)
        self._lengths = np.minimum(longest, time)
        self._packed = [kept[row] for row in pack(self._lengths[kept], time)]
        self._order = Order(len(self._packed), seed)

    @property
    def epoch_rows(self) -> int:
        """Rows of an epoch."""
        return 2 * len(self._packed)

    def rows(self, first: int, last: int) -> PreferenceBatch:
        """Rows from `first` up to `last`, which is left out, both even, numbered over the whole run."""
        assert first % 2 == last % 2 == 0
        return self._batch([self._order[row] for row in range(first // 2, last // 2)])

    def in_turn(self, rows: int) -> list[PreferenceBatch]:
        """Batches of at most so many rows that hold every pair once."""
        count, whole = max(1, rows // 2), len(self._packed)
        return [self._batch(list(range(at, min(at + count, whole)))) for at in range(0, whole, count)]

    def _batch(self, rows: list[int]) -> PreferenceBatch:
        shape = 2 * len(rows), self.time
        inputs, targets = np.full(shape, self.padding, dtype=np.int64), np.full(shape, -100, dtype=np.int64)
        documents = np.zeros(shape, dtype=np.int64)
        pairs = np.full((len(rows), max(len(self._packed[row]) for row in rows)), -1, dtype=np.int64)
        for place, row in enumerate(rows):
            at = 0
            for number, pair in enumerate(self._packed[row]):
                for side in (0, 1):
                    line = 2 * place + side
                    self.examples.lay(2 * pair + side, at, inputs[line], targets[line])
                    documents[line, at:] = number
                pairs[place, number] = pair
                at += int(self._lengths[pair])
            documents[2 * place : 2 * place + 2, at:] = len(self._packed[row])
        return PreferenceBatch(inputs, targets, documents, pairs, np.full((*pairs.shape, 2), np.nan))


@dataclass(frozen=True)
class Referenced:
    """The rows of `preferences` with the reference's log-probabilities, [pairs, chosen and rejected] of all pairs."""

    preferences: Preferences
    log_probs_P2: np.ndarray

    @property
    def version(self) -> str:
        """That of `preferences`."""
        return self.preferences.version

    @property
    def epoch_rows(self) -> int:
        """That of `preferences`."""
        return self.preferences.epoch_rows

    def rows(self, first: int, last: int) -> PreferenceBatch:
        """As those of `preferences`."""
        batch = self.preferences.rows(first, last)
        known = np.where(batch.pairs[..., None] >= 0, self.log_probs_P2[batch.pairs], np.nan)
        return replace(batch, reference=known)


def answer_log_probs(log_probs_BT: torch.Tensor, documents_BT: torch.Tensor, most: int) -> torch.Tensor:
    """Log-probabilities of whole answers, [rows / 2, `most`, chosen and rejected], from those of their tokens, which
    are 0 where there is no answer; 0 where a row has fewer than `most` documents."""
    sums_BP = log_probs_BT.new_zeros(len(log_probs_BT), most + 1)
    sums_BP = sums_BP.scatter_add(1, documents_BT.clamp(max=most), log_probs_BT)
    return sums_BP[:, :most].unflatten(0, (-1, 2)).transpose(1, 2)


def dpo_loss(
    policy_N2: torch.Tensor, reference_N2: torch.Tensor, beta: float, label_smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """DPO (equation 7) of pairs, given log-probabilities [..., chosen and rejected] in nats: each pair's loss [...] and
    the implicit rewards [..., chosen and rejected] of its answers.

    An answer's reward is `beta` times how much likelier it became (equation 5). `label_smoothing` is how often
    a preference is taken to be the wrong way round (Mitchell, 2023, "A note on DPO with noisy preferences").
    """
    rewards_N2 = beta * (policy_N2 - reference_N2)
    margin_N = rewards_N2[..., 0] - rewards_N2[..., 1]
    loss_N = -(1 - label_smoothing) * logsigmoid(margin_N) - label_smoothing * logsigmoid(-margin_N)
    return loss_N, rewards_N2.detach()
