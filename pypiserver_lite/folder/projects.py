"""Projects made of files on disk, and kept until something about a file changes."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from packaging.utils import NormalizedName

from .. import archives, disk, dists
from ..errors import DiskFailed
from ..kept import Kept, Turnstile
from ..model import NO_HASHES, File, FileState, Project
from .facts import Changing, Facts, describe, opened
from .listing import Entry
from .memory import Reader
from .snapshot import MAX_AGE, Snapshot

KEPT_FILES = 20_000
"""How many files the kept projects have together, at about one kilobyte each."""
KEPT_METADATA = 4 * 2**20
"""Bytes of core metadata kept for the next who asks."""
QUICK = 16 * 2**20
"""Bytes of new files that are read within a moment; those who need more pass the turnstile."""
REASON_LIMIT = 4096
"""Bytes of the reason for a yank that are read."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_INODE = 2**63 - 1


class Seen(NamedTuple):
    """What tells from outside whether a file and what lies beside it are as they were."""

    key: FileState
    signed: bool
    yanked: FileState | None
    metadata: FileState | None


@dataclass(slots=True)
class _Built:
    """A project, and from what it was built."""

    project: Project | None
    """``None``: every file of it is gone."""
    entries: tuple[Entry, ...]
    seen: dict[Entry, Seen | None]
    files: dict[Entry, File]
    doubtful: set[Entry]
    """Those that may change unseen, or are being written."""
    checked: float


class Projects:
    """The projects of a snapshot. Safe for threads; those who have to read much pass the turnstile."""

    def __init__(self, snapshot: Snapshot, reader: Reader, turnstile: Turnstile) -> None:
        self._snapshot, self._reader, self._turnstile = snapshot, reader, turnstile
        self._lock = threading.Lock()
        self._built: dict[NormalizedName, _Built] = {}
        self._kept = 0
        self._metadata = Kept[bytes](len, most_bytes=KEPT_METADATA)

    # --- one file

    def look(self, entry: Entry) -> FileState | None:
        """The state of a listed file; ``None`` if it is no regular file inside the roots any more. Raises OSError."""
        path = f"{entry[0]}{os.sep}{entry[1]}"
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                path = os.path.realpath(path)
                if not self._snapshot.inside(path):
                    return None
                status = os.lstat(path)
        except OSError as error:
            if error.errno in disk.GONE:
                return None
            raise
        if not stat.S_ISREG(status.st_mode):
            return None
        return FileState(path, status.st_size, status.st_mtime_ns, status.st_ino & _INODE)

    def beside(self, entry: Entry, side: str) -> FileState | None:
        """The state of what lies beside a listed file. Raises OSError."""
        folder, name = entry[0], entry[1] + side
        return self.look((folder, name)) if name in self._snapshot.sides(folder) else None

    def _examine(self, entry: Entry) -> Seen | None:
        key = self.look(entry)
        if key is None:
            return None
        if not self._snapshot.sides(entry[0]):
            return Seen(key, False, None, None)
        signed = self.beside(entry, ".asc") is not None
        return Seen(key, signed, self.beside(entry, ".yanked"), self.beside(entry, ".metadata"))

    def offered_metadata(self, entry: Entry) -> bytes | None:
        """The bytes of ``FILE.metadata``, if the page of this file offers one. Raises OSError."""
        seen = self._examine(entry)
        if seen is None:
            return None
        kept = self._metadata.find(seen)
        if kept is not None:
            return kept
        data = self._own_metadata(seen.key, entry[1]) if _is_wheel(entry[1]) or seen.metadata is None else None
        if data is None and seen.metadata is not None:
            data = _small(seen.metadata, archives.METADATA_LIMIT)
        if data is None or describe(data, entry[1]).metadata_sha256 is None:
            return None
        if len(data) <= KEPT_METADATA // 4 and self._examine(entry) == seen:
            self._metadata.put(seen, data)
        return data

    def _own_metadata(self, key: FileState, filename: str) -> bytes | None:
        with opened(key.path) as file:
            return archives.core_metadata(file, filename)

    # --- one project

    def get(self, name: NormalizedName) -> Project | None:
        """The project, the same object while nothing about it changed; ``None`` if no file belongs to it.

        Raises Unavailable if its files, or a root that may hold some, cannot be read.
        """
        snapshot = self._snapshot
        now = snapshot.clock()
        due, entries = now >= snapshot.idle_until, snapshot.projects.get(name)
        if due or entries is None:
            snapshot.refresh(name)
            entries = snapshot.projects.get(name)
        built = self._built.get(name)
        if built is not None and built.entries is entries:
            # No check is due: nothing is asked of the disk, no lock is taken.
            if not due and now - built.checked < MAX_AGE:
                return built.project
            if not built.doubtful and self._unchanged(built):
                built.checked = now
                return built.project
        if entries is None:
            self._drop(name)
            snapshot.roots.check()
            return None
        with ExitStack() as stack:
            fresh = self._build(name, entries, built, stack)
        if built is not None and built.doubtful:
            # What cannot be read or keeps changing must not take all time; the budget of checks pays for it.
            snapshot.charge(now, len(entries))
        return self._keep(name, fresh)

    def _unchanged(self, built: _Built) -> bool:
        began = self._snapshot.clock()
        try:
            return all(self._examine(entry) == seen for entry, seen in built.seen.items())
        except OSError:
            return False
        finally:
            self._snapshot.charge(began, len(built.seen))

    def _build(self, name: NormalizedName, entries: tuple[Entry, ...], old: _Built | None, stack: ExitStack) -> _Built:
        built = _Built(None, entries, {}, {}, set(), self._snapshot.clock())
        unread: dict[Entry, Seen] = {}
        being_written = ""
        for entry in self._snapshot.listed(entries):
            with self._readable(entry):
                seen = built.seen[entry] = self._examine(entry)
            if seen is None:
                continue
            kept = old.files.get(entry) if old is not None and entry not in old.doubtful else None
            if old is not None and kept is not None and old.seen[entry] == seen:
                built.files[entry] = kept
            else:
                unread[entry] = seen
        known = self._reader.known(seen.key for seen in unread.values())
        if sum(seen.key.size for seen in unread.values() if seen.key not in known) > QUICK:
            stack.enter_context(self._turnstile.inside())
        for entry, seen in unread.items():
            try:
                facts = known.get(seen.key)
                if facts is None:
                    with self._readable(entry):
                        finding = self._reader.read(seen.key, entry[1])
                    facts = finding.facts
                    if not finding.settled:
                        built.doubtful.add(entry)
                    built.seen[entry] = seen = seen._replace(key=finding.key)
                with self._readable(entry):
                    built.files[entry] = self._file(name, entry[1], seen, facts)
            except FileNotFoundError:
                built.doubtful.add(entry)
            except Changing as error:
                # It is not here yet; what is need not wait for it.
                being_written = str(error)
                self._snapshot.complain(os.path.join(*entry), being_written)
                built.doubtful.add(entry)
        if being_written and not built.files:
            raise DiskFailed(f"{being_written}; try again shortly")
        built.project = _project(name, built.files.values())
        return built

    @contextmanager
    def _readable(self, entry: Entry) -> Iterator[None]:
        """A file that is there and cannot be read is no reason for a shorter page: raises DiskFailed."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            self._snapshot.complain(os.path.join(*entry), error.strerror or "unknown error")
            raise disk.unreadable(error) from error

    def _file(self, name: NormalizedName, filename: str, seen: Seen, facts: Facts) -> File:
        # What is inside a wheel is what gets installed, so it wins over what lies beside it (PEP 658).
        if seen.metadata is not None and not (_is_wheel(filename) and facts.metadata_sha256):
            facts = describe(_small(seen.metadata, archives.METADATA_LIMIT), filename, facts.hashes)
        yanked = None
        if seen.yanked is not None:
            yanked = (_small(seen.yanked, REASON_LIMIT) or b"").decode("utf-8", "replace").rstrip("\r\n")
        parsed = dists.parse_filename(filename)
        algorithms = self._reader.algorithms
        return File(
            filename=filename,
            project=name,
            version=parsed.version if parsed else "",
            size=seen.key.size,
            hashes={algorithm: facts.hashes[algorithm] for algorithm in algorithms} if algorithms else NO_HASHES,
            md5=facts.hashes.get("md5"),
            requires_python=facts.requires_python,
            uploaded=_time(seen.key.mtime_ns),
            yanked=yanked,
            core_metadata={"sha256": facts.metadata_sha256} if facts.metadata_sha256 else None,
            has_signature=seen.signed,
        )

    # --- keeping

    def _keep(self, name: NormalizedName, built: _Built) -> Project | None:
        with self._lock:
            old = self._built.get(name)
            if old is not None and old.project == built.project:
                built.project = old.project
            self._built[name] = built
            self._kept += len(built.files) - (len(old.files) if old is not None else 0)
            if self._kept > KEPT_FILES:
                self._evict(name)
        return built.project

    def _evict(self, newest: NormalizedName) -> None:
        for name, built in sorted(self._built.items(), key=lambda item: item[1].checked):
            if self._kept <= KEPT_FILES * 3 // 4:
                break
            if name != newest:
                del self._built[name]
                self._kept -= len(built.files)

    def _drop(self, name: NormalizedName) -> None:
        if name in self._built:
            with self._lock:
                built = self._built.pop(name, None)
                self._kept -= len(built.files) if built is not None else 0

    def after_fork(self) -> None:
        """In a child process: whoever held the lock or reads files is not here."""
        self._lock = threading.Lock()
        self._metadata.after_fork()
        self._turnstile.after_fork()


def _is_wheel(filename: str) -> bool:
    return filename.endswith(".whl")


def _small(key: FileState, limit: int) -> bytes | None:
    """The first `limit` bytes of a side file; ``None`` if it is gone."""
    try:
        with opened(key.path) as file:
            return file.read(limit)
    except FileNotFoundError:
        return None


def _time(mtime_ns: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=mtime_ns // 1000)
    except OverflowError:
        return None


def _project(name: NormalizedName, files: Iterable[File]) -> Project | None:
    keys = {file.version: dists.version_key(file.version) for file in files}
    ordered = tuple(sorted(files, key=lambda file: (keys[file.version], file.filename)))
    if not ordered:
        return None
    return Project(name=name, files=ordered, versions=tuple(dict.fromkeys(file.version for file in ordered)))
