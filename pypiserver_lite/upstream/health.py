"""How an upstream does: whether it answers, and whether it is left alone for a while because it does not."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

from ..errors import Late, Unavailable

_SEVERAL = 3  # addresses in a row that one server does not answer properly, though it lets us in
GLANCE = 0.5
"""Seconds that others wait for what the one who asks again finds out."""
_LONGEST = 12.0  # seconds after which that one is given up
_FIRST = 2.0  # seconds until an answer begins to one who asks for something else at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """An upstream as this server last found it; nothing of it is secret."""

    name: str
    """As the settings call it."""
    address: str
    """Its host, and its port unless that is the usual one."""
    answered: float | None
    """When it last answered, in seconds since 1970; ``None``: not since this server started."""
    failures: int
    """How often in a row it did not answer properly."""
    open: bool
    """Whether its circuit is open: it is left alone for a moment, and who needs it hears so at once."""
    addresses: tuple[Health, ...] = ()
    """Each of its addresses, in the order in which they are asked, if it has several."""


class Circuit:
    """Whether a server may be asked now.

    When it fails, by more than one address that may be broken alone, it is
    left alone for `pause` seconds (0: never). Then one asker at a time goes
    through, and the others wait a moment for what comes of it. One goes
    through before, for a moment, where a single address was silent: the next
    who wants another. Who goes through tells how it ended. Safe to share
    between threads.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self.failures = 0
        self.answered: float | None = None
        """When something proper came last, in seconds since 1970."""
        self._heard = 0.0
        self._urls: set[str] = set()
        self._error: Unavailable | None = None
        self._until = 0.0
        self._alone = ""
        self._probe: threading.Event | None = None
        self._probing_since = 0.0

    @property
    def open(self) -> bool:
        """Whether it is left alone, or being tried."""
        return self._error is not None

    @property
    def due(self) -> bool:
        """Whether somebody should find out now if it answers again, and nobody is at it."""
        now = time.monotonic()
        return self._error is not None and now >= self._until and not self._is_tried(now)

    def refusal(self) -> Unavailable | None:
        """What it failed with, if it is left alone."""
        error = self._error
        return None if error is None else _again(error)

    def heard_since(self, moment: float) -> bool:
        """Whether something proper came after this moment of the monotonic clock."""
        return self._heard >= moment

    def enter(self, most: float, url: str) -> float:
        """Go through to `url`, after a moment and `most` seconds at most. Raises what it failed with last.

        Returns the seconds within which the answer should begin.
        """
        with self._lock:
            if self._error is None:
                return math.inf
            now = time.monotonic()
            due = now >= self._until
            if (due or self._alone not in ("", url)) and not self._is_tried(now):
                self._probe, self._probing_since = threading.Event(), now
                return math.inf if due else _FIRST
            probe, refusal = self._probe, _again(self._error)
            patience = min(self._probing_since + GLANCE - now, most)
        if probe is None or not probe.wait(max(patience, 0.0)) or self.open:
            raise refusal
        return math.inf

    def _is_tried(self, now: float) -> bool:
        return self._probe is not None and now < self._probing_since + _LONGEST

    def succeeded(self) -> None:
        """Something proper came."""
        with self._lock:
            self.failures, self._error = 0, None
            self._urls.clear()
            self.answered, self._heard = time.time(), time.monotonic()
            self._release()

    def failed(self, error: Unavailable, url: str, *, sure: bool) -> None:
        """Nothing proper came from `url`; `sure`: nor would it from any other."""
        with self._lock:
            self.failures += 1
            self._urls.add(url)
            if self._pause and (sure or self._error is not None or len(self._urls) >= _SEVERAL):
                self._alone = url if self._error is None and sure else ""
                self._error, self._until = _again(error), time.monotonic() + self._pause
                self._urls.clear()
            self._release()

    def let_go(self) -> None:
        """Who went through found nothing out."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        if self._probe is not None:
            self._probe.set()
            self._probe = None


def _again(error: Unavailable) -> Unavailable:
    """The same for another asker, as what does not say that somebody should try at once again."""
    return Late(str(error)) if isinstance(error, Late) else Unavailable(str(error))
