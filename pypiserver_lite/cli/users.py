"""``passwd``: who may log in."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..config import load
from ..config.indexes import ROOT
from ..errors import ConfigError
from ..records import Event
from ..rights.htpasswd import delete_user, has_lines, set_password
from .recorded import SETTINGS, by, gathered, opened

_USER = """Set USER's password in the htpasswd file FILE, which is made if it is missing.

  pypiserver-lite passwd htpasswd.txt alice
  pypiserver-lite run -P htpasswd.txt ./packages

A running server reads the file again by itself. Where the settings (--config, variables, or a file of settings in this
folder) name FILE, or with --state-dir, the change is on record (pypiserver-lite audit), and the tokens of a user who is
deleted end, as do those that a new user would inherit from one of that name."""


def passwd(argv: Sequence[str]) -> int:
    """``passwd``: set a user's password in a password file, or delete the user."""
    parser = load.make_parser("pypiserver-lite passwd", _USER, names=SETTINGS)
    parser.add_argument("file", metavar="FILE", type=Path, help="password file, as -P takes it")
    parser.add_argument("user", metavar="USER", help="the name to log in with")
    parser.add_argument(
        "--stdin", action="store_true", default=False, help="read the password from standard input, without asking"
    )
    parser.add_argument("--delete", action="store_true", default=False, help="delete the user instead")
    given = vars(parser.parse_args(list(argv)))
    file, user, by_stdin, delete = (given.pop(key) for key in ("file", "user", "stdin", "delete"))
    event = replace(by("passwd"), action="user-delete" if delete else "password", reason=f"of {user}")
    if delete:
        with _recorded(given, file, event, ends=user):
            delete_user(file, user)
        print(f"{user} deleted from {file}")
        return 0
    if by_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = ask(f"New password for {user}: ")
        if ask("Once more: ") != password:
            raise ConfigError("the two passwords differ; nothing was changed")
    with _recorded(given, file, event, ends=None if has_lines(file, user) else user):
        set_password(file, user, password)
    print(f"password of {user} set in {file}")
    return 0


@contextlib.contextmanager
def _recorded(given: Mapping[str, object], file: Path, event: Event, *, ends: str | None) -> Iterator[None]:
    """Put a change of a password file on record, if these settings name it or the records. Raises ConfigError.

    With it end the tokens of a user that count where the file does.
    """
    config = gathered(given)
    files = {name: config.of(name).passwords for name in (ROOT, *config.indexes)}
    indexes = [name for name, named in files.items() if named and os.path.realpath(named) == os.path.realpath(file)]
    if "state_dir" not in given and not indexes:
        yield  # of some other server's, or of none yet
        if event.action == "user-delete":
            print(
                f"pypiserver-lite: no settings name {file}, so this is on no record, and tokens of this user stay for "
                "the next one of that name; --state-dir says where the records are",
                file=sys.stderr,
            )
        return
    with contextlib.closing(opened(config)) as records:
        change = records.trail.change(event) if ends is None else records.ending_tokens(event, ends, indexes)
        with change:
            yield


def ask(prompt: str, flag: str = "--stdin") -> str:
    """A password from the terminal, without showing it. Raises ConfigError where there is none, naming `flag`."""
    try:
        with warnings.catch_warnings():
            # What it would otherwise do: show the password, or read a pipe that is meant for another program.
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(prompt)
    except (getpass.GetPassWarning, EOFError) as error:
        raise ConfigError(
            f"there is no terminal to ask for the password; give it by standard input, with {flag}"
        ) from error
