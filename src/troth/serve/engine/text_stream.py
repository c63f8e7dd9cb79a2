"""Bytes of tokens to text that is safe to show while it grows. Imports no torch."""

import codecs


class TextStream:
    """Emits whole characters only, and holds back what may be the beginning of a stop string.

    Bytes that can never become UTF-8 turn into the replacement character; a character still unfinished at the end is
    dropped. `stopped` is the stop string that was found: the text ends before it, or `with_stop` behind it. From the
    first mark of `whole` to the second, as around a call, nothing is taken for one.
    """

    def __init__(self, stop: tuple[str, ...] = (), with_stop: bool = False, whole: tuple[str, str] | None = None):
        self._with_stop = with_stop
        self.stopped: str | None = None
        self._stop = tuple(text for text in stop if text)
        self._whole = whole if self._stop else None
        self._inside = False
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def push(self, data: bytes, may_stop: bool = True) -> str:
        """Take the bytes of further tokens and return the text that is certain now; after a stop, nothing more.

        No stop string begins in bytes that may not stop; they come before those that may.
        """
        if self.stopped is not None:
            return ""
        text, self._held = self._held + self._decoder.decode(data), ""
        shown = ""
        while self._whole is not None and (mark := self._whole[self._inside]) in text:
            before, _, text = text.partition(mark)
            shown += before if self._inside or not may_stop else self._before_stop(before)
            if self.stopped is not None:
                return shown
            shown += mark
            self._inside = not self._inside
        awaited: tuple[str, ...] = () if self._whole is None else (self._whole[self._inside],)
        if may_stop and not self._inside:
            text = self._before_stop(text)
            awaited += self._stop
        if self.stopped is None and (may_stop or self._inside):
            keep = len(text) - max((overlap(text, mark) for mark in awaited), default=0)
            text, self._held = text[:keep], text[keep:]
        return shown + text

    def close(self) -> str:
        """What was held back, once it is known that nothing follows."""
        text, self._held = self._held, ""
        return text

    def _before_stop(self, text: str) -> str:
        """Text up to the first stop string in it, if there is one."""
        found = [(text.index(stop), stop) for stop in self._stop if stop in text]
        if not found:
            return text
        place, self.stopped = min(found)
        return text[: place + len(self.stopped) if self._with_stop else place]


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, but not all of it."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
