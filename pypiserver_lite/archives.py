"""The core metadata inside archives, read within fixed bounds.

Archives are walked by hand rather than with zipfile and tarfile: those build
an object for every member and believe the sizes that headers claim, so a
hostile file of a few kilobytes can take all memory. Here memory stays within
a few megabytes, whatever comes.
"""

from __future__ import annotations

import bz2
import errno
import lzma
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

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
    """One member as the central directory has it: its fixed part, its name and extra fields, what to add to offsets."""

    name: bytes
    head: bytes
    extra: bytes
    shift: int


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
    file.seek(end - size)
    while size > 0:
        head = file.read(46)
        if len(head) < 46 or head[:4] != b"PK\1\2":
            raise Invalid("has a broken zip directory")
        name, extra, comment = struct.unpack_from("<3H", head, 28)
        rest = file.read(name + extra + comment)
        size -= 46 + name + extra + comment
        yield _Zipped(rest[:name], head, rest[name : name + extra], shift)


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
    file.seek(sum(struct.unpack_from("<2H", local, 26)), 1)
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
        if match is None or len(folders) > 1 or try_normalize(_folder_name(match[1])) != project:
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
        if tops.is_metadata(member.name, folder=member.name.endswith(b"/")):
            if found is not None:
                raise Invalid("has PKG-INFO twice")
            found = member
    if found is None:
        raise Invalid("has no PKG-INFO in its top folder")
    return _unzip(file, found)


class _Tops:
    """Sees to it that all members of an sdist lie in one top folder."""

    def __init__(self) -> None:
        self._top: bytes | None = None

    def is_metadata(self, name: bytes, *, folder: bool) -> bool:
        """Whether this is the sdist's PKG-INFO. Raises Invalid for a member outside the one top folder."""
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if name.startswith(b"/") or b".." in parts:
            raise Invalid("has a member that leads outside")
        if not parts and folder:
            return False
        if not parts or (len(parts) == 1 and not folder) or self._top not in (None, parts[0]):
            raise Invalid("has more than one top folder, or files beside it")
        self._top = parts[0]
        return not folder and parts[1:] == [b"PKG-INFO"]


# --- tar -----------------------------------------------------------------------------------------------------------

_SCAN_LIMIT = 64 * 2**20
"""Inflated bytes of an sdist that are looked through; more for a large one, which has cost its sender more."""
_SCAN_RATIO, _SCAN_MOST = 8, 2**30
_MEMBERS_LIMIT = 200_000
_LONG_NAME_LIMIT = 2**16
_STREAMS_LIMIT = 10_000


_REGULAR = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")


class _ScannedEnough(Invalid):
    """The bound on inflated bytes is reached."""


def _tar_sdist_metadata(file: BinaryIO, filename: str, *, whole: bool) -> bytes:
    length = file.seek(0, 2)
    file.seek(0)
    tape = _Tape(_inflated(file, filename), max(_SCAN_LIMIT, min(length * _SCAN_RATIO, _SCAN_MOST)))
    tops = _Tops()
    found: bytes | None = None
    try:
        for name, kind, size in _tar_members(tape):
            if tops.is_metadata(name, folder=kind not in _REGULAR):
                if found is not None:
                    raise Invalid("has PKG-INFO twice")
                if size > METADATA_LIMIT:
                    raise Invalid("has metadata that is too long")
                found = tape.take(size)
                if not whole:
                    return found
    except _ScannedEnough:
        if found is None:
            raise
    if found is None:
        raise Invalid("has no PKG-INFO in its top folder")
    return found


def _tar_members(tape: _Tape) -> Iterator[tuple[bytes, bytes, int]]:
    """Name, type and size of each member; the tape then stands at its data, which may be taken or left."""
    renamed: dict[bytes, bytes] = {}
    for _ in range(_MEMBERS_LIMIT):
        block = tape.take(512, or_end=True)
        if not block.strip(b"\0"):
            return
        if 256 + sum(block) - sum(block[148:156]) != _tar_number(block[148:156]):
            raise Invalid("is not a readable tar archive")
        name, kind = block[:100].split(b"\0")[0], block[156:157]
        if block[257:263] == b"ustar\0" and block[345]:
            name = block[345:500].split(b"\0")[0] + b"/" + name
        size = _tar_number(block[124:136])
        if kind in (b"L", b"x"):
            if size > _LONG_NAME_LIMIT:
                raise Invalid("has a member with a name too long")
            data = tape.take(size)
            tape.take(-size % 512)
            renamed.update({b"path": data.split(b"\0")[0]} if kind == b"L" else _pax_fields(data))
            continue
        if kind in (b"g", b"K"):
            tape.skip(size + -size % 512)
            continue
        name = renamed.get(b"path", name)
        size = 0 if kind in _WITHOUT_DATA else int(renamed.get(b"size", size))
        renamed = {}
        end = tape.position + size + -size % 512
        yield name, kind, size
        tape.skip(end - tape.position)
    raise Invalid("has too many members")


def _tar_number(field: bytes) -> int:
    """A number of a tar header: octal digits, or binary after a byte of 0x80."""
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field.strip(b" \0") or b"0", 8)


def _pax_fields(data: bytes) -> dict[bytes, bytes]:
    """The fields of a pax header: records of ``LENGTH KEY=VALUE`` and a newline, LENGTH counting the whole record."""
    fields: dict[bytes, bytes] = {}
    while data.strip(b"\0"):
        length = int(data.partition(b" ")[0])
        key, _, value = data[:length].partition(b" ")[2].partition(b"=")
        if length < 5 or data[length - 1 : length] != b"\n":
            raise Invalid("has a broken pax header")
        fields[key] = value[:-1]
        data = data[length:]
    return fields


class _Tape:
    """Bytes that come in pieces, taken in order; `limit` of them and no more."""

    def __init__(self, pieces: Iterator[bytes], limit: int) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0
        self._left = limit
        self.position = 0

    def take(self, size: int, *, or_end: bool = False) -> bytes:
        """The next `size` bytes; with `or_end`, none at all where the tape ends. Raises Invalid when it ends sooner."""
        taken = bytearray()
        for piece in self._run(size, or_end=or_end):
            taken += piece
        return bytes(taken)

    def skip(self, size: int) -> None:
        """Go over the next `size` bytes."""
        for _ in self._run(size):
            pass

    def _run(self, size: int, *, or_end: bool = False) -> Iterator[bytes]:
        start = self.position
        while size:
            if self._at == len(self._piece):
                self._piece, self._at = next(self._pieces, b""), 0
                if not self._piece:
                    if or_end and self.position == start:
                        return
                    raise Invalid("ends too early")
                self._left -= len(self._piece)
                if self._left < 0:
                    raise _ScannedEnough("has no PKG-INFO among the first files; put it first")
            part = self._piece[self._at : self._at + size]
            self._at += len(part)
            self.position += len(part)
            size -= len(part)
            yield part


def _inflated(file: BinaryIO, filename: str) -> Iterator[bytes]:
    """The unpacked bytes of a packed tar file in pieces of 64 KB at most."""
    if filename.endswith((".tar.gz", ".tgz")):
        yield from _gunzip(file)
        return
    with bz2.BZ2File(file) if filename.endswith(".tar.bz2") else lzma.LZMAFile(file) as opened:
        while piece := opened.read(_CHUNK):
            yield piece


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    # gzip.GzipFile would read a file name in the header byte by byte, however long it is.
    inflate = zlib.decompressobj(31)
    streams = 1
    data = file.read(_CHUNK)
    while data:
        if inflate.eof:
            inflate = zlib.decompressobj(31)
            streams += 1
            if streams > _STREAMS_LIMIT:
                raise Invalid("is a gzip file of too many parts")
        if piece := inflate.decompress(data, _CHUNK):
            yield piece
        data = inflate.unused_data.lstrip(b"\0") if inflate.eof else inflate.unconsumed_tail
        data = data or file.read(_CHUNK)
    # What zlib still holds when all input is eaten is less than one of its windows.
    if piece := inflate.flush():
        yield piece
    if not inflate.eof:
        raise Invalid("is not a whole gzip file")
