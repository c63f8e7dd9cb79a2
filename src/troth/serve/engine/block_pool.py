"""Who holds which block of the key-value cache (paged attention: Kwon et al., 2309.06180, section 4).

Full blocks are published under a key of all tokens up to their end, so that later sequences with the same beginning
share them. A published block that nobody holds stays findable until its space is needed, oldest first. No torch.
"""

from collections import OrderedDict
from collections.abc import Iterable


class BlockPool:
    """Counts the holders of each block; `references[block]` is zero for free ones."""

    def __init__(self, blocks: int):
        self.references = [0] * blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(blocks))
        self._key_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}

    @property
    def blocks(self) -> int:
        """All blocks, free or not."""
        return len(self.references)

    @property
    def free(self) -> int:
        """Blocks that `allocate` can give, among them published ones that nobody holds."""
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks for one holder; what was published in them is forgotten."""
        assert count <= self.free, f"{count} blocks asked for, {self.free} free"
        taken = []
        for _ in range(count):
            block, _ = self._free.popitem(last=False)
            self._withdraw(block)
            self.references[block] = 1
            taken.append(block)
        return taken

    def known(self, keys: Iterable[bytes]) -> list[int]:
        """The published blocks of the longest known beginning of `keys`, in order; nobody holds them by this."""
        found = []
        for key in keys:
            block = self.find(key)
            if block is None:
                break
            found.append(block)
        return found

    def find(self, key: bytes) -> int | None:
        """The block published under a key, if there is one."""
        return self._block_of.get(key)

    def hold(self, blocks: Iterable[int]) -> None:
        """Take one more hold on each of these published blocks."""
        for block in blocks:
            assert block in self._key_of, f"block {block} is not published"
            if self.references[block] == 0:
                del self._free[block]
            self.references[block] += 1

    def publish(self, block: int, key: bytes) -> None:
        """Make a held block, now full, findable. The first block published under a key stays the one."""
        assert self.references[block] > 0, f"block {block} is published by nobody"
        if key not in self._block_of and block not in self._key_of:
            self._block_of[key] = block
            self._key_of[block] = key

    def release(self, blocks: list[int]) -> None:
        """Give up one hold on each block. Later blocks are reused first: beginnings are what others may share."""
        for block in reversed(blocks):
            assert self.references[block] > 0, f"block {block} released twice"
            self.references[block] -= 1
            if self.references[block] == 0:
                self._free[block] = None

    def _withdraw(self, block: int) -> None:
        key = self._key_of.pop(block, None)
        if key is not None:
            del self._block_of[key]
