"""The members of a packed tar file, read with tarfile, which is given no more than is meant."""

from __future__ import annotations

import bz2
import lzma
import re
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from ..errors import Invalid

_CHUNK = 2**16
_UNPACKED_LIMIT = 64 * 2**20
"""Unpacked bytes of an sdist that are looked through; more for a large one, which has cost its sender more."""
_UNPACKED_RATIO, _UNPACKED_MOST = 100, 2**30
"""Hatch and flit put PKG-INFO last, behind all data; tables and JSON pack to a fiftieth at best."""
_MEMBERS_LIMIT = 100_000
_NAMES_LIMIT = 2**20
"""Bytes of all pax headers, long names and maps of holes of one archive; tarfile has each in memory as a whole."""
_SECONDS_LIMIT = 10.0
"""Processor time for one sdist."""
_STREAMS_LIMIT = 10_000
_DICTIONARY_LIMIT = 80 * 2**20
"""Bytes that unpacking xz may take: what ``xz -9`` needs, and a little more."""

_DECODERS: dict[str, Callable[[], Any]] = {
    ".tar.gz": lambda: zlib.decompressobj(31),
    ".tgz": lambda: zlib.decompressobj(31),
    ".tar.bz2": bz2.BZ2Decompressor,
    ".tar.xz": lambda: lzma.LZMADecompressor(memlimit=_DICTIONARY_LIMIT),
}
_PAX_KINDS = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
_PAX_RECORD = re.compile(rb"([0-9]{1,7}) [^=\n]{1,255}=")
_MANY_DIGITS = re.compile(rb"[0-9]{1000}")


class LookedEnough(Invalid):
    """A bound on what is looked through is reached."""


def members(tape: Tape) -> Iterator[tarfile.TarInfo]:
    """The members in their order; the tape then stands at the data, which may be taken or left."""
    archive = tarfile.TarFile(fileobj=cast("BinaryIO", tape), encoding="utf-8")
    for _ in range(_MEMBERS_LIMIT):
        member = archive.next()
        if member is None:
            if tape.block.strip(b"\0"):  # to tarfile, a broken header in the middle is an end like any other
                raise Invalid("is not a readable tar archive")
            return
        if member.size < 0:
            raise Invalid("has members of negative sizes")
        archive.members.clear()  # type: ignore[attr-defined]  # where tarfile keeps every one it has seen
        yield member
        tape.allowed += 513  # one header, and one byte to see whether the data before it is there; the rest is names
    raise LookedEnough("has no PKG-INFO among its first members; put it first")


class Tape:
    """The unpacked bytes of a tar file, as a file for tarfile that only goes forward.

    Its stream mode reads in blocks of its own, so that nobody below it knows
    what for. Here the size of each read is seen before it is done: of a limit
    in all, tarfile gets what was allowed, whatever sizes headers claim.
    """

    def __init__(self, file: BinaryIO, filename: str) -> None:
        length = file.seek(0, 2)
        file.seek(0)
        self._pieces = _unpacked(file, filename)
        self._limit = max(_UNPACKED_LIMIT, min(length * _UNPACKED_RATIO, _UNPACKED_MOST))
        self._piece = b""
        self._at = self._position = 0
        self._until = time.thread_time() + _SECONDS_LIMIT
        self.allowed = _NAMES_LIMIT
        """Bytes that `read` still gives."""
        self.block = b""
        """What was read last."""

    def tell(self) -> int:
        """How many bytes were read or gone over."""
        return self._position

    def seek(self, position: int) -> None:
        """Go over bytes. Raises Invalid for a place behind, and at once for one beyond the limit."""
        self._check(position - self._position)
        for _ in self._run(position - self._position):
            pass

    def read(self, size: int) -> bytes:
        """The next bytes, fewer where the tape ends. Raises Invalid for more than are allowed."""
        if size > self.allowed:
            raise Invalid("has members with names too long")
        self.allowed -= size
        before, data = self.block, self._some(size)
        pax = len(before) == 512 and before[156:157] in _PAX_KINDS
        if pax:
            _check_pax(data)
        self.block = b"" if pax else data  # or it might look like a header itself
        return data

    def take(self, size: int) -> bytes:
        """Exactly the next bytes, allowed or not."""
        data = self._some(size)
        if len(data) < size:
            raise Invalid("ends too early")
        return data

    def wind(self) -> None:
        """Go to the end, so that checksums are verified."""
        for _ in self._run(self._limit - self._position):
            pass

    def _some(self, size: int) -> bytes:
        self._check(size)
        return b"".join(self._run(size))

    def _check(self, size: int) -> None:
        if size < 0:
            raise Invalid("has members that overlap")
        if self._position + size > self._limit or time.thread_time() > self._until:
            raise LookedEnough("has no PKG-INFO among its first files; leave large data out, or put it first")

    def _run(self, size: int) -> Iterator[bytes]:
        while size:
            if self._at == len(self._piece):
                self._piece, self._at = next(self._pieces, b""), 0
                if not self._piece:
                    return
                self._check(0)  # what is gone over takes time too
            part = self._piece[self._at : self._at + size]
            self._at += len(part)
            self._position += len(part)
            size -= len(part)
            yield part


def _check_pax(data: bytes) -> None:
    """Raise Invalid unless the records are ``LENGTH KEY=VALUE`` and a newline, LENGTH counting the whole record.

    tarfile takes any length, so that short ones make it read the same keys
    over and over; and older ones search long numbers in quadratic time.
    """
    at = 0
    while at < len(data) and data[at]:
        record = _PAX_RECORD.match(data, at)
        at += int(record[1]) if record is not None else 0
        if record is None or at <= record.end() or data[at - 1 : at] != b"\n":
            raise Invalid("has a broken pax header")
    if _MANY_DIGITS.search(data):
        raise Invalid("has a pax header with too long a number")


def _unpacked(file: BinaryIO, filename: str) -> Iterator[bytes]:
    """The unpacked bytes of a packed tar file in pieces of 64 KB at most.

    The library's file objects read the file name in a gzip header byte by
    byte, however long it is, and take the memory that an xz header claims.
    """
    start = next(make for ending, make in _DECODERS.items() if filename.endswith(ending))
    decoder, streams, data = start(), 1, file.read(_CHUNK)
    while True:
        # zlib hands back what it has not taken; the others keep it.
        piece = decoder.decompress(getattr(decoder, "unconsumed_tail", b"") + data, _CHUNK)
        if piece:
            yield piece
        data = b""
        if decoder.eof:
            data = decoder.unused_data.lstrip(b"\0")
            while not data and (more := file.read(_CHUNK)):
                data = more.lstrip(b"\0")
            if not data:
                return
            decoder, streams = start(), streams + 1
            if streams > _STREAMS_LIMIT:
                raise Invalid("is packed in too many parts")
        elif len(piece) < _CHUNK:
            data = file.read(_CHUNK)
            if not data:
                raise Invalid("ends too early")
