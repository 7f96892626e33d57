"""SQLite files: open connections that threads share, and the databases of what can be had again.

Such a `Database` is shared by processes, deletable at any time, and never the
reason of a failure: one that is corrupt or cannot be written costs time only.
What cannot be had again is in `records`, over the same `Connections`.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from . import disk

_PATIENCE = 5.0
_log = logging.getLogger(__name__)


class Layout(NamedTuple):
    """What is in a database."""

    version: int
    """Of the tables; one that holds another is made anew."""
    tables: Mapping[str, str]
    """Each table's name and what follows it where it is made."""
    holds: str
    """What is lost without it, for the log: ``facts``."""


class Database:
    """A database at `path`, or in this process's memory if that is ``None``.

    Safe for threads and processes. A database that is corrupt is replaced by
    an empty one; one that cannot be used is replaced by memory; either is
    said once. Never raises for what the disk does.
    """

    def __init__(self, path: Path | None, layout: Layout) -> None:
        self._path, self._layout = path, layout
        self._warned = self._closed = False
        self._repair = threading.Lock()
        self._open = self._opened()

    def ask(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """The rows of an answer; none if there is trouble."""
        database = self._open
        try:
            return database.ask(sql, values)
        except _TROUBLE as error:
            self._failed(database, error)
            return []

    def change(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Do the same with each of some rows, all or none."""
        database = self._open
        try:
            database.change(sql, rows)
        except _TROUBLE as error:
            self._failed(database, error)

    def state(self) -> tuple[int, int]:
        """Something that changes whenever the rows do, in whichever process."""
        others = self.ask("PRAGMA data_version")
        return (others[0][0] if others else 0), self._open.changes

    def close(self) -> None:
        """Close it. Whoever still asks finds nothing."""
        self._closed = True
        self._open.close()

    def after_fork(self) -> None:
        """In a child process: SQLite connections must neither be used nor closed there, so new ones are opened."""
        inherit(self._open)
        self._repair = threading.Lock()
        if not self._closed:
            self._open = self._opened()

    def _opened(self) -> Connections:
        """The database, made anew if it is damaged, or as the last resort memory."""
        for _ in range(2):
            try:
                return self._connections(self._path)
            except (sqlite3.DatabaseError, OSError) as error:
                self._recover(error)
        self._path = None
        return self._connections(None)

    def _connections(self, path: Path | None) -> Connections:
        if path is not None:
            disk.make_folder(path.parent, 0o700)
            # What it tells of private projects is nobody else's affair. SQLite gives its other files the same rights.
            path.touch(mode=0o600)
            path.chmod(0o600)
            disk.give(path, like=path.parent)
        return Connections(partial(_connection, path, self._layout), shared=path is not None)

    def _recover(self, error: Exception) -> None:
        """Have what is damaged out of the way, or go on in memory: what is not stored is found out again."""
        # SQLite's module has no subclass for damage; every other trouble does have one.
        damaged = type(error) is sqlite3.DatabaseError and self._delete()
        kept = f"cannot be used (%s); {self._layout.holds} are kept in memory only"
        if not self._warned:
            _log.warning(f"%s {'is damaged (%s); it is made anew' if damaged else kept}", self._path, error)
        self._warned = True
        self._path = self._path if damaged else None

    def _delete(self) -> bool:
        try:
            for suffix in ("", "-wal", "-shm", "-journal"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def _failed(self, database: Connections, error: sqlite3.Error) -> None:
        if is_busy(error):
            _log.debug("the database of %s is busy: %s", self._layout.holds, error)
            return
        with self._repair:
            if database is self._open and not self._closed and self._path is not None:
                database.close()
                self._recover(error)
                self._open = self._opened()


class Connections:
    """What `connect` opens, for any number of threads.

    Two connections to a database that is `shared` with other processes, so
    that nobody who asks waits behind a transaction of theirs, else one.
    `patience`: seconds that a change waits for those of other threads.
    Raises what `connect` raises.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, shared: bool, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._connections: list[sqlite3.Connection] = []
        for _ in range(2 if shared else 1):
            self._connections.append(connect())
        self._reader, self._writer = self._connections[0], self._connections[-1]
        self._reads = self._writes = threading.Lock()
        if shared:
            self._writes = threading.Lock()

    @property
    def changes(self) -> int:
        """How many rows were changed here."""
        return self._writer.total_changes

    def ask(self, sql: str, values: Sequence[object]) -> list[Any]:
        """The rows of an answer."""
        with self._reads:
            return self._reader.execute(sql, values).fetchall()

    def change(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Do the same with each of some rows, all or none."""
        if rows:
            with self.changing() as connection:
                connection.executemany(sql, rows)

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """What is done with the connection meanwhile is done at its end, or not at all if that raises.

        Raises OperationalError, of which `is_busy` is true, if others are in the way for too long.
        """
        # Each who waits for another process would be waited for by all behind it, one after the other.
        if not self._writes.acquire(timeout=self._patience):
            raise sqlite3.OperationalError("busy: changes of other threads wait")
        try:
            # A deferred transaction fails at once under contention instead of waiting its turn.
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
        finally:
            self._writes.release()

    def close(self) -> None:
        """Close it as soon as nobody is in the middle of using it; who comes later is told so."""
        with self._reads:
            self._reader.close()
        with self._writes:
            self._writer.close()

    def __del__(self) -> None:
        # Whoever drops an application without closing it leaves no open database behind.
        for connection in self._connections:
            connection.close()


_TROUBLE = (sqlite3.DatabaseError, sqlite3.InterfaceError)
_inherited: list[Connections] = []
"""Those of the process that this one was forked from, never let go."""


def inherit(connections: Connections) -> None:
    """In a child process: SQLite connections of its parent must neither be used nor closed there."""
    _inherited.append(connections)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process was in the way, for longer than SQLite waited."""
    return isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "busy" in str(error))


def _connection(path: Path | None, layout: Layout) -> sqlite3.Connection:
    connection = sqlite3.connect(
        ":memory:" if path is None else path, timeout=1, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection, layout)
    except BaseException:
        connection.close()
        raise
    return connection


def use_wal(connection: sqlite3.Connection) -> None:
    """Have changes written to a log first, so that readers and a writer do not wait for each other, where that can be.

    Raises OperationalError if another process is in the way for 2 seconds.
    """
    for patience in range(100, -1, -1):
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            # Two processes that start at once collide here, and SQLite's own patience does not cover it.
            if not is_busy(error) or not patience:
                raise
            time.sleep(0.02)


def _prepare(connection: sqlite3.Connection, layout: Layout) -> None:
    use_wal(connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    # Taking the write lock finds now what would fail later: a damaged file, or one we may not write.
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] != layout.version:
        for table, columns in layout.tables.items():
            connection.execute(f"DROP TABLE IF EXISTS {table}")
            connection.execute(f"CREATE TABLE {table} {columns}")
        connection.execute(f"PRAGMA user_version={layout.version}")
    for table in layout.tables:
        connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608 - a name of ours
    connection.execute("COMMIT")
