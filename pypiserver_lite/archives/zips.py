"""The members of a zip, found and unpacked within fixed bounds.

The directory is walked by hand: zipfile builds an object for every member,
which took 38 MB for 60,000 of them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import Invalid

_DIRECTORY_LIMIT = 32 * 2**20
"""Bytes of the longest central directory that is walked: some 300,000 usual members."""


@dataclass(frozen=True, slots=True)
class Zipped:
    """One member as the central directory has it: its name, fixed part and extra fields, what to add to offsets."""

    name: bytes
    head: bytes
    extra: bytes
    shift: int
    end: int
    """Where the directory begins, before which all content lies."""


def members(file: BinaryIO) -> Iterator[Zipped]:
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
        yield Zipped(rest[:name], head, rest[name : name + extra], shift, begin)


def unpacked(file: BinaryIO, member: Zipped, limit: int) -> bytes:
    """The content of one member, `limit` bytes at most, its checksum verified."""
    flags, method = struct.unpack_from("<2H", member.head, 8)
    crc, *numbers = struct.unpack_from("<3L", member.head, 16)
    numbers.append(struct.unpack_from("<L", member.head, 42)[0])
    packed, size, offset = _zip64(numbers, member.extra)
    if flags & 1 or method not in (0, 8):
        raise Invalid("has metadata that is encrypted or packed in an unusual way")
    if max(packed, size) > limit:
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
