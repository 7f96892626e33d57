"""Names once had stay ours: which projects the folders ever had, in a small file beside them.

A name whose last file is gone is *kept*: nobody else may be asked for it
until an operator releases it, or whoever takes that name elsewhere would be
installed in its place (dependency confusion).

The file is a log with a name in each line; ``-NAME`` releases one, and ``-*``
all of those before it: the operator says that the folders are meant to be as
they are. It is only ever appended to, so that it may be shared by processes
and read by its new lines alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from threading import Lock

from packaging.utils import NormalizedName

from .. import disk
from ..errors import ConfigError, Unavailable

FOLDER, FILE = ".pypiserver-lite", "names"
"""Where the file lies below the first packages folder."""

_HEAD = b"# Names that this index has or had; nobody else is asked for them. See: pypiserver-lite names --help\n"
_ALL = "-*"
_LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789-*\n"
_log = logging.getLogger(__name__)


class Names:
    """The names that were ever in `live`, kept below the folder `root`. Safe for threads and processes.

    `live` holds the names that have files now; whoever changes it says so
    with `went` and `came`. Where the file cannot be written, names are kept
    in this process's memory, and that is said once.
    """

    def __init__(self, root: str, live: Mapping[NormalizedName, object]) -> None:
        self._path, self._live = Path(root, FOLDER, FILE), live
        self._lock = Lock()
        self._kept: set[NormalizedName] = set()
        self._unwritten: set[NormalizedName] = set()
        self._file: tuple[int, int] | None = None
        self._end = 0
        self._said: set[str] = set()
        self.cleared = 0
        """How often an operator said that the folders are meant to be as they are."""

    @property
    def recorded(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def load(self) -> None:
        """Read the file, for the first time. Raises ConfigError if it is damaged or cannot be read."""
        disk.sweep(self._path.parent)
        try:
            with self._lock:
                self._read()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self._path} tells which names are this index's own, and {_reason(error)}; mend it. Without it, "
                "projects that have no files here any more would be looked for upstream"
            ) from error

    def keeps(self, name: NormalizedName) -> bool:
        """Whether a name that has no files now was had once and never released."""
        if name not in self._kept:
            return False
        self.look()
        return name in self._kept

    def kept(self) -> tuple[NormalizedName, ...]:
        """All of them, sorted."""
        self.look()
        return tuple(sorted(self._kept))

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

    def look(self) -> None:
        """See what other processes, and operators, wrote."""
        self._attempt(self._read)

    def write(self) -> None:
        """Record what is not recorded yet."""
        if self._unwritten:
            self._attempt(self._append)

    def release(self, names: Iterable[NormalizedName] | None) -> None:
        """Keep these names no more, or with ``None`` none that has no files now.

        Raises Unavailable if the file cannot be written.
        """
        lines = [_ALL, *sorted(self._live)] if names is None else [f"-{name}" for name in names]
        try:
            with self._lock:
                self._append(lines)
        except OSError as error:
            raise disk.translate(error) from error
        except ValueError as error:
            raise Unavailable(f"the file of names {_reason(error)}") from error

    def after_fork(self) -> None:
        """In a child process: whoever held the lock is not here."""
        self._lock = Lock()

    # --- the file

    def _attempt(self, work: Callable[[], None]) -> None:
        """Do it, or go on with what is in memory and say once why."""
        try:
            with self._lock:
                work()
        except (OSError, ValueError, Unavailable) as error:
            if (problem := _reason(error)) not in self._said:
                self._said.add(problem)
                _log.warning("%s %s; names whose last file goes are kept until this process ends", self._path, problem)

    def _read(self) -> None:
        """Take in what is new in the file. Raises OSError, ValueError if it is damaged."""
        try:
            with open(os.open(self._path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
                status = os.fstat(file.fileno())
                if ((status.st_dev, status.st_ino), status.st_size) == (self._file, self._end):
                    return
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
                self._unwritten.update(self._live, self._kept)
            return
        # What follows the last line end is being written, or was when the machine stopped.
        data = data[: data.rfind(b"\n") + 1]
        head = 0 if start else data.find(b"\n") + 1
        if (not start and data[:1] != b"#") or b"\n\n" in data or data[head:].translate(None, _LETTERS):
            raise ValueError("is damaged")
        if not start:
            self._unwritten.update(self._live, self._kept)
        self._file, self._end = (status.st_dev, status.st_ino), start + len(data)
        self._take(data[head:].decode("ascii").splitlines())
        lost = before.difference(self._kept, self._live)
        self._kept |= lost
        self._unwritten |= lost

    def _take(self, lines: Iterable[str]) -> None:
        """Do as the lines say, one after the other; names that follow each other at once, for they may be many."""
        for signed, group in groupby(lines, lambda line: line[0] == "-"):
            names = set(map(NormalizedName, group))
            if not signed:
                self._unwritten -= names
                self._kept |= names - self._live.keys()
            elif _ALL in names:
                self._kept.clear()
                self._unwritten = set(self._live)
                self.cleared += 1
            else:
                released = {NormalizedName(name[1:]) for name in names}
                self._kept -= released
                self._unwritten -= released

    def _append(self, lines: Iterable[str] = ()) -> None:
        """Add what is not written yet, and these lines; then take them in. Raises OSError, ValueError, Busy."""
        folder = self._path.parent
        folder.mkdir(exist_ok=True)
        with disk.exclusive(folder):
            self._read()
            text = "".join(f"{line}\n" for line in (*sorted(self._unwritten), *lines)).encode("ascii")
            if self._file is None:
                with disk.Staged(folder) as staged:
                    staged.write(_HEAD + text)
                    staged.commit()
                    disk.place(staged.path, self._path, overwrite=False)
                disk.sync_folder(folder)
            elif text:
                self._extend(text)
            self._read()

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


def _reason(error: Exception) -> str:
    problem = error.strerror if isinstance(error, OSError) else None
    return f"cannot be used ({problem})" if problem else str(error)
