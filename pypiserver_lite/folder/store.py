"""Distributions that lie in folders on this machine: the folder is the only truth.

What is asked for is looked up in a `Snapshot` of names, kept current by one
`stat` of each folder; files are looked at when their project is asked for.
What this process changes is in the snapshot before the change is answered.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from time import monotonic

from packaging.utils import NormalizedName

from .. import disk, dists
from ..errors import Conflict, Missing
from ..kept import Turnstile
from ..model import Content, LocalFile, Note, Piece, Project, Side, State, Stream, Upload
from .ahead import ReadAhead
from .changes import Changes
from .listing import Entry
from .memory import Memory, Reader
from .projects import Projects
from .pushes import Pushes
from .snapshot import Snapshot


class Folder:
    """A `Store` of distributions in one or more folders; uploads end up in the first.

    `memory` keeps what was read from files; `hash_algo` is the digest that
    pages show first, ``None`` for no digests at all; with `follow_links`,
    links may lead out of the roots; below `copies` names once had are kept
    where the first root cannot be written, and where not `recording`, none is
    written anywhere; `clock` tells seconds. Leftovers of
    crashed uploads are removed at the start. A root that cannot be read
    raises nothing here: what it may hold is Unavailable until it is back. Of
    `workers` threads that serve, a quarter at most reads files at a time.
    Raises ConfigError if the file of names once had is damaged.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        memory: Memory,
        *,
        hash_algo: str | None = "sha256",
        follow_links: bool = False,
        workers: int = 16,
        within: Turnstile | None = None,
        copies: Path | None = None,
        recording: bool = True,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._memory = memory
        algorithms = () if hash_algo is None else (hash_algo, "sha256")
        self._reader = Reader(memory, algorithms, extra=("md5",) if algorithms else ())
        self._snapshot = Snapshot(
            roots,
            lambda entries: self._ahead.add(entries),
            remembered=lambda folder: _projects_of(memory.notes(folder)),
            follow_links=follow_links,
            copies=copies,
            recording=recording,
            clock=clock,
        )
        self._projects = Projects(self._snapshot, self._reader, Turnstile(max(1, workers // 4), within=within))
        self._changes = Changes(self._snapshot, self._projects, self._reader)
        self._pushes = Pushes(self._snapshot, self._projects, self._reader, self._changes)
        self._ahead = ReadAhead(self._reader, self._snapshot.entries, self._projects.look, self._prune)
        _all.add(self)

    def names(self) -> tuple[NormalizedName, ...]:
        """Every project, sorted; the same object while the set is unchanged.

        Raises Unavailable if there may be others where nobody can look now.
        """
        self._snapshot.refresh()
        names = self._snapshot.names()
        if not names or self._snapshot.roots.hidden:
            self._snapshot.roots.check()
        return names

    def filenames(self) -> Iterator[tuple[NormalizedName, str]]:
        """Every file's project and name, in the order of `names`, without looking into any file."""
        for name in self.names():
            for entry in self._snapshot.listed(self._snapshot.projects.get(name, ())):
                yield name, entry[1]

    def project(self, name: NormalizedName) -> Project | None:
        """The project, or ``None`` if no file here belongs to it; the same object while nothing about it changed.

        Raises Unavailable if its files, or a root that may hold some, cannot be read.
        """
        if self._ahead.dormant:
            self._ahead.start()
        return self._projects.get(name)

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """A listed file of a project, or what belongs to it; ``None`` if no file here belongs to the project.

        Raises Missing if the project has no such file, Unavailable as `project` does.
        """
        self._snapshot.refresh(name)
        self._snapshot.roots.check_name(name)
        if name not in self._snapshot.projects:
            self._snapshot.roots.check()
            return None
        entry = self._snapshot.find(name, filename)
        try:
            content = None if entry is None else self._content(entry, side)
        except FileNotFoundError:
            content = None
        except OSError as error:
            raise disk.unreadable(error) from error
        if content is None:
            if entry is not None and not side:  # its folder may be gone with it
                self._snapshot.look()
                self._snapshot.roots.check_name(name)
            raise Missing(f"{name} has no file {filename[:200]!a}{side}")
        return content

    def _content(self, entry: Entry, side: Side) -> Content | None:
        if side == ".metadata":
            data = self._projects.offered_metadata(entry)
            return None if data is None else _stream(data)
        key = self._projects.look(entry)
        if key is not None and side:
            key = self._projects.beside(entry, side)
        return None if key is None else LocalFile(path=Path(key.path), seen=key)

    def had(self, name: NormalizedName) -> bool:
        """Whether the name is ours: it has files here, or had some once and was not released since."""
        return self._snapshot.had(name)

    def kept(self) -> tuple[NormalizedName, ...]:
        """The names that are ours without having files, sorted. Raises Unavailable if a root may hold some."""
        self._snapshot.refresh()
        self._snapshot.roots.check()
        return self._snapshot.kept_names.kept()

    def release(self, names: Sequence[NormalizedName] | None) -> tuple[NormalizedName, ...]:
        """Let these names, which have no files, be looked for elsewhere again; those that are kept no more.

        ``None``: all of them, and the folders are meant to be as they are,
        empty ones too. Raises Conflict for one that has files, Missing for
        one that was never here, Unavailable if that cannot be written down.
        """
        self._snapshot.refresh()
        kept = self._snapshot.kept_names.kept()
        for name in names or ():
            if name in self._snapshot.projects:
                raise Conflict(f"{name} has files here; remove them first")
            if name not in kept:
                raise Missing(f"{name} is not kept here: it never had files, or was released already")
        try:
            self._snapshot.release(names)
        finally:
            # Or what is remembered of them would speak for them at the next start, where nothing can be written.
            self._forget_gone(names)
        return kept if names is None else tuple(names)

    def state(self, now: float | None = None) -> State:
        """The folders as they are: another object after anything in them may have changed, with a serial that grows.

        `now` is in seconds since 1970.
        """
        self._snapshot.refresh()
        return self._snapshot.serial.state(now)

    def stage(self) -> Path:
        """The first root, resolved, so that publishing is a link. Raises Unavailable if it is not there."""
        self._snapshot.refresh()
        return Path(self._snapshot.first_root())

    def add(self, upload: Upload, *, overwrite: bool = False) -> bool:
        """Publish atomically and durably, as `Store.add` says.

        A file that lies in another folder under this name is replaced there,
        or in the way; one under another name that is the same part of the
        release makes way for this one, or is in it.
        """
        with self._snapshot.recorded():
            return self._changes.add(upload, overwrite=overwrite)

    def remove(self, name: NormalizedName, version: str) -> tuple[str, ...]:
        """Remove all files of a release, in every folder, and what belongs to them; the file names.

        Links are removed, never what they lead to. Raises Missing if there
        are none, ReadOnly if the disk refuses.
        """
        with self._snapshot.recorded():
            return self._changes.remove(name, version)

    def yank(self, name: NormalizedName, version: str, reason: str | None) -> tuple[str, ...]:
        """Yank a release with a reason (may be empty), or un-yank with ``None``; the file names (PEP 592).

        Raises Missing if the release has no files, Invalid if the reason is
        too long, ReadOnly or NoSpace if the disk refuses.
        """
        with self._snapshot.recorded():
            return self._changes.yank(name, version, reason)

    def pieces(self, name: NormalizedName, version: str) -> tuple[Piece, ...]:
        """The files of a release that are listed, with all that lies beside them.

        Raises Missing if there are none, Unavailable if they cannot be looked at.
        """
        return self._pushes.pieces(name, version)

    def take(self, pieces: Sequence[Piece]) -> tuple[str, ...]:
        """Publish files of a release that lies in other folders, all or none; the names of those that were not here.

        What lies beside them comes too: nothing that is here already is
        replaced or removed. Raises Conflict if any has other bytes here, or is
        under another name the same part of the release, whether or not uploads
        may replace files; Unavailable if a disk refuses.
        """
        with self._snapshot.recorded():
            return self._pushes.take(pieces)

    def start(self) -> None:
        """Begin to read files in the background, newest first; also in processes forked from this one."""
        self._ahead.start()

    def progress(self) -> tuple[int, int]:
        """How many files are known, of how many; nobody has looked yet if none are."""
        total, left = self._snapshot.count(), self._ahead.left()
        return (0 if left is None else max(0, total - left)), total

    def size(self) -> int:
        """Bytes of the files here, as far as they were read."""
        return sum(map(self._memory.size, self._snapshot.covered()))

    def notes(self) -> Iterator[Note]:
        """What is known of every file that was read, also of some that are gone; in no order, for background work."""
        for root in self._snapshot.covered():
            yield from self._memory.notes(root)

    def notes_state(self) -> tuple[int, int]:
        """Something that changes whenever `notes` does."""
        return self._memory.state()

    def close(self) -> None:
        """Stop reading ahead, and close the memory; a page asked for afterwards still reads what it needs."""
        self._ahead.close()
        self._memory.close()

    def _prune(self) -> None:
        """Forget facts about files that are gone; in the background, as it looks through all of them."""
        if not self._snapshot.roots.lost():
            self._forget_gone()

    def _forget_gone(self, names: Collection[NormalizedName] | None = None) -> None:
        """Forget the files that are gone: those of these projects, or with ``None`` all."""
        for root in self._snapshot.real_roots:
            paths = (note.path for note in self._memory.notes(root))
            ours = (path for path in paths if names is None or dists.project_of(os.path.basename(path)) in names)
            self._memory.forget(path for path in ours if not os.path.lexists(path))

    def _after_fork(self) -> None:
        for part in (self._reader, self._snapshot, self._projects, self._ahead):
            part.after_fork()


_all: weakref.WeakSet[Folder] = weakref.WeakSet()


def _after_fork() -> None:
    for folder in list(_all):
        folder._after_fork()


if hasattr(os, "register_at_fork"):  # once: what is registered stays, and folders come and go
    os.register_at_fork(after_in_child=_after_fork)


def _stream(data: bytes) -> Stream:
    return Stream(read=lambda start, stop: (data[start:stop],), size=len(data), tag=hashlib.sha256(data).hexdigest())


def _projects_of(notes: Iterator[Note]) -> Iterator[NormalizedName]:
    names = (dists.project_of(os.path.basename(note.path)) for note in notes)
    return (name for name in names if name is not None)
