"""Preference tuning: batches of pairs, and direct preference optimisation (DPO, Rafailov et al., 2305.18290).

The reference's log-probabilities are computed once, before anything is trained, and kept in a file: no second network
is held while training.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
    `pairs` is -1 where a row has no such document."""

    pairs: np.ndarray


class Preferences:
    """Rows of `time` tokens over tokenised pairs: a pure function of (seed, row).

    An answer is cut at the end where it has, with its prompt, more than `time` + 1 tokens: `cut` counts such pairs, and
    `lost` those of them that are left out, because nothing of an answer remained. An epoch has `epoch_rows` rows, two
    for each double row. Raises ValueError where nothing remains.
    """

    def __init__(self, examples: Examples, *, time: int, seed: int, padding: int):
        self.examples, self.time, self.padding = examples, time, padding
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
        return PreferenceBatch(inputs, targets, documents, pairs)


def answer_log_probs(log_probs_BT: torch.Tensor, documents_BT: torch.Tensor, most: int) -> torch.Tensor:
    """Log-probabilities of whole answers, [rows / 2, `most`, chosen and rejected], from those of their tokens, which
    are 0 where there is no answer; 0 where a row has fewer than `most` documents."""
    sums_BP = log_probs_BT.new_zeros(len(log_probs_BT), most + 1)
    sums_BP = sums_BP.scatter_add(1, documents_BT.clamp(max=most), log_probs_BT)
    return sums_BP[:, :most].unflatten(0, (-1, 2)).transpose(1, 2)


@dataclass(frozen=True)
class Preferred:
    """What a batch of n pairs gives: the mean `loss`, and as figures the mean implicit rewards of chosen and rejected
    answers, the mean `margin` between them, and the share of pairs (`accuracy`) in which the chosen one is ahead."""

    loss: torch.Tensor
    chosen_reward: float
    rejected_reward: float
    margin: float
    accuracy: float


def dpo_loss(
    policy_N2: torch.Tensor, reference_N2: torch.Tensor, beta: float, label_smoothing: float = 0.0
) -> Preferred:
    """DPO (equation 7) over pairs, given log-probabilities [pairs, chosen and rejected] in nats.

    An answer's implicit reward is `beta` times how much likelier it became (equation 5). `label_smoothing` is how often
    a preference is taken to be the wrong way round (Mitchell, 2023, "A note on DPO with noisy preferences").
    """
    rewards_N2 = beta * (policy_N2 - reference_N2)
    margin_N = rewards_N2[:, 0] - rewards_N2[:, 1]
    loss = -(1 - label_smoothing) * logsigmoid(margin_N) - label_smoothing * logsigmoid(-margin_N)
    chosen, rejected = rewards_N2.detach().mean(0).tolist()
    ahead = (margin_N.detach() > 0).double().mean().item()
    return Preferred(loss.mean(), chosen, rejected, chosen - rejected, ahead)


def reference_log_probs(
    preferences: Preferences, log_probs: Callable[[PreferenceBatch], torch.Tensor], file: Path, key: str, rows: int
) -> torch.Tensor:
    """Log-probabilities [pairs, chosen and rejected] in float32 under the network before it is tuned.

    Read from `file` where that was written with this `key`, which stands for weights, data and length of rows; else
    `log_probs`, [rows / 2, documents, 2] of a batch, is asked for every pair, `rows` rows at a time, and the
    file is written. Pairs that
    `preferences` leaves out are not a number.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    if file.exists():
        try:
            with safe_open(file, framework="pt") as stored:
                if (stored.metadata() or {}).get("key") == key:
                    found: torch.Tensor = stored.get_tensor("log_probs")
                    return found
        except SafetensorError as error:
            raise ValueError(f"{file}: not readable ({error}); delete it to compute it anew") from error
    values_P2 = torch.full((len(preferences.examples) // 2, 2), float("nan"))
    for batch in preferences.in_turn(rows):
        pairs = torch.from_numpy(batch.pairs)
        with torch.no_grad():
            values_P2[pairs[pairs >= 0]] = log_probs(batch).float().cpu()[pairs >= 0]
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    save_file({"log_probs": values_P2}, partial, metadata={"key": key})
    os.replace(partial, file)
    return values_P2
