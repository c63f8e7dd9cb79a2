"""How fast an endpoint may be asked: so many requests and so many tokens a minute, evenly (the generic cell rate
algorithm, ITU-T I.371), and not at all while it has asked to be left alone."""

import threading
import time


class RateLimit:
    """Makes threads wait for their turn. Limits are per minute, 0 for none."""

    def __init__(self, requests: float = 0, tokens: float = 0):
        self._lock = threading.Lock()
        self._each = {"request": 60 / requests if requests else 0.0, "token": 60 / tokens if tokens else 0.0}
        self._next = 0.0

    def wait(self, tokens: int) -> None:
        """Return when a request of about so many tokens may be sent."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + max(self._each["request"], tokens * self._each["token"])
        time.sleep(turn - now)

    def correct(self, expected: int, used: int) -> None:
        """Take into account how many tokens a request took after all."""
        with self._lock:
            self._next += (used - expected) * self._each["token"]

    def pause(self, seconds: float) -> None:
        """Send nothing for a while."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
