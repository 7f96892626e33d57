"""Sign-outs: sessions that ended before their time, so that a copy of the cookie is worth nothing either."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from ..errors import NoSpace, Unavailable
from .ledger import Ledger

_MOST = 200
"""Sign-outs of one user that are kept in the file, all of them in the memory of every process."""
_MOST_OWN = 200
"""Those of one user that one process alone knows besides."""
_MANY = "{} signed out {} times in the last hours, and no more of that is kept"

_log = logging.getLogger(__name__)


class SignOuts:
    """The sessions in a `ledger` that were signed out of, each until it would have ended. Safe for threads, processes.

    `clock` counts seconds since 1970.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger, self._clock = ledger, clock
        self._own: dict[str, tuple[str, int]] = {}
        self.after_fork()

    def after_fork(self) -> None:
        """In a child process: what the file says is not known."""
        self._state: object = None
        self._known: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def add(self, session: str, user: str, until: int) -> None:
        """End a user's session, which else ends at `until` (seconds since 1970), in all processes.

        Raises Unavailable if that cannot be kept: then it is over in this process alone, which is the only one that
        knows it if there is no place for records. Of one user `_MOST_OWN` are kept so: beyond, it is not over.
        """
        now = int(self._clock())
        with self._lock:
            self._own = {one: (whose, end) for one, (whose, end) in self._own.items() if end > now}
            if sum(whose == user for whose, _ in self._own.values()) >= _MOST_OWN:
                raise NoSpace(_MANY.format(user, _MOST_OWN))
            self._own[session] = user, until
        if self._ledger.path is None:
            return
        with self._ledger.changing() as connection:
            connection.execute("DELETE FROM sign_outs WHERE until <= ?", (now,))
            kept = connection.execute("SELECT count(*) FROM sign_outs WHERE user = ?", (user,)).fetchone()[0]
            if kept >= _MOST:
                raise NoSpace(_MANY.format(user, _MOST))
            connection.execute("INSERT OR IGNORE INTO sign_outs VALUES (?, ?, ?)", (session, user, until))
        with self._lock:
            self._own.pop(session, None)

    def has(self, session: str) -> bool:
        """Whether a session was signed out of. Never raises: what cannot be read now is as it was when it could be."""
        return session in self._own or session in self._current()

    def _current(self) -> frozenset[str]:
        try:
            state = self._ledger.state()
            if state != self._state:
                rows = self._ledger.ask("SELECT session FROM sign_outs WHERE until > ?", (int(self._clock()),))
                # Read before the rows: what changed since shows at the next question.
                self._known, self._state = frozenset(session for (session,) in rows), state
        except Unavailable as error:
            # Who has not read the secret of sessions from there knows none that began before.
            _log.debug("whether a session was signed out of is told as it was known before: %s", error)
        return self._known
