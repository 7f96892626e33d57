"""The rest of a file of which the disk takes no more, for those who are reading it already."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import Late
from .growing import Opened

_MOST = 4 * 2**20  # bytes before the foremost reader, and as many behind
_STILL = 5.0  # seconds without a read after which who waits for a later part comes first


class Window:
    """A file of which the first `size` bytes are in `file`, and of the rest a few megabytes are in memory.

    These go with the foremost reader; who is far behind finds nothing there. Where nobody reads for a moment, that is
    who waits for the last position, which `awaited` tells. Nobody waits for readers of which none has read anything
    for `patience` seconds.
    """

    def __init__(self, file: Opened, size: int, patience: float = 60.0, awaited: Callable[[], int] = lambda: 0) -> None:
        self._file, self._size = file, size
        self._patience, self._awaited = patience, awaited
        self._changed = threading.Condition()
        self._held = bytearray()
        self._start = self._foremost = size
        self._last = time.monotonic()

    def write(self, data: bytes) -> None:
        """Append bytes once there is a place for them. Raises Late if nobody makes one."""
        with self._changed:
            while self._start + len(self._held) - self._foremost >= _MOST:
                still, awaited = time.monotonic() - self._last, self._awaited()
                if still > _STILL and awaited > self._foremost:
                    self._foremost = awaited
                    continue
                if still > self._patience:
                    raise Late("nobody reads a file that the cache cannot take")
                self._changed.wait(1.0)
            self._held += data
            behind = min(max(self._foremost - _MOST - self._start, 0), len(self._held))
            del self._held[:behind]
            self._start += behind
            if self._start + len(self._held) <= self._foremost:  # it was not to be read by now
                self._last = time.monotonic()

    def read(self, size: int, at: int) -> bytes:
        """Up to `size` bytes from position `at`; none if they are not held any more. Raises OSError."""
        self._last = time.monotonic()
        if at < self._size:
            return self._file.read(min(size, self._size - at), at)
        with self._changed:
            place = at - self._start
            data = bytes(self._held[place : place + size]) if place >= 0 else b""
            if at + len(data) > self._foremost:
                self._foremost = at + len(data)
                self._changed.notify_all()
        return data
