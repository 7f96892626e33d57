"""The records: who did what, tokens, owners, downloads. One SQLite file of which one copy is the whole backup.

What is kept here cannot be had again: a change that cannot be put on record
does not happen.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import time
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError, Unavailable
from .counts import Counts
from .later import EVERY, Later
from .ledger import Ledger, may_write
from .lines import Lines
from .owners import Owners
from .sign_outs import SignOuts
from .tokens import Token, Tokens
from .trail import ACTIONS, OUTCOMES, Change, Event, Published, Trail, sent_by

__all__ = [
    "ACTIONS",
    "FILENAME",
    "OUTCOMES",
    "Change",
    "Event",
    "Published",
    "Records",
    "Token",
    "may_write",
    "sent_by",
]

FILENAME = "records.sqlite3"
"""In the folder of ``--state-dir``."""

_log = logging.getLogger(__name__)


class Records:
    """The records in the file at `path`, which the first change makes; ``None``: there is no place for them.

    `audit_log` gets each event as a line of JSON too. `every`: seconds after
    which downloads and refusals are written, and what could not be is tried
    again. Where not `changing`, the file is only looked at. Safe for threads,
    processes and forks.

    Raises ConfigError for a file that is damaged or of a newer schema, and an
    `audit_log` that cannot be written. Everything here raises Unavailable, with
    what to do, if the file cannot be read or written now, unless it says that
    it never raises.
    """

    def __init__(
        self, path: Path | None, *, audit_log: Path | None = None, every: float = EVERY, changing: bool = True
    ) -> None:
        self.path, self.audit_log = path, audit_log
        self._ledger = Ledger(path, changing=changing)
        if audit_log is not None and not (audit_log.absolute().parent.is_dir() and may_write(audit_log)):
            raise ConfigError(f"--audit-log {audit_log}: it cannot be written by this user")
        self._lines = None if audit_log is None or not changing else Lines(audit_log)
        self._later = Later(every)
        self.trail = Trail(self._ledger, self._lines, self._later.soon)
        self.tokens = Tokens(self._ledger, self._later.soon)
        self.owners = Owners(self._ledger)
        self.sign_outs = SignOuts(self._ledger)
        self.counts = Counts(self._ledger, self._later.soon)
        self._later.writes = (self.trail.flush, self.tokens.flush, self.counts.flush)
        self._secrets: dict[str, bytes] = {}
        self._unsaved: dict[str, bytes] = {}
        self._saves_again: dict[str, float] = {}
        self._every = every
        _all.add(self)

    def secret(self, name: str) -> bytes:
        """32 random bytes that are the same in every process, now and later; for what they are, `name` says.

        While nothing can be written, they are this process's alone. Never raises.
        """
        if name not in self._secrets:
            made = self._unsaved.setdefault(name, secrets.token_bytes(32))
            if time.monotonic() < self._saves_again.get(name, 0.0):
                return made
            ask = "SELECT value FROM secrets WHERE name = ?"
            try:
                found = self._ledger.ask(ask, (name,))
                if not found:
                    with self._ledger.changing() as connection:
                        connection.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", (name, made))
                        found = connection.execute(ask, (name,)).fetchall()
            except Unavailable as error:
                if name not in self._saves_again:
                    _log.warning("the secret for %s is this process's alone until it can be kept: %s", name, error)
                self._saves_again[name] = time.monotonic() + self._every
                return made
            self._secrets.setdefault(name, bytes(found[0][0]))
        return self._secrets[name]

    @contextmanager
    def ending_tokens(self, event: Event, user: str, indexes: Collection[str] = ()) -> Iterator[None]:
        """Have a change happen on record that ends a user's tokens which count in some of `indexes`, of none in all.

        Raises Unavailable if it cannot be put on record: then the body does not run.
        """
        with self.trail.change(event) as change, self.tokens.ending(user, indexes) as ended:
            if ended:
                change.reason += f", whose tokens end: {' '.join(ended)}"
            yield

    def backup(self, to: Path) -> None:
        """Copy the records to a new file as they are at one moment, while servers run.

        Raises ConfigError if there are none yet, or `to` is there already or cannot be written; Unavailable.
        """
        self.flush()
        self._ledger.backup(to)

    def keep_room(self) -> None:
        """Hold some of the disk, so that what makes room on a full one can be put on record. Never raises."""
        self._ledger.keep_room()

    def faults(self) -> str:
        """What is wrong inside the file; nothing if it is sound. Reads all of it."""
        return self._ledger.faults()

    @property
    def version(self) -> int | None:
        """The schema number of the file; ``None`` while there is none."""
        return self._ledger.version

    def flush(self) -> None:
        """Write now what waits to be written in this process. Never raises."""
        self._later.now()

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._later.close()
        self._ledger.close()
        if self._lines is not None:
            self._lines.close()

    def _after_fork(self) -> None:
        for part in (self._ledger, self._lines, self._later, self.trail, self.tokens, self.sign_outs, self.counts):
            if part is not None:
                part.after_fork()


_all: weakref.WeakSet[Records] = weakref.WeakSet()


def _after_fork() -> None:
    for records in list(_all):
        records._after_fork()


@atexit.register
def _at_exit() -> None:
    # Servers that only import the application do not close it. A forked process has this from its parent.
    for records in list(_all):
        records._later.at_exit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
