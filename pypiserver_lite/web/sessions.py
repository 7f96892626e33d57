"""Who signed in on the page: a signed cookie, and the token that each form of theirs has to bring.

Nothing is kept here. The cookie says who it is and since when, signed with a
secret of the records; it ends after `LASTS` seconds, and at once with a
sign-out, and with the user's line in the password file: another password, or
none.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from itsdangerous import BadSignature, Signer, URLSafeSerializer

from ..errors import Denied

LASTS = 12 * 3600
"""Seconds from a sign-in to its end."""
_MOST = 4  # cookies of our name that are looked at
_LONGEST = 2000  # bytes of a cookie: the longest user name fits


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody who signed in, and has not signed out since."""

    user: str
    since: int
    """In seconds since 1970."""
    number: str
    """What no other session has."""
    form_token: str
    """What a form of theirs brings, and a page of somebody else's cannot know."""


class Sessions:
    """The sessions of the users of one password file.

    `secret` gives 32 bytes that are the same in every process that serves
    these users, and is asked when somebody signs in first. `line` tells what
    the password file has of a user, ``None`` for nobody who could log in;
    `place` names that file. `ended` tells by its number whether a session was
    signed out of. `clock` counts seconds since 1970.
    """

    def __init__(
        self,
        secret: Callable[[], bytes],
        line: Callable[[str], str | None],
        place: str,
        *,
        ended: Callable[[str], bool] = lambda number: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        digest = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()
        self.cookie = f"pypiserver-lite-{digest[:8]}"
        """The cookie's name: one server may have users of several files."""
        self._find = re.compile(rf"(?:\A|;)[ \t]*{self.cookie}=([A-Za-z0-9._-]*)")
        self._secret, self._line, self._ended, self._clock = secret, line, ended, clock
        self._salt = f"pypiserver-lite session {digest}"
        self._made: tuple[bytes, tuple[URLSafeSerializer, Signer]] | None = None

    def _signers(self) -> tuple[URLSafeSerializer, Signer]:
        """What signs cookies and what signs forms, by the secret as it is now: one that could not be kept may go."""
        secret = self._secret()
        if self._made is None or self._made[0] != secret:
            more: dict[str, Any] = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
            values = URLSafeSerializer(secret, salt=self._salt, signer_kwargs=more)
            self._made = secret, (values, Signer(secret, salt=f"{self._salt} form", **more))
        return self._made[1]

    def begin(self, user: str) -> str:
        """The value of the cookie of a user who signs in now. Raises Denied for one who is not in the file."""
        mark = self._mark(user)
        if mark is None:
            raise Denied("you cannot log in any more: your line was just taken out of the password file")
        value = self._signers()[0].dumps([user, int(self._clock()), mark, secrets.token_urlsafe(9)])
        return value if isinstance(value, str) else value.decode("ascii")

    def of(self, cookies: str | None) -> Session | None:
        """The session that the ``Cookie`` field of a request tells of, if it holds; never raises."""
        # There may be old ones of this name, of another path or a domain above, which do not give way to ours.
        sent = [] if not cookies else islice(self._find.finditer(cookies), _MOST)
        return next((session for one in sent if (session := self._session(one[1])) is not None), None)

    def _session(self, cookie: str) -> Session | None:
        if len(cookie) > _LONGEST:
            return None
        values, forms = self._signers()
        try:
            user, since, mark, number = values.loads(cookie)
        except (BadSignature, ValueError, TypeError):
            return None
        now, expected = self._clock(), self._mark(user)
        # A time to come is that of a clock that was set back: how old it is cannot be said.
        if expected is None or not hmac.compare_digest(mark, expected) or not 0 <= int(now) - since < LASTS:
            return None
        if self._ended(number):
            return None
        form_token = forms.get_signature(cookie).decode("ascii")
        return Session(user=user, since=since, number=number, form_token=form_token)

    def _mark(self, user: str) -> str | None:
        """What changes with the user's line, and tells nothing of it."""
        line = self._line(user)
        if line is None:
            return None
        told = f"{user}\0{line}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret(), b"line\0" + told, hashlib.sha256).hexdigest()[:32]


def is_right(session: Session, token: str | None) -> bool:
    """Whether `token` is the one that the forms of a session bring."""
    return token is not None and hmac.compare_digest(session.form_token.encode(), token.encode("utf-8", "replace"))
