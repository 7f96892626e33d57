"""The core metadata inside archives, read within fixed bounds.

Archives come from strangers, and a hostile file of a few kilobytes can ask for
all memory and time. tarfile reads sdists, over a file that gives it no more
than is meant. The directory of a zip is walked by hand: zipfile builds an
object for every member, which took 38 MB for 60,000 of them.
"""

from __future__ import annotations

import bz2
import errno
import lzma
import re
import struct
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from packaging.utils import NormalizedName

from .dists import Parsed, parse_filename, try_normalize
from .errors import Invalid

METADATA_LIMIT = 8 * 2**20
"""Bytes of the longest METADATA or PKG-INFO that is read."""

_CHUNK = 2**16


def core_metadata(file: str | Path | BinaryIO, filename: str) -> bytes | None:
    """The METADATA of a wheel or the PKG-INFO of an sdist, byte for byte; ``None`` if there is none to be had.

    A broken, hostile or odd archive is ``None``; a disk that fails is an OSError.
    """
    parsed = parse_filename(filename)
    if parsed is None:
        return None
    try:
        return _read(file, parsed, whole=False)
    except Invalid:
        return None


def check_archive(file: str | Path | BinaryIO, parsed: Parsed) -> bytes:
    """The core metadata of an archive that is fit for upload; raises Invalid saying what is wrong with it.

    A wheel is a zip with one ``NAME-VERSION.dist-info`` holding METADATA and
    WHEEL (PEP 427); an sdist is an archive with one top folder holding
    PKG-INFO (PEP 625), unpacked to its end as far as the bounds allow.
    Raises OSError when the disk fails.
    """
    return _read(file, parsed, whole=True)


def _read(file: str | Path | BinaryIO, parsed: Parsed, *, whole: bool) -> bytes:
    if isinstance(file, (str, Path)):
        with Path(file).open("rb") as opened:
            return _read(opened, parsed, whole=whole)
    try:
        if parsed.kind == "wheel":
            return _wheel_metadata(file, parsed.project, whole=whole)
        if parsed.filename.endswith(".zip"):
            return _zip_sdist_metadata(file)
        if parsed.kind == "sdist":
            return _tar_sdist_metadata(file, parsed.filename, whole=whole)
    except Invalid as error:
        raise Invalid(f"{parsed.filename[:100]!r} {error}; build it again") from error
    except OSError as error:
        # The decoders and a seek to a nonsensical place raise OSError too, but only these two kinds.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise Invalid(f"{parsed.filename[:100]!r} is not a readable archive; build it again") from error
    except Exception as error:  # zlib, lzma and struct each have errors of their own
        raise Invalid(f"{parsed.filename[:100]!r} is not a readable archive; build it again") from error
    raise Invalid(f"{parsed.filename[:100]!r} is an egg; upload a wheel")


# --- zip -----------------------------------------------------------------------------------------------------------

_DIRECTORY_LIMIT = 32 * 2**20
"""Bytes of the longest central directory that is walked: some 300,000 usual members."""
_DIST_INFO = re.compile(rb"([^/]+)\.dist-info/(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Zipped:
    """One member as the central directory has it: its name, fixed part and extra fields, what to add to offsets."""

    name: bytes
    head: bytes
    extra: bytes
    shift: int
    end: int
    """Where the directory begins, before which all content lies."""


def _zip_members(file: BinaryIO) -> Iterator[_Zipped]:
    """The members of a zip in the order of its central directory, which lies where Python's zipfile looks for it.

    The file must not be read elsewhere until the iteration ends.
    """
    length = file.seek(0, 2)
    tail_at = max(0, length - 22 - 0xFFFF)
    file.seek(tail_at)
    tail = file.read(22 + 0xFFFF)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:
        raise Invalid("is not a zip archive")
    size, offset = struct.unpack_from("<2L", tail, at + 12)
    end = tail_at + at
    if at >= 76 and tail[at - 20 : at - 16] == b"PK\6\7" and tail[at - 76 : at - 72] == b"PK\6\6":
        size, offset = struct.unpack_from("<2Q", tail, at - 76 + 40)
        end -= 76
    # Bytes before the archive (a launcher) move everything by as much.
    shift = end - size - offset
    if size > _DIRECTORY_LIMIT or shift < 0:
        raise Invalid("has a broken or too long zip directory")
    begin = file.seek(end - size)
    while size > 0:
        head = file.read(46)
        if len(head) < 46 or head[:4] != b"PK\1\2":
            raise Invalid("has a broken zip directory")
        name, extra, comment = struct.unpack_from("<3H", head, 28)
        rest = file.read(name + extra + comment)
        size -= 46 + name + extra + comment
        if size < 0:
            raise Invalid("has a broken zip directory")
        yield _Zipped(rest[:name], head, rest[name : name + extra], shift, begin)


def _unzip(file: BinaryIO, member: _Zipped) -> bytes:
    """The content of one member, METADATA_LIMIT bytes at most, its checksum verified."""
    flags, method = struct.unpack_from("<2H", member.head, 8)
    crc, *numbers = struct.unpack_from("<3L", member.head, 16)
    numbers.append(struct.unpack_from("<L", member.head, 42)[0])
    packed, size, offset = _zip64(numbers, member.extra)
    if flags & 1 or method not in (0, 8):
        raise Invalid("has metadata that is encrypted or packed in an unusual way")
    if max(packed, size) > METADATA_LIMIT:
        raise Invalid("has metadata that is too long")
    file.seek(offset + member.shift)
    local = file.read(30)
    if len(local) < 30 or local[:4] != b"PK\3\4":
        raise Invalid("has a broken zip member")
    if file.seek(sum(struct.unpack_from("<2H", local, 26)), 1) + packed > member.end:
        raise Invalid("has a zip member that overlaps its directory")
    data = file.read(packed)
    if method == 8:
        inflate = zlib.decompressobj(-15)
        data = inflate.decompress(data, size + 1)
    if len(data) != size or zlib.crc32(data) != crc:
        raise Invalid("has damaged metadata")
    return data


def _zip64(numbers: list[int], extra: bytes) -> list[int]:
    """Packed size, size and offset, of which those that need 64 bits stand in the extra field 1, the size first."""
    if 0xFFFFFFFF not in numbers:
        return numbers
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            large = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            size, packed, offset = (
                next(large) if number == 0xFFFFFFFF else number for number in (numbers[1], numbers[0], numbers[2])
            )
            return [packed, size, offset]
        at += 4 + length
    return numbers


def _wheel_metadata(file: BinaryIO, project: NormalizedName, *, whole: bool) -> bytes:
    found: dict[bytes, _Zipped] = {}
    folders: set[bytes] = set()
    for member in _zip_members(file):
        match = _DIST_INFO.fullmatch(member.name)
        # Two folders are enough to refuse, so many cannot pile up.
        if match is None or len(folders) > 1:
            continue
        if try_normalize(_folder_name(match[1])) != project:
            if whole:
                raise Invalid("has a second .dist-info folder, of another project, and installers would refuse it")
            continue
        folders.add(match[1])
        if match[2] in (b"METADATA", b"WHEEL"):
            if match[2] in found:
                raise Invalid(f"has {match[2].decode()} twice")
            found[match[2]] = member
    if len(folders) != 1 or b"METADATA" not in found:
        raise Invalid(f"has not just one folder {project.replace('-', '_')}-VERSION.dist-info with METADATA in it")
    if whole:
        if b"WHEEL" not in found:
            raise Invalid("has no WHEEL file beside METADATA")
        _unzip(file, found[b"WHEEL"])
    return _unzip(file, found[b"METADATA"])


def _folder_name(stem: bytes) -> str:
    return stem.decode("utf-8", "replace").rpartition("-")[0]


def _zip_sdist_metadata(file: BinaryIO) -> bytes:
    tops = _Tops()
    found: _Zipped | None = None
    for member in _zip_members(file):
        name = member.name.decode("utf-8", "surrogateescape")
        if tops.is_metadata(name, folder=name.endswith("/")):
            if found is not None:
                raise Invalid("has PKG-INFO twice")
            found = member
    if found is None:
        raise Invalid("has no PKG-INFO in its top folder")
    return _unzip(file, found)


class _Tops:
    """Sees to it that all members of an sdist lie in one top folder."""

    def __init__(self) -> None:
        self._top: str | None = None

    def is_metadata(self, name: str, *, folder: bool) -> bool:
        """Whether this is the sdist's PKG-INFO. Raises Invalid for a member outside the one top folder."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise Invalid("has a member that leads outside")
        if not parts and folder:
            return False
        if not parts or (len(parts) == 1 and not folder) or self._top not in (None, parts[0]):
            raise Invalid("has more than one top folder, or files beside it")
        self._top = parts[0]
        return not folder and parts[1:] == ["PKG-INFO"]


# --- tar -----------------------------------------------------------------------------------------------------------

_UNPACKED_LIMIT = 64 * 2**20
"""Unpacked bytes of an sdist that are looked through; more for a large one, which has cost its sender more."""
_UNPACKED_RATIO, _UNPACKED_MOST = 8, 2**30
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


class _LookedEnough(Invalid):
    """A bound on what is looked through is reached."""


def _tar_sdist_metadata(file: BinaryIO, filename: str, *, whole: bool) -> bytes:
    length = file.seek(0, 2)
    file.seek(0)
    tape = _Tape(_unpacked(file, filename), max(_UNPACKED_LIMIT, min(length * _UNPACKED_RATIO, _UNPACKED_MOST)))
    tops = _Tops()
    found: bytes | None = None
    try:
        for member in _tar_members(tape):
            if tops.is_metadata(member.name, folder=not member.isreg()):
                if found is not None:
                    raise Invalid("has PKG-INFO twice")
                if member.size > METADATA_LIMIT or member.issparse():
                    raise Invalid("has metadata that is too long, or has holes")
                found = tape.take(member.size)
                if not whole:
                    return found
        tape.wind()
    except _LookedEnough:
        if found is None:
            raise
    if found is None:
        raise Invalid("has no PKG-INFO in its top folder")
    return found


def _tar_members(tape: _Tape) -> Iterator[tarfile.TarInfo]:
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
    raise _LookedEnough("has no PKG-INFO among its first members; put it first")


class _Tape:
    """Bytes that come in pieces, as a file for tarfile that only goes forward.

    Its stream mode reads in blocks of its own, so that nobody below it knows
    what for. Here the size of each read is seen before it is done: of `limit`
    bytes in all, tarfile gets what was allowed, whatever sizes headers claim.
    """

    def __init__(self, pieces: Iterator[bytes], limit: int) -> None:
        self._pieces, self._limit = pieces, limit
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
            raise _LookedEnough("has no PKG-INFO among its first files; put it first")

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
