"""Files of the cache that are being filled, by this process or by another; a lock tells that somebody is at it."""

from __future__ import annotations

import logging
import os
import secrets
import time
import weakref
from pathlib import Path

from .. import disk
from ..errors import NoSpace
from .room import HALF, PART, STEP, Room

POLL = 0.02
"""Seconds between two looks at what another process does."""
_CREATE = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_log = logging.getLogger(__name__)


class Opened:
    """A file that lies in the cache, or will. Reading needs no name on disk: it works after any of them is gone."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        # Readers may outlive the download; the last one to let go closes the file.
        weakref.finalize(self, os.close, handle)

    def read(self, size: int, at: int) -> bytes:
        """Up to `size` bytes from position `at`."""
        return disk.read_at(self._handle, size, at)


class Followed(Opened):
    """A file that another process fills at `path`, to be called `final`."""

    def __init__(self, handle: int, path: Path, final: Path) -> None:
        super().__init__(handle)
        self._path, self._final = path, final

    def state(self) -> tuple[int, bool | None]:
        """How many bytes are there, and whether that is all: true: whole and checked, ``None``: it will never be."""
        # In this order: it has its name before it is let go of, and all its bytes before it has its name.
        filled = _is(self._path, self._handle) and not self._abandoned()
        whole = _is(self._final, self._handle)
        size = os.fstat(self._handle).st_size
        return (size, True) if whole else (size, False if filled else None)

    def begins(self, patience: float) -> bool:
        """Whether its first byte comes within so many seconds."""
        deadline = time.monotonic() + patience
        while True:
            size, whole = self.state()
            if size or whole is None or time.monotonic() > deadline:
                return size > 0 and whole is not None
            time.sleep(POLL)

    def _abandoned(self) -> bool:
        """Whether nobody fills it any more: its writer holds a lock for as long as it lives."""
        if disk.try_lock(self._handle) is False:
            return False
        disk.unlock(self._handle)
        return True


class Growing(Opened):
    """A file that this process fills at `path`, to be called `final`; `size` bytes are here."""

    def __init__(self, handle: int, path: Path, final: Path, room: Room, size: int) -> None:
        super().__init__(handle)
        self._path, self._final, self._room = path, final, room
        self.size = self._allowed = size
        self._reserved = 0
        self._ended = False

    def reserve(self, size: int) -> None:
        """It will have so many bytes. Raises OSError if the cache may not have them, with others on their way."""
        if size > self._reserved:
            self._room.reserve(size - self._reserved)
            self._reserved = size

    def expect(self, size: int) -> None:
        """It will have so many bytes. Raises OSError if the cache or the disk cannot hold them."""
        self.reserve(size)
        self._room.announce(size)

    def write(self, data: bytes) -> None:
        """Append bytes. Raises OSError when the disk refuses, NoSpace for a file that is larger than a cache may be."""
        self.size += len(data)
        try:
            self.reserve(self.size)
        except OSError as error:
            raise NoSpace(f"a file of the upstream cannot be taken: {error.strerror}") from error
        if self.size > self._allowed:
            self._room.make_room(len(data))
            self._allowed = self.size + STEP
        view, asked = memoryview(data), False
        while view:
            try:
                view = view[os.write(self._handle, view) :]
            except OSError as error:
                # Now that it has to be, there is a place for all that is known to come.
                if asked or not self._room.make_way(error, self._reserved - self.size + len(view)):
                    self._room.pause(error)
                    raise
                asked = True
        self._room.account(len(data))  # now that it lies there, and is counted with the rest

    def publish(self) -> None:
        """The file is whole and checked: keep it, if the disk does."""
        try:
            os.fsync(self._handle)
            disk.make_folder(self._final.parent)
            if os.name == "nt":  # where an open file cannot be renamed
                with disk.copy(self._path, self._room.partial()) as staged:
                    disk.place(staged.path, self._final, overwrite=True)
            elif _is(self._path, self._handle):  # somebody may have emptied the cache, and another begun anew
                # The name is not synced: a crash of the machine may take it back, and that costs a download.
                disk.place(self._path, self._final, overwrite=True)
                if not _is(self._final, self._handle):  # that was in this very moment
                    self._final.unlink(missing_ok=True)
        except OSError as error:
            self._room.failed(error)
        self.discard()

    def discard(self, *, keep: bool = False) -> None:
        """Remove the name under which it was being filled, unless to `keep` what is resumable; let others fill it."""
        if self._ended:
            return
        self._ended = True
        self._room.release(self._reserved)
        try:
            if not (keep and self.size and self._path.suffix == HALF) and _is(self._path, self._handle):
                self._path.unlink(missing_ok=True)
        except OSError:
            _log.debug("a partial file stays until the next start")
        disk.unlock(self._handle)


def begin(
    room: Room, name: str, final: Path, expected: int, resumable: bool, alone: bool = False
) -> Growing | Followed:
    """A file to fill, with what a dead process left of it if that is `resumable`; or the one that another fills.

    If `alone`, none of this matters. Raises OSError if the disk refuses, or if `expected` bytes are more than the cache
    or the disk can hold.
    """
    alone = alone or not disk.LOCKS
    resumable = resumable and not alone
    unique = f"-{os.getpid()}-{secrets.token_hex(4)}" if alone else ""
    path = room.partial() / f"{name}{unique}{HALF if resumable else PART}"
    while True:
        handle = os.open(path, _CREATE, 0o666)
        if disk.try_lock(handle) is False:
            return Followed(handle, path, final)
        here = os.fstat(handle).st_size
        if _is(path, handle):  # not one that another process has finished in this moment
            if not here or (resumable and here < expected):
                disk.give(handle, like=path.parent)
                break
            path.unlink(missing_ok=True)  # whoever still reads it goes on
        os.close(handle)
    os.lseek(handle, here, os.SEEK_SET)
    growing = Growing(handle, path, final, room, here)
    try:
        growing.expect(expected)
    except BaseException:
        growing.discard(keep=True)
        raise
    return growing


def _is(path: Path, handle: int) -> bool:
    """Whether a path names the open file."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except OSError:
        return False
