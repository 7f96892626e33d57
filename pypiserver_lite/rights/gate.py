"""May whoever asks do that: logins remembered while they hold, and new ones verified within bounds.

Who asks is one question, and what they may another: the first is answered by
the password file and the tokens, the second by the `RuleBook`.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import math
import os
import secrets
import time
from collections.abc import Callable
from typing import Protocol

from packaging.utils import NormalizedName

from ..errors import Denied, Missing, PypiServerLiteError, TooMany, Unseen
from ..kept import Turnstile
from ..model import Restriction, User
from .rules import CHANGES, Decision, RuleBook
from .throttles import Allowance, Desk, Network, network_of
from .who import PREFIX, Book, Passwords, parse_basic, parse_credentials

_CLOSED = (
    "uploads are switched off: the operator of this index can allow them with -P FILE (an htpasswd file), "
    "or for everyone with -P . -a ."
)
_NO_LOGINS = "nobody can log in here: the operator of this index has named no password file (-P FILE)"
_WRONG = "wrong user name or password"
_UNKNOWN = "this token is not known here: it was revoked, is over, or is another user's"
_NEEDED = "a user name and password are needed here"
_WORDS = {
    "list": "list",
    "download": "download",
    "upload": "upload",
    "yank": "yank",
    "remove": "remove",
    "push": "push to here",
    "admin": "administer",
    "update": "change",
    "form": "change",
    "reload": "have the settings read again",
}
"""What each right is to do, as a sentence says it."""
_TOLD = 20  # wrong tokens that the log tells of in a minute; they cost nothing, and so may be very many


class Tokens(Protocol):
    """The tokens that somebody may come with."""

    def find(self, secret: str) -> Restriction | None:
        """The token of a secret; ``None`` if there is none, or it is over. Raises Unavailable."""

    def any(self) -> bool:
        """Whether there is any token. Raises Unavailable."""


def _unheard(what: str, user: str, address: str) -> None:
    pass


def _nobody(project: NormalizedName) -> frozenset[str]:
    return frozenset()


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
        book: RuleBook,
        *,
        tokens: Tokens | None = None,
        owners: Callable[[NormalizedName], frozenset[str] | None] = _nobody,
        workers: int = 16,
        within: Turnstile | None = None,
        tell: Callable[[str, str, str], None] = _unheard,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Who may do what by `book`; without `passwords` those who come with `tokens` alone can say who they are.

        `owners` tells who owns a project of this index, ``None`` if it is
        there for the first who publishes it. `workers`: how many requests are
        worked on at once; `within`: what all that waits passes, if there is
        more. `tell` is told of each wrong login what was wrong, of which user
        and from which address. `clock` counts seconds.
        """
        self._tell = tell
        self._passwords = passwords
        self.book = book
        self._tokens, self._owners = tokens, owners
        self._wrong_tokens = Allowance(_TOLD, 60.0)
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

    def alike(
        self,
        book: RuleBook,
        *,
        tokens: Tokens | None = None,
        owners: Callable[[NormalizedName], frozenset[str] | None] = _nobody,
        tell: Callable[[str, str, str], None] = _unheard,
    ) -> Gate:
        """A gate of the same logins with other rules: who is right or guesses there is so here.

        Raises ConfigError if the password file cannot be used at this moment.
        """
        if self._passwords is not None:
            self._passwords.check()
        gate = copy.copy(self)
        gate.book, gate._tokens, gate._owners, gate._tell = book, tokens, owners, tell
        return gate

    def shares_logins(self, other: Gate) -> bool:
        """Whether who is somebody there is the same here."""
        return self._passwords is other._passwords

    def check(self, action: str, authorization: str | None, address: str) -> User | None:
        """Who may do `action` with one project at least; ``None`` if everybody may (then nothing is verified).

        Besides rights of rules it may be ``update``, any change, ``form``,
        that or a download, and ``reload``. `authorization` is the header's value, `address` where the
        request came from. Raises Denied (with a challenge if other
        credentials could help), TooMany for an address that guesses, Busy if
        too many logins wait. Whatever the header holds, nothing else but
        Unavailable, if nobody can say which tokens there are.
        """
        if action in self.book.open:
            return None
        if self._passwords is None and not self._knows_tokens():
            raise self._closed(action)
        return self.enter(self.who(authorization, address), action)

    def enter(self, user: User | None, action: str) -> User | None:
        """The same of somebody who is known already: `user`, if they may do `action` with one project at least."""
        if self.book.reaches(user, action):
            return user
        raise self._denied(user, action, "" if user is None else self.book.why_not(user, action))

    def allow(self, user: User | None, action: str, project: NormalizedName) -> Decision:
        """What lets `user` (``None``: nobody who logged in) do an action of rules with a project; asked in every route.

        Raises Denied, with a challenge for nobody, and for a user with what
        refuses it; but who may not list the project hears Missing, the same
        as of a name that is not here. A refused upload or push says so to
        all: to who may not list it, what is here already makes no difference.
        """
        decision = self.book.decide(user, action, project, lambda: self._owners(project))
        if decision.allowed:
            return decision
        if user is None or action in ("upload", "push") or self.lists(user, project):
            raise self._denied(user, action, decision.why, project)
        text = f"no project {project} here"
        raise Unseen(text, action=action, project=project) if action in CHANGES else Missing(text)

    def owners(self, project: NormalizedName) -> frozenset[str] | None:
        """Who owns a project here; ``None``: nobody does, and it has and had no files. Raises Unavailable."""
        return self._owners(project)

    def lists(self, user: User | None, project: NormalizedName) -> bool:
        """Whether `user` may list a project, if it is there."""
        return self.book.lists(user, project)

    def who(self, authorization: str | None, address: str) -> User | None:
        """Who asks, by their password or token; ``None`` if they do not say. Raises as `check` does.

        A right token passes whatever is guessed from its address; a wrong one
        is told and costs nothing: nobody guesses one.
        """
        if not authorization:
            return None
        said = parse_credentials(authorization)
        if said.token is None:
            return self._login(said.user or "", said.password, self._key(authorization), address)
        user = self._of_token(said.user, said.token)
        if user is None:
            self._tell_of_token(said.user or "__token__", address)
            raise Denied(_UNKNOWN, challenge=True)
        return user

    def login(self, user: str, password: str, address: str) -> User:
        """The user of this password, as a form has it. Raises as `check` does, in the same bounds.

        Never by a token: those are for programs.
        """
        sent = base64.b64encode(f"{user}:{password}".encode("utf-8", "replace")).decode("ascii")
        name, given = parse_basic(f"Basic {sent}")
        if given.startswith(PREFIX.encode()):
            raise Denied("a token signs nobody in here: it is for programs; use your password", challenge=True)
        return self._login(name, given, self._key(f"Basic {sent}"), address)

    def recall(self, authorization: str | None) -> User | None:
        """Who that is, if it is a token or was right here before and still holds; no password is verified."""
        if not authorization:
            return None
        try:
            said = parse_credentials(authorization)
            if said.token is not None:
                return self._of_token(said.user, said.token)
        except PypiServerLiteError:
            return None
        known = self._passwords is not None and self._passwords.book().knows(self._key(authorization))
        return User(name=said.user or "") if known else None

    def _login(self, user: str, password: bytes, key: bytes, address: str) -> User:
        if self._passwords is None:
            raise Denied(_NO_LOGINS)
        book = self._passwords.book()
        if book.knows(key):
            return User(name=user)
        network, now = network_of(address), self._clock()
        if wait := max(self._by_user.wait((network.own, user), now), self._by_address.wait(network.own, now)):
            raise TooMany("too many wrong logins from this address; wait", retry_after=math.ceil(wait))
        if not self._verified(book, key, user, password, network):
            self._by_user.note((network.own, user), self._clock())
            self._by_address.note(network.own, self._clock())
            self._tell("wrong password", user, address)
            raise Denied(_WRONG, challenge=True)
        return User(name=user)

    def _of_token(self, user: str | None, secret: str) -> User | None:
        """Who comes with a token under a name (``None``: none was given); ``None`` if that is not right."""
        token = None if self._tokens is None else self._tokens.find(secret)
        if token is None:
            return None
        if token.user is None:
            right = user in (None, token.name)
            return User(name=f"token:{token.name}", token=token) if right else None
        if user not in (None, token.user) or self._passwords is None or not self._passwords.book().has(token.user):
            return None
        return User(name=token.user, token=token)

    def _knows_tokens(self) -> bool:
        return self._tokens is not None and self._tokens.any()

    def _tell_of_token(self, user: str, address: str) -> None:
        """Say in the log that a token was wrong: of some alone, for trying them costs nobody anything."""
        now = self._clock()
        if not self._wrong_tokens.wait("all", now):
            self._wrong_tokens.note("all", now)
            self._tell("wrong token", user, address)

    def _closed(self, action: str) -> Denied:
        return Denied(_CLOSED if action in ("update", "form", *CHANGES) else _NO_LOGINS)

    def _denied(self, user: User | None, action: str, why: str, project: NormalizedName | None = None) -> Denied:
        if user is None:
            return Denied(_NEEDED, challenge=True) if self._passwords or self._knows_tokens() else self._closed(action)
        what = f"{_WORDS[action]} {project or ''}".strip()
        return Denied(f"{user.shown} may not {what} here: {why}", action=action, project=project or "")

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
