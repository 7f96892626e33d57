"""What verbs that change something have in common: the records that they are on, and who is at the keyboard."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping

from .. import site
from ..config import load
from ..config.indexes import ROOT
from ..config.settings import Config
from ..errors import ConfigError
from ..records import Event, Records

SETTINGS = ("config", "state_dir", "audit_log")
"""Those that lead to the records."""


def add_folders(parser: load.Parser) -> None:
    """Let a verb be told the folders in whose records it looks."""
    parser.add_argument(
        "--in", dest="packages", action="append", metavar="PACKAGES", help="folder that is served (default: as for run)"
    )


def gathered(given: Mapping[str, object]) -> Config:
    """The settings that the words of a command, and else the environment and a file, give. Raises ConfigError."""
    return load.gather({key: value for key, value in given.items() if value != []}, os.environ)


def opened(config: Config) -> Records:
    """The records that settings name. Raises ConfigError."""
    return site.open_records(config)


def of_served(config: Config) -> Records:
    """The same, where there is a folder to serve: records beside none are no server's. Raises ConfigError."""
    records = opened(config)
    if config.server.state_dir is None and records.path is not None and not records.path.parent.parent.is_dir():
        folder = records.path.parent.parent
        raise ConfigError(f"the packages folder {folder} does not exist; --in FOLDER names the one that is served")
    return records


def shown(config: Config) -> Records:
    """The same, for a verb that makes none; where there are none it says so. Raises ConfigError."""
    records = opened(config)
    if none := none_yet(records):
        print(f"pypiserver-lite: {none}", file=sys.stderr)
    return records


def none_yet(records: Records) -> str:
    """What to say where there are no records; nothing where there are some."""
    if records.path is None:
        return "there is no place for records; --state-dir names one"
    if os.path.exists(records.path):
        return ""
    return (
        f"there are no records yet in {records.path.parent}; --in FOLDER names the packages folder that is served, "
        "or --state-dir where the server keeps them"
    )


def by(verb: str, index: str = ROOT) -> Event:
    """Whoever gives this command, for the audit trail."""
    return Event(action="update", who=f"cli:{_login()}", client=f"pypiserver-lite/{site.VERSION} {verb}", index=index)


def _login() -> str:
    """The name of the user of this process, or their number."""
    try:
        import pwd
    except ImportError:  # Windows
        return getpass.getuser()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an entry
        return str(os.getuid())
