"""Tells reasoning, which no grammar holds, from what follows it. Imports no torch."""

from troth.serve.engine.sampling_params import Reasoning


class Thoughts:
    """Of an answer that begins inside of `reasoning`, or has none; `over` once that has ended."""

    def __init__(self, reasoning: Reasoning | None):
        self._end = b"" if reasoning is None else reasoning.end.encode()
        self._tail = b""
        self.over = not self._end

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Further bytes: those of reasoning, and those behind it."""
        if self.over:
            return b"", data
        self._tail = self._tail[-len(self._end) :] + data
        _, end, after = self._tail.partition(self._end)
        self.over = bool(end)
        return data[: len(data) - len(after)], after
