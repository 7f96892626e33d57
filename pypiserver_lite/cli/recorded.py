"""What verbs that change something have in common: the records that they are on, and who is at the keyboard."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping

from .. import site
from ..config import load
from ..config.indexes import ROOT
from ..config.settings import Config
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
