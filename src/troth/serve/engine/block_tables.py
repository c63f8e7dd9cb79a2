"""The blocks that each sequence holds: one table for layers that see everything, one for those that see a window.

Layers with a window have a pool of their own, and what has left the window is given back (after vLLM's hybrid cache).
A beginning is shared where its blocks are known and, in the second pool, those of its last window. No torch.
"""

from troth.serve.engine.block_pool import BlockPool
from troth.serve.engine.sequence import Sequence

SLIDING_SHARE = 4
"""One block in so many as the full pool has is there for windows of beginnings that may come again."""


def sliding_blocks(blocks: int, block_size: int, window: int, max_batch: int, max_step_tokens: int) -> int:
    """How many blocks the layers with a window get beside `blocks` for the others: enough for the windows of a whole
    batch and the tokens of a step, and some to remember; never more than the others have."""
    at_work = max_batch * (-(-window // block_size) + 1) + -(-max(max_step_tokens, max_batch) // block_size)
    return min(blocks, at_work + blocks // SLIDING_SHARE)


class BlockTables:
    """Gives blocks to sequences and takes them back; `sliding` is None where no layer has a window.

    A sequence's `blocks` and `sliding_blocks` are indexed by position // block_size; in the second, blocks outside the
    window are -1.
    """

    def __init__(self, full: BlockPool, sliding: BlockPool | None, block_size: int, window: int):
        self.full, self.sliding = full, sliding
        self.block_size, self.window = block_size, window

    def share(self, sequence: Sequence, keys: list[bytes]) -> None:
        """Let a sequence without blocks hold those of the longest beginning of `keys` that can be gone on from."""
        shared = self.full.known(keys)
        if self.sliding is not None:
            found = [self.sliding.find(key) for key in keys[: len(shared)]]
            count = _usable(found, [self._first_seen(end * self.block_size) for end in range(len(found) + 1)])
            first = self._first_seen(count * self.block_size)
            seen = [block for block in found[first:count] if block is not None]
            self.sliding.hold(seen)
            sequence.sliding_blocks, sequence.first_sliding = [-1] * first + seen, first
            shared = shared[:count]
        self.full.hold(shared)
        sequence.blocks = shared
        sequence.computed = len(shared) * self.block_size

    def lacking(self, sequence: Sequence, tokens: int, end: int) -> bool:
        """Whether there is no room for `tokens` in all, of which those before position `end` are computed next."""
        return self._missing(sequence.blocks, tokens) > self.full.free or (
            self.sliding is not None and self._missing(sequence.sliding_blocks, end) > self.sliding.free
        )

    def grow(self, sequence: Sequence, tokens: int, end: int) -> None:
        """Take that room."""
        sequence.blocks += self.full.allocate(self._missing(sequence.blocks, tokens))
        if self.sliding is not None:
            sequence.sliding_blocks += self.sliding.allocate(self._missing(sequence.sliding_blocks, end))

    def computed(self, sequence: Sequence, end: int) -> None:
        """Record that the cache has the tokens before `end`: what is full can be shared, what nobody sees is freed."""
        first, last = sequence.computed // self.block_size, end // self.block_size
        sequence.computed = end
        if last > first:
            keys = sequence.keys(last, self.block_size)
            for block in range(first, last):
                self.full.publish(sequence.blocks[block], keys[block])
                if self.sliding is not None:
                    self.sliding.publish(sequence.sliding_blocks[block], keys[block])
        if self.sliding is not None:
            hidden = range(sequence.first_sliding, self._first_seen(end))
            self.sliding.release([sequence.sliding_blocks[block] for block in hidden])
            for block in hidden:
                sequence.sliding_blocks[block] = -1
            sequence.first_sliding = max(sequence.first_sliding, hidden.stop)

    def release(self, sequence: Sequence) -> None:
        """Give up all that a sequence holds."""
        self.full.release(sequence.blocks)
        if self.sliding is not None:
            self.sliding.release(sequence.sliding_blocks[sequence.first_sliding :])
        sequence.blocks, sequence.sliding_blocks = [], []
        sequence.computed = sequence.first_sliding = 0

    def _missing(self, table: list[int], tokens: int) -> int:
        return max(0, -(-tokens // self.block_size) - len(table))

    def _first_seen(self, position: int) -> int:
        """The first block that a token at `position` sees through the window."""
        return max(0, position - self.window + 1) // self.block_size


def _usable(found: list[int | None], first_seen: list[int]) -> int:
    """The most blocks of a beginning whose last ones, from `first_seen[blocks]` on, are all found."""
    usable = unbroken = 0
    for end, block in enumerate(found, 1):
        unbroken = 0 if block is None else unbroken + 1
        if unbroken >= end - first_seen[end]:
            usable = end
    return usable
