"""Owners: who published a project first, and whoever an admin added."""

from __future__ import annotations

import time

from .ledger import Ledger


class Owners:
    """The owners of projects in a `ledger`. Safe for threads and processes: each question asks the file."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def of(self, index: str, project: str) -> frozenset[str]:
        """The owners of a project in an index. Raises Unavailable."""
        rows = self._ledger.ask("SELECT user FROM owners WHERE place = ? AND project = ?", (index, project))
        return frozenset(user for (user,) in rows)

    def claim(self, index: str, project: str, user: str) -> frozenset[str]:
        """Have `user` own a project that nobody owns; who owns it now: of several claims the first holds.

        `settle` or `forget` must follow, when the upload has ended. Raises Unavailable.
        """
        with self._ledger.changing() as connection:
            connection.execute(
                "INSERT INTO owners SELECT ?1, ?2, ?3, ?4, 0 "
                "WHERE NOT EXISTS (SELECT 1 FROM owners WHERE place = ?1 AND project = ?2)",
                (index, project, user, int(time.time() * 1e6)),
            )
            rows = connection.execute(
                "SELECT user FROM owners WHERE place = ? AND project = ?", (index, project)
            ).fetchall()
        return frozenset(user for (user,) in rows)

    def settle(self, index: str, project: str, user: str) -> None:
        """The upload of a claim succeeded. Raises Unavailable; the claim then holds all the same."""
        self.add(index, project, user)

    def forget(self, index: str, project: str, user: str) -> None:
        """The upload of a claim failed: it goes, unless another upload of that user settled it. Raises Unavailable."""
        with self._ledger.changing() as connection:
            connection.execute(
                "DELETE FROM owners WHERE place = ? AND project = ? AND user = ? AND NOT settled",
                (index, project, user),
            )

    def add(self, index: str, project: str, user: str) -> None:
        """Have `user` be an owner too. Raises Unavailable."""
        with self._ledger.changing() as connection:
            connection.execute(
                "INSERT INTO owners VALUES (?, ?, ?, ?, 1) "
                "ON CONFLICT (place, project, user) DO UPDATE SET settled = 1",
                (index, project, user, int(time.time() * 1e6)),
            )

    def remove(self, index: str, project: str, user: str) -> bool:
        """Have `user` be no owner any more; whether they were one. Raises Unavailable."""
        with self._ledger.changing() as connection:
            gone = connection.execute(
                "DELETE FROM owners WHERE place = ? AND project = ? AND user = ?", (index, project, user)
            ).rowcount
        return gone > 0
