"""Edit an htpasswd file, so that no one needs Apache's tools.

Everything that is not the user's own line stays as it is, byte for byte. The
file is replaced in one step: a server that reads it meanwhile sees the old
users or the new ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigError, Conflict, Invalid, Missing
from ..rewrite import rewrite
from .who import BCRYPT_BYTES, MAX_USER, PREFIX, crypt_context

# bcrypt: ``$2y$`` is what Apache and nginx know. 2^10 rounds are what current advice asks for at least; each step more
# doubles what a flood of wrong logins takes from the server's processors.
_BCRYPT_IDENT, _BCRYPT_COST = "2y", 10


def set_password(path: Path, user: str, password: str, *, new: bool | None = None) -> None:
    """Give `user` a password, adding the user, or the file (mode 0600), if it is not there.

    Raises Invalid for a user name or password that could never log in,
    Conflict for a `new` user who is there, Missing for one who is not `new`
    and not there (``None``: either may be), ConfigError if the file cannot be
    read or written.
    """
    name = _checked_user(user)
    _check_password(password)
    hashing = crypt_context().handler("bcrypt").using(ident=_BCRYPT_IDENT, rounds=_BCRYPT_COST)
    line = name + b":" + hashing.hash(password).encode("ascii")

    def change(lines: list[bytes]) -> list[bytes]:
        mine = [at for at, old in enumerate(lines) if _user_of(old) == name]
        if mine and new:
            raise Conflict(f"there is a user {user} already, who keeps their password; set it on their own line")
        if not mine and new is False:
            raise Missing(f"there is no user {user[:60]!a}")
        written = line + b"\r" if lines[0].endswith(b"\r") else line
        if mine:
            return [written if at == mine[0] else old for at, old in enumerate(lines) if at not in mine[1:]]
        # A file ends with a line break, so its last line is an empty one; where it was forgotten it is added.
        return [*lines[:-1], written, b""] if not lines[-1] else [*lines, written, b""]

    _edit(path, change, create=True)


def has_lines(path: Path, user: str) -> bool:
    """Whether there is a line of `user`, maybe a broken one. Raises ConfigError if the file cannot be read."""
    name = _checked_user(user)
    try:
        return any(_user_of(line) == name for line in path.read_bytes().split(b"\n"))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def delete_user(path: Path, user: str) -> None:
    """Remove every line of `user`. Raises ConfigError if there is none, or the file cannot be read or written."""
    name = _checked_user(user)

    def change(lines: list[bytes]) -> list[bytes]:
        kept = [old for old in lines if _user_of(old) != name]
        if len(kept) == len(lines):
            raise ConfigError(f"{path} has no user {user!r}")
        return kept

    _edit(path, change, create=False)


def _checked_user(user: str) -> bytes:
    if not user:
        raise Invalid("the user name is empty")
    if re.search(r"[:\x00-\x1f\x7f-\x9f]", user) or user.startswith("#") or user != user.strip():
        raise Invalid("a user name holds no colon or control character and begins with no '#' or space")
    name = _utf8("user name", user)
    if len(name) > MAX_USER:
        raise Invalid(f"the user name is longer than {MAX_USER} bytes")
    return name


def _check_password(password: str) -> None:
    if not password:
        raise Invalid("the password is empty")
    if re.search(r"[\x00-\x1f\x7f-\x9f]", password):
        raise Invalid("the password holds a control character, which clients cannot send (RFC 7617)")
    if password.startswith(PREFIX):
        raise Invalid(f"a password does not begin with {PREFIX!r}: tokens do")
    if len(_utf8("password", password)) > BCRYPT_BYTES:
        raise Invalid(f"the password is longer than {BCRYPT_BYTES} bytes, all that bcrypt looks at")


def _utf8(what: str, text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        # Bytes of another encoding on the command line; the cause would quote a password.
        raise Invalid(f"the {what} is not UTF-8") from None


def _user_of(line: bytes) -> bytes | None:
    """The user a line is about, read as `auth.parse_htpasswd` reads it; ``None`` for comments and the like."""
    user, colon, _ = line.removeprefix(b"\xef\xbb\xbf").strip().partition(b":")
    return user if colon and not user.startswith(b"#") else None


def _edit(path: Path, change: Callable[[list[bytes]], list[bytes]], *, create: bool) -> None:
    """Replace the file by `change` of its lines (without their line feeds)."""

    def changed(data: bytes) -> bytes:
        return b"\n".join(change(data.split(b"\n")))

    try:
        rewrite(path, changed, create=0o600 if create else None)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
