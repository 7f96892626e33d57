"""Names once had stay ours: which projects the folders ever had, in a small file beside them.

A name whose last file is gone is *kept*: nobody else may be asked for it
until an operator releases it, or whoever takes that name elsewhere would be
installed in its place (dependency confusion).

The file is a log with a name in each line; ``-NAME`` releases one, and ``-*``
all of those before it: the operator says that the folders are meant to be as
they are. It is only ever appended to, so that it may be shared by processes
and read by its new lines alone.

``*DIGEST`` stands for a folder but the first that had files. Each of those
is marked with such a file of its own, with the first folder in it: one that
had files and is now empty without its mark is not the folder that it was.

A folder that is not the first may have been the first elsewhere, or be so
for another server. What its file keeps is kept here too, and written in the
first's, unless the first's has that name already: what the first's says last
of a name holds. So a release holds for all folders that are served together,
and is none for whoever serves one of the others alone.

Where the first folder cannot be written, what its file lacks is in a copy in
the cache folder, which is taken in like another folder's file. It holds the
names alone; what is released is not in it any more. A mark beside it stands
for a folder that a link leads to and that had files: the link may lead to
another one at the next start.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from packaging.utils import NormalizedName

from .. import disk
from ..errors import ConfigError, Unavailable

FOLDER, FILE = ".pypiserver-lite", "names"
"""Where the file lies below a packages folder; the first's is the record, the others' are marks, or were records."""

_HAD_FILES = "had-files"
_HEAD = b"# Names that this index has or had; nobody else is asked for them. See: pypiserver-lite names --help\n"
_MARK = b"# Marks a packages folder; where it is missing, an empty folder may be one whose disk is not mounted.\n"
_ALL = "-*"
_LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789-*\n"
_log = logging.getLogger(__name__)


class Names:
    """The names that were ever in `live`, kept below the first of the folders `roots`. Safe for threads and processes.

    `live` holds the names that have files now; whoever changes it says so
    with `went` and `came`, and with `filled` which folders have any. Where the file cannot be written, names are kept
    in a copy below the folder `copies`, or without one in this process's memory, and that is said once.
    """

    def __init__(self, roots: Sequence[str], live: Mapping[NormalizedName, object], copies: Path | None = None) -> None:
        self._roots, self._live = tuple(map(_sign, roots)), live
        self._path, *self._marks = (Path(root, FOLDER, FILE) for root in roots)
        self._copy = copies / self._roots[0][1:] / FILE if copies is not None else None
        self._links = [
            copies / sign[1:] / _HAD_FILES if copies is not None and os.path.realpath(root) != root else None
            for sign, root in zip(self._roots, roots, strict=True)
        ]
        self._unlinked: set[Path] = set()
        self._copied: set[NormalizedName] = set()
        self._lock = Lock()
        self._kept: set[NormalizedName] = set()
        self._unwritten: set[NormalizedName] = set()
        self._full: set[NormalizedName] = set()
        self._released: set[NormalizedName] = set()
        self._unmarked: list[Path] = []
        self._taken: dict[Path, tuple[int, int, int, int]] = {}
        self._file: tuple[int, int] | None = None
        self._end = 0
        self._said: set[str] = set()
        self.cleared = 0
        """How often an operator said that the folders are meant to be as they are."""
        self.unsure = False
        """Whether another root has a file that could never be read: nobody can say which names it keeps."""

    @property
    def recorded(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def load(self) -> None:
        """Read the file, for the first time. Raises ConfigError if it is damaged or cannot be read."""
        path = self._path
        try:
            with self._lock:
                disk.sweep(path.parent)
                self._read()
                for path in self._marks:
                    disk.sweep(path.parent)
                    try:
                        self._adopt(path)
                    except OSError as error:
                        self.unsure = True
                        self._say(path, _reason(error), "what is not here is refused, for it may keep that name")
                if self._copy is not None:
                    path = self._copy
                    disk.sweep(path.parent)
                    self._adopt(path)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{path} tells which names are this index's own, and {_reason(error)}; mend it. Without it, "
                "projects that have no files here any more would be looked for upstream"
            ) from error

    def keeps(self, name: NormalizedName) -> bool:
        """Whether a name that has no files now was had once and never released, as of this moment."""
        self.look()
        return name in self._kept

    def kept(self) -> tuple[NormalizedName, ...]:
        """All of them, sorted."""
        self.look()
        return tuple(sorted(name for name in self._kept if name[0] != "*"))

    def went(self, names: Iterable[NormalizedName]) -> None:
        """These are about to lose their last file."""
        with self._lock:
            self._kept.update(names)

    def came(self, names: Iterable[NormalizedName]) -> None:
        """These have files now."""
        with self._lock:
            # One that was kept until now is in the file already, or waits to be.
            self._unwritten.update(name for name in names if name not in self._kept)
            self._kept.difference_update(names)
            if not self._kept:
                self._kept = set()  # which gives back the room of a hundred thousand, as a set that shrinks does not

    def filled(self, numbers: Collection[int]) -> None:
        """These roots have files now, and no others."""
        self._unlinked = {path for number in numbers if (path := self._links[number]) is not None}
        numbers = {number for number in numbers if number}
        full = {self._roots[number] for number in numbers}
        gone, new = self._full - full, full - self._full
        self.went(gone)
        self._full = full
        self.came(new)
        self._unmarked += [self._marks[number - 1] for number in numbers if self._roots[number] in new]

    def marked(self, number: int) -> bool:
        """Whether the root of that number is one that had files: an empty one was emptied."""
        return os.path.isfile((self._path, *self._marks)[number])  # false where that cannot be seen, either

    def misses(self, number: int) -> bool:
        """Whether the root of that number, which has no files, had some and is not marked as that one."""
        return self._roots[number] in self._kept and not self.marked(number)

    def was_linked(self, number: int) -> bool:
        """Whether the root of that number is reached by a link that led to files once."""
        path = self._links[number]
        return path is not None and path.exists()

    def look(self) -> None:
        """See what other processes, and operators, wrote."""
        self._attempt(self._read)
        for path in (*self._marks, *([] if self._copy is None else [self._copy])):
            try:
                with self._lock:
                    self._adopt(path)
            except (OSError, ValueError) as error:
                self._say(path, _reason(error), "names that it keeps from now on are not known")
                return
        self.unsure = False

    def write(self) -> None:
        """Record what is not recorded yet, and mark the roots that are recorded."""
        if self._unwritten and not self._attempt(self._append) and self._copy is not None:
            self._attempt(partial(self._write_copy, self._copy))
        while self._unlinked:
            path = self._unlinked.pop()
            try:
                if not path.exists():
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    path.touch()
            except OSError as error:
                self._say(path, _reason(error), "should its link lead to an empty folder one day, nobody notices")
        while self._unmarked and self.recorded:
            path = self._unmarked.pop()
            try:
                self._mark(path)
            except OSError as error:
                # Where it is empty one day, an operator has to say whether that is meant.
                _log.debug("%s cannot be written: %s", path, error.strerror)

    def release(self, names: Iterable[NormalizedName] | None) -> None:
        """Keep these names no more, or with ``None`` none that has no files now.

        Raises Unavailable if the file cannot be written, and is there or has no copy.
        """
        names = None if names is None else set(names)
        for link in self._links if names is None else ():
            if link is not None:
                _forget(link)
        lines = [_ALL, *sorted(self._live), *sorted(self._full)] if names is None else [f"-{name}" for name in names]
        try:
            with self._lock:
                self._append(lines)
        except OSError as error:
            if self._copy is None or self.recorded:
                raise disk.translate(error) from error
            self._release_copied(self._copy, names)
        except ValueError as error:
            raise Unavailable(f"the file of names {_reason(error)}") from error

    def after_fork(self) -> None:
        """In a child process: whoever held the lock is not here."""
        self._lock = Lock()

    # --- the file

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Do it, or go on with what is in memory, say once why, and return false."""
        try:
            with self._lock:
                work()
        except (OSError, ValueError, Unavailable) as error:
            where = "until this process ends" if self._copy is None else f"in {self._copy}"
            self._say(self._path, _reason(error), f"names whose last file goes are kept {where}")
            return False
        return True

    def _say(self, path: Path, problem: str, result: str) -> None:
        if (said := f"{path} {problem}") not in self._said:
            self._said.add(said)
            _log.warning("%s; %s", said, result)

    def _read(self) -> None:
        """Take in what is new in the file. Raises OSError, ValueError if it is damaged."""
        try:
            status = os.lstat(self._path)
            if ((status.st_dev, status.st_ino), status.st_size) == (self._file, self._end):
                return
            with _opened(self._path) as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) == self._file and status.st_size > self._end:
                    start, before = self._end, set[NormalizedName]()
                else:
                    # Another file than before takes nothing from us; one where none was may.
                    start, before = 0, self._kept.copy() if self._file else set()
                file.seek(start)
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            if self._file is not None:
                self._file = None
                self._unwritten.update(self._live, self._full, self._kept)
            return
        lines, length = _lines(data, start)
        if not start:
            self._unwritten.update(self._live, self._full, self._kept)
        self._file, self._end = (status.st_dev, status.st_ino), start + length
        self._take(lines)
        lost = before.difference(self._kept, self._live, self._full)
        self._kept |= lost
        self._unwritten |= lost

    def _adopt(self, path: Path) -> None:
        """Take in what is new in another root's file, or in the copy. Raises OSError, ValueError if it is damaged."""
        try:
            status = os.lstat(path)
            seen = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
            if self._taken.get(path) == seen:
                return
            with _opened(path) as file:
                lines, _ = _lines(file.read(), 0)
        except (FileNotFoundError, NotADirectoryError):
            return
        theirs: set[NormalizedName] = set()
        for signed, names in _steps(lines):
            if not signed:
                theirs |= names
            elif _ALL in names:
                theirs.clear()
            else:
                theirs -= _unsigned(names)
        if path == self._copy:
            # Nobody but whoever released a name takes it out of there.
            gone = self._copied - theirs
            self._kept -= gone
            self._released |= gone
            self._copied = theirs.copy()
        if self.recorded:  # where roots are marked, the record tells; without one, the marks tell what was the first
            theirs = {name for name in theirs if name[0] != "*"}
        new = theirs.difference(self._live, self._full, self._kept, self._released)
        self._kept |= new
        self._unwritten |= new
        self._taken[path] = seen

    def _take(self, lines: Iterable[str]) -> None:
        """Do as the lines say, one after the other."""
        for signed, names in _steps(lines):
            if not signed:
                self._unwritten -= names
                self._released -= names
                self._kept |= names.difference(self._live, self._full)
            elif _ALL in names:
                self._released |= self._kept
                self._kept.clear()
                self._unwritten = {*self._live, *self._full}
                self.cleared += 1
            else:
                released = _unsigned(names)
                self._kept -= released
                self._unwritten -= released
                self._released |= released

    def _append(self, lines: Iterable[str] = ()) -> None:
        """Add what is not written yet, and these lines; then take them in. Raises OSError, ValueError, Busy."""
        folder = self._path.parent
        folder.mkdir(exist_ok=True)
        with disk.exclusive(folder):
            self._read()
            text = "".join(f"{line}\n" for line in (*sorted(self._unwritten), *lines)).encode("ascii")
            if self._file is None:
                _write(self._path, _HEAD + text)
            elif text:
                self._extend(text)
            self._read()

    def _write_copy(self, path: Path, released: set[NormalizedName] | None = None) -> None:
        """Have all that is not written yet in the copy, and `released` not. Raises OSError, ValueError, Busy."""
        folder = path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with disk.exclusive(folder):
            self._adopt(path)
            names = (self._copied | self._unwritten) - (released or set())
            if names == self._copied:
                return
            _write(path, _HEAD + "".join(f"{name}\n" for name in sorted(names)).encode("ascii"), overwrite=True)
            self._adopt(path)

    def _release_copied(self, copy: Path, names: set[NormalizedName] | None) -> None:
        """Release where there is nothing but the copy. Raises Unavailable if it cannot be written."""
        try:
            with self._lock:
                released = (self._kept | self._copied).difference(self._live, self._full) if names is None else names
                self._write_copy(copy, released)
                self._kept -= released
                self._unwritten -= released
                self._released |= released
                self.cleared += names is None
        except OSError as error:
            raise disk.translate(error) from error
        except ValueError as error:
            raise Unavailable(f"the copy of the file of names {_reason(error)}") from error

    def _mark(self, path: Path) -> None:
        """Mark a root. Raises OSError."""
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            try:
                _write(path, _MARK + f"{self._roots[0]}\n".encode("ascii"))
            except FileExistsError:
                _log.debug("another process made %s", path)

    def _extend(self, text: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(self._path, flags)
        try:
            os.ftruncate(handle, self._end)  # a crash may have left part of a line
            try:
                view = memoryview(text)
                while view:
                    view = view[os.write(handle, view) :]
                os.fsync(handle)
            except BaseException:
                os.ftruncate(handle, self._end)
                raise
        finally:
            os.close(handle)


def _sign(root: str) -> NormalizedName:
    """What stands for a root among the names."""
    return NormalizedName(f"*{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}")


def _steps(lines: Iterable[str]) -> Iterator[tuple[bool, set[NormalizedName]]]:
    """What the lines say, one after the other: whether names are released, and which; many at once, for they may be."""
    for signed, group in groupby(lines, lambda line: line[0] == "-"):
        yield signed, set(map(NormalizedName, group))


def _unsigned(names: Iterable[str]) -> set[NormalizedName]:
    return {NormalizedName(name[1:]) for name in names}


def _forget(path: Path) -> None:
    """Remove a mark. Raises Unavailable."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise disk.translate(error) from error


def _opened(path: Path) -> BinaryIO:
    return open(os.open(path, disk.READ), "rb")


def _write(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Make a file, whole and durable. Raises OSError, FileExistsError if it is there and not to be replaced."""
    with disk.staged(path.parent, [data]) as staged:
        disk.place(staged.path, path, overwrite=overwrite)
    disk.sync_folder(path.parent)


def _lines(data: bytes, start: int) -> tuple[list[str], int]:
    """The lines of what stands in a file from `start`, and how many bytes they are. Raises ValueError for damage."""
    # What follows the last line end is being written, or was when the machine stopped.
    data = data[: data.rfind(b"\n") + 1]
    head = 0 if start else data.find(b"\n") + 1
    if (not start and data[:1] != b"#") or b"\n\n" in data or data[head:].translate(None, _LETTERS):
        raise ValueError("is damaged")
    return data[head:].decode("ascii").splitlines(), len(data)


def _reason(error: Exception) -> str:
    problem = error.strerror if isinstance(error, OSError) else None
    return f"cannot be used ({problem})" if problem else str(error)
