"""A file of the cache that any number of clients read while it comes.

One thread brings it, from the upstream (`download`) or as another process
does; readers follow from wherever they want to start. What makes the file
complete is held back until it is checked: a client of a wrong or short file
sees its connection break, never a good-looking file.
"""

from __future__ import annotations

import contextvars
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from .. import disk
from ..errors import Late, Missing, Unavailable
from ..kept import start
from ..model import HandOver
from . import hops
from .growing import POLL, Followed, Opened

SILENT = 10.0
"""Seconds without a byte after which another process is not waited for."""
_PIECE = 2**16  # bytes


class Readable(Protocol):
    """Bytes by position."""

    def read(self, size: int, at: int) -> bytes:
        """Up to `size` bytes from position `at`."""


class Arriving:
    """A file on its way, then whole, or never to be; read from `file`. It is a `Followable`.

    `size` is how many bytes it will have, if that is known; of these `available` may be read now.
    """

    def __init__(self, file: Readable, size: int | None, *, available: int = 0, whole: bool = False) -> None:
        self.size = size
        self._file = file
        self._changed = threading.Condition()
        self._available = available
        self._awaited = 0
        self._whole = whole
        self._error: Unavailable | Missing | None = None
        self._watchers: set[Callable[[], object]] = set()
        self._claimed = True

    def claim(self) -> bool:
        """True for the first who asks for what comes from the upstream: the one for whom it comes."""
        with self._changed:
            claimed, self._claimed = self._claimed, True
        return not claimed

    def wait(self, at: float, most: float = math.inf) -> tuple[int, bool]:
        """Wait until more than `at` bytes may be read; how many, and if that is all.

        Raises Unavailable, Missing; Late after `most` seconds, while it goes on to come.
        """
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._available > at or self._whole or self._error is not None,
                None if most == math.inf else max(most, 0.0),
            ):
                raise Late("the upstream sends this file too slowly to wait for it; it goes on to come")
            self._check_failed(at)
            return self._available, self._whole

    def ready(self, at: int) -> int:
        """As `Followable` has it."""
        with self._changed:
            self._check_failed(at)
            return self._available - at

    def _check_failed(self, at: float) -> None:
        if self._available <= at and self._error is not None:
            raise type(self._error)(str(self._error))

    def watch(self, wake: Callable[[], object]) -> None:
        """As `Followable` has it. The same `wake`, given by many, is called once."""
        with self._changed:
            self._watchers.add(wake)

    def read(self, size: int, at: int) -> bytes:
        """As `Followable` has it."""
        return self._file.read(size, at)

    def pieces(
        self, start: int, stop: int | None, count: Callable[[int], object], hand_over: HandOver | None = None
    ) -> Iterator[bytes]:
        """The half-open range of it, as soon as its bytes are there; `count` is told how many.

        What comes after the first piece goes to `hand_over`, if there is one, and nobody waits here for more; nor for
        the first, once others have come.
        """
        at, last = start, self.size if stop is None else stop
        self._awaited = max(self._awaited, start)
        if hand_over is not None and last is not None and self.ready(0) > 0 >= self.ready(at):
            count(last - at)
            yield hand_over(self, at, last)
            return
        self.wait(0, hops.left())  # or its beginning is still looked through somewhere
        while stop is None or at < stop:
            available, whole = self.wait(at)
            end = available if stop is None else min(available, stop)
            while at < end:
                data = self.read(min(_PIECE, end - at), at)
                if not data:
                    raise Unavailable("the cache lost a file while it was being read")
                at += len(data)
                count(len(data))
                yield data
                if hand_over is not None and last is not None and at < last:
                    count(last - at)
                    yield hand_over(self, at, last)
                    return
            if whole:
                return

    def advance(self, available: int, *, whole: bool = False) -> None:
        """So many bytes may be read now."""
        with self._changed:
            self._available = max(available, self._available)
            self._whole = whole
        self._tell()

    def fail(self, error: Unavailable | Missing) -> None:
        """No more will come."""
        with self._changed:
            self._error = error
        self._tell()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
            watchers = tuple(self._watchers)
        for wake in watchers:  # without the lock, which they may be waiting for
            wake()


def whole(path: Path) -> Arriving:
    """A file that lies in the cache, as if it had just come. Raises OSError if it is gone."""
    handle = os.open(path, disk.READ)
    file, size = Opened(handle), os.fstat(handle).st_size
    return Arriving(file, size, available=size, whole=True)


class Following(Arriving):
    """A file that another process brings, followed on disk from `start` on.

    When that process gives up, or brings nothing for `patience` seconds, what `again` returns is followed, if there is
    anything; it is told whether that process may still be at it. Who has a part already is only given the rest of
    another if that must be the same file (`exact`). `ended` is called when that process is followed no more.
    """

    def __init__(
        self,
        followed: Followed,
        size: int | None,
        ended: Callable[[], object],
        again: Callable[[bool], Arriving | None],
        *,
        exact: bool,
        patience: float = SILENT,
    ) -> None:
        super().__init__(followed, size)
        self._followed = followed
        self._ended = ended
        self._again, self._exact = again, exact
        self._patience = patience

    def start(self) -> None:
        """Let it be followed. Raises Busy if the system has no thread left."""
        start("following", contextvars.copy_context().run, self._run)

    def _run(self) -> None:
        try:
            try:
                self._follow()
            finally:
                self._ended()  # first, so that `again` does not meet this one
        except Unavailable as error:
            self._succeed(error, stuck=isinstance(error, Late))

    def _follow(self) -> None:
        seen, deadline = -1, 0.0
        while True:
            size, whole = self._followed.state()
            if whole is None:
                raise Unavailable("the process that was downloading this file gave up")
            if whole and self.size not in (None, size):
                raise Unavailable("the process that was downloading this file left a part of it")
            now = time.monotonic()
            if whole or size != seen:
                seen, deadline = size, now + self._patience
                # What would make the file complete is not checked yet.
                short = whole or (self.size is not None and size < self.size)
                self.advance(size if short else size - 1, whole=whole)
            elif now > deadline:
                raise Late("the process that is downloading this file does not go on")
            if whole:
                return
            time.sleep(POLL)

    def _succeed(self, error: Unavailable, *, stuck: bool) -> None:
        if self._available:
            hops.answered()
        try:
            successor = self._again(stuck)  # of use to those who ask later, if not to those who have a part
            if successor is None or (self._available and not self._exact):
                raise error
            whole = False
            while not whole:
                available, whole = successor.wait(self._available)
                self._file = successor  # now that it has what has been handed out from the other
                self.advance(available, whole=whole)
        except (Unavailable, Missing) as raised:
            self.fail(raised)
