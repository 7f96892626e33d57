"""Turns at what takes much memory: pages that come in, and large ones for as long as anybody holds them.

They are those of the process, for so is the memory: however many upstreams
there are, one large page may take 300 MB.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable
from contextlib import ExitStack

from ..errors import Busy
from ..kept import Turnstile
from ..model import Project
from ..simple.parse import LARGE_PAGE
from . import hops

_LARGE_PARTS, _MIDDLE_PARTS = 25_000, 4_000  # brackets; a file has one to four, and takes twice its weight in between
_SHARE = 2**18  # bytes; what is smaller always comes in
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
_large = Turnstile(1, 4, 8.0)
_middle = Turnstile(2, 1000, 8.0)
_coming = Turnstile(2**25 // _SHARE)  # 32 MB come in at once


class Seat:
    """The seat of the one large page that may be in memory; given back when nobody holds it any more."""

    def __init__(self) -> None:
        _large.enter(hops.left())
        weakref.finalize(self, _large.leave).atexit = False
        _trimmer()(0)

    def hold_for(self, project: Project) -> None:
        """The turn is not over before nobody holds this project any more."""
        weakref.finalize(project, _held_until_now, self).atexit = False


def _held_until_now(seat: Seat) -> None:
    """Called when a project is gone: what was held for it can be given back."""


class Turn:
    """The turn of a page that takes much memory, taken when that shows; as a block, it is over at the end.

    A `seat` that is had already, for another state of the same page, will do.
    """

    def __init__(self, seat: Seat | None) -> None:
        self.seat = seat
        self._shares = 0
        self._held = ExitStack()

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, *_: object) -> None:
        self.seat = None
        self._held.close()
        if self._shares:
            _trimmer()(0)

    def hold(self, size: int) -> None:
        """Have so many bytes of a page in memory; beyond what one may have, or all together, take the turn.

        Raises Busy.
        """
        if size > LARGE_PAGE:
            self.take()
        while self.seat is None and self._shares < size // _SHARE:
            _trimmer()
            try:
                self._held.enter_context(_coming.inside())
            except Busy:
                self.take()
            self._shares += 1

    def take(self) -> None:
        """Be the only one with a large page from now on. Raises Busy."""
        self.seat = self.seat or Seat()

    def take_for(self, body: bytes) -> None:
        """Take the turn that this page needs, if any. Raises Busy."""
        parts = body.count(b"{") + body.count(b"[") + body.count(b"<")
        if len(body) > LARGE_PAGE or parts > _LARGE_PARTS:
            self.take()
        elif parts > _MIDDLE_PARTS:
            self._held.enter_context(_middle.inside())


@functools.cache
def _trimmer() -> Callable[[int], object]:
    """What gives free memory back to the system: glibc keeps some 30 MB for each thread that read a large page.

    From the first call on it also keeps no block of a large page's size, as it would after it has seen some.
    """
    try:
        library = ctypes.CDLL(None)
        found: Callable[[int], object] = library.malloc_trim
        library.mallopt(_MMAP_THRESHOLD, _SHARE)
    except (TypeError, AttributeError, OSError):  # another C library, which has other habits
        return lambda keep: None
    return found
