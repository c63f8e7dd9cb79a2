"""Which tokens the next step works on: continuous batching (Orca, OSDI '22) with chunked prefill (Sarathi, 2308.16369).

Sequences that decode are in every step. Prompts share what is left of the step's tokens, few enough beside decoding
that a step stays short unless they wait (see `pace`): half for the prompt that came first, half for those with least
to compute, so that neither waits for the other. Lower `priority` comes first, then who came first; when the cache or
the batch is full, who is last gives its blocks back and is computed anew later.
"""

import math
from bisect import insort
from dataclasses import dataclass
from time import monotonic, perf_counter

from troth.serve.engine.block_tables import BlockTables
from troth.serve.engine.pace import Pace
from troth.serve.engine.sequence import Sequence


@dataclass(frozen=True)
class Chunk:
    """`count` tokens of a sequence from its position `start` on, drafts behind its own; the tables have room for them.

    At the last `samples` places a token is drawn: none before a prompt's end, one more than there are drafts.
    """

    sequence: Sequence
    start: int
    count: int
    samples: int

    @property
    def tokens(self) -> list[int]:
        """What is computed."""
        sequence, end = self.sequence, self.start + self.count
        return sequence.tokens[self.start : end] + sequence.drafts[: max(0, end - len(sequence.tokens))]

    @property
    def scored(self) -> int:
        """Of how many tokens, the first ones, the next one is of a prompt that is to be scored."""
        if not self.sequence.scores_prompt:
            return 0
        return max(0, min(self.start + self.count, self.sequence.prompt_tokens - 1) - self.start)

    @property
    def adapter(self) -> str | None:
        """The adapter that computes it."""
        return self.sequence.request.adapter

    @property
    def blocks(self) -> list[int]:
        """The block table for layers that see everything."""
        return self.sequence.blocks

    @property
    def sliding_blocks(self) -> list[int]:
        """The block table for layers with a window."""
        return self.sequence.sliding_blocks


class Scheduler:
    """Queue and batch, both in order: at most `max_batch` sequences, `max_step_tokens` tokens a step unless more
    sequences decode.

    `preemptions` counts how often a sequence had to give up its blocks.
    """

    def __init__(self, tables: BlockTables, max_batch: int, max_step_tokens: int, pace: Pace):
        self.tables = tables
        self.max_batch = max_batch
        self.max_step_tokens = max_step_tokens
        self.pace = pace
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0
        self._arrivals = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        sequence.order = (sequence.request.priority, self._arrivals)
        sequence.queued = perf_counter()
        self._arrivals += 1
        insort(self.waiting, sequence, key=_order)

    def schedule(self) -> list[Chunk]:
        """The chunks of the next step, with room in the cache for each; empty when there is nothing to do."""
        chunks: list[Chunk] = []
        decoding = [sequence for sequence in self.running if sequence.pending == 1]
        budget = self.max_step_tokens - len(decoding)
        for sequence in decoding:
            # One token is left for a prompt.
            drafts = min(len(sequence.drafts), max(0, budget - 1))
            if sequence in self.running and self._make_room(sequence, len(sequence.tokens) + drafts):
                chunks.append(Chunk(sequence, sequence.computed, 1 + drafts, 1 + drafts))
                budget -= drafts
        self._admit_all()
        decoded = {id(chunk.sequence) for chunk in chunks}
        prompts = [sequence for sequence in self.running if id(sequence) not in decoded]
        if decoding:
            now = perf_counter()
            waits = ((now - s.queued, len(s.tokens) - (s.cached_tokens or 0)) for s in prompts)
            budget = min(budget, self.pace.prompt_tokens(len(decoding), waits))
        for sequence, count in _share(prompts, max(1, budget)):
            if sequence in self.running and self._make_room(sequence, sequence.computed + count):
                chunks.append(Chunk(sequence, sequence.computed, count, int(count == sequence.pending)))
        # Who was preempted after it got a chunk has no blocks any more.
        return [chunk for chunk in chunks if chunk.blocks]

    def computed(self, chunk: Chunk, kept: int) -> None:
        """Record that the cache now has the first `kept` tokens of a chunk."""
        self.tables.computed(chunk.sequence, chunk.start + kept)

    def remove(self, sequence: Sequence) -> None:
        """Take a finished or cancelled sequence out and free its blocks."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self.tables.release(sequence)

    def _make_room(self, sequence: Sequence, end: int) -> bool:
        """Give a running sequence the blocks its tokens before `end` need; False where it gave up its own instead."""
        tokens = max(end, len(sequence.tokens))
        while self.tables.lacking(sequence, tokens, end):
            last = self.running[-1]
            self._preempt(last)
            if last is sequence:
                return False
        self.tables.grow(sequence, tokens, end)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.tables.release(sequence)
        sequence.drafts = []
        sequence.queued = perf_counter()
        insort(self.waiting, sequence, key=_order)
        self.preemptions += 1

    def _admit_all(self) -> None:
        """Move sequences from the queue to the batch while there is room. Nobody overtakes one that lacks room."""
        being_computed = self._being_computed() if self.waiting else {}
        displaced: list[Sequence] = []
        for sequence in self.waiting[: self.max_batch]:
            if any(one.order < sequence.order for one in displaced):
                return  # Room for the less urgent is room for these, in the next step.
            if len(self.running) >= self.max_batch and not self._displaces(sequence):
                return
            # The last token is always computed, because its hidden state is needed to draw the next one; an embedding
            # needs the hidden states of all.
            known = 0 if sequence.request.pooled else (len(sequence.tokens) - 1) // self.tables.block_size
            keys = sequence.keys(known, self.tables.block_size)
            if self._soon_known(sequence, keys, being_computed):
                continue
            while not self._admit(sequence, keys):
                if not self._displaces(sequence):
                    return
                displaced.append(self.running[-1])
                self._preempt(self.running[-1])
            _note(being_computed, keys[sequence.computed // self.tables.block_size :], sequence)

    def _displaces(self, sequence: Sequence) -> bool:
        """Whether the last one in the batch is less urgent."""
        return bool(self.running) and self.running[-1].request.priority > sequence.request.priority

    def _admit(self, sequence: Sequence, keys: list[bytes]) -> bool:
        """Hold blocks for all tokens of a waiting sequence, sharing those that are known; False where it must wait."""
        if len(self.running) >= self.max_batch:
            return False
        # What is known already is computed again where its scores are wanted.
        self.tables.share(sequence, [] if sequence.scores_prompt else keys)
        # One block a running sequence stays in reserve: admitting into the last space would preempt at once.
        reserve = len(self.running) * self.tables.block_size
        end = sequence.computed + min(sequence.pending, self.max_step_tokens)
        if self.tables.lacking(sequence, len(sequence.tokens) + reserve, end + reserve) and self.running:
            self.tables.release(sequence)
            return False
        self.tables.grow(sequence, len(sequence.tokens), sequence.computed)
        self.waiting.remove(sequence)
        insort(self.running, sequence, key=_order)
        if sequence.cached_tokens is None:
            sequence.cached_tokens = sequence.computed
            sequence.admitted = monotonic()
        return True

    def _soon_known(self, sequence: Sequence, keys: list[bytes], being_computed: dict[bytes, float]) -> bool:
        """Whether a prompt that is as urgent will publish what comes next: waiting is cheaper than repeating it."""
        known = len(self.tables.full.known(keys))
        return known < len(keys) and being_computed.get(keys[known], math.inf) <= sequence.request.priority

    def _being_computed(self) -> dict[bytes, float]:
        """Keys of blocks that prompts in the batch will publish, each with the most urgent priority among these."""
        found: dict[bytes, float] = {}
        size = self.tables.block_size
        for other in self.running:
            if other.pending > 1:
                _note(found, other.keys(len(other.tokens) // size, size)[other.computed // size :], other)
        return found


def _note(being_computed: dict[bytes, float], keys: list[bytes], sequence: Sequence) -> None:
    for key in keys:
        being_computed[key] = min(being_computed.get(key, math.inf), sequence.request.priority)


def _order(sequence: Sequence) -> tuple[int, int]:
    return sequence.order


def _share(prompts: list[Sequence], budget: int) -> list[tuple[Sequence, int]]:
    """Prompts, given in order, and how many tokens each may compute of a step's `budget`: half is the first one's while
    others of its priority want the rest, and of these the shortest goes first."""
    if not prompts:
        return []
    first, others = prompts[0], sorted(prompts[1:], key=lambda sequence: (sequence.request.priority, sequence.pending))
    equals = sum(other.pending for other in others if other.request.priority == first.request.priority)
    counts = [(first, min(first.pending, max(budget - equals, -(-budget // 2))))]
    left = budget - counts[0][1]
    for sequence in others:
        if left == 0:
            break
        counts.append((sequence, min(sequence.pending, left)))
        left -= counts[-1][1]
    return counts
