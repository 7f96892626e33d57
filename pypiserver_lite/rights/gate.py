"""May whoever asks do that: logins remembered while they hold, and new ones verified within bounds."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import os
import secrets
import time
from collections.abc import Callable

from ..errors import Denied, TooMany
from ..kept import Turnstile
from ..model import User
from .may import Rules
from .throttles import Allowance, Desk, Network, network_of
from .who import Book, Passwords, parse_basic

_CLOSED = (
    "uploads are switched off: the operator of this index can allow them with -P FILE (an htpasswd file), "
    "or for everyone with -P . -a ."
)
_NO_LOGINS = "nobody can log in here: the operator of this index has named no password file (-P FILE)"
_WRONG = "wrong user name or password"

_log = logging.getLogger(__name__)


class Gate:
    """May whoever sends this do that: asked first in every route.

    A login that was right passes without being verified for as long as the
    password file stays as it is; it is kept as a hash under a key of this
    process only. Others are verified at a `Desk`, on half of the processors
    and in half of the workers at most, the ones that wait included, a quarter
    for all addresses that guess together; more hear Busy. Who guesses is
    refused before anything is hashed: `FAILURES` wrong logins of one user from
    one address are let through, and then one in six seconds, and
    `ADDRESS_FAILURES` whatever the user. So a right login passes where others
    guess; only one that is new since the file changed may have to wait for the
    end of a flood from its own address.
    """

    FAILURES = 10
    ADDRESS_FAILURES = 100
    WINDOW = 60.0
    AT_ONCE = max(1, min(4, (os.cpu_count() or 1) // 2))
    PATIENCE = 5.0

    def __init__(
        self,
        passwords: Passwords | None,
        rules: Rules,
        *,
        workers: int = 16,
        within: Turnstile | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """What `rules` protect is refused without `passwords`.

        `workers`: how many requests are worked on at once; `within`: what all
        that waits passes, if there is more. `clock` counts seconds.
        """
        self._passwords = passwords
        self.rules = rules
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._desk = Desk(self.AT_ONCE, max(1, workers // 2), self.PATIENCE, clock, within)
        self._by_user = Allowance(self.FAILURES, self.WINDOW)
        self._by_address = Allowance(self.ADDRESS_FAILURES, self.WINDOW)

    @property
    def passwords(self) -> Passwords | None:
        """The password file, if there is one."""
        return self._passwords

    @property
    def asks_passwords(self) -> bool:
        """Whether there is a password file, so that somebody can log in."""
        return self._passwords is not None

    def alike(self, rules: Rules) -> Gate:
        """A gate of the same passwords with other rules: who is right or guesses there is so here.

        Raises ConfigError if the password file cannot be used at this moment.
        """
        if self._passwords is not None:
            self._passwords.check()
        gate = copy.copy(self)
        gate.rules = rules
        return gate

    def check(self, action: str, authorization: str | None, address: str) -> User | None:
        """Who may do `action`; ``None`` if it needs no login (then nothing is verified).

        `authorization` is the header's value, `address` where the request
        came from. Raises Denied (with a challenge if other credentials could
        help), TooMany for an address that guesses, Busy if too many logins
        wait. Never anything else, whatever the header holds.
        """
        if not self.rules.needs_login(action):
            return None
        if self._passwords is None:
            raise Denied(_CLOSED if action == "update" else _NO_LOGINS)
        user, password = parse_basic(authorization)
        book = self._passwords.book()
        key = self._key(authorization or "")
        if book.knows(key):
            return User(name=user)
        network, now = network_of(address), self._clock()
        if wait := max(self._by_user.wait((network.own, user), now), self._by_address.wait(network.own, now)):
            raise TooMany("too many wrong logins from this address; wait", retry_after=math.ceil(wait))
        if not self._verified(book, key, user, password, network):
            self._by_user.note((network.own, user), self._clock())
            self._by_address.note(network.own, self._clock())
            # One line whatever the name holds, and the address before it: programs that bar addresses read this.
            where = address[:64].encode("unicode_escape").decode("ascii")
            _log.warning("wrong login from %s of user %a", where, user)
            raise Denied(_WRONG, challenge=True)
        return User(name=user)

    def remembers(self, authorization: str | None) -> bool:
        """Whether these credentials were right here before, and still hold; nothing is verified."""
        if self._passwords is None or not authorization:
            return False
        return self._passwords.book().knows(self._key(authorization))

    def _key(self, authorization: str) -> bytes:
        # Of the header as it came: what was right once need not be taken apart again. A MAC like HMAC, at a third of
        # its cost, which each page behind a login pays.
        sent = authorization.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(sent, key=self._secret, digest_size=32).digest()

    def _verified(self, book: Book, key: bytes, user: str, password: bytes, network: Network) -> bool:
        def verify() -> bool:
            # Another may have had the answer between our look at the memory and our turn.
            right = book.knows(key) or book.verify(user, password)
            if right:
                book.remember(key)
            return right

        return self._desk.ask((book, key), network, verify)
