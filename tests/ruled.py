"""A server whose rules differ by user, project and index; what they allow is written out here a second time."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import builders
import live
from wsgi_client import Answer, Client

from pypiserver_lite import make_app
from pypiserver_lite.web.front import Front

SETTINGS = """\
passwords = "htpasswd"
admin = ["root"]
packages = ["packages"]
disable_fallback = true
cache_dir = "cache"
state_dir = "state"

[index.prod]
packages = ["prod"]
bases = ["/"]

[index.own]
packages = ["own"]
authenticate = ["list", "download", "update"]

[groups]
release = ["ann"]

[[rule]]
who = ["bob"]
may_not = ["list", "download"]
projects = ["secret-*"]
indexes = ["/", "prod"]

[[rule]]
who = ["@release"]
may = ["upload", "yank"]
projects = ["acme-*"]
indexes = ["/", "prod"]

[[rule]]
who = ["owner"]
may = ["upload", "yank", "remove"]
indexes = ["/"]

[[rule]]
who = ["cat"]
may = ["push"]
indexes = ["prod"]

[[rule]]
who = ["*"]
may = ["list", "download"]
projects = ["pub-*"]
indexes = ["/", "prod"]

[[rule]]
who = ["dan"]
may = ["download"]
indexes = ["/", "prod"]

[[rule]]
who = ["ann", "bob", "cat"]
may = ["list", "download"]
indexes = ["/", "prod"]
"""

ROOT, PROD, OWN = "/", "prod", "own"
PROJECTS = {
    ROOT: ("acme-core", "other-thing", "pub-lib", "secret-tool"),
    PROD: ("acme-core", "other-thing", "prod-lib", "pub-lib", "secret-prod", "secret-tool"),
    OWN: ("acme-own", "pub-own", "secret-own"),
}
"""What each index has, with its bases."""
FOLDERS = {ROOT: "packages", PROD: "prod", OWN: "own"}
OWNED = {ROOT: PROJECTS[ROOT], PROD: ("prod-lib", "secret-prod"), OWN: PROJECTS[OWN]}
"""What each index itself has."""
USERS = ("nobody", "ann", "bob", "cat", "dan", "eve", "root", "ann-acme", "ann-upload", "ann-prod", "ci")
"""The last ones come with tokens."""


def may_list(user: str, project: str, index: str) -> bool:
    """Whether a user may list a project, if it is there."""
    if index == OWN:
        return {"nobody": False, "ann-acme": project.startswith("acme-"), "ann-upload": False, "ann-prod": False}.get(
            user, user != "ci"
        )
    if user == "bob" and project.startswith("secret-"):
        return False
    if project.startswith("pub-") or user in ("ann", "bob", "cat", "root"):
        return True
    if user == "ann-prod":
        return index == PROD
    return user == "ann-acme" and project.startswith("acme-")


def may_download(user: str, project: str, index: str) -> bool:
    """The same of files."""
    return may_list(user, project, index) or (user == "dan" and index != OWN)


def may_change(user: str, action: str, project: str, index: str) -> bool:
    """Whether a user may ``upload``, ``yank``, ``remove`` or ``push`` (to there) a project that `index` has."""
    acme = project.startswith("acme-")
    if user == "root":
        return True
    if index == ROOT and project not in PROJECTS[ROOT] and action in ("upload", "push"):
        # It is free for whoever is the first.
        owner = user.removesuffix("-upload")
        if user in ("ann", "bob", "cat", "dan", "eve", "ann-upload") and may_list(owner, project, index):
            return True
        return acme and user in ("ann-acme", "ci")
    if index == OWN:
        if user in ("ann", "bob", "cat", "dan", "eve"):
            return True
        return (user == "ann-acme" and acme) or (
            user in ("ci", "ann-upload") and action in ("upload", "push") and (user != "ci" or acme)
        )
    if index == PROD and user == "cat" and action == "push":
        return True
    if user == "ci":
        return acme and action in ("upload", "push")
    if user == "eve":  # she owns it
        return index == ROOT and project == "pub-lib"
    if acme and action in ("upload", "push"):
        return user in ("ann", "ann-acme", "ann-upload") or (user == "ann-prod" and index == PROD)
    if acme and action == "yank":
        return user in ("ann", "ann-acme") or (user == "ann-prod" and index == PROD)
    return False


class Ruled:
    """The server, and how its users log in."""

    def __init__(self, folder: Path, app: Front) -> None:
        self.folder, self.app = folder, app
        tokens = app.site_of(ROOT).records.tokens
        self.logins = {user: basic(user, "right") for user in ("ann", "bob", "cat", "dan", "eve", "root")}

        def token(name: str, user: str | None, **said: Any) -> str:
            return tokens.create(name, by="root", user=user, **said)[1]

        self.logins["ann-acme"] = basic("__token__", token("acme", "ann", projects=["acme-*"]))
        self.logins["ann-upload"] = basic("ann", token("upload", "ann", may=["upload"]))
        self.logins["ann-prod"] = f"Bearer {token('prod', 'ann', indexes=['prod'])}"
        self.logins["ci"] = basic(token("ci", None, may=["upload"], projects=["acme-*"]), "")
        end = datetime.now(timezone.utc) + timedelta(seconds=3600)
        self.fine = basic("__token__", token("fine", "ann", expires=end))

    def ask(self, index: str, path: str, user: str = "nobody", method: str = "GET", **more: Any) -> Answer:
        """A request of a user for a path of an index, whatever comes of it."""
        prefix = "" if index == ROOT else f"/{index}"
        headers = {name.replace("_", "-"): value for name, value in more.pop("headers", {}).items()}
        login = more.pop("login", self.logins.get(user))
        if login is not None:
            headers["Authorization"] = login
        client = Client(self.app)
        return client.request(f"{prefix}{path}", method=method, status=None, headers=headers, **more)


def basic(user: str, password: str) -> str:
    """The header of a login."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def ruled(folder: Path, more: str = "") -> Iterator[Ruled]:
    """The server over a folder of its own, with `more` in its settings."""
    live.write_htpasswd(folder / "htpasswd", **dict.fromkeys(("ann", "bob", "cat", "dan", "eve", "root"), "right"))
    for index, projects in OWNED.items():
        for project in projects:
            summary = f"Summary: sum-of-{project}"
            wheel = builders.make_wheel(folder / FOLDERS[index], project, "1.0", summary, "Requires-Dist: secret-tool")
            for side in ("asc", "provenance"):
                wheel.with_name(f"{wheel.name}.{side}").write_text("{}")
    (folder / "index.toml").write_text(SETTINGS + more)
    app = make_app(config=folder / "index.toml")
    assert isinstance(app, Front)
    app.site_of(ROOT).records.owners.add(ROOT, "pub-lib", "eve")
    try:
        yield Ruled(folder, app)
    finally:
        app.close()


def wheel_of(project: str, version: str = "1.0") -> str:
    """The file name of a project's wheel."""
    return f"{project.replace('-', '_')}-{version}-py3-none-any.whl"
