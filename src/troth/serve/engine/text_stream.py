"""Bytes of tokens to text that is safe to show while it grows. Imports no torch."""

import codecs


class TextStream:
    """Emits whole characters only, and holds back what may be the beginning of a stop string.

    Bytes that can never become UTF-8 turn into the replacement character; a character still unfinished at the end is
    dropped. `stopped` is the stop string that was found: the text ends before it, or `with_stop` behind it.
    """

    def __init__(self, stop: tuple[str, ...] = (), with_stop: bool = False):
        self._with_stop = with_stop
        self.stopped: str | None = None
        self._stop = tuple(text for text in stop if text)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def push(self, data: bytes, may_stop: bool = True) -> str:
        """Take the bytes of further tokens and return the text that is certain now; after a stop, nothing more.

        No stop string begins in bytes that may not stop; they come before those that may.
        """
        if self.stopped is not None:
            return ""
        text = self._held + self._decoder.decode(data)
        if not may_stop:
            return text
        found = [(text.index(stop), stop) for stop in self._stop if stop in text]
        if found:
            place, self.stopped = min(found)
            self._held = ""
            return text[: place + len(self.stopped) if self._with_stop else place]
        keep = len(text) - max((overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[keep:]
        return text[:keep]

    def close(self) -> str:
        """What was held back, once it is known that nothing follows."""
        text, self._held = self._held, ""
        return text


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, but not all of it."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
