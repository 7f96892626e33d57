"""Distributions that lie in folders on this machine: the folder is the only truth.

What is asked for is looked up in a `Snapshot` of names, kept current by one
`stat` of each folder; files are looked at when their project is asked for.
What this process changes is in the snapshot before the change is answered.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import monotonic

from packaging.utils import NormalizedName
from packaging.version import InvalidVersion, Version

from .. import digests, disk, dists
from ..errors import Conflict, Invalid, Missing
from ..kept import Turnstile
from ..model import Content, FileState, LocalFile, Note, Project, Side, State, Stream, Upload
from . import facts
from .ahead import ReadAhead
from .listing import SIDES, Entry
from .memory import Memory, Reader
from .projects import REASON_LIMIT, Projects
from .snapshot import Snapshot

_log = logging.getLogger(__name__)


class Folder:
    """A `Store` of distributions in one or more folders; uploads end up in the first.

    `memory` keeps what was read from files; `hash_algo` is the digest that
    pages show first, ``None`` for no digests at all; with `follow_links`,
    links may lead out of the roots; below `copies` names once had are kept
    where the first root cannot be written; `clock` tells seconds. Leftovers of
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
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._memory = memory
        algorithms = () if hash_algo is None else (hash_algo, "sha256")
        self._reader = Reader(memory, algorithms, extra=("md5",) if algorithms else ())
        self._snapshot = Snapshot(
            roots,
            self._appeared,
            remembered=lambda root: bool(memory.paths(root, limit=1)),
            follow_links=follow_links,
            copies=copies,
            clock=clock,
        )
        self._projects = Projects(self._snapshot, self._reader, Turnstile(max(1, workers // 4), within=within))
        self._ahead = ReadAhead(self._reader, self._snapshot.entries, self._projects.look, self._prune)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_after_fork, weakref.ref(self)))

    # --- a source

    def names(self) -> tuple[NormalizedName, ...]:
        """Every project, sorted; the same object while the set is unchanged. Raises Unavailable if no root is there."""
        self._snapshot.refresh()
        names = self._snapshot.names()
        if not names:
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

    # --- names once had

    def had(self, name: NormalizedName) -> bool:
        """Whether the name is ours: it has files here, or had some once and was not released since."""
        return self._snapshot.had(name)

    def kept(self) -> tuple[NormalizedName, ...]:
        """The names that are ours without having files, sorted. Raises Unavailable if a root may hold some."""
        self._snapshot.refresh()
        self._snapshot.roots.check()
        return self._snapshot.kept()

    def release(self, names: Sequence[NormalizedName] | None) -> tuple[NormalizedName, ...]:
        """Let these names, which have no files, be looked for elsewhere again; those that are kept no more.

        ``None``: all of them, and the folders are meant to be as they are,
        empty ones too. Raises Conflict for one that has files, Missing for
        one that was never here, Unavailable if that cannot be written down.
        """
        self._snapshot.refresh()
        kept = self._snapshot.kept()
        for name in names or ():
            if name in self._snapshot.projects:
                raise Conflict(f"{name} has files here; remove them first")
            if name not in kept:
                raise Missing(f"{name} is not kept here: it never had files, or was released already")
        try:
            self._snapshot.release(names)
        finally:
            if names is None:
                # Or what is remembered of them would speak for them at the next start, where nothing can be written.
                self._forget_gone()
        return kept if names is None else tuple(names)

    def state(self, now: float | None = None) -> State:
        """The folders as they are: another object after anything in them may have changed, with a serial that grows.

        `now` is in seconds since 1970.
        """
        self._snapshot.refresh()
        return self._snapshot.state(time.time() if now is None else now)

    # --- a store

    def stage(self) -> Path:
        """The first root, resolved, so that publishing is a link. Raises Unavailable if it is not there."""
        self._snapshot.refresh()
        return Path(self._snapshot.first_root())

    def add(self, upload: Upload, *, overwrite: bool = False) -> bool:
        """Publish atomically and durably; false if the very same bytes were here already.

        A file that lies in another folder under this name is replaced there,
        or in the way; one under another name that is the same part of the
        release makes way for this one, or is in it. See `Store.add` for what
        is raised.
        """
        try:
            return self._add(upload, overwrite=overwrite)
        except (IsADirectoryError, FileExistsError) as error:
            raise _taken(upload.filename) from error
        except OSError as error:
            raise disk.translate(error) from error
        finally:
            _remove_if_possible(upload.body)

    def _add(self, upload: Upload, *, overwrite: bool) -> bool:
        self._snapshot.refresh()
        entry = self._snapshot.find(upload.project, upload.filename)
        there = None if entry is None else self._projects.look(entry)
        if entry is None or there is None:
            folder = self.stage()
        elif self._has_bytes(there, upload):
            self._add_sides(entry, upload)
            return False
        elif not overwrite:
            raise _taken(upload.filename)
        else:
            folder = Path(entry[0])
        final = disk.safe_join(folder, upload.filename)
        with ExitStack() as stack:
            body = upload.body
            if body.stat().st_dev != folder.stat().st_dev:
                body = stack.enter_context(disk.copy(body, folder)).path
            self._remember(upload, body, final)
            sides = _stage_sides(stack, folder, upload)
            try:
                self._publish(upload, body, final, sides, overwrite=overwrite)
            except FileExistsError:
                return self._lost_race(upload, folder)
        disk.sync_folder(folder)
        return True

    def _publish(self, upload: Upload, body: Path, final: Path, sides: dict[str, Path], *, overwrite: bool) -> None:
        """Put sides and body in place, and away what they replace. Raises Conflict, FileExistsError."""
        with ExitStack() as stack:
            # The first root is what all uploads have in common: of two spellings, one process sees the other's.
            for place in dict.fromkeys((self.stage(), final.parent)):
                stack.enter_context(disk.exclusive(place))
            rivals = self._rivals(upload, final.parent)
            if rivals and not overwrite:
                raise Conflict(
                    f"{rivals[0][1]} is that part of {upload.project} {upload.version} already, and a release does not "
                    "change; give it a new version and build it again"
                )
            # A yank outlives the replacement of a file: taking it back is a decision of its own.
            marks = [Path(folder, f"{name}.yanked") for folder, name in rivals if not os.path.lexists(final)]
            for mark in filter(Path.is_file, marks[:1]):
                sides[".yanked"] = stack.enter_context(disk.copy(mark, final.parent)).path
            self._place(body, final, sides, overwrite=overwrite)
            for folder, name in rivals:
                self._unlink(folder, [name])

    def _rivals(self, upload: Upload, folder: Path) -> list[Entry]:
        """The files under other names that are the same part of the same release (PEP 503, 440)."""
        part = dists.part_of_release(upload.filename, upload.project)
        # Another process may have published into the folder since it was last looked at.
        spelled = re.compile(upload.project.replace("-", "[-_.]+") + "-", re.ASCII | re.IGNORECASE)
        entries = {(str(folder), name) for name in os.listdir(folder) if spelled.match(name)}
        entries.update(self._snapshot.projects.get(upload.project, ()))
        return sorted(
            entry
            for entry in entries
            if entry[1] != upload.filename
            and dists.part_of_release(entry[1], upload.project) == part
            and self._projects.look(entry) is not None
        )

    def _place(self, body: Path, final: Path, sides: dict[str, Path], *, overwrite: bool) -> None:
        """Sides first, then the body; what lies there of an earlier file of this name is out of date."""
        replaces = os.path.lexists(final)
        stale = [s for s in SIDES if s not in sides and not (replaces and s == ".yanked")]
        stale = [s for s in stale if os.path.lexists(f"{final}{s}")]
        with self._snapshot.changing(str(final.parent)) as changes:
            if not overwrite and replaces:
                raise FileExistsError(final.name)
            for side in stale:
                _remove_if_possible(Path(f"{final}{side}"))
                changes[final.name + side] = False
            placed = []
            try:
                for side, staged in sides.items():
                    disk.place(staged, Path(f"{final}{side}"), overwrite=True)
                    placed.append(side)
                    changes[final.name + side] = True
                disk.place(body, final, overwrite=overwrite)
            except OSError:
                for side in placed:
                    _remove_if_possible(Path(f"{final}{side}"))
                    changes[final.name + side] = False
                raise
            changes[final.name] = True

    def _unlink(self, folder: str, names: Sequence[str]) -> None:
        """Remove files and what belongs to them."""
        with self._snapshot.changing(folder) as changes:
            for name in names:
                # The file first: a mark that went before it would un-yank it for a moment.
                for part in (name, *(name + side for side in SIDES)):
                    Path(folder, part).unlink(missing_ok=True)
                    changes[part] = False

    def _lost_race(self, upload: Upload, folder: Path) -> bool:
        """Somebody else published this name first: fine if with the same bytes."""
        there = self._projects.look((str(folder), upload.filename))
        if there is None:
            raise _taken(upload.filename)
        with self._snapshot.changing(str(folder)) as changes:
            changes[upload.filename] = True
        if not self._has_bytes(there, upload):
            raise _taken(upload.filename)
        return False

    def _has_bytes(self, there: FileState, upload: Upload) -> bool:
        if there.size != upload.size:
            return False
        known = self._reader.known([there]).get(there)
        digest = known.hashes.get("sha256") if known is not None else None
        if digest is None:
            digest = facts.read(there.path, upload.filename, ["sha256"]).facts.hashes["sha256"]
        return hmac.compare_digest(digest, upload.digests["sha256"])

    def _add_sides(self, entry: Entry, upload: Upload) -> None:
        """The file is here; a signature or provenance that is not yet is taken all the same."""
        folder = Path(entry[0])
        with ExitStack() as stack:
            sides = _stage_sides(stack, folder, upload)
            new = {side: path for side, path in sides.items() if not os.path.lexists(folder / (entry[1] + side))}
            if not new:
                return
            with disk.exclusive(folder), self._snapshot.changing(entry[0]) as changes:
                for side, staged in new.items():
                    disk.place(staged, folder / (entry[1] + side), overwrite=True)
                    changes[entry[1] + side] = True
        disk.sync_folder(folder)

    def _remember(self, upload: Upload, body: Path, final: Path) -> None:
        """What is known about the bytes need not be read again by the first who asks for the page."""
        hashes = dict(upload.digests)
        wanted = (*self._reader.algorithms, *self._reader.extra)
        missing = [name for name in wanted if name not in hashes]
        if missing:
            hashes |= digests.of_file(body, missing)
        known = facts.describe(upload.metadata, upload.filename, {name: hashes[name] for name in wanted}, upload.about)
        self._reader.remember(FileState.of(str(final), body.stat()), known)

    def remove(self, name: NormalizedName, version: str) -> tuple[str, ...]:
        """Remove all files of a release, in every folder, and what belongs to them; the file names.

        Links are removed, never what they lead to. Raises Missing if there
        are none, ReadOnly if the disk refuses.
        """
        entries = self._release(name, version)
        try:
            for folder in {entry[0] for entry in entries}:
                with disk.exclusive(Path(folder)):
                    self._unlink(folder, [entry[1] for entry in entries if entry[0] == folder])
                disk.sync_folder(Path(folder))
        except OSError as error:
            raise disk.translate(error) from error
        return tuple(sorted({entry[1] for entry in entries}))

    def yank(self, name: NormalizedName, version: str, reason: str | None) -> tuple[str, ...]:
        """Yank a release with a reason (may be empty), or un-yank with ``None``; the file names (PEP 592).

        Raises Missing if the release has no files, Invalid if the reason is
        too long, ReadOnly or NoSpace if the disk refuses.
        """
        text = (reason or "").encode("utf-8", "replace")
        if len(text) > REASON_LIMIT:
            raise Invalid(f"the reason is too long; {REASON_LIMIT} bytes are kept")
        # A copy that another folder's wins over is not on the page.
        entries = tuple(self._snapshot.listed(self._release(name, version)))
        try:
            for folder, filename in entries:
                mark = Path(folder, f"{filename}.yanked")
                with ExitStack() as stack:
                    staged = stack.enter_context(disk.Staged(mark.parent)) if reason is not None else None
                    if staged is not None:
                        staged.write(text)
                        staged.commit()
                    changes = stack.enter_context(self._snapshot.changing(folder))
                    if staged is not None:
                        disk.place(staged.path, mark, overwrite=True)
                        changes[mark.name] = True
                    else:
                        mark.unlink(missing_ok=True)
                        changes[mark.name] = False
            for folder in {entry[0] for entry in entries}:
                disk.sync_folder(Path(folder))
        except OSError as error:
            raise disk.translate(error) from error
        return tuple(sorted(entry[1] for entry in entries))

    def _release(self, name: NormalizedName, version: str) -> tuple[Entry, ...]:
        self._snapshot.refresh()
        wanted = _version(version)
        entries = tuple(
            entry
            for entry in self._snapshot.projects.get(name, ())
            if (parsed := dists.parse_filename(entry[1])) is not None and _version(parsed.version) == wanted
        )
        if not entries:
            self._snapshot.roots.check()
            raise Missing(f"there is no release {version[:100]!a} of {name}")
        return entries

    # --- background

    def start(self) -> None:
        """Begin to read files in the background, newest first; also in processes forked from this one."""
        self._ahead.start()

    def progress(self) -> tuple[int, int]:
        """How many files are known, of how many; nobody has looked yet if none are."""
        total, left = self._snapshot.count(), self._ahead.left()
        return (0 if left is None else max(0, total - left)), total

    def notes(self) -> Iterator[Note]:
        """What is known of every file that was read, also of some that are gone; in no order, for background work."""
        for root in self._snapshot.covered():
            after = ""
            while some := self._memory.notes(root, after):
                yield from some
                after = some[-1].path
                time.sleep(0.001)

    def notes_state(self) -> tuple[int, int]:
        """Something that changes whenever `notes` does."""
        return self._memory.state()

    def close(self) -> None:
        """Stop reading ahead, and close the memory; a page asked for afterwards still reads what it needs."""
        self._ahead.close()
        self._memory.close()

    def _appeared(self, entries: Sequence[Entry]) -> None:
        self._ahead.add(entries)

    def _prune(self) -> None:
        """Forget facts about files that are gone; in the background, as it looks through all of them."""
        if not self._snapshot.roots.lost():
            self._forget_gone()

    def _forget_gone(self) -> None:
        for root in self._snapshot.real_roots:
            after = ""
            while paths := self._memory.paths(root, after):
                self._memory.forget(path for path in paths if not os.path.lexists(path))
                after = paths[-1]
                time.sleep(0.001)

    def _after_fork(self) -> None:
        for part in (self._reader, self._snapshot, self._projects, self._ahead):
            part.after_fork()


def _after_fork(ref: weakref.ref[Folder]) -> None:
    folder = ref()
    if folder is not None:
        folder._after_fork()


def _taken(filename: str) -> Conflict:
    return Conflict(f"{filename} already exists with other content; give the release a new version and build it again")


def _stage_sides(stack: ExitStack, folder: Path, upload: Upload) -> dict[str, Path]:
    """Side files of an upload, staged and durable: nothing but renames is left to do."""
    sides: dict[str, Path] = {}
    for side, data in ((".asc", upload.signature), (".provenance", upload.provenance)):
        if data is not None:
            staged = stack.enter_context(disk.Staged(folder))
            staged.write(data)
            staged.commit()
            sides[side] = staged.path
    return sides


def _remove_if_possible(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%a could not be removed: %s", path.name, error.strerror)


def _stream(data: bytes) -> Stream:
    return Stream(read=lambda start, stop: (data[start:stop],), size=len(data), tag=hashlib.sha256(data).hexdigest())


def _version(text: str) -> Version | str:
    """What two spellings of one version have in common (PEP 440)."""
    try:
        return Version(text) if len(text) <= dists.NAME_LIMIT else text
    except InvalidVersion:
        return text
