"""Log-probabilities of texts in a blank: what a model believes, without asking it to write.

The question is read once for all its options, which continue it side by side without seeing one another. Models whose
tokenizer has no marks for blanks read them as plain text: what precedes, the option, and what follows it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from troth.model.attention import MaskedAttention
from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.scores import Seen
from troth.model.tokenizer import BLANK_MARKS, Tokenizer

_BATCH_TOKENS, _ROW_OPTIONS = 8192, 32


def _branch_attention(config: ModelConfig, branch_BT: torch.Tensor, position_BT: torch.Tensor) -> MaskedAttention:
    """Causal attention in which branch 0 is seen by all branches, and every other branch by itself alone."""
    time = branch_BT.shape[1]
    key, query = branch_BT[:, None, :], branch_BT[:, :, None]
    seen = torch.ones(time, time, dtype=torch.bool, device=branch_BT.device).tril() & ((key == 0) | (key == query))
    distance = position_BT[:, :, None] - position_BT[:, None, :]
    near = seen & (distance < config.window)
    return MaskedAttention(config, {"full_attention": Seen(seen[:, None]), "sliding_attention": Seen(near[:, None])})


@dataclass(frozen=True)
class _Row:
    """Token ids of a question and of each of its options."""

    head: list[int]
    options: list[list[int]]

    def __len__(self) -> int:
        return len(self.head) + sum(map(len, self.options))


class Scorer:
    """A model and its tokenizer, asked for log-probabilities."""

    def __init__(self, model: Decoder, tokenizer: Tokenizer):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._marks = [tokenizer.special[mark] for mark in BLANK_MARKS if mark in tokenizer.special]

    def fill(self, blanks: Sequence[tuple[str, str, Sequence[str]]]) -> list[list[float]]:
        """For each (prefix, suffix, options) the log-probability, in nats, of every option as the whole middle; without
        marks for blanks, that of the option and the suffix behind the prefix."""
        rows: list[_Row] = []
        owners: list[int] = []
        for i, (prefix, suffix, options) in enumerate(blanks):
            for start in range(0, len(options), _ROW_OPTIONS):
                rows.append(self._row(prefix, suffix, options[start : start + _ROW_OPTIONS]))
                owners.append(i)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        scores: list[list[float]] = [[] for _ in rows]
        for batch in _batches(order, rows):
            for i, found in zip(batch, self._score([rows[i] for i in batch]), strict=True):
                scores[i] = found
        results: list[list[float]] = [[] for _ in blanks]
        for owner, found in zip(owners, scores, strict=True):
            results[owner] += found
        return results

    def _row(self, prefix: str, suffix: str, options: Sequence[str]) -> _Row:
        # As in training, a sentence begins with the space that parts it from the one before, and the space before a
        # word belongs to the word: to the option, where the blank follows one.
        bare = prefix.rstrip(" ")
        if len(self._marks) < len(BLANK_MARKS):
            return self._plain_row(bare, " " * (bare != prefix), suffix, options)
        start = f" {bare}" if bare else ""
        space = " " if not bare or bare != prefix else ""
        before, after, middle, end = self._marks
        encode = self.tokenizer.encode
        head = [self.tokenizer.begin_of_text, before, *encode(start), after, *encode(suffix), middle]
        return _Row(head, [[*encode(space + option), end] for option in options])

    def _plain_row(self, prefix: str, space: str, suffix: str, options: Sequence[str]) -> _Row:
        head = [self.tokenizer.begin_of_text, *self.tokenizer.encode(prefix, "token")]
        return _Row(head, [self.tokenizer.encode(space + option + suffix, "text") for option in options])

    @torch.no_grad()
    def _score(self, rows: list[_Row]) -> list[list[float]]:
        time = max(map(len, rows))
        tokens, branch, position = (torch.zeros(len(rows), time, dtype=torch.long) for _ in range(3))
        branch -= 1
        picks: list[tuple[int, int, int]] = []
        spans: list[list[int]] = []
        for r, row in enumerate(rows):
            size = len(row.head)
            tokens[r, :size], branch[r, :size], position[r, :size] = torch.tensor(row.head), 0, torch.arange(size)
            at = size
            spans.append([])
            for o, option in enumerate(row.options, 1):
                end = at + len(option)
                tokens[r, at:end], branch[r, at:end] = torch.tensor(option), o
                position[r, at:end] = torch.arange(size, size + len(option))
                sources = [size - 1, *range(at, end - 1)]
                picks += [(r, source, target) for source, target in zip(sources, option, strict=True)]
                spans[-1].append(len(option))
                at = end
        h_BTD = self.model(tokens, _branch_attention(self.model.config, branch, position), position)
        r_N, t_N, target_N = torch.tensor(picks).T
        log_p_N = self.model.logits(h_BTD[r_N, t_N]).float().log_softmax(-1).gather(1, target_N[:, None])[:, 0]
        sums = iter(part.sum().item() for part in log_p_N.split([size for row in spans for size in row]))
        return [[next(sums) for _ in row] for row in spans]


def _batches(order: list[int], rows: list[_Row]) -> Iterator[list[int]]:
    """Runs of rows of similar length whose padded size stays within the limit."""
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * len(rows[i]) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def bits_per_byte(model: Decoder, tokenizer: Tokenizer, texts: Sequence[str], window: int = 512) -> float:
    """Mean cost of texts, not all empty, in bits for each of their UTF-8 bytes, in windows of `window` tokens."""
    bits = size = 0.0
    for text in texts:
        ids = [tokenizer.begin_of_text, *tokenizer.encode(text)]
        size += len(text.encode())
        for start in range(0, len(ids) - 1, window):
            part = torch.tensor(ids[start : start + window + 1])
            with torch.no_grad():
                log_p = model.logits(model(part[None, :-1]))[0].float().log_softmax(-1)
            bits -= log_p.gather(1, part[1:, None]).sum().item() / 0.6931471805599453
    return bits / size
