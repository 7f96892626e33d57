"""The room that a cache takes on disk: what lies in it, what is being written, and the bound for both together."""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import disk
from ..errors import Busy
from ..kept import start

EntryKind = Literal["files", "pages", "metadata"]
"""Files; pages of projects; core metadata, each by its file's key."""

KINDS: tuple[EntryKind, ...] = ("files", "pages", "metadata")
KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)
PART, HALF = ".part", ".half"
"""How the name of a file ends that is being written, and of one that is gone on with after a crash or restart."""
STEP = 16 * 2**20
"""Bytes that a growing file gets between two looks at the disk."""

_ROOM_TO_LEAVE = 64 * 2**20
_HALF_AGE = 7 * 86400.0  # seconds
_PAUSE = 60.0  # seconds
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What lies in a cache; sizes in bytes."""

    limit: int | None
    kinds: dict[str, tuple[int, int]]
    """Kind → number of entries, and their bytes."""

    @property
    def entries(self) -> int:
        """Of all kinds."""
        return sum(count for count, _ in self.kinds.values())

    @property
    def size(self) -> int:
        """Of all kinds."""
        return sum(size for _, size in self.kinds.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was removed; the size in bytes."""

    size: int = 0
    entries: int = 0


class Room:
    """The folder `root`, which is made if need be, with about `limit` bytes in it (``None``: no bound).

    What is being written counts too. The bound is kept by whoever adds: it may
    be passed by a twentieth per process before that is noticed, and is then
    cut to nine tenths, in a thread. A file that goes may still be read by
    those who have it open. A disk that fails or is full is logged, once.
    `clock` tells seconds since 1970, `free` the bytes that the disk has left.
    """

    def __init__(
        self,
        root: Path,
        limit: int | None = None,
        *,
        clock: Callable[[], float] = time.time,
        free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self._given = self.root = root
        self.limit = limit
        self._clock, self._free = clock, free
        self._lock = threading.Lock()
        self._step = max(limit // 20, 1) if limit is not None else None
        self._added = self._reserved = 0
        self._refused: tuple[OSError | None, float] = None, 0.0
        self._warned = False
        try:
            self.partial()
            self.root = root.resolve()
            self._sweep()
        except OSError as error:
            self.failed(error)

    def partial(self) -> Path:
        """The folder for what is being written, made again if somebody removed it. Raises OSError."""
        folder = self.root / "tmp"
        if not folder.is_dir():
            # What is cached may be private to those with credentials; only the last folder is certainly ours.
            disk.make_folder(self.root, 0o700)
            disk.make_folder(folder)
        return folder

    def failed(self, error: OSError) -> None:
        """The disk does not do what is asked of it."""
        if not self._warned:
            self._warned = True
            _log.warning("the cache folder %s cannot be used fully: %s", self._given, error.strerror or error)

    def usage(self) -> Usage:
        """What lies here now, counted on disk."""
        kinds: dict[str, tuple[int, int]] = {}
        for kind in KINDS:
            sizes = [size for _, size, _ in self._entries(kind)]
            kinds[kind] = len(sizes), sum(sizes)
        return Usage(limit=self.limit, kinds=kinds)

    def reserve(self, size: int) -> None:
        """Of the bound, take `size` more bytes for a file that is being filled, until `release`.

        Raises OSError if all of them together were larger than the cache may be.
        """
        with self._lock:
            if self.limit is not None and self._reserved + size > self.limit:
                others = " together with others on their way" if size <= self.limit and self._reserved else ""
                raise OSError(errno.EFBIG, f"it is larger than --cache-size, {self.limit} bytes{others}")
            self._reserved += size

    def release(self, size: int) -> None:
        """Such a file is filled, or given up."""
        with self._lock:
            self._reserved -= size

    def announce(self, size: int) -> None:
        """A file of so many bytes shall come. Raises OSError if the disk cannot, or refused another just now."""
        refused, since = self._refused
        if refused is not None and abs(self._clock() - since) < _PAUSE:
            raise OSError(refused.errno, refused.strerror)
        # Little gives way to what is merely announced, but what never can come need not begin.
        self.make_room(min(size, STEP))
        short = self._short(size)
        if short > 0 and short > self.usage().size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def make_room(self, size: int) -> None:
        """Let the least recently used give way to `size` more bytes. Raises OSError if the disk stays too full."""
        short = self._short(size)
        if short > 0 and not (self._give(short) and self._short(size) <= 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def make_way(self, error: OSError, size: int) -> bool:
        """The same where the disk refuses `size` bytes that it seems to have (a quota); whether so many could go."""
        return error.errno in (errno.ENOSPC, errno.EDQUOT) and self._give(size)

    def pause(self, error: OSError) -> None:
        """The disk refuses what it seems to have room for: no file is begun for a while."""
        self._refused = error, self._clock()

    def _give(self, size: int) -> bool:
        """Let the least recently used go until `size` bytes have. Where all is less, none goes: false."""
        here, written = self.usage().size, list(self._written())
        halves = sum(length for _, length, path in written if path.endswith(HALF) and _is_abandoned(path))
        if here + halves < size:
            return False
        self.trim(here + sum(length for _, length, _ in written) - size)
        return True

    def _short(self, size: int) -> int:
        """Bytes that the disk has too few for `size` more; some are left to others."""
        return size + _ROOM_TO_LEAVE - self._free(self.partial())

    def account(self, size: int) -> None:
        """So many bytes were added. When they are many, the least recently used gives way, in a thread."""
        if self._step is None:
            return
        with self._lock:
            self._added += size
            if self._added < self._step:
                return
            self._added = 0
        try:
            start("trim", self._keep_bound)
        except Busy:
            self._keep_bound()  # it has to be done, if by whoever is here

    def keep_bound(self) -> None:
        """Look whether there is more than the bound allows, in a thread: it may have been another before."""
        if any(os.path.isdir(self.root / kind) for kind in KINDS):  # of a folder of somebody else's, none
            self.account(self._step or 0)

    def _keep_bound(self) -> None:
        limit = self.limit or 0
        freed = self.trim(limit * 9 // 10, limit)
        if freed.entries:
            _log.info("removed %d entries with %d bytes from the cache", freed.entries, freed.size)

    def trim(self, size: int, most: int | None = None) -> Freed:
        """Remove the least recently used until no more than `size` bytes are left, with what is being written.

        Only if there are more than `most` bytes; and of these a file that is larger than the rest of the way stays.
        """
        most, freed, removed = size if most is None else most, 0, 0
        try:
            with disk.exclusive(self.partial()):
                written, kept = list(self._written()), list(self._entries(*KINDS))
                total = sum(length for _, length, _ in written + kept)
                if total <= most:
                    return Freed()
                for _, length, path in sorted(kept + [entry for entry in written if entry[2].endswith(HALF)]):
                    left = total - freed
                    if left <= size or (left <= most and length > most - size):
                        break
                    try:
                        if not path.endswith(HALF):
                            Path(path).unlink(missing_ok=True)
                        elif not _is_abandoned(path, remove=True):
                            continue
                    except PermissionError as error:  # on Windows, because somebody reads it
                        self.failed(error)
                        continue
                    freed += length
                    removed += 1
        except Busy:
            return Freed()  # another process is at it
        except OSError as error:
            self.failed(error)
        return Freed(size=freed, entries=removed)

    def clear(self) -> Freed:
        """Remove everything but what is being written."""
        return self.trim(0)

    def _entries(self, *kinds: str) -> Iterator[tuple[float, int, str]]:
        """Last use, size and path of every entry."""
        for kind in kinds:
            for shard, _ in _listed(self.root / kind):
                for entry, facts in _listed(shard.path):
                    if KEY.fullmatch(entry.name):
                        yield max(facts.st_atime, facts.st_mtime), facts.st_size, entry.path

    def _written(self) -> Iterator[tuple[float, int, str]]:
        """Last change, size and path of every file that is being written, or was."""
        for entry, facts in _listed(self.root / "tmp"):
            yield facts.st_mtime, facts.st_size, entry.path

    def _sweep(self) -> None:
        """Remove what dead processes left half written, unless it can be gone on with."""
        disk.sweep(self.root / "tmp")
        patience = {PART: -math.inf if disk.LOCKS else 3600.0, HALF: _HALF_AGE}
        for changed, _, path in self._written():
            if time.time() - changed > patience.get(os.path.splitext(path)[1], math.inf):
                _is_abandoned(path, remove=True)


def _is_abandoned(path: str, *, remove: bool = False) -> bool:
    """Whether nobody writes a half written file any more; then it may be removed at once."""
    try:
        handle = os.open(path, disk.READ)
    except FileNotFoundError:
        return True
    try:
        if disk.try_lock(handle) is False:
            return False
        if remove:
            Path(path).unlink(missing_ok=True)
        return True
    finally:
        os.close(handle)


def _listed(folder: Path | str) -> list[tuple[os.DirEntry[str], os.stat_result]]:
    """What lies in a folder, but for what goes in this moment."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    found.append((entry, entry.stat(follow_symlinks=False)))
                except OSError:
                    continue
    except OSError:
        return found
    return found
