"""Tokens as people and programs make, see and end them over HTTP."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ..config.indexes import ROOT
from ..config.rows import near
from ..config.values import parse_duration, parse_patterns, parse_rights, parse_words
from ..errors import Denied, Invalid, Missing, TooMany
from ..model import User
from ..rights.throttles import Allowance

if TYPE_CHECKING:
    from ..records import Event, Token
    from ..site import Site

_AT_ONCE = 60  # tokens that somebody makes, and then one a minute
_EMPTY = "it is empty; leave it out, or say null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A token that somebody asks for."""

    name: str
    user: str | None
    may: frozenset[str] | None
    indexes: tuple[str, ...]
    projects: tuple[str, ...]
    expires: datetime | None


class TokenDesk:
    """The tokens of the users of `site`, one of `sites`, behind which all are that a token can be for."""

    def __init__(self, site: Site, sites: Callable[[], Mapping[str, Site]]) -> None:
        self._site, self._sites = site, sites
        self._tries = Allowance(_AT_ONCE, _AT_ONCE * 60.0)

    def indexes(self) -> Sequence[str]:
        """The indexes whose users are this one's too: a token of theirs is for these."""
        gate = self._site.gate
        return [name for name, site in self._sites().items() if site.gate.shares_logins(gate)]

    def seen(self, user: User, *, all: bool = False) -> Sequence[Token]:
        """A user's tokens; with `all` those of everybody. Raises Unavailable."""
        tokens = self._site.records.tokens.list(None if all else user.name)
        return tokens if all else [token for token in tokens if self._is_of(token, user)]

    def find(self, id: int, user: User, *, all: bool = False) -> Token:
        """One of those by its number. Raises Missing, Unavailable."""
        found = next((token for token in self.seen(user, all=all) if token.id == id), None)
        if found is None:
            raise Missing("there is no such token, or it is not yours")
        return found

    def create(self, wanted: Wanted, by: Event) -> tuple[Token, str]:
        """Make a token, on record; it and its secret. Raises Invalid, Conflict, Unavailable.

        And TooMany: all that is changed is on record for ever, and this needs no right that a rule gives. Admins may.
        """
        if not self._site.gate.book.reaches(User(name=by.who), "admin"):
            now = time.monotonic()
            if wait := self._tries.wait(by.who, now):
                raise TooMany("you have made many tokens just now; wait", retry_after=math.ceil(wait))
            self._tries.note(by.who, now)
        with self._site.records.trail.change(replace(by, action="token-create", reason=_told(wanted))):
            return self._site.records.tokens.create(
                wanted.name,
                by=by.who,
                user=wanted.user,
                may=wanted.may,
                indexes=wanted.indexes,
                projects=wanted.projects,
                expires=wanted.expires,
            )

    def revoke(self, token: Token, by: Event) -> None:
        """End a token, on record. Raises Missing, Unavailable."""
        reason = f"{token.name} of {token.user or 'no user'}"
        with self._site.records.trail.change(replace(by, action="token-revoke", reason=reason)):
            self._site.records.tokens.revoke(token.id)

    def wanted(self, said: Mapping[str, Any], user: User, *, admin: bool) -> Wanted:
        """What a form or a program asks for. Raises Invalid, Missing, and Denied for another's token.

        A limit is left out, or ``None``, where none is meant; of indexes that
        is all there are now with the same users. An `admin` may have tokens
        made for others, and with the user ``None`` for no user: for the
        indexes that they administer.
        """
        whose = _text(said, "user") if "user" in said else user.name
        if whose != user.name and not admin:
            raise Denied("only an admin makes tokens for others")
        if whose is not None and whose != user.name:
            passwords = self._site.gate.passwords
            if passwords is None or not passwords.book().has(whose):
                raise Missing(f"there is no user {whose[:60]!a}")
        try:
            may = parse_rights(words) if (words := _texts(said, "may")) else None
            indexes = parse_words(_texts(said, "indexes"))
            projects = parse_patterns(_texts(said, "projects"))
            seconds = None if (expires := _text(said, "expires")) is None else parse_duration(expires)
        except ValueError as error:
            raise Invalid(str(error)) from error
        if seconds == 0:
            raise Invalid("expires: a token ends in the future")
        known = self.indexes()
        for name in indexes:
            if name not in known:
                raise Missing(f"there is no index {name[:100]!a} that this token could be for{near(name, known)}")
        if whose != user.name:
            known = [name for name in known if self._sites()[name].gate.book.decide(user, "admin", None).allowed]
            if not_theirs := [name for name in indexes if name not in known]:
                raise Denied(f"{user.shown} does not administer {', '.join(not_theirs)}, and makes no tokens of others")
        return Wanted(
            name=str(said.get("name", "")).strip(),
            user=whose,
            may=may,
            # Always by name: an index that is added later may have other admins, and other users of the same names.
            indexes=indexes or tuple(known),
            projects=projects,
            expires=None if seconds is None else datetime.now(timezone.utc) + timedelta(seconds=seconds),
        )

    def _is_of(self, token: Token, user: User) -> bool:
        """Whether a token is this user's: another index may have another user of that name."""
        if token.user != user.name:
            return False
        known = self.indexes()
        if len(known) == len(self._sites()):
            return True
        # An index that is gone has no users.
        named = self._sites().keys() & token.indexes
        return named <= set(known) if named else self._site.name == ROOT


def as_json(token: Token) -> dict[str, object]:
    """A token as programs see it; its secret is nowhere."""
    return {
        "id": token.id,
        "name": token.name,
        "user": token.user,
        "may": None if token.may is None else sorted(token.may),
        "indexes": list(token.indexes),
        "projects": list(token.projects),
        "created": token.created.isoformat(),
        "by": token.by,
        "expires": None if token.expires is None else token.expires.isoformat(),
        "used": None if token.used is None else token.used.isoformat(),
    }


def _texts(said: Mapping[str, Any], name: str) -> list[str]:
    """The texts of a limit, which may be one or a list; none where it is left out. Raises Invalid.

    One that is there and says nothing, as of a variable that is not set, is not meant to be no limit.
    """
    value = said.get(name)
    if value is None:
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Invalid(f"{name}: a text is expected, or a list of texts")
    if not texts or not all(map(parse_words, texts)):
        raise Invalid(f"{name}: {_EMPTY}")
    return texts


def _text(said: Mapping[str, Any], name: str) -> str | None:
    """The one text of a field; ``None`` where it is left out. Raises Invalid as `_texts` does."""
    value = said.get(name)
    if value is not None and not isinstance(value, str):
        raise Invalid(f"{name}: a text is expected")
    if value is not None and not value.strip():
        raise Invalid(f"{name}: {_EMPTY}")
    return value


def _told(wanted: Wanted) -> str:
    """A token for the trail."""
    parts = [f"{wanted.name} of {wanted.user or 'no user'}"]
    parts += [f"may {' '.join(sorted(wanted.may))}"] if wanted.may is not None else []
    parts += [f"in {' '.join(wanted.indexes)}"] if wanted.indexes else []
    parts += [f"for {' '.join(wanted.projects)}"] if wanted.projects else []
    parts += [f"until {wanted.expires:%Y-%m-%d %H:%M}"] if wanted.expires is not None else []
    return ", ".join(parts)
