"""What the bytes of files say, read once and remembered in SQLite.

Digests and core metadata need a file's bytes; they are kept by path, size,
modification time and inode, so that a file which changed in any of these is
read again. The database may be deleted at any time, may be shared by several
processes, and one that is corrupt or cannot be written costs time only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from ..database import Database, Layout
from ..kept import Flights
from ..model import FileState, Note
from .facts import Facts, Finding, read

_PORTION = 500  # rows that are read or written at once
_LAYOUT = Layout(
    version=2,
    tables={
        "facts": """(
            path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER,
            hashes TEXT, metadata_sha256 TEXT, requires_python TEXT, summary TEXT
        ) WITHOUT ROWID"""
    },
    holds="facts",
)


class Memory:
    """Facts by key, in a SQLite database at `path`, or in this process's memory if that is ``None``.

    Safe for threads and processes. A database that is corrupt is replaced by
    an empty one; one that cannot be used is replaced by memory; either is
    said once. Never raises for what the disk does.
    """

    def __init__(self, path: Path | None) -> None:
        self._database = Database(path, _LAYOUT)

    def get(self, keys: Iterable[FileState]) -> dict[FileState, Facts]:
        """The facts of those keys that are known."""
        wanted = {os.fsencode(key.path): key for key in keys}
        paths, found = iter(wanted), {}
        while some := list(islice(paths, _PORTION)):
            marks = ",".join("?" * len(some))
            for row in self._database.ask(f"SELECT * FROM facts WHERE path IN ({marks})", some):  # noqa: S608 - marks only
                key = wanted[row[0]]
                if key[1:] == row[1:4]:
                    hashes = dict(pair.split("=", 1) for pair in row[4].split())
                    found[key] = Facts(hashes, *row[5:])
        return found

    def put(self, rows: Mapping[FileState, Facts]) -> None:
        """Remember facts; each path has one state, the last."""
        self._database.change(
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
        after, end = _below(folder)
        ask = "SELECT path, mtime_ns, summary FROM facts WHERE path > ? AND path < ? ORDER BY path LIMIT ?"
        while rows := self._database.ask(ask, (after, end, _PORTION)):
            for path, mtime_ns, summary in rows:
                yield Note(os.fsdecode(path), mtime_ns, summary)
            after = rows[-1][0]
            time.sleep(0.001)

    def size(self, folder: str) -> int:
        """Bytes of the files below a folder that are known."""
        rows = self._database.ask("SELECT total(size) FROM facts WHERE path > ? AND path < ?", _below(folder))
        return int(rows[0][0]) if rows else 0

    def state(self) -> tuple[int, int]:
        """Something that changes whenever facts do, in whichever process."""
        return self._database.state()

    def forget(self, paths: Iterable[str]) -> None:
        """Drop what is known of these paths."""
        rows = ((os.fsencode(path),) for path in paths)
        while some := list(islice(rows, _PORTION)):
            self._database.change("DELETE FROM facts WHERE path = ?", some)

    def close(self) -> None:
        """Close the database. Whoever still asks finds nothing."""
        self._database.close()

    def after_fork(self) -> None:
        """In a child process: connections must neither be used nor closed there, so new ones are opened."""
        self._database.after_fork()


def _below(folder: str) -> tuple[bytes, bytes]:
    """What the paths of all that is below a folder lie between."""
    begin = os.fsencode(folder.rstrip(os.sep) + os.sep)
    return begin, begin[:-1] + bytes([begin[-1] + 1])


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
