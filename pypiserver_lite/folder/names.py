"""Names once had stay ours: which projects the folders ever had, in a small file beside them.

A name whose last file is gone is *kept*: nobody else may be asked for it
until an operator releases it, or whoever takes that name elsewhere would be
installed in its place (dependency confusion).

They are written to a log, the *record*, in the first folder. Each other
folder that had files is marked with such a file of its own, with the first
folder in it: one that had files and is now empty without its mark is not the
folder that it was.

A folder that is not the first may have been the first elsewhere, or be so
for another server. What its file keeps is kept here too, and written in the
first's, unless the first's has that name already: what the first's says last
of a name holds. So a release holds for all folders that are served together,
and is none for whoever serves one of the others alone.

Where the first folder cannot be written, what its file lacks is in a copy in
the cache folder, which is taken in like another folder's file. A mark beside
it stands for a folder that a link leads to and that had files: the link may
lead to another one at the next start.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock

from packaging.utils import NormalizedName

from .. import disk
from ..errors import ConfigError, Unavailable
from . import record

FOLDER, FILE = ".pypiserver-lite", "names"
"""Where the file lies below a packages folder; the first's is the record, the others' are marks, or were records."""

_HAD_FILES = "had-files"
_MARK = b"# Marks a packages folder; where it is missing, an empty folder may be one whose disk is not mounted.\n"
_log = logging.getLogger(__name__)


class Names:
    """The names that were ever in `live`, kept below the first of the folders `roots`. Safe for threads and processes.

    `live` holds the names that have files now; whoever changes it says so
    with `went` and `came`, and with `filled` which folders have any. Where the file cannot be written, names are kept
    in a copy below the folder `copies`, or without one in this process's memory, and that is said once.
    """

    def __init__(self, roots: Sequence[str], live: Mapping[NormalizedName, object], copies: Path | None = None) -> None:
        self._roots, self._live = tuple(map(record.sign, roots)), live
        self._path, *self._marks = (Path(root, FOLDER, FILE) for root in roots)
        self._copy = copies / self._roots[0][1:] / FILE if copies is not None else None
        self._others = self._marks if self._copy is None else [*self._marks, self._copy]
        self._links = [
            copies / sign[1:] / _HAD_FILES if copies is not None and os.path.realpath(root) != root else None
            for sign, root in zip(self._roots, roots, strict=True)
        ]
        self._unlinked: set[Path] = set()
        self._copied: set[NormalizedName] = set()
        self._lock, self._writing = Lock(), Lock()
        """Pages need the first; who has the second waits for the disk."""
        self._kept: set[NormalizedName] = set()
        self._unwritten: set[NormalizedName] = set()
        self._full: set[NormalizedName] = set()
        self._released: set[NormalizedName] = set()
        self._unmarked: list[Path] = []
        self._places: dict[Path, record.Place] = {}
        self._said: set[str] = set()
        self.cleared = 0
        """How often an operator said that the folders are meant to be as they are."""
        self.unsure = False
        """Whether another root has a file that could never be read: nobody can say which names it keeps."""

    @property
    def recorded(self) -> bool:
        """Whether there is a file."""
        return self._path in self._places

    def load(self) -> None:
        """Read the file, for the first time. Raises ConfigError if it is damaged or cannot be read."""
        path = self._path
        try:
            with self._lock:
                disk.sweep(path.parent)
                self._read()
                for path in self._others:
                    disk.sweep(path.parent)
                    try:
                        self._adopt(path)
                    except OSError as error:
                        if path == self._copy:
                            raise
                        self.unsure = True
                        self._say(path, _reason(error), "what is not here is refused, for it may keep that name")
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

    def recall(self, names: Iterable[NormalizedName]) -> None:
        """Somebody else remembers that these were here once, and no file says what became of them."""
        with self._lock:
            new = set(names).difference(self._live, self._full, self._kept, self._released)
            self._kept |= new
            self._unwritten |= new

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
        with self._lock:
            self._attempt(self._read)
        for path in self._others:
            try:
                with self._lock:
                    self._adopt(path)
            except (OSError, ValueError) as error:
                self._say(path, _reason(error), "names that it keeps from now on are not known")
                return
        self.unsure = False

    def write(self, *, marks: bool, wait: bool = True) -> None:
        """Record what is not recorded yet; with `marks`, mark the roots that are recorded.

        One writes for all who `wait` meanwhile; who does not leaves it to that one.
        """
        if not self._writing.acquire(blocking=wait):
            return
        try:
            self._write(marks=marks)
        finally:
            self._writing.release()

    def _write(self, *, marks: bool) -> None:
        for _ in range(2):  # once more for who did not wait
            if self._unwritten and not self._attempt(self._append):
                if self._copy is not None:
                    self._attempt(partial(self._append_to_copy, self._copy))
                break
        for path in self._unlinked if marks else ():
            try:
                if not path.exists():
                    disk.make_folder(path.parent, 0o700)
                    path.touch()
                    disk.give(path, like=path.parent)
            except OSError as error:
                self._say(path, _reason(error), "should its link lead to an empty folder one day, nobody notices")
        while marks and self._unmarked and self.recorded:
            path = self._unmarked.pop()
            try:
                if not path.is_file():
                    disk.make_folder(path.parent)
                    record.create(path, _MARK, [self._roots[0]])
            except OSError as error:
                # Another process made it, or where it is empty one day, an operator has to say whether that is meant.
                _log.debug("%s cannot be written: %s", path, error.strerror)

    def release(self, names: Iterable[NormalizedName] | None) -> None:
        """Keep these names no more, or with ``None`` none that has no files now.

        Raises Unavailable if the file cannot be written, and is there or has no copy.
        """
        links = filter(None, self._links if names is None else ())
        every = [record.ALL, *sorted(self._live), *sorted(self._full)]
        lines = every if names is None else [f"-{name}" for name in names]
        try:
            for link in links:
                link.unlink(missing_ok=True)
            with self._writing:
                try:
                    self._append(lines)
                except OSError:
                    if self._copy is None or self.recorded:
                        raise
                    self._append_to_copy(self._copy, lines)
                    with self._lock:
                        self._take(line for line in lines if line[0] == "-")
        except OSError as error:
            raise disk.translate(error) from error
        except ValueError as error:
            raise Unavailable(f"the file of names {_reason(error)}") from error

    def after_fork(self) -> None:
        """In a child process: whoever held the lock is not here."""
        self._lock, self._writing = Lock(), Lock()

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Do it, or go on with what is in memory, say once why, and return false."""
        try:
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

    def _news(self, path: Path, *, tail: bool = False) -> tuple[list[str], int] | None:
        """The lines of a file, and from where on, if it changed since this was asked; ``None`` too if it is not there.

        Raises OSError, ValueError if it is damaged.
        """
        try:
            news = record.read(path, self._places.get(path), tail=tail)
        except (FileNotFoundError, NotADirectoryError):
            self._places.pop(path, None)
            return None
        if news is None:
            return None
        lines, self._places[path], start = news
        return lines, start

    def _read(self) -> None:
        """Take in what is new in the record. Raises OSError, ValueError if it is damaged."""
        known = self.recorded
        news = self._news(self._path, tail=True)
        if known and not self.recorded:
            self._unwritten.update(self._live, self._full, self._kept)
        if news is None:
            return
        lines, start = news
        # Another file than before takes nothing from us; one where none was may.
        before = self._kept.copy() if known and not start else set()
        if not start:
            self._unwritten.update(self._live, self._full, self._kept)
        self._take(lines)
        lost = before.difference(self._kept, self._live, self._full)
        self._kept |= lost
        self._unwritten |= lost

    def _adopt(self, path: Path) -> None:
        """Take in what another root's file, or the copy, says now. Raises OSError, ValueError if it is damaged."""
        news = self._news(path)
        if news is None:
            if path == self._copy and path not in self._places:
                self._copied = set()
            return
        theirs: set[NormalizedName] = set()
        for signed, names in record.steps(news[0]):
            if not signed:
                theirs |= names
            elif record.ALL in names:
                theirs.clear()
            else:
                theirs -= record.unsigned(names)
        if path == self._copy:
            # Nobody but whoever released a name takes it out of there, and one that comes again had files since.
            gone = self._copied - theirs
            self._kept -= gone
            self._unwritten -= gone
            self._released = (self._released | gone) - (theirs - self._copied)
            self._copied = theirs.copy()
        if self.recorded:  # where roots are marked, the record tells; without one, the marks tell what was the first
            theirs = {name for name in theirs if name[0] != "*"}
        new = theirs.difference(self._live, self._full, self._kept, self._released)
        self._kept |= new
        self._unwritten |= new

    def _take(self, lines: Iterable[str]) -> None:
        """Do as the lines say, one after the other."""
        for signed, names in record.steps(lines):
            if not signed:
                self._unwritten -= names
                self._released -= names
                self._kept |= names.difference(self._live, self._full)
            elif record.ALL in names:
                self._released |= self._kept
                self._kept.clear()
                self._unwritten = {*self._live, *self._full}
                self.cleared += 1
            else:
                released = record.unsigned(names)
                self._kept -= released
                self._unwritten -= released
                self._released |= released

    def _append(self, lines: Iterable[str] = ()) -> None:
        """Add what is not written yet, and these lines; then take them in. Raises OSError, ValueError, Busy."""
        disk.make_folder(self._path.parent)
        with disk.exclusive(self._path.parent):
            with self._lock:
                self._read()
                place, new = self._places.get(self._path), sorted(self._unwritten)
            _add(self._path, place, [*new, *lines])
            with self._lock:
                self._read()

    def _append_to_copy(self, path: Path, lines: Iterable[str] = ()) -> None:
        """The same with the copy. Raises OSError, ValueError, Busy."""
        disk.make_folder(path.parent, 0o700)
        with disk.exclusive(path.parent):
            with self._lock:
                self._adopt(path)
                place, new = self._places.get(path), sorted(self._unwritten - self._copied)
            _add(path, place, [*new, *lines])
            with self._lock:
                self._adopt(path)


def _add(path: Path, place: record.Place | None, lines: list[str]) -> None:
    if place is None:
        record.create(path, record.HEAD, lines)
    elif lines:
        record.extend(path, place.end, lines)


def _reason(error: Exception) -> str:
    problem = error.strerror if isinstance(error, OSError) else None
    return f"cannot be used ({problem})" if problem else str(error)
