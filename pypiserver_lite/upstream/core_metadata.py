"""The core metadata that a page promises: the upstream's own, or what its wheels hold.

A wheel need not be fetched whole for it: a zip's directory lies at its end,
and ``METADATA`` by custom right before it.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, cast

from .. import metadata
from ..archives import core_metadata
from ..dists import same_version, try_normalize
from ..errors import Busy, Late, Missing, Unavailable
from ..kept import Flights
from ..model import NO_HASHES, File
from . import hops
from .files import Files, Wanted
from .pages import Shelf
from .parts import SMALL
from .places import strongest

TAIL = 128 * 2**10
"""Bytes at the end of a wheel that come in one piece."""

_LIMIT = 8 * 2**20  # bytes
_BLOCK = 64 * 2**10
_MOST_BYTES = 8 * 2**20
_MOST_REQUESTS = 12
_MOST_BEHIND = 64 * 2**20  # bytes of a file that is fetched where none of its parts comes in time
_log = logging.getLogger(__name__)


class CoreMetadata:
    """That of the `files` which the pages on `shelf` list, found or made once."""

    def __init__(self, files: Files, shelf: Shelf) -> None:
        self._files = files
        self._shelf = shelf
        self._makings: Flights[str, bytes | None] = Flights()

    def of(self, wanted: Wanted) -> bytes:
        """That of one file, byte for byte. Raises Missing, Unavailable."""
        file, cache = wanted.file, self._files.cache
        known = cache.get("metadata", wanted.key) if cache else None
        if known is not None and _right(known, file):
            self._files.upstream.traffic.cached(len(known))
            return known
        with self._files.readers.inside():
            data = self._makings.do(wanted.key, lambda: self._obtain(wanted))
        if data is None:
            self._shelf.withdraw(file.project, file.filename)
            raise Missing("this file has no readable core metadata")
        if cache:
            cache.put("metadata", wanted.key, data)
        return data

    def _obtain(self, wanted: Wanted) -> bytes | None:
        file = wanted.file
        if self._files.cache is None or not self._shelf.is_silent(file.project):
            data = wanted.beside(".metadata", _LIMIT)
            if data is not None and _right(data, file):
                return data
            _log.warning("the upstream announces core metadata of %s that it does not have", file.filename)
            if self._files.cache is None:
                return None
        data = self._made(wanted)
        return data if data is not None and _right(data, file) else None

    def _made(self, wanted: Wanted) -> bytes | None:
        """From the file itself, with as little of it as will do. Raises Unavailable."""
        file = wanted.file
        size = None
        if file.filename.endswith(".whl") and self._files.kept(file) is None:
            size = wanted.size()
        if size is not None and size > SMALL and not wanted.is_coming:
            ranged = RangedFile(size, partial(wanted.range, size))
            data = core_metadata(cast("BinaryIO", ranged), file.filename)
            if ranged.failed is None:
                return data
            if isinstance(ranged.failed, (Late, Busy)):  # all of it would take longer
                if isinstance(ranged.failed, Late) and size <= _MOST_BEHIND:
                    wanted.come()
                raise ranged.failed
            _log.info("looking into %s did not work, fetching it: %s", file.filename, ranged.failed)
        arriving = wanted.arriving()
        if arriving is None:
            raise Unavailable("the cache cannot take this file, so its core metadata cannot be made")
        try:
            size, _ = arriving.wait(math.inf, hops.left())
        except Late:
            # Installers do not wait longer either, and go no other way where metadata are announced.
            self._shelf.withdraw(file.project, file.filename)
            raise
        whole = RangedFile(size, lambda start, stop: arriving.read(stop - start, start))
        return core_metadata(cast("BinaryIO", whole), file.filename)


def _right(data: bytes, file: File) -> bool:
    """Whether core metadata is that of a file: it names its project and version, and has the digest announced, if any.

    Installers believe the one and the other without looking into the file.
    """
    said, known = metadata.parse(data), strongest(file.core_metadata or NO_HASHES)
    return (
        try_normalize(said.text("name")) == file.project
        and same_version(said.text("version"), file.version)
        and (
            known is None
            or hmac.compare_digest(hashlib.new(known[0], data, usedforsecurity=False).hexdigest(), known[1])
        )
    )


class RangedFile(io.RawIOBase):
    """A read-only file of `size` bytes, of which `fetch` gets half-open ranges, exactly.

    The end comes in one piece of `TAIL` bytes; the rest as it is asked for.
    Raises Unavailable when more than a few megabytes or requests are needed.
    """

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
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
