"""Owners: who published a project first, and whoever an admin added."""

from __future__ import annotations

import time
from collections.abc import Callable

from .ledger import Ledger

CLAIM = 600
"""Seconds that a claim holds while nothing is heard of its upload: what is published has arrived before."""


class Owners:
    """The owners of projects in a `ledger`. Safe for threads and processes: each question asks the file."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger, self._clock = ledger, clock

    def of(self, index: str, project: str, *, lapsed: bool = False) -> frozenset[str]:
        """The owners of a project in an index. Raises Unavailable.

        Also whose claims neither ended nor are older than `CLAIM`: a server may
        have been killed meanwhile. With `lapsed` older ones too: where there
        are files, they were published all the same.
        """
        rows = self._ledger.ask(
            "SELECT user FROM owners WHERE place = ? AND project = ? AND (settled = 1 OR ? OR abs(moment - ?) < ?)",
            (index, project, lapsed, self._now(), CLAIM * 1_000_000),
        )
        return frozenset(user for (user,) in rows)

    def claim(self, index: str, project: str, user: str) -> frozenset[str]:
        """Have `user` own a project that nobody owns and that has no files; who owns it now.

        Of several claims the first holds, but for those of the same user, and
        what is left of uploads that never ended. `settle` or `forget` must
        follow, when the upload has ended. Raises Unavailable.
        """
        now = self._now()
        with self._ledger.changing() as connection:
            connection.execute(
                "DELETE FROM owners WHERE place = ? AND project = ? AND settled < 1 AND abs(moment - ?) >= ?",
                (index, project, now, CLAIM * 1_000_000),
            )
            connection.execute(
                "INSERT INTO owners SELECT ?1, ?2, ?3, ?4, -1 "
                "WHERE NOT EXISTS (SELECT 1 FROM owners WHERE place = ?1 AND project = ?2 AND user != ?3) "
                "ON CONFLICT (place, project, user) DO UPDATE SET settled = settled - 1, moment = ?4 WHERE settled < 1",
                (index, project, user, now),
            )
            rows = connection.execute(
                "SELECT user FROM owners WHERE place = ? AND project = ?", (index, project)
            ).fetchall()
        return frozenset(user for (user,) in rows)

    def join(self, index: str, project: str, user: str) -> bool:
        """Count one more upload on a claim of `user` that is not settled; whether there is one.

        If so, `settle` or `forget` must follow as for a claim. Raises Unavailable.
        """
        key = (index, project, user)
        where = "WHERE place = ? AND project = ? AND user = ? AND settled < 1"
        if not self._ledger.ask(f"SELECT 1 FROM owners {where}", key):  # noqa: S608 - a text of ours
            return False  # nearly always, and then nothing is written
        with self._ledger.changing() as connection:
            joined = connection.execute(
                f"UPDATE owners SET settled = settled - 1, moment = ? {where}",  # noqa: S608
                (self._now(), *key),
            ).rowcount
        return joined > 0

    def settle(self, index: str, project: str, user: str) -> None:
        """The upload of a claim succeeded. Raises Unavailable; the claim then holds while there are files."""
        self.add(index, project, user)

    def forget(self, index: str, project: str, user: str) -> None:
        """The upload of a claim failed: with the last of them it goes, unless one settled it. Raises Unavailable."""
        key = (index, project, user)
        where = "WHERE place = ? AND project = ? AND user = ?"
        with self._ledger.changing() as connection:
            connection.execute(f"UPDATE owners SET settled = settled + 1 {where} AND settled < 0", key)  # noqa: S608
            connection.execute(f"DELETE FROM owners {where} AND settled = 0", key)  # noqa: S608

    def add(self, index: str, project: str, user: str) -> None:
        """Have `user` be an owner too. Raises Unavailable."""
        with self._ledger.changing() as connection:
            connection.execute(
                "INSERT INTO owners VALUES (?, ?, ?, ?, 1) "
                "ON CONFLICT (place, project, user) DO UPDATE SET settled = 1",
                (index, project, user, self._now()),
            )

    def remove(self, index: str, project: str, user: str) -> bool:
        """Have `user` be no owner any more; whether they were one. Raises Unavailable."""
        with self._ledger.changing() as connection:
            gone = connection.execute(
                "DELETE FROM owners WHERE place = ? AND project = ? AND user = ?", (index, project, user)
            ).rowcount
        return gone > 0

    def _now(self) -> int:
        return int(self._clock() * 1e6)
