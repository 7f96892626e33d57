"""What policies have to remember: when files were first seen, and what releases say of their licence.

It is written behind, so that no request waits for a disk. The database may be
deleted at any time; then files whose upload time nobody knows count as new.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

from ..database import Database, Layout
from ..errors import Busy
from ..kept import start
from ..model import File
from .licences import Said

_MOST = 1_000_000  # rows of some fifty bytes; those used longest ago go first, and their files count as new
_MOST_AT_HAND = 50_000
_PORTION = 500  # rows that are read at once
_DELAY = 0.2  # seconds for which rows are gathered before they are written
_DAY = 86_400
_LAYOUT = Layout(
    version=1,
    tables={"remembered": "(key BLOB PRIMARY KEY, value, used INTEGER) WITHOUT ROWID"},
    holds="first sights and licences",
)
# Of two first sights the earlier one holds; one of the future is none.
_WRITE = """
INSERT INTO remembered VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET value = min(value, excluded.value), used = excluded.used
"""
_FORGET = "DELETE FROM remembered WHERE key IN (SELECT key FROM remembered ORDER BY used LIMIT ?)"

_Row = tuple[bytes, object, int]


def key_of(file: File, origin: str, named: str) -> bytes:
    """What stands for a file of a project from `origin` of which something is `named` by a digest.

    Another of its name with other bytes is another file. So is the very same of another origin, for an upstream may
    state a digest of bytes that it does not have.
    """
    text = "\0".join((origin, file.project, file.filename, named))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def digest_in(hashes: Mapping[str, str]) -> str:
    """The digest that names something best; empty if there is none."""
    return hashes.get("sha256") or next(iter(hashes.values()), "")


class Remembered:
    """A memory in a database at `path`, or in this process alone if that is ``None``. Safe for threads and processes.

    `most` bounds its rows.
    """

    def __init__(self, path: Path | None, most: int = _MOST) -> None:
        self._database = Database(path, _LAYOUT)
        self._most = most
        self._lock = threading.Lock()
        self._at_hand: dict[bytes, object] = {}
        self._pending: dict[bytes, _Row] = {}
        self._thread: threading.Thread | None = None
        self._count: int | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_after_fork, weakref.ref(self)))

    def seen(self, files: Iterable[File], now: float, *, origin: str = "", note: bool = True) -> dict[str, float]:
        """When each of some files was first seen at `Project.origin`, by file name, in seconds since 1970.

        It is `now` for those that are new. If `note` is false, these stay new.
        """
        keys = {b"s" + key_of(file, origin, digest_in(file.hashes) or _shape(file)): file.filename for file in files}
        found = self._get(keys, now)
        # What was seen in the future was seen by a clock that was wrong.
        new = [key for key in keys if not isinstance(found.get(key), (int, float)) or float(str(found[key])) > now]
        if note and new:
            self._put([(key, now, int(now)) for key in new])
        fresh = set(new)
        return {name: now if key in fresh else float(str(found[key])) for key, name in keys.items()}

    def said(self, keys: Iterable[bytes], now: float) -> dict[bytes, Said]:
        """What is known to be said of licences, by the keys of files."""
        found = self._get([b"l" + key for key in keys], now)
        texts = {key[1:]: Said.of_text(str(value)) for key, value in found.items()}
        return {key: said for key, said in texts.items() if said is not None}

    def note(self, said: Mapping[bytes, Said], now: float, *, lasting: bool = True) -> None:
        """Remember what is said of licences; only for this process, and not for ever, if that is not `lasting`."""
        rows: list[_Row] = [(b"l" + key, what.text(), int(now)) for key, what in said.items()]
        if lasting:
            self._put(rows)
        else:
            self._hold({key: value for key, value, _ in rows})

    def _get(self, keys: Iterable[bytes], now: float) -> dict[bytes, object]:
        wanted = list(keys)
        at_hand = self._at_hand
        found = {key: at_hand[key] for key in wanted if key in at_hand}
        with self._lock:
            found.update((key, self._pending[key][1]) for key in wanted if key in self._pending)
        missing = iter([key for key in wanted if key not in found])
        used = []
        while some := list(islice(missing, _PORTION)):
            marks = ",".join("?" * len(some))
            for key, value, when in self._database.ask(f"SELECT * FROM remembered WHERE key IN ({marks})", some):  # noqa: S608 - marks only
                found[key] = value
                if not 0 <= now - when < _DAY:
                    used.append((key, value, int(now)))
        self._hold({key: found[key] for key in wanted if key in found})
        self._put(used)
        return found

    def _hold(self, rows: Mapping[bytes, object]) -> None:
        if len(self._at_hand) + len(rows) > _MOST_AT_HAND:
            self._at_hand = {}
        self._at_hand.update(rows)

    def _put(self, rows: list[_Row]) -> None:
        """Have rows written before long."""
        if not rows:
            return
        self._hold({key: value for key, value, _ in rows})
        with self._lock:
            self._pending.update((row[0], row) for row in rows)
            if self._thread is None or not self._thread.is_alive():
                try:
                    self._thread = start("policy", self._write_behind)
                except Busy:
                    return  # the next one tries again

    def _write_behind(self) -> None:
        while True:
            time.sleep(_DELAY)
            if not self._write():
                return

    def _write(self) -> bool:
        """Write what is pending; false, and no thread is at it any more, if that is nothing."""
        with self._lock:
            rows = list(self._pending.values())
            if not rows:
                self._thread = None
                return False
        self._database.change(_WRITE, rows)
        with self._lock:
            for row in rows:
                if self._pending.get(row[0]) is row:
                    del self._pending[row[0]]
        self._bound(len(rows))
        return True

    def _bound(self, more: int) -> None:
        if self._count is None or self._count + more > self._most:
            counted = self._database.ask("SELECT count(*) FROM remembered")
            self._count = counted[0][0] if counted else 0
            if self._count > self._most:
                self._database.change(_FORGET, [(self._count - self._most + self._most // 10,)])
                self._count = self._most * 9 // 10
        else:
            self._count += more

    def close(self) -> None:
        """Write what is left, and close the database."""
        self._write()
        self._database.close()

    def after_fork(self) -> None:
        """In a child process: the thread that writes is not here, and the database is opened anew."""
        self._lock = threading.Lock()
        self._thread = None
        self._pending = {}  # the parent writes them
        self._database.after_fork()


def _shape(file: File) -> str:
    """What tells a file without a digest from others of its name: of an upstream's, its size is all there is."""
    return f"{file.size}" if file.url else f"{file.size} {file.uploaded}"


def _after_fork(ref: weakref.ref[Remembered]) -> None:
    remembered = ref()
    if remembered is not None:
        remembered.after_fork()
