"""Which tokens the next step works on: continuous batching (Orca, OSDI '22) with chunked prefill (Sarathi, 2308.16369).

First come, first served. Running sequences go first, one token each while decoding; prompts share what is left of the
step's token budget in chunks. When the cache runs full the youngest sequence gives its blocks back and is computed anew
later.
"""

from collections import deque
from dataclasses import dataclass

from troth.serve.engine.block_pool import BlockPool
from troth.serve.engine.sequence import Sequence


@dataclass(frozen=True)
class Chunk:
    """`count` tokens of a sequence from its position `start` on, whose `blocks` have room for them."""

    sequence: Sequence
    start: int
    count: int

    @property
    def blocks(self) -> list[int]:
        """The block table of the sequence."""
        return self.sequence.blocks

    @property
    def samples(self) -> bool:
        """Whether the chunk reaches the last token, so that the next one can be drawn."""
        return self.start + self.count == len(self.sequence.tokens)


class Scheduler:
    """Queue and batch, both in order of arrival: at most `max_batch` sequences, `max_step_tokens` prompt tokens a step.

    `preemptions` counts how often a sequence had to give up its blocks.
    """

    def __init__(self, pool: BlockPool, block_size: int, max_batch: int, max_step_tokens: int):
        self.pool = pool
        self.block_size = block_size
        self.max_batch = max_batch
        self.max_step_tokens = max_step_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0

    def schedule(self) -> list[Chunk]:
        """The chunks of the next step, with room in the cache for each; empty when there is nothing to do."""
        chunks: list[Chunk] = []
        budget = self.max_step_tokens
        place = 0
        while place < len(self.running):
            sequence = self.running[place]
            if not self._make_room(sequence):
                break
            decoding = sequence.pending == 1
            count = 1 if decoding else min(sequence.pending, budget)
            if count:
                chunks.append(Chunk(sequence, sequence.computed, count))
            budget -= 0 if decoding else count
            place += 1
        while self.waiting and budget > 0 and len(self.running) < self.max_batch and self._admit(self.waiting[0]):
            sequence = self.waiting.popleft()
            self.running.append(sequence)
            count = min(sequence.pending, budget)
            chunks.append(Chunk(sequence, sequence.computed, count))
            budget -= count
        return chunks

    def computed(self, chunk: Chunk) -> None:
        """Record that the cache now has a chunk, and let others share the blocks that it filled."""
        sequence, end = chunk.sequence, chunk.start + chunk.count
        sequence.computed = end
        first, last = chunk.start // self.block_size, end // self.block_size
        if last > first:
            keys = sequence.keys(last, self.block_size)
            for block in range(first, last):
                self.pool.publish(sequence.blocks[block], keys[block])

    def remove(self, sequence: Sequence) -> None:
        """Take a finished or cancelled sequence out and free its blocks."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._free(sequence)

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def _make_room(self, sequence: Sequence) -> bool:
        """Give a running sequence the blocks its tokens need; False where it had to give up its own instead."""
        missing = self._blocks_for(len(sequence.tokens)) - len(sequence.blocks)
        while missing > self.pool.free:
            youngest = self.running.pop()
            self._free(youngest)
            self.waiting.appendleft(youngest)
            self.preemptions += 1
            if youngest is sequence:
                return False
        sequence.blocks += self.pool.allocate(missing)
        return True

    def _admit(self, sequence: Sequence) -> bool:
        """Hold blocks for all tokens of a waiting sequence, sharing those that are known; False where it must wait."""
        # The last token is always computed, because its hidden state is needed to draw the next one.
        # An embedding needs the hidden states of all.
        known = 0 if sequence.request.pooled else (len(sequence.tokens) - 1) // self.block_size
        keys = sequence.keys(known, self.block_size)
        shared = self.pool.share(keys)
        missing = self._blocks_for(len(sequence.tokens)) - len(shared)
        # One block a running sequence stays in reserve: admitting into the last space would preempt at once.
        lacks_room = missing + len(self.running) > self.pool.free
        soon_known = len(shared) < len(keys) and keys[len(shared)] in self._being_computed()
        if (lacks_room and self.running) or soon_known:
            self.pool.release(shared)
            return False
        sequence.blocks = shared + self.pool.allocate(missing)
        sequence.computed = len(shared) * self.block_size
        if sequence.cached_tokens is None:
            sequence.cached_tokens = sequence.computed
        return True

    def _being_computed(self) -> set[bytes]:
        """Keys of blocks that prompts in the batch will publish: waiting for them is cheaper than repeating them."""
        keys: set[bytes] = set()
        for other in self.running:
            if other.pending > 1:
                full = len(other.tokens) // self.block_size
                keys.update(other.keys(full, self.block_size)[other.computed // self.block_size :])
        return keys

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0
