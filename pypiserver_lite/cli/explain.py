"""``explain``: why an index shows what it shows of a project."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from packaging.utils import NormalizedName

from .. import observe, site
from ..config import load
from ..config.settings import Config
from ..config.values import RIGHTS
from ..dists import normalize
from ..errors import Missing
from ..model import User
from ..policy.explain import explain as explained
from ..policy.explain import lines
from ..policy.fits import Target
from .which import add_index, index_of

_EXPLAIN = """Say whose a name is and why, and of each of its files whether it is shown, or which rules hide it.

  pypiserver-lite explain numpy --config index.toml
  pypiserver-lite explain acme-tools==1.0 --index prod         one release, in one of several indexes
  pypiserver-lite explain numpy --python 3.12 --platform win_amd64      and which files pip can take there
  pypiserver-lite explain acme-tools --in ./packages           folders, as for run
  pypiserver-lite explain acme-tools --user alice              and what alice may do with it, by which rule

It looks at the folders and at what is kept of upstreams, and asks nobody. A running server, which does ask, says the
same at /-/api/explain?name=numpy."""

_SETTINGS = (
    "config",
    "passwords",
    "authenticate",
    "admin",
    "state_dir",
    "cache_dir",
    "follow_links",
    "private",
    "fallback_url",
    "fallback_mode",
    "disable_fallback",
)


def explain(argv: Sequence[str]) -> int:
    """``explain``: why a project has the files it has here, or none."""
    parser = load.make_parser("pypiserver-lite explain", _EXPLAIN, names=_SETTINGS)
    add_index(parser)
    parser.add_argument("name", metavar="NAME[==VERSION]", help="the project, or one release of it")
    parser.add_argument(
        "--python", metavar="VERSION", default=None, help="say which files fit this Python, such as 3.12"
    )
    parser.add_argument(
        "--platform", metavar="PLATFORM", default=None, help="say which files fit it, spelled as in the names of wheels"
    )
    parser.add_argument(
        "--user", metavar="USER", default=None, help="say what this user may do with it; '*' for who has no login"
    )
    parser.add_argument("--json", action="store_true", default=False, help="print JSON")
    parser.add_argument(
        "--in", dest="packages", action="append", metavar="PACKAGES", help="folder that is served (default: as for run)"
    )
    given = vars(parser.parse_args(list(argv)))
    word, which, python, platform, as_json = (given.pop(key) for key in ("name", "index", "python", "platform", "json"))
    user = given.pop("user")
    target = Target(python, platform) if python or platform else None
    spelled, _, version = word.partition("==")
    name = normalize(spelled.strip())
    config = load.gather({key: value for key, value in given.items() if value is not None}, os.environ)
    with site.offline(config, index_of(config, which)) as index:
        explanation = explained(index, name)
        if version:
            explanation = explanation.of(version.strip())
            if not explanation.files:
                raise Missing(f"{name} has no release {version[:100]} here; {explanation.why}")
    may = {} if user is None else _may(config, index_of(config, which), user, name)
    if as_json:
        facts = explanation.as_json(target)
        print(json.dumps(facts if user is None else {**facts, "user": user, "may": may}, indent=2))
        return 0
    # Yanks, licences and versions of Python are in others' words.
    print("\n".join(observe.clean(line) for line in lines(explanation, target)))
    for action, said in may.items():
        whom = "who has no login" if user == "*" else user
        print(observe.clean(f"{whom} may {'' if said['allowed'] else 'not '}{action} it: {said['by']}"))
    return 0


def _may(config: Config, index: str, user: str, name: NormalizedName) -> dict[str, dict[str, Any]]:
    """What a user may do with a project, and what says so."""
    with site.rights(config, index) as gate:
        book = None if gate.passwords is None else gate.passwords.book()
        if user != "*" and (book is None or not book.has(user)):
            raise Missing(f"nobody called {user[:60]!r} can log in in the index {index}")
        who = None if user == "*" else User(name=user)
        decisions = {action: gate.book.decide(who, action, name, lambda: gate.owners(name)) for action in RIGHTS[:-1]}
        return {action: {"allowed": said.allowed, "by": said.by} for action, said in decisions.items()}
