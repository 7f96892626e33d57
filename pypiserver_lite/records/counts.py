"""How often files are downloaded: by file and day, counted in memory and written now and then."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta

from ..errors import Unavailable
from .ledger import Ledger

_MOST = 50_000  # files that wait to be written; one that is not among them is not counted meanwhile
_DAYS = 400  # for which days are told apart
_EPOCH = date(1970, 1, 1)

_Key = tuple[str, str, str, int]


class Counts:
    """Downloads in a `ledger`; `later` is told when there is something to `flush`. Safe for threads and processes.

    Days are UTC's. What a process that is killed has not written is lost.
    """

    def __init__(self, ledger: Ledger, later: Callable[[], None], clock: Callable[[], float] = time.time) -> None:
        self._ledger, self._later, self._clock = ledger, later, clock
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._waiting = Counter[_Key]()
        self._folded = 0

    def count(self, index: str, project: str, filename: str) -> None:
        """One more download of a file. Never raises, never waits for a disk."""
        if self._ledger.path is None:
            return
        key = index, project, filename, self._today()
        with self._lock:
            if key in self._waiting or len(self._waiting) < _MOST:
                self._waiting[key] += 1
        self._later()

    def per_day(self, index: str | None = None, project: str | None = None, days: int = 30) -> list[tuple[date, int]]:
        """Downloads on each of the last `days`, today the last; of an index or a project alone if given.

        Raises Unavailable.
        """
        first = self._today() - days + 1
        found = Counter[int]()
        where, values = _where(index, project)
        found.update(
            dict(
                self._ledger.ask(
                    f"SELECT day, sum(count) FROM downloads WHERE day >= ? {where} GROUP BY day",  # noqa: S608
                    (first, *values),
                )
            )
        )
        for (place, name, _, day), count in self._pending().items():
            if index in (None, place) and project in (None, name):
                found[day] += count
        return [(_EPOCH + timedelta(days=day), found[day]) for day in range(first, first + days)]

    def of_files(self, index: str, project: str) -> dict[str, int]:
        """All downloads so far of the files of a project, by file name. Raises Unavailable."""
        found = Counter[str]()
        found.update(
            dict(
                self._ledger.ask(
                    "SELECT filename, sum(count) FROM downloads WHERE place = ? AND project = ? GROUP BY filename",
                    (index, project),
                )
            )
        )
        for (place, name, filename, _), count in self._pending().items():
            if (place, name) == (index, project):
                found[filename] += count
        return dict(found)

    def most(self, index: str | None, n: int, days: int = 30) -> list[tuple[str, int]]:
        """The `n` projects with most downloads in the last `days`, each with how many; of all indexes with ``None``.

        Raises Unavailable.
        """
        first = self._today() - days + 1
        where, values = _where(index, None)
        found = Counter[str]()
        found.update(
            dict(
                self._ledger.ask(
                    f"SELECT project, sum(count) FROM downloads WHERE day >= ? {where} GROUP BY project",  # noqa: S608
                    (first, *values),
                )
            )
        )
        for (place, name, _, day), count in self._pending().items():
            if index in (None, place) and day >= first:
                found[name] += count
        return sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:n]

    def flush(self) -> None:
        """Write what was counted. Raises Unavailable; then it waits on."""
        with self._lock:
            some, self._waiting = self._waiting, Counter[_Key]()
        if not some:
            return
        try:
            with self._ledger.changing() as connection:
                connection.executemany(
                    "INSERT INTO downloads VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (place, project, filename, day) DO UPDATE SET count = count + excluded.count",
                    [(*key, count) for key, count in some.items()],
                )
                if self._folded != self._today():
                    old = self._today() - _DAYS
                    connection.execute(
                        "INSERT INTO downloads SELECT place, project, filename, 0, sum(count) FROM downloads "
                        "WHERE day BETWEEN 1 AND ? GROUP BY place, project, filename "
                        "ON CONFLICT (place, project, filename, day) DO UPDATE SET count = count + excluded.count",
                        (old,),
                    )
                    connection.execute("DELETE FROM downloads WHERE day BETWEEN 1 AND ?", (old,))
        except Unavailable:
            with self._lock:
                self._waiting.update(some)
            raise
        self._folded = self._today()

    def after_fork(self) -> None:
        """In a child process: what waits is its parent's to write."""
        self._forget()

    def _pending(self) -> Counter[_Key]:
        with self._lock:
            return self._waiting.copy()

    def _today(self) -> int:
        return int(self._clock() // 86400)


def _where(index: str | None, project: str | None) -> tuple[str, list[str]]:
    given = [(column, value) for column, value in (("place", index), ("project", project)) if value is not None]
    return "".join(f" AND {column} = ?" for column, _ in given), [value for _, value in given]
