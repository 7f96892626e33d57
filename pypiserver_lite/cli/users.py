"""``passwd``: who may log in."""

from __future__ import annotations

import getpass
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from ..config import load
from ..errors import ConfigError
from ..rights.htpasswd import delete_user, set_password

_USER = """Set USER's password in the htpasswd file FILE, which is made if it is missing.

  pypiserver-lite passwd htpasswd.txt alice
  pypiserver-lite run -P htpasswd.txt ./packages

A running server reads the file again by itself."""


def passwd(argv: Sequence[str]) -> int:
    """``passwd``: set a user's password in a password file, or delete the user."""
    parser = load.make_parser("pypiserver-lite passwd", _USER, names=())
    parser.add_argument("file", metavar="FILE", type=Path, help="password file, as -P takes it")
    parser.add_argument("user", metavar="USER", help="the name to log in with")
    parser.add_argument(
        "--stdin", action="store_true", default=False, help="read the password from standard input, without asking"
    )
    parser.add_argument("--delete", action="store_true", default=False, help="delete the user instead")
    given = parser.parse_args(list(argv))
    if given.delete:
        delete_user(given.file, given.user)
        print(f"{given.user} deleted from {given.file}")
        return 0
    if given.stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = ask(f"New password for {given.user}: ")
        if ask("Once more: ") != password:
            raise ConfigError("the two passwords differ; nothing was changed")
    set_password(given.file, given.user, password)
    print(f"password of {given.user} set in {given.file}")
    return 0


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
