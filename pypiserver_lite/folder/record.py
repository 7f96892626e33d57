"""The file of names once had: a log with a name in each line, and what its lines say one after the other.

``-NAME`` releases a name, and ``-*`` all of those before it: the operator says
that the folders are meant to be as they are. The file is only ever appended
to, so that it may be shared by processes and read by its new lines alone.
``*DIGEST`` stands for a folder that had files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from packaging.utils import NormalizedName

from .. import disk

HEAD = b"# Names that this index has or had; nobody else is asked for them. See: pypiserver-lite names --help\n"
ALL = "-*"
_LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789-*\n"


def sign(root: str) -> NormalizedName:
    """What stands for a folder among the names."""
    return NormalizedName(f"*{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}")


def unsigned(names: Iterable[str]) -> set[NormalizedName]:
    """The names that lines release."""
    return {NormalizedName(name[1:]) for name in names}


def steps(lines: Iterable[str]) -> Iterator[tuple[bool, set[NormalizedName]]]:
    """What the lines say, one after the other: whether names are released, and which; many at once, for they may be."""
    for signed, group in groupby(lines, lambda line: line[0] == "-"):
        yield signed, set(map(NormalizedName, group))


class Place(NamedTuple):
    """How far a file was read, and what told then whether it changes."""

    stamp: tuple[int, ...]
    end: int

    @property
    def file(self) -> tuple[int, ...]:
        """Which file it is, whatever is in it."""
        return self.stamp[:2]


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read(path: Path, known: Place | None, *, tail: bool) -> tuple[list[str], Place, int] | None:
    """The lines of a file, to where they were read, and from where; ``None`` if nothing changed since it was `known`.

    With `tail`, only those after `known` if it is the same file. Raises OSError, and ValueError for damage.
    """
    if known is not None and _stamp(os.lstat(path)) == known.stamp:
        return None
    with open(os.open(path, disk.READ), "rb") as file:
        status = os.fstat(file.fileno())
        grown = known is not None and known.file == _stamp(status)[:2] and status.st_size > known.end
        start = known.end if known is not None and tail and grown else 0
        file.seek(start)
        data = file.read()
    # What follows the last line end is being written, or was when the machine stopped.
    data = data[: data.rfind(b"\n") + 1]
    head = 0 if start else data.find(b"\n") + 1
    if (not start and data[:1] != b"#") or b"\n\n" in data or data[head:].translate(None, _LETTERS):
        raise ValueError("is damaged")
    return data[head:].decode("ascii").splitlines(), Place(_stamp(status), start + len(data)), start


def create(path: Path, head: bytes, lines: Iterable[str]) -> None:
    """Make a file, whole and durable. Raises OSError, FileExistsError if it is there."""
    with disk.staged(path.parent, [head, _text(lines)]) as staged:
        disk.place(staged.path, path, overwrite=False)
    disk.sync_folder(path.parent)


def extend(path: Path, end: int, lines: Iterable[str]) -> None:
    """Add durable lines to those that end at `end`, all or none. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    try:
        os.ftruncate(handle, end)  # a crash may have left part of a line
        try:
            view = memoryview(_text(lines))
            while view:
                view = view[os.write(handle, view) :]
            os.fsync(handle)
        except BaseException:
            os.ftruncate(handle, end)
            raise
    finally:
        os.close(handle)


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("ascii")
