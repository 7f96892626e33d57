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

import errno
import hashlib
import logging
import math
import os
import re
import secrets
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .. import disk
from ..errors import Busy
from ..kept import start
from ..model import FileState

Kind = Literal["files", "pages", "metadata"]
"""Files; pages of projects; core metadata, each by its file's key."""

KINDS: tuple[Kind, ...] = ("files", "pages", "metadata")

_LAYOUT = "2"
"""What the keys mean. Those of the first layout did not hold apart what different projects say of one file."""
_TOUCH = 5.0
_ROOM_TO_LEAVE = 64 * 2**20
_STEP = 16 * 2**20  # bytes that a growing file gets between two looks at the disk
_PART, _HALF = ".part", ".half"
_HALF_AGE = 7 * 86400.0  # seconds
_KEY = re.compile(r"[0-9a-f]{64}", re.ASCII)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What lies in a cache; sizes in bytes."""

    size: int
    entries: int
    limit: int | None
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Kind → number of entries, and their bytes."""


def free_space(folder: Path) -> int:
    """Bytes that may still be written where a folder lies. Raises OSError."""
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was removed."""

    size: int
    entries: int


class Cache:
    """The store in the folder `root`, which is made if need be, holding about `size` bytes (``None``: no bound).

    What is being written counts too. The bound is kept by whoever adds: it may
    be passed by a twentieth per process before that is noticed, and is then
    cut to nine tenths, in a thread. A file that goes may still be read by
    those who have it open. A disk that fails or is full is logged, and then
    nothing is kept. `clock` tells seconds since 1970, `free` the room on the disk.
    """

    def __init__(
        self,
        root: Path,
        size: int | None = None,
        *,
        clock: Callable[[], float] = time.time,
        free: Callable[[Path], int] = free_space,
    ) -> None:
        self._given = root
        self.root = root
        self.limit = size
        self._clock = clock
        self._free = free
        self._lock = threading.Lock()
        self._trimmer: threading.Thread | None = None
        self._step = max(size // 20, 1) if size is not None else None
        self._added = self._reserved = 0
        self._warned = False
        try:
            self._folder("tmp")
            self.root = root.resolve()
            self._sweep()
            self._clear_old_layout()
        except OSError as error:
            self._failed(error)

    # --- small entries

    def get(self, kind: Kind, key: str) -> bytes | None:
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

    def put(self, kind: Kind, key: str, data: bytes) -> None:
        """Keep a small entry, replacing the one that was there."""
        record = hashlib.sha256(data).hexdigest().encode() + b"\n" + data
        try:
            path = self._place_for(kind, key)
            with disk.Staged(self._folder("tmp")) as staged:
                staged.write(record)
                os.utime(staged.path, (self._clock(),) * 2)
                if os.name == "nt":  # where an open file cannot be renamed
                    staged.commit()
                # Not synced: the checksum tells what a crash of the machine tore, and then it is fetched again.
                disk.place(staged.path, path, overwrite=True)
        except OSError as error:
            self._failed(error)
            return
        self.account(len(record))

    def stamp(self, kind: Kind, key: str) -> float | None:
        """When an entry was put or renewed, in seconds since 1970."""
        try:
            return self._path(kind, key).stat().st_mtime
        except OSError:
            return None

    def renew(self, kind: Kind, key: str) -> None:
        """An entry was found to be still right: it counts as put now."""
        try:
            os.utime(self._path(kind, key), (self._clock(),) * 2)
        except FileNotFoundError:
            return
        except OSError as error:
            self._failed(error)

    def drop(self, kind: Kind, key: str) -> None:
        """Forget an entry."""
        try:
            self._path(kind, key).unlink(missing_ok=True)
        except OSError as error:
            self._failed(error)

    # --- files

    def find(self, kind: Kind, key: str, size: int | None = None) -> FileState | None:
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

    def begin(self, kind: Kind, key: str, expected: int | None, *, resumable: bool = False) -> Growing | None:
        """A file to fill that others can read meanwhile; ``None`` if another process is filling it: `follow` that.

        If `resumable`, it has what a dead process left of it (`Growing.size`): for
        those who know how long it will be, and can tell at the end whether it is right.

        Raises OSError if the disk refuses, or if `expected` bytes are more
        than the cache or the disk can hold, also with all that this process
        is filling already.
        """
        folder = self._folder("tmp")
        self.reserve(expected or 0)
        try:
            growing = self._begin(folder, kind, key, expected, resumable)
        except BaseException:
            self.release(expected or 0)
            raise
        if growing is None:
            self.release(expected or 0)
        return growing

    def _begin(self, folder: Path, kind: Kind, key: str, expected: int | None, resumable: bool) -> Growing | None:
        # Little gives way to what is merely announced, but what never can come need not begin.
        self.make_room(min(expected or 0, _STEP))
        short = (expected or 0) + _ROOM_TO_LEAVE - self._free(folder)
        if short > 0 and short > self.usage().size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        suffix = f"-{os.getpid()}-{secrets.token_hex(4)}" if not disk.LOCKS else ""
        path = folder / f"{kind}-{key}{suffix}{_HALF if resumable and disk.LOCKS else _PART}"
        while True:
            handle = os.open(path, _CREATE, 0o666)
            if disk.try_lock(handle) is False:
                os.close(handle)
                return None
            if _is(path, handle):  # not one that another process has finished in this moment
                break
            os.close(handle)
        here = os.fstat(handle).st_size if path.suffix == _HALF else 0
        if here >= (expected or 0):
            here = 0
        os.ftruncate(handle, here)
        os.lseek(handle, here, os.SEEK_SET)
        return Growing(handle, path, self, kind, key, expected or 0, here)

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

    def make_room(self, size: int) -> None:
        """Let the least recently used give way to `size` more bytes. Raises OSError if the disk stays too full."""
        folder = self._folder("tmp")
        short = size + _ROOM_TO_LEAVE - self._free(folder)
        if short > 0:
            here = self.usage().size + sum(size for _, size, _ in self._written())
            self.trim(max(here - short, 0))
            if self._free(folder) < size + _ROOM_TO_LEAVE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def follow(self, kind: Kind, key: str) -> Followed | None:
        """The file that another process is filling; ``None`` if it has just ended."""
        for suffix in (_HALF, _PART):
            path = self.root / "tmp" / f"{kind}-{key}{suffix}"
            try:
                return Followed(os.open(path, disk.READ), path, self._path(kind, key))
            except OSError:
                continue
        return None

    def keep(self, kind: Kind, key: str, part: Path, handle: int) -> None:
        """Publish a filled and checked file."""
        try:
            os.fsync(handle)
            final = self._place_for(kind, key)
            if os.name == "nt":  # where an open file cannot be renamed
                with disk.copy(part, self._folder("tmp")) as staged:
                    disk.place(staged.path, final, overwrite=True)
            else:
                # The name is not synced: a crash of the machine may take it back, and that costs a download.
                disk.place(part, final, overwrite=True)
        except OSError as error:
            self._failed(error)

    # --- the whole

    def usage(self) -> Usage:
        """What lies here now, counted on disk."""
        kinds: dict[str, tuple[int, int]] = {}
        for kind in KINDS:
            entries = [size for _, size, _ in self._entries((kind,))]
            kinds[kind] = len(entries), sum(entries)
        return Usage(
            size=sum(size for _, size in kinds.values()),
            entries=sum(count for count, _ in kinds.values()),
            limit=self.limit,
            kinds=kinds,
        )

    def trim(self, size: int, most: int | None = None) -> Freed:
        """Remove the least recently used until no more than `size` bytes are left, with what is being written.

        Only if there are more than `most` bytes; and of these a file that is larger than the rest of the way stays.
        """
        most, freed, removed = size if most is None else most, 0, 0
        try:
            with disk.exclusive(self._folder("tmp")):
                written, kept = list(self._written()), list(self._entries(KINDS))
                total = sum(length for _, length, _ in written + kept)
                if total <= most:
                    return Freed(size=0, entries=0)
                for _, length, path in sorted(kept + [entry for entry in written if entry[2].endswith(_HALF)]):
                    left = total - freed
                    if left <= size or (left <= most and length > most - size):
                        break
                    try:
                        if not path.endswith(_HALF):
                            Path(path).unlink(missing_ok=True)
                        elif not _remove_abandoned(path):
                            continue
                    except PermissionError as error:  # on Windows, because somebody reads it
                        self._failed(error)
                        continue
                    freed += length
                    removed += 1
        except Busy:
            return Freed(size=0, entries=0)  # another process is at it
        except OSError as error:
            self._failed(error)
        return Freed(size=freed, entries=removed)

    def clear(self) -> Freed:
        """Remove everything but what is being written."""
        freed = removed = 0
        for _, length, path in self._entries(KINDS):
            Path(path).unlink(missing_ok=True)
            freed += length
            removed += 1
        for _, _, path in self._written():
            if path.endswith(_HALF):
                _remove_abandoned(path)
        return Freed(size=freed, entries=removed)

    # --- inside

    def _place(self, kind: Kind, key: str) -> str:
        if _KEY.fullmatch(key) is None:
            raise ValueError("a key is a sha256 in hex")
        return os.path.join(self.root, kind, key[:2], key)

    def _path(self, kind: Kind, key: str) -> Path:
        return Path(self._place(kind, key))

    def _place_for(self, kind: Kind, key: str) -> Path:
        path = self._path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _folder(self, name: str) -> Path:
        """A folder under the root, made again if somebody removed it."""
        folder = self.root / name
        if not folder.is_dir():
            # What is cached may be private to those with credentials; only the last folder is certainly ours.
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True)
        return folder

    def _touch(self, path: Path | str, facts: os.stat_result) -> None:
        now = self._clock()
        if abs(now - facts.st_atime) > _TOUCH:
            try:
                # The modification time stays: validators are made of it.
                os.utime(path, ns=(int(now * 1e9), facts.st_mtime_ns))
            except OSError as error:
                self._failed(error)

    def _entries(self, kinds: tuple[str, ...]) -> Iterator[tuple[float, int, str]]:
        """Last use, size and path of every entry."""
        for kind in kinds:
            for shard in _scan(self.root / kind):
                for entry in _scan(shard.path):
                    try:
                        facts = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue  # gone in this moment
                    if _KEY.fullmatch(entry.name):
                        yield max(facts.st_atime, facts.st_mtime), facts.st_size, entry.path

    def _written(self) -> Iterator[tuple[float, int, str]]:
        """Last change, size and path of every file that is being written, or was."""
        for entry in _scan(self.root / "tmp"):
            try:
                facts = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # done in this moment
            yield facts.st_mtime, facts.st_size, entry.path

    def keep_bound(self) -> None:
        """Look whether there is more than the bound allows, in a thread: it may have been another before."""
        self.account(self._step or 0)

    def account(self, size: int) -> None:
        """So many bytes were added. When they are many, the least recently used makes way, in a thread."""
        if self._step is None:
            return
        with self._lock:
            self._added += size
            # A thread, and no lock: none of them lives on in a forked process.
            if self._added < self._step or (self._trimmer is not None and self._trimmer.is_alive()):
                return
            try:
                self._trimmer = start("trim", self._keep_bound)
                return
            except Busy:
                self._trimmer = None
        self._keep_bound()  # it has to be done, if by whoever is here

    def _keep_bound(self) -> None:
        limit, step = self.limit or 0, self._step or 1
        while True:
            with self._lock:
                if self._added < step:
                    self._trimmer = None
                    return
                self._added = 0
            freed = self.trim(limit * 9 // 10, limit)
            if freed.entries:
                _log.info("removed %d entries with %d bytes from the cache", freed.entries, freed.size)

    def _sweep(self) -> None:
        """Remove what dead processes left half written, unless it can be gone on with."""
        disk.sweep(self.root / "tmp")
        patience = {_PART: 3600.0 if not disk.LOCKS else -math.inf, _HALF: _HALF_AGE}
        for changed, _, path in self._written():
            if time.time() - changed > patience.get(os.path.splitext(path)[1], math.inf):
                _remove_abandoned(path)

    def _clear_old_layout(self) -> None:
        """Remove what lies here under keys that nobody asks for any more."""
        mark = self.root / "layout"
        if mark.exists() and mark.read_text("ascii", "replace") == _LAYOUT:
            return
        for _, _, path in self._entries((*KINDS, "named")):
            Path(path).unlink(missing_ok=True)
        mark.write_text(_LAYOUT, "ascii")

    def _failed(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("the cache folder %s cannot be used fully: %s", self._given, error.strerror or error)


class Growing:
    """A file of the cache that is being filled. Reading needs no name on disk: it works after any of them is gone."""

    def __init__(self, handle: int, path: Path, cache: Cache, kind: Kind, key: str, reserved: int, size: int) -> None:
        self._handle = handle
        self._path = path
        self._cache = cache
        self._kind: Kind = kind
        self._key = key
        self.size = self._allowed = size
        """Bytes that are here."""
        self._reserved = reserved
        self._ended = False
        # Readers may outlive the download; the last one to let go closes the file.
        weakref.finalize(self, os.close, handle)

    def write(self, data: bytes) -> None:
        """Append bytes. Raises OSError when the disk refuses, or the file becomes larger than the cache may be."""
        self.size += len(data)
        if self.size > self._reserved:
            self._cache.reserve(self.size - self._reserved)
            self._reserved = self.size
        if self.size > self._allowed:
            self._cache.make_room(len(data))
            self._allowed = self.size + _STEP
        view = memoryview(data)
        while view:
            view = view[os.write(self._handle, view) :]
        self._cache.account(len(data))  # now that it lies there, and is counted with the rest

    def read(self, size: int, at: int) -> bytes:
        """Up to `size` bytes from position `at`."""
        return disk.read_at(self._handle, size, at)

    def publish(self) -> None:
        """The file is whole and checked: keep it."""
        self._cache.keep(self._kind, self._key, self._path, self._handle)
        self.discard()

    def discard(self, *, keep: bool = False) -> None:
        """Remove the name under which it was being filled, unless to `keep` what is resumable; let others fill it."""
        if self._ended:
            return
        self._ended = True
        self._cache.release(self._reserved)
        try:
            if not (keep and self.size and self._path.suffix == _HALF) and _is(self._path, self._handle):
                self._path.unlink(missing_ok=True)
        except OSError:
            _log.debug("a partial file stays until the next start")
        disk.unlock(self._handle)


class Followed:
    """A file that another process fills, seen from outside."""

    def __init__(self, handle: int, path: Path, final: Path) -> None:
        self._handle = handle
        self._path = path
        self._final = final
        weakref.finalize(self, os.close, handle)

    def read(self, size: int, at: int) -> bytes:
        """Up to `size` bytes from position `at`."""
        return disk.read_at(self._handle, size, at)

    def state(self) -> tuple[int, bool | None]:
        """How many bytes are there, and whether that is all: true: whole and checked, ``None``: it will never be."""
        being_filled = _is(self._path, self._handle)
        size = os.fstat(self._handle).st_size
        if _is(self._final, self._handle):
            return os.fstat(self._handle).st_size, True
        if being_filled and not self._abandoned():
            return size, False
        # It may have been given its name between the two looks.
        return size, True if _is(self._final, self._handle) else None

    def _abandoned(self) -> bool:
        """Whether nobody fills it any more: its writer holds a lock for as long as it lives."""
        if disk.try_lock(self._handle) is False:
            return False
        disk.unlock(self._handle)
        return True


_CREATE = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def _remove_abandoned(path: str) -> bool:
    """Remove a half written file unless somebody writes it; whether it is gone."""
    try:
        handle = os.open(path, disk.READ)
    except FileNotFoundError:
        return True
    try:
        if disk.try_lock(handle) is False:
            return False
        Path(path).unlink(missing_ok=True)
        return True
    finally:
        os.close(handle)


def _is(path: Path, handle: int) -> bool:
    """Whether a path names the open file."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except OSError:
        return False


def _scan(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
