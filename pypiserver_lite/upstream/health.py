"""How an upstream does: whether it answers, and whether it is left alone for a while because it does not."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

from ..errors import Late, Unavailable

_SEVERAL = 3  # addresses in a row that one server does not answer properly, though it lets us in
_MANY = 1000  # of which more are not counted
_PROBES = 8  # addresses of it that are tried at once
GLANCE = 0.5
"""Seconds that others wait for what those who ask again find out."""
_LONGEST = 12.0  # seconds after which these are given up
QUICK = 2.0
"""Seconds until an answer begins that costs nobody time, whatever it is."""
_USUAL = 4  # times as long as usual that an answer may take to begin where another did not come at once
_FORGET = 0.9  # of what is usual, with each answer that comes sooner


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

    When more than one of its addresses fails, any of which may be broken
    alone, it is left alone for `pause` seconds (0: never). Then some go
    through, each to another address, of which one at a time is known to fail;
    the others wait a moment for what comes of it. They go through before, for
    a moment or some times as long as answers usually take to begin, where a
    single address was silent. An answer that comes quickly closes it, also
    one that is broken: it costs nobody time. Who goes through tells how it
    ended. Safe to share between threads.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self.failures = 0
        self.answered: float | None = None
        """When something proper came last, in seconds since 1970."""
        self._heard = 0.0
        self._usual = 0.0
        self._urls: set[str] = set()  # that failed since, and not quickly
        self._broken: set[str] = set()  # that failed since something proper came
        self._error: Unavailable | None = None
        self._until = 0.0
        self._probes: dict[str, float] = {}  # when each began
        self._news = threading.Event()

    @property
    def open(self) -> bool:
        """Whether it is left alone, or being tried."""
        return self._error is not None

    @property
    def failing(self) -> bool:
        """Whether it is left alone, or several of its addresses gave nothing proper, and no other since."""
        return self.open or len(self._broken) >= _SEVERAL

    @property
    def due(self) -> bool:
        """Whether somebody should find out now if it answers again, and nobody is at it."""
        now = time.monotonic()
        with self._lock:
            return self._error is not None and now >= self._until and not self._under_way(now)

    def refusal(self) -> Unavailable | None:
        """What it failed with, if it is left alone."""
        error = self._error
        return None if error is None else _again(error)

    def heard_since(self, moment: float) -> bool:
        """Whether an answer came, proper or quickly, after this moment of the monotonic clock."""
        return self._heard >= moment

    def enter(self, most: float, url: str) -> float:
        """Go through to `url`, after a moment and `most` seconds at most. Raises what it failed with last.

        Returns the seconds within which the answer should begin.
        """
        with self._lock:
            if self._error is None:
                return math.inf
            now = time.monotonic()
            probes, due = self._under_way(now), now >= self._until
            alone = len(self._urls) == 1 and url not in self._urls
            if (due or alone) and self._has_room(url):
                first = due and not probes
                probes[url] = now
                return math.inf if first else max(QUICK, _USUAL * self._usual)
            news, refusal = self._news, _again(self._error)
            patience = min(max(probes.values(), default=-math.inf) + GLANCE - now, most)
        if patience <= 0 or not news.wait(patience) or self.open:
            raise refusal
        return math.inf

    def _under_way(self, now: float) -> dict[str, float]:
        self._probes = {url: since for url, since in self._probes.items() if now < since + _LONGEST}
        return self._probes

    def _has_room(self, url: str) -> bool:
        if url in self._probes or (url in self._urls and not self._urls.isdisjoint(self._probes)):
            return False
        return len(self._probes) < _PROBES

    def began(self, seconds: float) -> None:
        """An answer that is not broken began after so many."""
        self._usual = max(seconds, self._usual * _FORGET)

    def succeeded(self) -> None:
        """Something proper came."""
        with self._lock:
            self.failures, self.answered = 0, time.time()
            self._broken.clear()
            self._close()

    def failed_quickly(self, url: str) -> None:
        """An answer came at once from `url` that is not proper."""
        with self._lock:
            self._count(url)
            self._close()

    def failed(self, error: Unavailable, url: str, *, sure: bool) -> None:
        """Nothing proper came from `url`; `sure`: nor would it from any other."""
        with self._lock:
            self._count(url)
            if len(self._urls) < _MANY:
                self._urls.add(url)
            if self._pause and (sure or self._error is not None or len(self._urls) >= _SEVERAL):
                self._error, self._until = _again(error), time.monotonic() + self._pause
            self._release(url)

    def failed_alone(self, url: str) -> None:
        """Nothing proper came from `url`, but from others meanwhile."""
        with self._lock:
            self.failures += 1
            self._release(url)

    def let_go(self, url: str) -> None:
        """Who went through to `url` found nothing out."""
        with self._lock:
            self._release(url)

    def _count(self, url: str) -> None:
        self.failures += 1
        if len(self._broken) < _SEVERAL:
            self._broken.add(url)

    def _close(self) -> None:
        self._error, self._heard = None, time.monotonic()
        self._urls.clear()
        self._probes.clear()
        self._tell()

    def _release(self, url: str) -> None:
        self._probes.pop(url, None)
        if not self._probes:
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = threading.Event()


def _again(error: Unavailable) -> Unavailable:
    """The same for another asker, as what does not say that somebody should try at once again."""
    return Late(str(error)) if isinstance(error, Late) else Unavailable(str(error))
