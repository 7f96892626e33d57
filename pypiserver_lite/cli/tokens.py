"""``token``: secrets that stand in for a password."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from ..config import load
from ..config.indexes import ROOT
from ..config.settings import Config
from ..config.values import NO_PASSWORDS, RIGHTS, parse_duration, parse_moment, parse_patterns, parse_rights
from ..errors import ConfigError, Missing
from ..records import Records, Token
from ..rights.who import Passwords
from .recorded import SETTINGS, add_folders, by, gathered, of_served, shown
from .which import index_of

Value = TypeVar("Value")

_HELP = """Make, list and revoke tokens: secrets that stand in for a password, with fewer rights and an end.

  pypiserver-lite token create ci --may upload --project 'acme-*' --expires 90d     of no user: may exactly that
  pypiserver-lite token create laptop --user alice                                  may what alice may
  pypiserver-lite token create laptop --user alice -P htpasswd.txt --in ./packages  without a file of settings
  pypiserver-lite token list
  pypiserver-lite token revoke laptop --user alice

The secret is printed once, and kept as its SHA-256 alone. Clients send it as the password of the user __token__, or of
its own user: twine upload -u __token__ -p pypl_… . Running servers know of it, or no longer, with the next request."""


def token(argv: Sequence[str]) -> int:
    """``token``: make, list and revoke tokens."""
    parser = load.make_parser("pypiserver-lite token", _HELP, names=(*SETTINGS, "passwords"))
    add_folders(parser)
    parser.add_argument("action", choices=("create", "list", "revoke"), metavar="{create,list,revoke}")
    parser.add_argument("name", nargs="?", default=None, metavar="NAME", help="what it is called")
    parser.add_argument("--user", metavar="USER", default=None, help="whose it is (default: nobody's)")
    parser.add_argument(
        "--may",
        action="append",
        metavar="ACTION",
        default=None,
        help=f"for create: what it may be used for: {', '.join(RIGHTS)}; may be repeated (default: all its user may)",
    )
    parser.add_argument(
        "--index", action="append", metavar="NAME", default=None, help="for create: in which index; may be repeated"
    )
    parser.add_argument(
        "--project",
        action="append",
        metavar="NAME",
        default=None,
        help="for create: for which projects, names or patterns such as 'acme-*'; may be repeated",
    )
    parser.add_argument(
        "--expires", metavar="WHEN", default=None, help="for create: a span of time such as 90d, or a date"
    )
    parser.add_argument("--json", action="store_true", default=False, help="for list: print a JSON array")
    given = vars(parser.parse_intermixed_args(list(argv)))
    action, name, user, as_json = (given.pop(key) for key in ("action", "name", "user", "json"))
    limits = {key: given.pop(key) for key in ("may", "index", "project", "expires")}
    if (name is None) != (action == "list"):
        raise ConfigError(f"token {action} takes {'no name' if action == 'list' else 'the name of a token'}")
    if action != "create" and any(value is not None for value in limits.values()):
        raise ConfigError("--may, --index, --project and --expires are for token create")
    config = gathered(given)
    with contextlib.closing(of_served(config) if action == "create" else shown(config)) as records:
        if action == "create":
            return _create(config, records, name, user, limits)
        if action == "revoke":
            return _revoke(records, name, user)
        tokens = records.tokens.list(user)
    if as_json:
        print(json.dumps([as_json_value(one) for one in tokens]))
        return 0
    now = datetime.now(timezone.utc)
    for one in tokens:
        print(described(one, now))
    return 0


def _create(config: Config, records: Records, name: str, user: str | None, limits: dict[str, Any]) -> int:
    may = None if limits["may"] is None else _read("--may", parse_rights, limits["may"])
    projects = _read("--project", parse_patterns, limits["project"] or ())
    expires = None if limits["expires"] is None else _read("--expires", _end, limits["expires"])
    indexes = [index_of(config, word) for word in limits["index"] or ()]
    if user is not None:
        _check_user(config, user)
    event = replace(by("token"), action="token-create", reason=f"{name} {_whose(user)}")
    with records.trail.change(event):
        made, secret = records.tokens.create(
            name, by=event.who, user=user, may=may, indexes=indexes, projects=projects, expires=expires
        )
    print(described(made, datetime.now(timezone.utc)), file=sys.stderr)
    print(f"on record in {records.path}", file=sys.stderr)
    print("Its secret, which is not shown again:", file=sys.stderr)
    print(secret)
    return 0


def _revoke(records: Records, name: str, user: str | None) -> int:
    found = [one for one in records.tokens.list(user) if one.name == name and one.user == user]
    if not found:
        others = sorted({one.user or "" for one in records.tokens.list() if one.name == name})
        hint = f"; there is one {', '.join(_whose(other or None) for other in others)}" if others else ""
        raise Missing(f"there is no token {name!r} {_whose(user)}{hint}")
    with records.trail.change(replace(by("token"), action="token-revoke", reason=f"{name} {_whose(user)}")):
        records.tokens.revoke(found[0].id)
    print(f"{name}: revoked")
    return 0


def _whose(user: str | None) -> str:
    return "of no user" if user is None else f"of {user}"


def _end(text: str) -> datetime:
    try:
        return datetime.now(timezone.utc) + timedelta(seconds=parse_duration(text))
    except ValueError:
        return parse_moment(text)


def _read(flag: str, parse: Callable[[Any], Value], value: object) -> Value:
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from error


def _check_user(config: Config, user: str) -> None:
    """Raise ConfigError if no password file of these settings has a user: their token would be nobody's."""
    files = {config.of(name).passwords for name in (ROOT, *config.indexes)} - {None, NO_PASSWORDS}
    for file in files:
        if file is not None and Passwords(file).book().has(user):
            return
    named = ", ".join(sorted(map(str, files))) or "there is none; -P FILE names it"
    raise ConfigError(f"--user: no password file has a user {user!r} ({named})")


def described(token: Token, now: datetime) -> str:
    """A token in one line."""
    parts = [f"{token.name} {_whose(token.user)}"]
    parts.append("may all that its user may" if token.may is None else f"may {_listed(sorted(token.may))}")
    if token.indexes:
        parts.append(f"in {_listed(token.indexes)}")
    if token.projects:
        parts.append(f"for {_listed(token.projects)}")
    if token.expires is not None:
        parts.append(f"{'over since' if token.is_over(now) else 'until'} {token.expires:%Y-%m-%d %H:%M}Z")
    parts.append(f"made {token.created:%Y-%m-%d} by {token.by}")
    parts.append("never used" if token.used is None else f"last used {token.used}")
    return ", ".join(parts)


def _listed(words: Iterable[str]) -> str:
    return " ".join(words)


def as_json_value(token: Token) -> dict[str, object]:
    """A token as JSON has it; never its secret, which nobody knows."""
    return {
        "name": token.name,
        "user": token.user,
        "may": None if token.may is None else sorted(token.may),
        "indexes": token.indexes,
        "projects": token.projects,
        "created": token.created.isoformat(),
        "by": token.by,
        "expires": None if token.expires is None else token.expires.isoformat(),
        "used": None if token.used is None else token.used.isoformat(),
    }
