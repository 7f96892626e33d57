"""The users of a password file as an admin sees and changes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.indexes import ROOT
from ..config.values import RIGHTS
from ..errors import ConfigError, Denied, Missing, ReadOnly
from ..model import User
from ..rights.htpasswd import delete_user, set_password

if TYPE_CHECKING:
    from ..records import Event
    from ..rights.rules import RuleBook
    from ..rights.who import Passwords
    from ..site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Somebody who can log in."""

    name: str
    locked: bool
    """Whether the line is broken, so that nobody can log in by it."""
    may: Sequence[tuple[str, str]]
    """Actions in this index, each with its limits: none, or patterns of names; ``own`` before what has to be theirs."""

    def as_json(self) -> dict[str, object]:
        """What programs see of it."""
        return {"name": self.name, "locked": self.locked, "may": dict(self.may)}


class UserDesk:
    """The users of the password file of `site`, one of `sites`, in all of which they may have rights."""

    def __init__(self, site: Site, sites: Callable[[], Mapping[str, Site]]) -> None:
        self._site, self._sites = site, sites

    def all(self) -> Sequence[Known]:
        """All of them by name. Raises Missing if there is no password file."""
        book = self._passwords().book()
        return [Known(name=name, locked=not book.has(name), may=self.may(User(name=name))) for name in book.users()]

    def may(self, user: User) -> Sequence[tuple[str, str]]:
        """What somebody may do in this index, and with which projects if not with all."""
        book, found = self._site.gate.book, []
        for action in RIGHTS:
            if not book.reaches(user, action):
                continue
            limits = self._limits(user.name, action)
            if action == "push" and limits != []:
                # Who may upload may push, too.
                uploads = self._limits(user.name, "upload")
                if limits is None or uploads == []:
                    limits = uploads
                else:
                    limits = list(dict.fromkeys([*limits, *(uploads or ())]))
            found.append((action, ", ".join(limits or ())))
        return found

    def _limits(self, user: str, action: str) -> list[str] | None:
        """The projects with which rules let somebody do an action, in order; empty: with all, ``None``: with none."""
        limits, some = list[str](), False
        for said, projects, _, owns in self._site.gate.book.told(user, action):
            some = some or said
            if said and not projects and not owns:
                return [*limits, "all others"] if limits else []
            words = [f"own {pattern}" for pattern in projects] or ["own"] if owns else list(projects) or ["all"]
            limits += words if said else [f"not {word}" for word in words]
        return limits if some else None

    def set_password(self, user: str, password: str, by: Event, *, new: bool | None = None) -> bool:
        """Give a user another password, or make a `new` one (``None``: as it is); whether they are new. On record.

        To a new one belongs no token that somebody of that name had before.
        Raises Denied where whoever does it would come to more than they may by themselves, Invalid for a name or
        password that cannot be, Conflict for a new one who is there, Missing, and Unavailable if the file cannot be
        written or it cannot be put on record.
        """
        self._check_rank(by.who, user)
        passwords = self._passwords()
        is_new = user not in passwords.book().users()
        event = replace(by, action="password", reason=f"{'new user' if is_new else 'user'} {user}")
        with self._changing(event, ends=user if is_new else None) as path:
            set_password(path, user, password, new=new)
        return is_new

    def delete(self, user: str, by: Event) -> None:
        """Have a user log in no more, and end their tokens. On record. Raises as `set_password` does."""
        if user not in self._passwords().book().users():
            raise Missing(f"there is no user {user[:60]!a}")
        self._check_rank(by.who, user)
        with self._changing(replace(by, action="user-delete", reason=f"user {user}"), ends=user) as path:
            delete_user(path, user)

    def _check_rank(self, who: str, user: str) -> None:
        """Raise Denied if a user is more of an admin than `who`, in any index where both are the same people."""
        for name in self._indexes():
            book = self._sites()[name].gate.book
            if _rank(book, user) > _rank(book, who):
                where = "the index at the root" if name == ROOT else f"the index {name}"
                raise Denied(f"{user} is an admin of {where} who may more than {who}, who cannot change their login")

    def _indexes(self) -> Sequence[str]:
        """The indexes whose users are these."""
        return [name for name, site in self._sites().items() if site.gate.shares_logins(self._site.gate)]

    @contextmanager
    def _changing(self, event: Event, *, ends: str | None) -> Iterator[Path]:
        """Put a change of the password file on record, with which the tokens of a user end."""
        path, records = self._passwords().path, self._site.records
        change = records.trail.change(event) if ends is None else records.ending_tokens(event, ends, self._indexes())
        with change:
            try:
                yield path
            except ConfigError as error:
                # Its words name a path of the server.
                self._site.log.error("%s", error)
                raise ReadOnly("the password file cannot be changed from here; the server's log says why") from error

    def _passwords(self) -> Passwords:
        passwords = self._site.gate.passwords
        if passwords is None:
            raise Missing("nobody can log in here: the operator of this index has named no password file (-P FILE)")
        return passwords


def _rank(book: RuleBook, user: str) -> int:
    """How much of an admin somebody is in an index: one of ``--admin`` may everything, one by a rule what rules say."""
    return 2 if user in book.admins else int(book.decide(User(name=user), "admin", None).allowed)
