"""The file of the records: one SQLite database that is never made anew, never lost and never half written.

It is made at the first change, whole or not at all, and brought up to date
when it is opened. What cannot be read or written is told from what is not
there: nothing is answered from nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from .. import disk
from ..database import Connections, inherit, is_busy, use_wal
from ..errors import Busy, ConfigError, DiskFailed, Invalid, NoSpace, ReadOnly, Unavailable
from .schema import APPLICATION, STEPS, Step

_LOOKS_AGAIN = 1.0  # seconds after which the file is looked at again before something is read
_PATIENCE = 5.0  # seconds that a change of another process is waited for
_NOWHERE = "there is no place for the records of who did what; name one with --state-dir"
_EFFECTIVE = os.access in os.supports_effective_ids
_ROOM = 512 * 1024  # bytes: a new file of records and its log fit
_GONE = "the file of the records (--state-dir) is gone; put it back, or restart the server to begin a new one"

_log = logging.getLogger(__name__)


class _Open(NamedTuple):
    connections: Connections
    file: tuple[int, ...]
    """Device and inode: another file may be put in its place; of one that is only read, what changes with it too."""
    writable: bool
    number: int
    """How many were opened before it."""


class Ledger:
    """The database at `path`; ``None``: there is no place for one. Safe for threads, processes and forks.

    `steps` lead from one schema number to the next. Raises ConfigError for a
    file that is there and is damaged, of a newer schema, or no file of records.
    Where not `changing`, it is only looked at, and stays of the schema it has.
    """

    def __init__(self, path: Path | None, steps: Sequence[Step] = STEPS, *, changing: bool = True) -> None:
        self.path = path
        self._steps, self._changing = steps, changing
        self._lock = threading.Lock()
        self._now: _Open | None = None
        self._closed = self._was_there = False
        self._said, self._looked, self._opens = "", 0.0, 0
        try:
            if path is not None:
                self._opened(make=False)
        except Unavailable as error:
            raise ConfigError(f"{path}: {error}") from error

    def ask(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """The rows of an answer; none while there is no file. Raises Unavailable, and Invalid for what is no text."""
        return self._answer(sql, values)[1]

    def state(self) -> tuple[int, int]:
        """What is another whenever the rows may be, in whichever process: which file it is, and how often it changed.

        Both are this object's own numbers; zero without a file. Raises Unavailable.
        """
        number, rows = self._answer("PRAGMA data_version", ())
        return (number, rows[0][0]) if rows else (0, 0)

    def _answer(self, sql: str, values: Sequence[object]) -> tuple[int, list[Any]]:
        """The number of the open file, and the rows of its answer."""
        while True:
            ready = self._ready()
            if ready is None:
                return 0, []
            try:
                return ready.number, ready.connections.ask(sql, values)
            except (sqlite3.Error, OSError) as error:
                if ready is self._now:  # else it was closed meanwhile, for another that is open now
                    raise _translate(error, "read") from error
            except UnicodeEncodeError:
                raise Invalid("what is looked for in the records is no text in UTF-8") from None

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """What is done with the connection meanwhile is durable at the end, or not done if that raises.

        Raises Unavailable: ReadOnly, NoSpace, Busy or DiskFailed.
        """
        ready = self._ready(make=True)
        try:
            if ready is None or not ready.writable:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            with ready.connections.changing() as connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise _translate(error, "written") from error

    def backup(self, to: Path) -> None:
        """Copy all to a new file as it is at one moment, while others change it; nobody waits.

        Raises ConfigError if there is nothing to copy, or where to is taken or cannot be written, Unavailable.
        """
        if self._ready() is None:
            raise ConfigError("there are no records yet, so there is nothing to copy")
        try:
            if os.path.lexists(to):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            with disk.Staged(to.absolute().parent, mode=0o600) as staged:
                staged.commit()
                with closing(self._connect()) as source, closing(sqlite3.connect(staged.path)) as copy:
                    source.backup(copy)
                    # One file, which can be carried anywhere.
                    copy.execute("PRAGMA journal_mode=DELETE").fetchone()
                disk.place(staged.path, to.absolute(), overwrite=False)
            disk.sync_folder(to.absolute().parent)
        except OSError as error:
            raise ConfigError(f"{to}: {error.strerror or error}") from error
        except sqlite3.Error as error:
            raise _translate(error, "read") from error

    def keep_room(self) -> None:
        """Hold some of the disk beside the file, for what is put on record when the disk is full. Never raises."""
        room = self._room
        if room is None or os.path.exists(room):
            return
        try:
            disk.make_folder(room.parent.absolute(), 0o700)
            with disk.Staged(room.parent, mode=0o600) as staged:
                staged.write(secrets.token_bytes(_ROOM))  # which no file system makes smaller
                staged.commit()
                disk.place(staged.path, room, overwrite=True)
        except OSError as error:
            _log.debug("no room is held for the records: %s", error)

    def give_room(self) -> bool:
        """Let go of the room that is held; whether there was any. Never raises."""
        try:
            if self._room is None:
                return False
            self._room.unlink()
        except OSError:
            return False
        return True

    @property
    def _room(self) -> Path | None:
        return None if self.path is None or not self._changing else self.path.with_name("room")

    def faults(self) -> str:
        """What is wrong inside the file, in SQLite's words; nothing if it is sound. Reads all of it."""
        rows = self.ask("PRAGMA quick_check(1)")
        return "" if not rows or rows[0][0] == "ok" else str(rows[0][0])

    @property
    def version(self) -> int | None:
        """The schema number of the file; ``None`` without one. Raises Unavailable."""
        rows = self.ask("PRAGMA user_version")
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close it. Who asks afterwards hears Unavailable."""
        with self._lock:
            self._closed = True
            if self._now is not None:
                self._now.connections.close()

    def after_fork(self) -> None:
        """In a child process: SQLite connections must neither be used nor closed there."""
        self._lock = threading.Lock()
        if self._now is not None and not self._closed:
            inherit(self._now.connections)
            self._now = None

    def _ready(self, *, make: bool = False) -> _Open | None:
        """The open file; ``None`` if there is none and none is to be made. Raises Unavailable."""
        if self.path is None:
            if make:
                raise ReadOnly(_NOWHERE)
            return None
        now = self._now
        if now is not None and now.writable and not make and time.monotonic() < self._looked + _LOOKS_AGAIN:
            return now  # who only asks need not know at once that the file went
        file = self._file()
        if now is not None and now.file == file and (now.writable or not make):
            self._looked = time.monotonic()
            return now
        if file is None and not make and not self._was_there:
            return None
        with self._lock:
            try:
                return self._opened(make=make)
            except ConfigError as error:
                if str(error) != self._said:
                    _log.error("%s", error)
                self._said = str(error)
                raise DiskFailed("the records cannot be used now; the log of the server says why") from error

    def _file(self) -> tuple[int, ...] | None:
        """Which file is there, and the state of one that is only read; ``None`` if none is. Raises Unavailable."""
        assert self.path is not None
        try:
            status = os.stat(self.path)
        except OSError as error:
            if error.errno in disk.GONE:
                return None
            raise _translate(error, "read") from error
        if self._now is None or self._now.writable:
            return status.st_dev, status.st_ino
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, self._has_log()

    def _has_log(self) -> bool:
        """Whether somebody has the file open, or had it when their machine stopped."""
        return os.path.exists(f"{self.path}-wal")

    def _opened(self, *, make: bool) -> _Open | None:
        """The same, when nobody else opens it. Raises ConfigError for a file that we cannot use."""
        assert self.path is not None
        if self._closed:
            raise DiskFailed("the records are closed: the server stops")
        file = self._file()
        if file is None and self._was_there:
            # A new one beside a server that had another would lose what that knows.
            raise DiskFailed(_GONE)
        try:
            if file is None:
                if not make:
                    return None
                self._make()
                file = self._file()
                if file is None:
                    raise DiskFailed(_GONE)
            now = self._now
            if now is None or now.file != file or not now.writable:
                writable = self._changing and may_write(self.path)
                if now is None or now.file != file or writable:
                    self._opens += 1
                    self._now = _Open(self._checked(writable=writable), file, writable, self._opens)
                    self._now = self._now._replace(file=file[:2] if writable else self._file() or file)
                    if now is not None:
                        now.connections.close()
            self._was_there = True
        except (sqlite3.Error, OSError) as error:
            raise _translate(error, "written" if make else "read") from error
        return self._now

    def _make(self) -> None:
        """Put an empty file of records in place, whole: one without tables is damaged. Raises OSError."""
        assert self.path is not None
        folder = self.path.parent
        disk.make_folder(folder.absolute(), 0o700)
        disk.sweep(folder)
        with disk.Staged(folder, mode=0o600) as staged:
            staged.commit()
            with closing(sqlite3.connect(staged.path, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode=MEMORY").fetchone()  # what a crash leaves is swept away
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("BEGIN")
                _take_steps(connection, 0, self._steps)
                connection.execute("COMMIT")
            try:
                disk.place(staged.path, self.path, overwrite=False)
            except FileExistsError:
                return  # another process was first
        disk.sync_folder(folder)

    def _connect(self, *, writable: bool = False) -> sqlite3.Connection:
        """A connection to the file that is there. Raises sqlite3.Error, and ConfigError for no file of ours."""
        name = quote(os.fsencode(os.path.abspath(self.path or "")))
        # Who only reads leaves nothing beside the file. Where somebody else changes it, SQLite reads what they put
        # there; where it may not, only on the promise that nobody does, which `_file` sees to.
        modes = ("mode=ro", "immutable=1") if self._has_log() else ("immutable=1",)
        modes = ("mode=rw",) if writable else modes
        for mode in modes:
            connection = sqlite3.connect(
                f"file:{name}?{mode}", uri=True, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                self._check_kind(connection)
                if writable:
                    use_wal(connection)
                    connection.execute("PRAGMA synchronous=FULL")
                return connection
            except sqlite3.OperationalError:
                connection.close()
                if mode == modes[-1]:
                    raise
            except BaseException:
                connection.close()
                raise
        raise AssertionError("there is a last mode")

    def _checked(self, *, writable: bool) -> Connections:
        """Connections to a file of records of our schema. Raises ConfigError for any other, and sqlite3.Error."""
        if not os.access(self.path or "", os.R_OK, effective_ids=_EFFECTIVE):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # SQLite does not say why
        try:
            connections = Connections(partial(self._connect, writable=writable), shared=True, patience=_PATIENCE)
        except sqlite3.DatabaseError as error:
            self._refuse_damage(error)
            raise
        try:
            self._bring_up(connections, writable=writable)
        except BaseException as error:
            connections.close()
            if isinstance(error, sqlite3.DatabaseError):
                self._refuse_damage(error)
            raise
        return connections

    def _check_kind(self, connection: sqlite3.Connection) -> None:
        """Raise ConfigError for a file that is none of records, or of a newer schema; nothing in it was changed."""
        version, newest = connection.execute("PRAGMA user_version").fetchone()[0], len(self._steps)
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION or version < 1:
            raise ConfigError(f"{self.path} is no file of records; put it back from a backup, or move it away")
        if version > newest:
            raise ConfigError(
                f"{self.path} is of a newer pypiserver-lite (schema {version}; this one knows {newest}); "
                "run that one, or put a backup of the older one back"
            )

    def _bring_up(self, connections: Connections, *, writable: bool) -> None:
        newest = len(self._steps)
        version = connections.ask("PRAGMA user_version", ())[0][0]
        if version == newest:
            for table in _tables(self._steps):
                connections.ask(f"SELECT * FROM {table} LIMIT 1", ())  # noqa: S608 - a name of ours
            return
        if not self._changing:
            return
        if not writable:
            raise ConfigError(
                f"{self.path} is of an older pypiserver-lite (schema {version}) and cannot be written, which bringing "
                "it up to date needs"
            )
        with connections.changing() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]  # another may have been first
            _take_steps(connection, version, self._steps)

    def _refuse_damage(self, error: sqlite3.DatabaseError) -> None:
        """Raise ConfigError for an error that says that the file is damaged."""
        # SQLite's module has no subclass for damage; every other trouble does have one.
        if type(error) is sqlite3.DatabaseError or "no such table" in str(error):
            raise ConfigError(
                f"{self.path} is damaged ({error}); put a backup back in its place (see: pypiserver-lite records "
                "--help), or move it away and lose what it holds"
            ) from error


def _take_steps(connection: sqlite3.Connection, version: int, steps: Sequence[Step]) -> None:
    for statements in steps[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {max(version, len(steps))}")


def _tables(steps: Sequence[Step]) -> list[str]:
    """The names of the tables that these steps lead to."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        _take_steps(connection, 0, steps)
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return [name for (name,) in rows]


def may_write(path: Path) -> bool:
    """Whether the system lets this user write a file of records, with what SQLite puts beside it, or make one there."""
    # As `Path.exists` does from Python 3.14 on: what lies in a folder that cannot be entered is not there.
    place, there = path, os.path.exists(path)
    while not there and not os.path.exists(place):
        place = place.absolute().parent
    folder = path.parent if there else place
    return (not there or os.access(path, os.W_OK, effective_ids=_EFFECTIVE)) and os.access(
        folder, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE
    )


def _translate(error: sqlite3.Error | OSError, done: str) -> Unavailable:
    """What a failure means for whoever asked; the text names no path."""
    where = "the folder of --state-dir"
    if isinstance(error, OSError):
        text = os.strerror(error.errno) if error.errno else "unknown error"
        full, readonly = (
            error.errno in (errno.ENOSPC, errno.EDQUOT),
            error.errno in (*(errno.EROFS, errno.EACCES, errno.EPERM),),
        )
    else:
        text = str(error)
        if is_busy(error):
            return Busy("others write the records at this moment; try again shortly")
        full, readonly = "is full" in text, "readonly" in text
    if full:
        return NoSpace(f"the disk of the records ({where}) is full, and nothing is done that they cannot hold")
    if readonly and done == "written":
        return ReadOnly(f"the records of who did what cannot be written ({where}), and nothing is done without them")
    if readonly:
        return DiskFailed(f"the records ({where}) cannot be read by this user, only by the server's")
    return DiskFailed(f"the records ({where}) cannot be {done} now ({text}); try again later")
