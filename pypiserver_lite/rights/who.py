"""Who is it, and may they: htpasswd users, HTTP Basic (RFC 7617), and what a wrong login costs.

Three things work together. `Passwords` is the file, current at every
question. A `Book` is one state of that file together with the logins that
were verified against it: when the file changes, the book and everything
remembered with it is dropped as a whole. `Gate` answers requests, and keeps
verification, which is slow on purpose, from being used to stop the server.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import logging
import os
import re
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, Denied
from ..kept import Kept

MAX_HEADER = 4096
MAX_USER = 255
MAX_PASSWORD = 1024
"""Bounds of a login: characters of the header, bytes of the UTF-8 user name and password."""

BCRYPT_BYTES = 72
"""bcrypt looks at this many bytes of a password."""

_MAX_FILE = 16 * 2**20
_SETTLED_NS = 2 * 10**9
_FILLING_NS = 10**9
_REPORTED_LINES = 20
_REMEMBERED = 2 * 2**20  # bytes of logins that are known to be right, some 3,000

# What Apache's htpasswd writes, and nothing else: a lock mark, an empty hash or a plain password matches no row, so
# nobody gets in by it. Costs are bounded because a typing error there (bcrypt 31) would be hours of work a login.
_HASHES: Mapping[str, re.Pattern[str]] = {
    "bcrypt": re.compile(r"\$2[aby]\$(0[4-9]|1[0-7])\$[./A-Za-z0-9]{53}"),
    "sha512_crypt": re.compile(r"\$6\$(rounds=[1-9][0-9]{3,6}\$)?[./A-Za-z0-9]{0,16}\$[./A-Za-z0-9]{86}"),
    "sha256_crypt": re.compile(r"\$5\$(rounds=[1-9][0-9]{3,6}\$)?[./A-Za-z0-9]{0,16}\$[./A-Za-z0-9]{43}"),
    "apr_md5_crypt": re.compile(r"\$apr1\$()[./A-Za-z0-9]{0,8}\$[./A-Za-z0-9]{22}"),
    "ldap_sha1": re.compile(r"\{SHA\}()[A-Za-z0-9+/]{27}="),
}


_log = logging.getLogger(__name__)


def require_libpass(version: str) -> None:
    """Refuse the old passlib, which libpass replaces under the same import name.

    passlib 1.7.4 fails every bcrypt check beside bcrypt 5. Raises ConfigError.
    """
    match = re.match(r"(\d{1,4})\.(\d{1,4})", version)
    if match is None or (int(match[1]), int(match[2])) < (1, 9):
        raise ConfigError(
            f"passlib {version[:20]} is installed in the place of libpass and cannot check passwords; "
            "run: pip uninstall -y passlib && pip install --force-reinstall 'libpass[bcrypt]'"
        )


@functools.cache
def crypt_context() -> Any:
    """The passlib CryptContext of the schemes we name: no plain text, no DES. Raises ConfigError if it cannot work.

    Imported on first use: an open index needs none of it.
    """
    import passlib
    from passlib.context import CryptContext
    from passlib.hash import bcrypt

    require_libpass(passlib.__version__)
    if not bcrypt.has_backend():
        raise ConfigError("passwords cannot be checked without bcrypt; run: pip install 'libpass[bcrypt]'")
    return CryptContext(schemes=list(_HASHES))


def scheme_of(hashed: str) -> str | None:
    """The scheme of a hash as `crypt_context` names it; ``None`` if it is whole in none of ours."""
    return next((name for name, pattern in _HASHES.items() if pattern.fullmatch(hashed)), None)


def _matches(password: bytes, hashed: str) -> bool:
    # Apache looks at the first 72 bytes of a longer password, and files made with it are in use: so do we. bcrypt 5
    # raises instead. Whoever knows 72 bytes of a password has not guessed it. `passwd` writes no such entry.
    if hashed.startswith("$2"):
        password = password[:BCRYPT_BYTES]
    try:
        return bool(crypt_context().verify(password, hashed))
    except ValueError:
        return False


def _cost(hashed: str) -> tuple[str, str]:
    scheme = scheme_of(hashed) or ""
    match = _HASHES[scheme].fullmatch(hashed) if scheme else None
    return scheme, (match[1] or "") if match else ""


class Book:
    """One state of the password file, and the logins that proved right against it."""

    def __init__(self, hashes: Mapping[str, str | None]) -> None:
        """`hashes`: user → hash, ``None`` for a user whose line is broken and who therefore cannot log in."""
        self._hashes = hashes
        self._known = Kept[bool](lambda right: 0, most_bytes=_REMEMBERED)
        usable = [hashed for hashed in hashes.values() if hashed is not None]
        # Somebody unknown is measured against a real hash of the commonest kind, so that the time of the answer does
        # not tell who exists. In a file of several kinds a user's kind still shows, but not whether they exist.
        common = Counter(map(_cost, usable)).most_common(1)
        self._stand_in = next((hashed for hashed in usable if common and _cost(hashed) == common[0][0]), None)

    def users(self) -> list[str]:
        """All who have a line, sorted; also those whose line is broken."""
        return sorted(self._hashes)

    def line(self, user: str) -> str | None:
        """The hash of a user's password; ``None`` for nobody who could log in."""
        return self._hashes.get(user)

    def verify(self, user: str, password: bytes) -> bool:
        """Whether that is the user's password. Costs one hash (up to a second), whoever asks; holds no lock."""
        hashed = self._hashes.get(user)
        if hashed is not None:
            return _matches(password, hashed)
        if self._stand_in is not None:
            _matches(password, self._stand_in)
        return False

    def has(self, user: str) -> bool:
        """Whether this user can log in."""
        return self._hashes.get(user) is not None

    def remember(self, key: bytes) -> None:
        """Keep that the credentials of this keyed hash are right; of very many, those used last."""
        self._known.put(key, True)

    def knows(self, key: bytes) -> bool:
        """Whether these credentials proved right."""
        return self._known.find(key) is not None


class _State(NamedTuple):
    stamp: tuple[int, int, int, int] | None
    settled: bool
    digest: bytes
    book: Book


class Passwords:
    """An htpasswd file, read again when it changes, by any number of threads.

    A line is ``USER:HASH``; ``#`` begins a comment; as in Apache the first
    line of a user counts. A broken line is logged once with its number and
    locks out its own user only. While the file is missing or unreadable
    nobody gets in, and it is tried again at every question. While it is being
    rewritten, which empties it for a moment, the old state holds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.time_ns) -> None:
        """Raises ConfigError if the file cannot be used at this moment. `clock` is that of the file's times."""
        self.path = path
        self._clock = clock
        self._path = os.fspath(path)
        self._lock = threading.Lock()
        self._complaint = ""
        self._state = _State(None, False, b"", Book({}))
        self.check()
        self.book()  # so that broken lines are told at start, not at the first login

    def check(self) -> None:
        """Raise ConfigError, in one line for the operator, if the file or the password library cannot be used."""
        crypt_context()
        try:
            self._read()
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(
                f"-P {self.path}: {reason}; name a readable htpasswd file, "
                f"or make one with: pypiserver-lite passwd {self.path} USER"
            ) from error

    def book(self) -> Book:
        """The file as it is now. One `stat` if it did not change, else it is read; never raises."""
        stamp = self._stamp()
        state = self._state
        if state.stamp == stamp and state.settled:
            return state.book
        with self._lock:
            state = self._state
            if state.stamp != stamp or not state.settled:
                state = self._state = self._load(state)
            return state.book

    def _stamp(self) -> tuple[int, int, int, int] | None:
        try:
            return _stamp(os.stat(self._path))
        except (OSError, ValueError):
            return None

    def _read(self) -> tuple[os.stat_result, bytes]:
        if not stat.S_ISREG(os.stat(self.path).st_mode):
            raise OSError("that is not a file")
        with open(self.path, "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_MAX_FILE + 1)
        if len(data) > _MAX_FILE:
            raise OSError(f"the file is larger than {_MAX_FILE >> 20} MB")
        return status, data

    def _load(self, old: _State) -> _State:
        try:
            status, data = self._read()
        except (OSError, ValueError) as error:
            complaint = f"the password file cannot be read, nobody can log in: {error}"
            if complaint != self._complaint:
                _log.error("%s", complaint)
            self._complaint = complaint
            return _State(None, False, b"", Book({}))
        self._complaint = ""
        if not data and 0 <= self._clock() - status.st_mtime_ns < _FILLING_NS:
            # Apache's htpasswd and many editors empty the file and then fill it: an empty file counts once it stays so.
            return old._replace(settled=False)
        # The stamp is older than the bytes, so a change while reading shows at the next question. Two changes within
        # one tick of the file system's clock leave the same stamp: a young file is read again until it is not young.
        settled = abs(self._clock() - status.st_ctime_ns) > _SETTLED_NS
        digest = hashlib.sha256(data).digest()
        if digest == old.digest:
            return _State(_stamp(status), settled, digest, old.book)
        hashes, broken = parse_htpasswd(data)
        for number, reason in broken[:_REPORTED_LINES]:
            _log.warning("password file, line %d: %s; this line lets nobody in", number, reason)
        if len(broken) > _REPORTED_LINES:
            _log.warning("password file: %d more broken lines", len(broken) - _REPORTED_LINES)
        return _State(_stamp(status), settled, digest, Book(hashes))


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def parse_htpasswd(data: bytes) -> tuple[dict[str, str | None], list[tuple[int, str]]]:
    """User → hash (``None``: locked by a broken line), and what is wrong with which line, counted from 1."""
    hashes: dict[str, str | None] = {}
    broken: list[tuple[int, str]] = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        raw = raw.strip()
        if not raw or raw.startswith(b"#"):
            continue
        try:
            user, colon, rest = raw.decode("utf-8").partition(":")
        except UnicodeDecodeError:
            broken.append((number, "it is not UTF-8"))
            continue
        hashed = rest.partition(":")[0].strip()
        if not user or not colon:
            broken.append((number, "it is not USER:HASH"))
        elif user in hashes:
            broken.append((number, "this user stands further up already"))
        elif scheme_of(hashed) is None:
            hashes[user] = None
            broken.append((number, "the hash is none of bcrypt, SHA-512/256 crypt, apr1 and {SHA}"))
        else:
            hashes[user] = hashed
    return hashes, broken


_BASIC = re.compile(r"[ \t]*basic[ \t]+([A-Za-z0-9+/]*)={0,3}[ \t]*", re.ASCII | re.IGNORECASE)


def parse_basic(authorization: str | None) -> tuple[str, bytes]:
    """User name and password (UTF-8 bytes) of an ``Authorization`` header (RFC 7617).

    The scheme's case and missing padding do not matter; a password may hold
    colons and may be empty. What is not UTF-8 is read as Latin-1, because
    `requests`, and so pip and twine, send what fits into it that way. Raises
    Denied with a challenge for everything else.
    """
    if not authorization:
        raise Denied("a user name and password are needed here", challenge=True)
    match = _BASIC.fullmatch(authorization) if len(authorization) <= MAX_HEADER else None
    try:
        if match is None:
            raise ValueError("another scheme, other characters, or too long")
        data = base64.b64decode(match[1] + "=" * (-len(match[1]) % 4), validate=True)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        user, colon, rest = text.partition(":")
        password = rest.encode()
        if not user or not colon or "\0" in text:
            raise ValueError("no user, no colon or a NUL")
        if len(user.encode()) > MAX_USER or len(password) > MAX_PASSWORD:
            raise ValueError("too long")
    except ValueError:
        # The cause may quote the password: it goes nowhere.
        raise Denied("the Authorization header is no usable Basic login (RFC 7617)", challenge=True) from None
    return user, password


PREFIX = "pypl_"
"""What every token begins with, and no password that `passwd` takes."""
_BEARER = re.compile(r"[ \t]*bearer[ \t]+([A-Za-z0-9._~+/=-]+)[ \t]*", re.ASCII | re.IGNORECASE)
_NO_PASSWORDS = (b"", b"x-oauth-basic")  # what comes with a token that is sent as the user name


class Credentials(NamedTuple):
    """What an ``Authorization`` header says: a user name with a password or with a token."""

    user: str | None
    """``None``: a token alone, under no name or ``__token__``."""
    password: bytes = b""
    token: str | None = None


def parse_credentials(authorization: str) -> Credentials:
    """What a header says. Raises Denied as `parse_basic` does.

    A token is the password of Basic, or its user name with no password worth
    the name, or it comes as Bearer (RFC 6750).
    """
    bearer = _BEARER.fullmatch(authorization) if len(authorization) <= MAX_HEADER else None
    if bearer is not None and bearer[1].startswith(PREFIX):
        return Credentials(None, token=bearer[1])
    user, password = parse_basic(authorization)
    if password.startswith(PREFIX.encode()):
        return Credentials(None if user == "__token__" else user, token=password.decode("utf-8", "replace"))
    if user.startswith(PREFIX) and password in _NO_PASSWORDS:
        return Credentials(None, token=user)
    return Credentials(user, password)
