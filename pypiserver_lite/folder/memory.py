"""What the bytes of files say, read once and remembered in SQLite.

Digests and core metadata need a file's bytes; they are kept by path, size,
modification time and inode, so that a file which changed in any of these is
read again. The database may be deleted at any time, may be shared by several
processes, and one that is corrupt or cannot be written costs time only.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..kept import Flights
from ..model import FileState, Note
from .facts import Facts, Finding, read

_log = logging.getLogger(__name__)

_PORTION = 500  # rows that are read or written at once
_VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER,
    hashes TEXT, metadata_sha256 TEXT, requires_python TEXT, summary TEXT
) WITHOUT ROWID
"""


class Memory:
    """Facts by key, in a SQLite database at `path`, or in this process's memory if that is ``None``.

    Safe for threads and processes. A database that is corrupt is replaced by
    an empty one; one that cannot be used is replaced by memory; either is
    said once. Never raises for what the disk does.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._warned = self._closed = False
        self._repair = threading.Lock()
        self._database = self._opened()

    def _opened(self) -> _Database:
        """The database, made anew if it is damaged, or as the last resort memory."""
        for _ in range(2):
            try:
                return _Database(self._path)
            except (sqlite3.DatabaseError, OSError) as error:
                self._recover(error)
        self._path = None
        return _Database(None)

    def _recover(self, error: Exception) -> None:
        """Have what is damaged out of the way, or go on in memory: what is not stored is read again."""
        # SQLite's module has no subclass for damage; every other trouble does have one.
        damaged = type(error) is sqlite3.DatabaseError and self._delete()
        result = "is damaged (%s); it is made anew" if damaged else "cannot be used (%s); facts are kept in memory only"
        if not self._warned:
            _log.warning(f"%s {result}", self._path, error)
        self._warned = True
        self._path = self._path if damaged else None

    def _delete(self) -> bool:
        try:
            for suffix in ("", "-wal", "-shm", "-journal"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def get(self, keys: Iterable[FileState]) -> dict[FileState, Facts]:
        """The facts of those keys that are known."""
        wanted = {os.fsencode(key.path): key for key in keys}
        paths, found = iter(wanted), {}
        while some := list(islice(paths, _PORTION)):
            marks = ",".join("?" * len(some))
            for row in self._ask(f"SELECT * FROM facts WHERE path IN ({marks})", some):  # noqa: S608 - marks only
                key = wanted[row[0]]
                if key[1:] == row[1:4]:
                    hashes = dict(pair.split("=", 1) for pair in row[4].split())
                    found[key] = Facts(hashes, *row[5:])
        return found

    def put(self, rows: Mapping[FileState, Facts]) -> None:
        """Remember facts; each path has one state, the last."""
        self._change(
            "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(os.fsencode(key.path), *key[1:]),
                    " ".join(f"{name}={digest}" for name, digest in facts.hashes.items()),
                    facts.metadata_sha256,
                    facts.requires_python,
                    facts.summary,
                )
                for key, facts in rows.items()
            ],
        )

    def notes(self, folder: str) -> Iterator[Note]:
        """What a list of files shows of those below a folder, by their paths; for background work, in portions."""
        after = os.fsencode(folder.rstrip(os.sep) + os.sep)
        end = after[:-1] + bytes([after[-1] + 1])
        ask = "SELECT path, mtime_ns, summary FROM facts WHERE path > ? AND path < ? ORDER BY path LIMIT ?"
        while rows := self._ask(ask, (after, end, _PORTION)):
            for path, mtime_ns, summary in rows:
                yield Note(os.fsdecode(path), mtime_ns, summary)
            after = rows[-1][0]
            time.sleep(0.001)

    def state(self) -> tuple[int, int]:
        """Something that changes whenever facts do, in whichever process."""
        others = self._ask("PRAGMA data_version", ())
        return (others[0][0] if others else 0), self._database.changes

    def forget(self, paths: Iterable[str]) -> None:
        """Drop what is known of these paths."""
        rows = ((os.fsencode(path),) for path in paths)
        while some := list(islice(rows, _PORTION)):
            self._change("DELETE FROM facts WHERE path = ?", some)

    def close(self) -> None:
        """Close the database. Whoever still asks finds nothing."""
        self._closed = True
        self._database.close()

    def after_fork(self) -> None:
        """In a child process: SQLite connections must neither be used nor closed there, so new ones are opened."""
        _inherited.append(self._database)
        self._repair = threading.Lock()
        if not self._closed:
            self._database = self._opened()

    def _ask(self, sql: str, values: Sequence[object]) -> list[Any]:
        database = self._database
        try:
            return database.ask(sql, values)
        except _TROUBLE as error:
            self._failed(database, error)
            return []

    def _change(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        database = self._database
        try:
            database.change(sql, rows)
        except _TROUBLE as error:
            self._failed(database, error)

    def _failed(self, database: _Database, error: sqlite3.Error) -> None:
        if _is_busy(error):
            _log.debug("the database of facts is busy: %s", error)
            return
        with self._repair:
            if database is self._database and not self._closed and self._path is not None:
                database.close()
                self._recover(error)
                self._database = self._opened()


class _Database:
    """An open database with our table, at `path` or in memory.

    Raises OSError and OperationalError if it cannot be used, DatabaseError if it is damaged.
    """

    def __init__(self, path: Path | None) -> None:
        self._connections: list[sqlite3.Connection] = []
        if path is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Summaries of private projects are nobody else's affair. SQLite gives its other files the same rights.
            path.touch(mode=0o600)
            path.chmod(0o600)
        # Two connections, so that nobody who asks waits behind a transaction of another process.
        for _ in range(1 if path is None else 2):
            self._connections.append(_connection(path))
        self._reader, self._writer = self._connections[0], self._connections[-1]
        self._reads = self._writes = threading.Lock()
        if path is not None:
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
        if not rows:
            return
        with self._writes:
            # A deferred transaction fails at once under contention instead of waiting its turn.
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                self._writer.executemany(sql, rows)
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")

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
_inherited: list[_Database] = []
"""Those of the process that this one was forked from, never let go."""


def _is_busy(error: sqlite3.Error) -> bool:
    return isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "busy" in str(error))


def _connection(path: Path | None) -> sqlite3.Connection:
    connection = sqlite3.connect(
        ":memory:" if path is None else path, timeout=1, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    for patience in range(100, -1, -1):
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            # Two processes that start at once collide here, and SQLite's own patience does not cover it.
            if not _is_busy(error) or not patience:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous=NORMAL")
    # Taking the write lock finds now what would fail later: a damaged file, or one we may not write.
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        connection.execute("DROP TABLE IF EXISTS facts")
        connection.execute(_SCHEMA)
        connection.execute(f"PRAGMA user_version={_VERSION}")
    connection.execute("SELECT * FROM facts LIMIT 1").fetchone()
    connection.execute("COMMIT")


class Reader:
    """Facts from the memory, or else from the files; each file is read by one thread at a time.

    `extra` algorithms are worked out in the same pass, but no file is read for them alone.
    """

    def __init__(self, memory: Memory, algorithms: Sequence[str], extra: Sequence[str] = ()) -> None:
        self._memory = memory
        self.algorithms = tuple(dict.fromkeys(algorithms))
        self._readings: Flights[str, Finding] = Flights()
        self.extra = tuple(name for name in extra if name not in self.algorithms)

    def known(self, keys: Iterable[FileState]) -> dict[FileState, Facts]:
        """Those that need no reading."""
        found = self._memory.get(keys)
        return {key: facts for key, facts in found.items() if facts.hashes.keys() >= set(self.algorithms)}

    def read(self, key: FileState, filename: str) -> Finding:
        """Read a file, or wait for another thread that does. Raises OSError, Changing, Late."""
        return self._readings.do(key.path, lambda: self._read(key.path, filename))

    def _read(self, path: str, filename: str) -> Finding:
        finding = read(path, filename, (*self.algorithms, *self.extra))
        if finding.settled:
            self._memory.put({finding.key: finding.facts})
        return finding

    def remember(self, key: FileState, facts: Facts) -> None:
        """Facts that the caller knows already."""
        self._memory.put({key: facts})

    def after_fork(self) -> None:
        """In a child process: whoever held a lock or was reading is not here."""
        self._readings = Flights()
        self._memory.after_fork()
