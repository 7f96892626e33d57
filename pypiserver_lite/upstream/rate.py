"""How much is taken from upstreams: counted, paced, and never by too many at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

_log = logging.getLogger(__name__)
_BURST = 0.1  # seconds' worth of bytes that may come at once after a pause


class Rate:
    """One budget of bytes per second for all downloads of this process; ``None`` or 0 is no limit."""

    def __init__(
        self,
        limit: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limit = limit or 0
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_until = 0.0

    @property
    def piece(self) -> int:
        """Bytes to read at a time, so that a small budget flows evenly."""
        return min(2**16, max(self._limit // 10, 512)) if self._limit else 2**16

    def take(self, size: int) -> None:
        """Account for `size` bytes that came, and wait until the budget allows the next ones."""
        if not self._limit:
            return
        with self._lock:
            now = self._clock()
            self._paid_until = max(self._paid_until, now - _BURST) + size / self._limit
            wait = self._paid_until - now
        if wait > 0:
            self._sleep(wait)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What went on so far; bytes of bodies."""

    requests: int = 0
    """Requests sent to upstreams."""
    received: int = 0
    """Bytes that came from upstreams."""
    cached: int = 0
    """Bytes of files handed out that came from no upstream this time: from disk, or along with another's download."""
    saved: int = 0
    """Bytes that would have come from upstreams without a cache: `cached`, and pages that were still the same."""


class Traffic:
    """Counters that any number of threads and upstreams share.

    While something happens, a line in the log tells the totals at most every
    `pause` seconds, and `summarize` at the end.
    """

    def __init__(self, *, pause: float = 600.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._tally, self._told = Tally(), Tally()
        self._pause = pause
        self._clock = clock
        self._next = clock() + pause

    def requested(self) -> None:
        """A request went to an upstream."""
        with self._lock:
            self._tally.requests += 1
            due = self._is_due()
        if due:
            self.summarize()

    def received(self, size: int) -> None:
        """Bytes of a body came from an upstream."""
        with self._lock:
            self._tally.received += size

    def cached(self, size: int) -> None:
        """Bytes of a file were handed out from what was here."""
        with self._lock:
            self._tally.cached += size
            self._tally.saved += size
            due = self._is_due()
        if due:
            self.summarize()

    def unchanged(self, size: int) -> None:
        """An upstream confirmed a page of this many bytes instead of sending it again."""
        with self._lock:
            self._tally.saved += size

    def snapshot(self) -> Tally:
        """All counters at one moment."""
        with self._lock:
            return replace(self._tally)

    def _is_due(self) -> bool:
        """Whether it is time to tell, for the thread that asks first."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._pause
        return True

    def summarize(self) -> None:
        """Log the totals, unless nothing has happened since they were logged last."""
        with self._lock:
            self._next = self._clock() + self._pause
            tally, told = replace(self._tally), self._told
            self._told = tally
        if tally != told:
            _log.info(
                "upstream traffic since the start: %d requests, %s received; %s of files handed out from the cache, "
                "%s saved",
                tally.requests,
                _megabytes(tally.received),
                _megabytes(tally.cached),
                _megabytes(tally.saved),
            )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
