"""``check``: what the settings mean, without serving anything."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .. import observe, servers, site
from ..config import load
from ..config.indexes import ROOT
from ..config.settings import Config
from ..config.told import told
from ..errors import ConfigError
from ..folder.together import Together
from ..site.limits import cache_dir
from ..web import PypiServerLite
from ..web.templates import Templates
from .meaning import meaning
from .serve import options, server

_CHECK = """Say what the settings mean, and what is wrong with them, without serving anything.

  pypiserver-lite check                             pypiserver-lite.toml in this folder
  pypiserver-lite check --config index.toml --port 80
  pypiserver-lite check --json                      for programs

It takes what 'run' takes. The exit code is 2 if the server could not be started with these settings; then one line says
why. Nothing is listened to and no upstream is asked."""

_MODES = {
    "redirect": "clients are sent there",
    "proxy": "asked for clients, nothing is kept",
    "cache": "asked for clients, what comes is kept",
}
_ACTIONS = {"list": "see what there is", "download": "download", "update": "publish, yank, remove and push to here"}


def check(argv: Sequence[str]) -> int:
    """``check``: read the settings, say what they mean."""
    parser = load.make_parser("pypiserver-lite check", _CHECK)
    parser.usage = "%(prog)s [OPTIONS] [PACKAGES ...]"
    parser.add_argument("--json", action="store_true", default=False, help="print it as JSON")
    given = vars(parser.parse_intermixed_args(list(argv)))
    as_json = given.pop("json")
    config = load.gather({key: value for key, value in given.items() if (key, value) != ("packages", [])}, os.environ)
    told = tried(config)
    print(json.dumps(told, indent=2) if as_json else "\n".join(_lines(told)))
    return 0


def tried(config: Config) -> dict[str, Any]:
    """What settings mean, tried out but not served. Raises ConfigError if they cannot be."""
    with told(config):
        observe.check(config.server)
        servers.check(server(config), options(config))
        cache_dir(config)
    # Nothing is left behind: another user may be the one who runs the server.
    with tempfile.TemporaryDirectory() as scratch, _built(config, Path(scratch)) as sites:
        if fault := sites.by_name[ROOT].records.faults():
            raise ConfigError(f"{site.records_file(config)} is damaged ({fault}); put a backup back in its place")
        pages = {(one.settings.templates, one.settings.welcome): name for name, one in [*sites.by_name.items()][::-1]}
        for (folder, welcome), name in pages.items():
            with told(config, name):
                Templates(folder=folder, welcome=welcome)
        # The routes of one, with nothing to read in the background: all have the same.
        with told(config):
            PypiServerLite(site=dataclasses.replace(sites.by_name[ROOT], reading=Together(()))).close()
        said = meaning(config, sites)
    return {**said, "remarks": [*said["remarks"], *_unusable(cache_dir(config))]}


def _unusable(folder: Path) -> Iterator[str]:
    """What of the cache folder is not for this user: the server goes without it, and says so in its log."""
    for path in (folder, *folder.glob("*"), *folder.glob("*/*")):
        rights = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
        if os.path.lexists(path) and not os.access(path, rights):
            yield f"{path} cannot be used by this user, so that nothing is kept there; give it to who runs the server"


def _built(config: Config, scratch: Path) -> AbstractContextManager[site.Sites]:
    """The sites of these settings, with all that a server keeps for itself in a folder of their own."""
    server = dataclasses.replace(config.server, cache_dir=scratch)
    return contextlib.closing(site.build_all(dataclasses.replace(config, server=server), recording=False))


def _lines(told: dict[str, Any]) -> Iterator[str]:
    said = told["server"]
    yield f"{told['file'] or 'no file of settings'}"
    yield f"{said['runs_on']} listens on {said['listens']}" + (
        f", seen by clients at {said['seen_at']}" if said["seen_at"] else ""
    )
    yield f"keeps its records in {said['records']}" if said["records"] else "has no place for records"
    for name, value in said["differs"].items():
        yield f"  {name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
    for index in told["indexes"]:
        yield ""
        yield from _of_index(index)
    for remark in told["remarks"]:
        yield ""
        yield f"warning: {remark}"


def _of_index(index: dict[str, Any]) -> Iterator[str]:
    yield ": ".join(filter(None, (index["path"], index["title"], index["description"])))
    for at, folder in enumerate(index["folders"]):
        kind = "" if at else ", uploads go there"
        yield f"  serves {folder['path']}{kind if folder['writable'] else ', which cannot be written by this user'}"
    number = 0
    for place in index["looks_in"] if len(index["looks_in"]) > 1 or index["asks"] else ():
        number += 1
        folders = ", ".join(place["folders"]) or "no folder"
        whose = "its own files" if place["index"] == index["name"] else f"the files of {place['index']}"
        yield f"  {number}. {whose} ({folders})"
    if index["asks"]:
        yield "  and only for names that none of these has, had or reserves:"
    for upstream in index["asks"]:
        number += 1
        names = [f"only for {', '.join(upstream['only'])}"] if upstream["only"] else []
        names += [f"never for {', '.join(upstream['never'])}"] if upstream["never"] else []
        mirrors = [f"or {url}" for url in upstream["mirrors"]]
        yield f"  {number}. " + ", ".join(
            [f"{upstream['name']} at {upstream['address']}", *mirrors, _MODES[upstream["mode"]], *names]
        )
    if not index["asks"]:
        yield "  asks no upstream"
    if index["reserves"]:
        yield f"  reserves {', '.join(index['reserves'])}: never asked of an upstream"
    if index["reserves_but_merges"]:
        yield f"  reserves {', '.join(index['reserves_but_merges'])}, but asks upstreams for what 'merge' names of that"
    for name, rules in index["policies"].items():
        for rule in rules:
            yield f"  {'' if name == index['name'] else f'as in {name}, '}{rule}"
    yield from _rights(index)


def _rights(index: dict[str, Any]) -> Iterator[str]:
    kinds = {
        "anybody": "anybody may",
        "users": f"who has a password in {index['passwords']} may",
        "nobody": "nobody may (no password file is named)",
        "nowhere": "nobody may (it has no folder)",
    }
    for who, words in kinds.items():
        actions = [_ACTIONS[action] for action, allowed in index["may"].items() if allowed == who]
        if actions:
            yield f"  {words} {', '.join(actions)}"
    if index["admins"]:
        yield f"  {', '.join(index['admins'])} may everything"
    for rule in index["rules"]:
        who = ", ".join(_whom(who, rule["groups"]) for who in rule["who"])
        said = [f"may {', '.join(rule['may'])}"] if rule["may"] else []
        said += [f"may not {', '.join(rule['may_not'])}"] if rule["may_not"] else []
        about = f" {', '.join(rule['projects'])}" if rule["projects"] else ""
        yield f"  {who} {' and '.join(said)}{about} ({rule['by']})"
    if index["rules"]:
        yield "  what no rule names, nobody may; the first that does decides"
    if index["overwrite"]:
        yield "  an upload may replace a file"


def _whom(who: str, groups: Mapping[str, Sequence[str]]) -> str:
    words = {"*": "anybody", "users": "who logs in", "owner": "whoever owns it"}
    if who.startswith("@"):
        return f"{who} ({', '.join(groups[who[1:]]) or 'nobody'})"
    return words.get(who, who)
