"""A file at an upstream, read here and there without fetching it whole.

Enough to find the metadata of a wheel: a zip's directory lies at its end, and
``METADATA`` by custom right before it.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from ..errors import Missing, Unavailable

Fetch = Callable[[int, int], bytes]
"""Exactly the bytes of a half-open range; raises Unavailable or Missing if they cannot be had."""

TAIL = 128 * 2**10
_BLOCK = 64 * 2**10
_MOST_BYTES = 8 * 2**20
_MOST_REQUESTS = 12


class RangedFile(io.RawIOBase):
    """A read-only file of `size` bytes, of which `fetch` gets ranges.

    The end comes in one piece of `TAIL` bytes; the rest as it is asked for.
    Raises Unavailable when more than a few megabytes or requests are needed.
    """

    def __init__(self, size: int, fetch: Fetch) -> None:
        self._size = size
        self._fetch = fetch
        self._at = 0
        self._parts: list[tuple[int, bytes]] = []
        self._fetched = 0
        self.failed: Unavailable | Missing | None = None
        """Why `fetch` could not get a range, if so: who reads an archive takes that for a bad one."""

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as any file does."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("there is nothing before the start of a file")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes, fewer only at the end. Raises Unavailable."""
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        if stop <= self._at:
            return b""
        start, data = self._part(self._at, stop)
        piece = data[self._at - start : stop - start]
        self._at = stop
        return piece

    def _part(self, start: int, stop: int) -> tuple[int, bytes]:
        for at, data in self._parts:
            if at <= start and stop <= at + len(data):
                return at, data
        tail = max(self._size - TAIL, 0)
        begin, end = (tail, self._size) if start >= tail else (start, min(max(stop, start + _BLOCK), self._size))
        self._fetched += end - begin
        if self._fetched > _MOST_BYTES or len(self._parts) >= _MOST_REQUESTS:
            raise Unavailable("the metadata of this file cannot be found without fetching it whole")
        try:
            self._parts.append((begin, self._fetch(begin, end)))
        except (Unavailable, Missing) as error:
            self.failed = error
            raise
        return self._parts[-1]
