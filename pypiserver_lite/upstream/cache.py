"""What came from upstreams, kept on disk within a bound, shared by any number of processes.

Layout under the root: ``KIND/aa/KEY``, where every key is a digest that we
made, and ``tmp/`` for what is being written: ``KIND-KEY.half`` if it is gone
on with after a crash or restart, ``KIND-KEY.part`` if not. Small entries (pages, metadata)
carry a checksum, files are checked before they get their name. So a torn or
foreign file is never taken for the real one, and anything here may be deleted
at any time: that costs speed only.

The access time of an entry says when it was last used (set by ourselves, so
it works on file systems mounted without access times, and survives a
restart). When the bound is passed, the least recently used goes first.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from .. import disk
from ..model import FileState
from . import growing
from .growing import Followed, Growing
from .room import KEY, EntryKind, Room

_TOUCH = 5.0  # seconds


class Cache(Room):
    """The store in the folder `root`, holding about `limit` bytes; what a disk cannot take is not kept."""

    def get(self, kind: EntryKind, key: str) -> bytes | None:
        """The bytes of a small entry, if it is here and whole."""
        path = self._path(kind, key)
        try:
            data = path.read_bytes()
            self._touch(path, path.stat())
        except OSError:
            return None
        digest, _, payload = data.partition(b"\n")
        if digest.decode("ascii", "replace") != hashlib.sha256(payload).hexdigest():
            self.drop(kind, key)
            return None
        return payload

    def put(self, kind: EntryKind, key: str, data: bytes) -> None:
        """Keep a small entry, replacing the one that was there."""
        record = hashlib.sha256(data).hexdigest().encode() + b"\n" + data
        path = self._path(kind, key)
        try:
            disk.make_folder(path.parent)
            with disk.Staged(self.partial()) as staged:
                staged.write(record)
                os.utime(staged.path, (self._clock(),) * 2)
                if os.name == "nt":  # where an open file cannot be renamed
                    staged.commit()
                # Not synced: the checksum tells what a crash of the machine tore, and then it is fetched again.
                disk.place(staged.path, path, overwrite=True)
        except OSError as error:
            self.failed(error)
            return
        self.account(len(record))

    def stamp(self, kind: EntryKind, key: str) -> float | None:
        """When an entry was put or renewed, in seconds since 1970."""
        try:
            return self._path(kind, key).stat().st_mtime
        except OSError:
            return None

    def renew(self, kind: EntryKind, key: str) -> None:
        """An entry was found to be still right: it counts as put now."""
        try:
            os.utime(self._path(kind, key), (self._clock(),) * 2)
        except FileNotFoundError:
            return
        except OSError as error:
            self.failed(error)

    def drop(self, kind: EntryKind, key: str) -> None:
        """Forget an entry."""
        try:
            self._path(kind, key).unlink(missing_ok=True)
        except OSError as error:
            self.failed(error)

    def find(self, kind: EntryKind, key: str, size: int | None = None) -> FileState | None:
        """A whole, checked file as it lies here, if it does and has this `size`."""
        path = self._place(kind, key)
        try:
            facts = os.stat(path)
        except OSError:
            return None
        if size is not None and facts.st_size != size:
            return None
        self._touch(path, facts)
        return FileState.of(path, facts)

    def begin(
        self, kind: EntryKind, key: str, expected: int | None, *, resumable: bool = False, alone: bool = False
    ) -> Growing | Followed:
        """A file to fill that others can read meanwhile, or the one that another process is filling, unless `alone`.

        If `resumable`, it has what a dead process left of it (`Growing.size`): for
        those who know how long it will be, and can tell at the end whether it is right.

        Raises OSError if the disk refuses, or if `expected` bytes are more
        than the cache or the disk can hold, also with all that this process
        is filling already.
        """
        return growing.begin(self, f"{kind}-{key}", self._path(kind, key), expected or 0, resumable, alone)

    def _place(self, kind: EntryKind, key: str) -> str:
        if KEY.fullmatch(key) is None:
            raise ValueError("a key is a sha256 in hex")
        return os.path.join(self.root, kind, key[:2], key)

    def _path(self, kind: EntryKind, key: str) -> Path:
        return Path(self._place(kind, key))

    def _touch(self, path: Path | str, facts: os.stat_result) -> None:
        now = self._clock()
        if abs(now - facts.st_atime) > _TOUCH:
            try:
                # The modification time stays: validators are made of it.
                os.utime(path, ns=(int(now * 1e9), facts.st_mtime_ns))
            except OSError as error:
                self.failed(error)
