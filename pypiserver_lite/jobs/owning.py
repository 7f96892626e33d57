"""Whoever publishes a project first owns it: recorded before its first file is there, and taken back if none comes.

Others come to own it, or cease to, by an admin's word.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from packaging.utils import NormalizedName

from ..errors import Denied, Missing, Unavailable
from ..model import User
from ..records import Event, Records
from ..rights.rules import Decision
from ..rights.who import Passwords
from ..site import Site

_log = logging.getLogger("pypiserver_lite")


@contextmanager
def owned(
    site: Site, user: User | None, project: NormalizedName, decision: Decision, *, pushed: bool = False
) -> Iterator[None]:
    """Have `user`, whom `decision` lets publish a project in `site`, own it, if nobody does, and the body succeeds.

    A push makes an owner only of who might upload as well: who may only
    promote what others made does not come to change it. Nobody who did not
    log in owns anything, nor does a token of no user. Raises Denied if the
    project is somebody else's by now, and they may publish it only as its
    owner; Unavailable.
    """
    name = None if user is None or (user.token is not None and user.token.user is None) else user.name
    gate, owners = site.gate, site.records.owners
    if name is None:
        yield
        return
    known = gate.owners(project)
    joined = known is not None and name in known and owners.join(site.name, project, name)
    if known and not joined:
        known = gate.owners(project)  # another upload of theirs may have failed just now, with its claim
    may_own = not pushed or gate.book.decide(user, "upload", project, lambda: None).allowed
    if not joined and known is None and may_own:
        known = owners.claim(site.name, project, name)
        joined = name in known
    if not joined:
        # Between the decision and this moment somebody else may have been first.
        if decision.by_owning and known is not None and name not in known:
            action = "push" if pushed else "upload"
            if not gate.book.decide(user, action, project, lambda: known).allowed:
                raise Denied(
                    f"somebody else published {project} first, at this very moment; it is theirs",
                    action=action,
                    project=project,
                )
        yield
        return
    try:
        yield
    except BaseException:
        try:
            owners.forget(site.name, project, name)
        except Unavailable as error:
            _log.error("%s is recorded as the owner of %s, which they could not publish: %s", name, project, error)
        raise
    try:
        owners.settle(site.name, project, name)
    except Unavailable as error:
        # It was published, so the claim holds: only another upload of theirs that fails could take it back.
        _log.error("%s owns %s, and this cannot be settled now: %s", name, project, error)


def add_owner(records: Records, by: Event, user: str, passwords: Passwords | None) -> None:
    """Have `user` own the project of `by` in the index of `by` too, on record.

    `passwords` are those of the index; ``None``: nobody here knows who can log
    in. Raises Missing for a name with which nobody can, Unavailable.
    """
    if passwords is not None and not passwords.book().has(user):
        raise Missing(
            f"nobody called {user[:60]!a} can log in to the index {by.index}, and so nobody would own {by.project}"
        )
    with records.trail.change(replace(by, action="owner", reason=f"add {user}")):
        records.owners.add(by.index, by.project, user)


def remove_owner(records: Records, by: Event, user: str) -> None:
    """Have `user` own that project no more, on record. Raises Missing if they do not, Unavailable."""
    absent = Missing(f"{user[:60]!a} does not own {by.project} in the index {by.index}")
    if user not in records.owners.of(by.index, by.project, lapsed=True):
        raise absent
    with records.trail.change(replace(by, action="owner", reason=f"remove {user}")):
        if not records.owners.remove(by.index, by.project, user):
            raise absent  # somebody else removed them meanwhile
