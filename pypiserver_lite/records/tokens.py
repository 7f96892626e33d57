"""Tokens: secrets that stand in for a password, with fewer rights. Kept as SHA-256 alone, for they are random."""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from types import MappingProxyType

from ..errors import Conflict, Invalid, Missing, Unavailable
from .ledger import Ledger
from .moments import EPOCH, after, moment, stamp

PREFIX = "pypl_"
_SECRET = re.compile(PREFIX + "[A-Za-z0-9_-]{43}", re.ASCII)
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", re.ASCII)
MOST = 100
"""Tokens of one user, also those that are over: all are in the memory of every process."""
LONGEST = 2048
"""Characters of the indexes and projects that a token names."""
_SHOWN = 30 * 86_400_000_000  # microseconds for which one that is over is still listed
_COLUMNS = "id, name, user, may, indexes, projects, created, by, expires, used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a token stands for."""

    id: int
    name: str
    user: str | None
    """Whose it is; ``None`` for one of no user, which has exactly what it says."""
    may: frozenset[str] | None
    """Actions; ``None``: all that its user may."""
    indexes: tuple[str, ...]
    """Names of indexes; empty: all."""
    projects: tuple[str, ...]
    """Names of projects, or patterns such as ``acme-*``; empty: all."""
    created: datetime
    by: str
    """Who made it."""
    expires: datetime | None
    used: date | None
    """The day (UTC) it was last used, if it was."""

    def is_over(self, now: datetime) -> bool:
        """Whether it has ended."""
        return self.expires is not None and now >= self.expires

    @property
    def shown(self) -> str:
        """Who does what is done with it: its user, or ``token:NAME``."""
        return f"token:{self.name}" if self.user is None else self.user


class Tokens:
    """The tokens in a `ledger`. Safe for threads and processes.

    Those that are living are kept in memory, and read again when any process changed them.
    """

    def __init__(
        self, ledger: Ledger, later: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.time
    ) -> None:
        self._ledger, self._later, self._clock = ledger, later, clock
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._state: object = None
        self._count: object = None
        self._known: Mapping[bytes, Token] = MappingProxyType({})
        self._used: dict[int, int] = {}
        self._unwritten: set[int] = set()

    def create(
        self,
        name: str,
        *,
        by: str,
        user: str | None = None,
        may: Iterable[str] | None = None,
        indexes: Iterable[str] = (),
        projects: Iterable[str] = (),
        expires: datetime | None = None,
    ) -> tuple[Token, str]:
        """A new token and its secret, which nobody can be told again. What its words mean is not looked at here.

        Raises Invalid for a name that cannot be, a token of no user that does
        not say what it may, an end that is over, and more than `LONGEST`
        characters; Conflict if the user has a living token of that name, or
        `MOST` tokens; Unavailable.
        """
        if not _NAME.fullmatch(name):
            raise Invalid("a token's name has 1 to 64 letters, digits and . _ @ + -, and begins with a letter or digit")
        if user is None and may is None:
            raise Invalid("a token of no user has to say what it may")
        now = self._now()
        if expires is not None and expires <= now:
            raise Invalid("a token ends in the future")
        words = " ".join(indexes), " ".join(projects)
        if sum(map(len, words)) > LONGEST:
            raise Invalid(f"a token names indexes and projects in at most {LONGEST} characters; patterns are shorter")
        secret = PREFIX + secrets.token_urlsafe(32)
        row = (
            *(_digest(secret), name, user, None if may is None else " ".join(sorted(set(may)))),
            *(*words, stamp(now), by, None if expires is None else stamp(expires)),
        )
        with self._ledger.changing() as connection:
            connection.execute(
                "DELETE FROM tokens WHERE user IS ? AND (expires <= ? OR (name = ? AND expires <= ?))",
                (user, stamp(now) - _SHOWN, name, stamp(now)),
            )
            # Tokens of no user are for admins to make, who may do worse.
            rows = connection.execute("SELECT count(*) FROM tokens WHERE user = ?", (user,)).fetchone()
            if rows[0] >= MOST:
                raise Conflict(f"{user} has {MOST} tokens, which is the most; revoke one first")
            try:
                added = connection.execute(
                    "INSERT INTO tokens (digest, name, user, may, indexes, projects, created, by, expires) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                ).lastrowid
            except sqlite3.IntegrityError:
                whose = "of no user" if user is None else f"of {user}"
                raise Conflict(
                    f"there is a token {name} {whose} already; revoke it first, or take another name"
                ) from None
            _note_change(connection)
            made = connection.execute(f"SELECT {_COLUMNS} FROM tokens WHERE id = ?", (added,)).fetchone()  # noqa: S608
        return _token(made), secret

    def find(self, secret: str) -> Token | None:
        """The token of a secret, if it is not over, else ``None``; the day is noted. Raises Unavailable."""
        if not _SECRET.fullmatch(secret):
            return None
        token, now = self._current().get(_digest(secret)), self._clock()
        if token is None or (token.expires is not None and token.is_over(after(now))):
            return None
        day = int(now // 86400)
        if self._used.get(token.id) != day:
            with self._lock:
                self._used[token.id] = day
                self._unwritten.add(token.id)
            self._later()
        return token

    def any(self) -> bool:
        """Whether there is any token, also one that is over. Raises Unavailable."""
        return bool(self._current())

    def list(self, user: str | None = None) -> list[Token]:
        """All tokens, also those that are over, by user and name; of one `user` alone if one is given.

        Raises Unavailable.
        """
        where, values = ("WHERE user = ?", [user]) if user is not None else ("", [])
        rows = self._ledger.ask(f"SELECT {_COLUMNS} FROM tokens {where} ORDER BY user, name", values)  # noqa: S608
        return [_token(row) for row in rows]

    def revoke(self, id: int) -> Token:
        """End a token now, in all processes, and return what it was. Raises Missing if there is none, Unavailable."""
        with self._ledger.changing() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM tokens WHERE id = ?", (id,)).fetchone()  # noqa: S608
            if row is None:
                raise Missing("there is no such token")
            connection.execute("DELETE FROM tokens WHERE id = ?", (id,))
            _note_change(connection)
        return _token(row)

    @contextmanager
    def ending(self, user: str, indexes: Collection[str] = ()) -> Iterator[Sequence[str]]:
        """End a user's tokens in all processes, together with what is done meanwhile, or not if that raises.

        Those that count in some of these `indexes`, of none in all; their
        names are what it yields. Raises Unavailable.
        """
        with self._ledger.changing() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM tokens WHERE user = ?", (user,)).fetchall()  # noqa: S608
            ended = [
                token
                for token in map(_token, rows)
                if not (indexes and token.indexes) or not set(indexes).isdisjoint(token.indexes)
            ]
            connection.executemany("DELETE FROM tokens WHERE id = ?", [(token.id,) for token in ended])
            _note_change(connection)
            yield [token.name for token in ended]

    def flush(self) -> None:
        """Write which were used today. Raises Unavailable; then it waits on."""
        with self._lock:
            some, self._unwritten = self._unwritten, set()
        if not some:
            return
        try:
            with self._ledger.changing() as connection:
                connection.executemany("UPDATE tokens SET used = ? WHERE id = ?", [(self._used[id], id) for id in some])
        except Unavailable:
            with self._lock:
                self._unwritten |= some
            raise

    def after_fork(self) -> None:
        """In a child process: nothing is known."""
        self._forget()

    def _current(self) -> Mapping[bytes, Token]:
        state = self._ledger.state()
        if state == self._state:
            return self._known
        with self._lock:
            # Of another file, as a backup that was put back, the count says nothing.
            count = state[0], self._ledger.ask("SELECT count FROM changes WHERE what = 'tokens'")
            if count != self._count:
                rows = self._ledger.ask(f"SELECT digest, {_COLUMNS} FROM tokens")  # noqa: S608
                self._known = {digest: _token(row) for digest, *row in rows}
                self._count = count
            self._state = state  # read before the rows: what changed since shows at the next question
            return self._known

    def _now(self) -> datetime:
        return after(int(self._clock()))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()


def _note_change(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE changes SET count = count + 1 WHERE what = 'tokens'")


def _token(row: Iterable[object]) -> Token:
    id, name, user, may, indexes, projects, created, by, expires, used = row
    return Token(
        id=int(str(id)),
        name=str(name),
        user=None if user is None else str(user),
        may=None if may is None else frozenset(str(may).split()),
        indexes=tuple(str(indexes).split()),
        projects=tuple(str(projects).split()),
        created=moment(created),
        by=str(by),
        expires=None if expires is None else moment(expires),
        used=None if used is None else (EPOCH + timedelta(days=int(str(used)))).date(),
    )
