"""Projects made of files on disk, and kept until something about a file changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
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

KEPT_PROJECTS = 20 * 2**20
"""Bytes of projects kept for the next who asks, at about one kilobyte a file."""
KEPT_METADATA = 4 * 2**20
"""Bytes of core metadata kept for the next who asks."""
QUICK = 16 * 2**20
"""Bytes of new files that are read within a moment; those who need more pass the turnstile."""
REASON_LIMIT = 4096
"""Bytes of the reason for a yank that are read."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


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
        self._built = Kept[_Built](lambda built: 1000 * len(built.files), most_bytes=KEPT_PROJECTS)
        self._metadata = Kept[bytes](len, most_bytes=KEPT_METADATA)

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
        return FileState.of(path, status) if stat.S_ISREG(status.st_mode) else None

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
        snapshot.roots.check_name(name)
        built = self._built.find(name)
        if built is not None and built.entries is entries:
            # No check is due: nothing is asked of the disk, no lock is taken.
            if not due and now - built.checked < MAX_AGE:
                return built.project
            if not built.doubtful and self._unchanged(built):
                built.checked = now
                return built.project
        if entries is None:
            self._built.drop(name)
            snapshot.roots.check()
            return None
        fresh = self._build(name, entries, built)
        if None in fresh.seen.values():
            # Its folder may be gone with the file: then nobody can say whether it was removed.
            snapshot.look()
            snapshot.roots.check_name(name)
        if built is not None and built.doubtful:
            # What cannot be read or keeps changing must not take all time; the budget of checks pays for it.
            snapshot.charge(now, len(entries))
        if built is not None and built.project == fresh.project:
            fresh.project = built.project
        self._built.put(name, fresh)
        return fresh.project

    def _unchanged(self, built: _Built) -> bool:
        began = self._snapshot.clock()
        try:
            return all(self._examine(entry) == seen for entry, seen in built.seen.items())
        except OSError:
            return False
        finally:
            self._snapshot.charge(began, len(built.seen))

    def _build(self, name: NormalizedName, entries: tuple[Entry, ...], old: _Built | None) -> _Built:
        built = _Built(None, entries, {}, {}, set(), self._snapshot.clock())
        unread: dict[Entry, Seen] = {}
        for entry in self._snapshot.listed(entries):
            with self._readable(entry):
                seen = built.seen[entry] = self._examine(entry)
            if old is not None and seen == old.seen.get(entry) and entry in old.files and entry not in old.doubtful:
                built.files[entry] = old.files[entry]
            elif seen is not None:
                unread[entry] = seen
        known = self._reader.known(seen.key for seen in unread.values())
        much = sum(seen.key.size for seen in unread.values() if seen.key not in known) > QUICK
        being_written = ""
        with self._turnstile.inside() if much else nullcontext():
            for entry, seen in unread.items():
                try:
                    self._read(name, entry, seen, known.get(seen.key), built)
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

    def _read(self, name: NormalizedName, entry: Entry, seen: Seen, facts: Facts | None, built: _Built) -> None:
        """Take in a file whose facts are known, or are read now."""
        with self._readable(entry):
            if facts is None:
                key, facts, settled = self._reader.read(seen.key, entry[1])
                if not settled:
                    built.doubtful.add(entry)
                built.seen[entry] = seen = seen._replace(key=key)
            built.files[entry] = self._file(name, entry[1], seen, facts)

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

    def after_fork(self) -> None:
        """In a child process: whoever held a lock or reads files is not here."""
        self._built.after_fork()
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
