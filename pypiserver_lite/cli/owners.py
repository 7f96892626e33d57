"""``owner``: who owns projects, for rules that speak of owners."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from ..config import load
from ..config.settings import Config
from ..config.values import NO_PASSWORDS, parse_people
from ..dists import normalize
from ..errors import ConfigError
from ..jobs.owning import add_owner, remove_owner
from ..rights.who import Passwords
from .recorded import SETTINGS, add_folders, by, gathered, of_served, shown
from .which import add_index, index_of

_HELP = """Show and change who owns a project: whoever published it first, and whom you add.

  pypiserver-lite owner list acme-tools
  pypiserver-lite owner add acme-tools alice --index prod
  pypiserver-lite owner remove acme-tools alice --index prod

It matters where a rule of the file of settings speaks of the 'owner'. Running servers know it with the next request."""


def owner(argv: Sequence[str]) -> int:
    """``owner``: list, add and remove owners of a project."""
    parser = load.make_parser("pypiserver-lite owner", _HELP, names=SETTINGS)
    add_folders(parser)
    add_index(parser)
    parser.add_argument("action", choices=("list", "add", "remove"), metavar="{list,add,remove}")
    parser.add_argument("project", metavar="PROJECT", help="the project")
    parser.add_argument("user", nargs="?", default=None, metavar="USER", help="for add and remove: the user")
    given = vars(parser.parse_intermixed_args(list(argv)))
    action, project, user, which = (given.pop(key) for key in ("action", "project", "user", "index"))
    if (user is None) != (action == "list"):
        raise ConfigError(f"owner {action} takes {'no user' if action == 'list' else 'a project and a user'}")
    name, config = normalize(project), gathered(given)
    index = index_of(config, which)
    try:
        (user,) = (None,) if user is None else parse_people(user)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    with contextlib.closing(shown(config) if user is None else of_served(config)) as records:
        if user is not None:
            event = replace(by("owner", index), project=name)
            if action == "add":
                add_owner(records, event, user, _passwords(config, index))
            else:
                remove_owner(records, event, user)
        owners = sorted(records.owners.of(index, name, lapsed=True))
    print("\n".join(owners) if action == "list" else f"{name} in {index}: {', '.join(owners) or 'nobody owns it'}")
    return 0


def _passwords(config: Config, index: str) -> Passwords | None:
    """The password file of an index; ``None`` where the settings name none: a server may be told one at its start."""
    file = config.of(index).passwords
    return None if file in (None, NO_PASSWORDS) else Passwords(file)
