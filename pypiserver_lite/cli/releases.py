"""``yank``, ``unyank`` and ``names``: what is offered of the packages folders, and what is kept from the upstream."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace

from .. import site
from ..config import load
from ..config.indexes import ROOT
from ..config.settings import Config
from ..dists import normalize
from ..errors import ConfigError
from ..jobs import audited
from .recorded import SETTINGS, by, gathered, opened
from .which import add_index, index_of

_YANK = """Yank a release: installers pass over it, but for those who ask for exactly this version (PEP 592).

  pypiserver-lite yank acme-tools 1.0 ./packages --reason "loses data on Sundays"

  pypiserver-lite yank acme-tools 1.0 --index dev        one of several, as --config FILE names them

The files stay where they are. A running server sees it at the next request."""

_UNYANK = """Take a yank back.

  pypiserver-lite unyank acme-tools 1.0 ./packages"""


def yank(argv: Sequence[str]) -> int:
    """``yank``: keep a release for those who pin it, and out of everybody else's way (PEP 592)."""
    parser = _release_parser("yank", _YANK)
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; shown to whoever installs it all the same")
    return _yank(parser, argv, "yanked")


def unyank(argv: Sequence[str]) -> int:
    """``unyank``: undo ``yank``."""
    return _yank(_release_parser("unyank", _UNYANK), argv, "no longer yanked")


def _release_parser(verb: str, description: str) -> load.Parser:
    parser = load.make_parser(f"pypiserver-lite {verb}", description, names=[*SETTINGS, "follow_links"])
    add_index(parser)
    parser.add_argument("name", metavar="NAME", help="the project")
    parser.add_argument("version", metavar="VERSION", help="the release")
    parser.add_argument(
        "packages", nargs="*", default=[], metavar="PACKAGES", help="folders that are served (default: as for run)"
    )
    return parser


def _yank(parser: load.Parser, argv: Sequence[str], done: str) -> int:
    given = vars(parser.parse_intermixed_args(list(argv)))
    name, version, reason = given.pop("name"), given.pop("version"), given.pop("reason", None)
    config, index = _index(given)
    verb = by("unyank" if reason is None else "yank", index)
    with contextlib.closing(opened(config)) as records, contextlib.closing(site.build_folder(config, index)) as folder:
        for filename in audited.yank(folder, records, verb, normalize(name), version, reason):
            print(f"{filename}: {done}")
    return 0


def _index(given: dict[str, object]) -> tuple[Config, str]:
    """The settings that the words of a command give, and the index with folders that is meant. Raises ConfigError."""
    word = str(given.pop("index"))
    given = {key: value for key, value in given.items() if value != []}
    config = gathered(given)
    name = index_of(config, word)
    if name != ROOT and "packages" in given:
        raise ConfigError(f"--index {word} has folders of its own; name either these or others")
    if not config.of(name).packages:
        others = [other for other, index in config.indexes.items() if index.packages]
        hint = f"; name one that has, with --index: {', '.join(others)}" if others else ""
        raise ConfigError(f"the index {name} has no packages folder{hint}")
    return config, name


_NAMES = """Show the names that are kept from the upstream though they have no files, or let them go.

A name that ever had a file in the packages folders stays this index's own: when its last file is gone, it is answered
with 404 instead of being looked for upstream, where anybody may have taken that name. This holds until you say:

  pypiserver-lite names list                which names are kept
  pypiserver-lite names release acme-lib    let it be looked for upstream again
  pypiserver-lite names release --all       all of them; also says that an empty folder is meant to be empty, where a
                                            server takes it for a disk that is not mounted and answers 503

Of several folders, name all as for run and in that order: --in ./a --in ./b; of several indexes one: --index dev.
Running servers notice by themselves. The names are written in .pypiserver-lite/names in the first packages folder."""


def names(argv: Sequence[str]) -> int:
    """``names``: list the names that are kept without files, or release them."""
    parser = load.make_parser("pypiserver-lite names", _NAMES, names=[*SETTINGS, "cache_dir", "follow_links"])
    add_index(parser)
    parser.add_argument("action", choices=("list", "release"), metavar="{list,release}", help="what to do")
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help="for release: which")
    parser.add_argument("--all", action="store_true", default=False, help="for release: all names without files")
    parser.add_argument("--json", action="store_true", default=False, help="for list: print a JSON array")
    parser.add_argument(
        "--in", dest="packages", action="append", metavar="PACKAGES", help="folder that is served (default: as for run)"
    )
    given = vars(parser.parse_intermixed_args(list(argv)))
    action, some, every, as_json = (given.pop(key) for key in ("action", "names", "all", "json"))
    if action == "list" and (some or every):
        raise ConfigError("names list takes no names; it shows them all")
    if action == "release" and bool(some) == every:
        raise ConfigError("names release needs either names or --all; 'names list' shows them")
    config, index = _index(given)
    with contextlib.closing(site.build_folder(config, index)) as folder:
        if action == "list":
            kept = folder.kept()
            print(json.dumps(kept) if as_json else "\n".join(kept), end="\n" if kept or as_json else "")
            return 0
        released = None if every else [normalize(name) for name in some]
        event = replace(
            by("names", index),
            action="release",
            project=released[0] if released is not None and len(released) == 1 else "",
            reason="all" if released is None else ", ".join(released[1:] and released),
        )
        with contextlib.closing(opened(config)) as records, records.trail.change(event):
            released = list(folder.release(released))
        for name in released:
            print(f"{name}: released")
    return 0
