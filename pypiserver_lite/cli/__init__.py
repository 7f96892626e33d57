"""The command line: which verb is meant, and what its outcome means as an exit code.

0: done. 1: it could not be done. 2: the command itself is wrong (an option,
a folder, a file it names), said in one line. Nothing else here prints.
"""

from __future__ import annotations

import difflib
import io
import logging
import sys
from collections.abc import Callable, Mapping, Sequence

from ..config import settings
from ..errors import ConfigError, PypiServerLiteError
from .audit import audit, records
from .cached import cache
from .check import check
from .config import config
from .explain import explain
from .owners import owner
from .push import push
from .releases import names, unyank, yank
from .serve import run
from .tokens import token
from .users import passwd

_VERBS: Mapping[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "run": (run, "serve folders as an index (also without the verb)"),
    "check": (check, "say what the settings mean, and what is wrong with them"),
    "config": (config, "read and change the file of settings"),
    "passwd": (passwd, "set or delete a user's password in a password file"),
    "token": (token, "make, list and revoke tokens, which stand in for a password"),
    "owner": (owner, "show and change who owns a project, for rules that speak of owners"),
    "yank": (yank, "hide a release from all who do not ask for exactly it"),
    "unyank": (unyank, "undo a yank"),
    "push": (push, "publish a release of one index in another, as it is"),
    "explain": (explain, "say whose a name is, and which rules hide its files"),
    "names": (names, "show or release the names that are kept though their files are gone"),
    "audit": (audit, "show who did what, and what was refused"),
    "records": (records, "copy the audit trail, tokens, owners and counts to a safe place"),
    "cache": (cache, "show, prune, clear or fill what is kept of the upstream"),
}


def _help() -> str:
    lines = [f"  {verb:<10}{text}" for verb, (_, text) in _VERBS.items()]
    return "\n".join(
        [
            "usage: pypiserver-lite VERB ...",
            "",
            "A private Python package index.",
            "",
            *lines,
            "",
            "'pypiserver-lite VERB --help' explains one. To begin: pypiserver-lite run ./packages",
        ]
    )


_MEANT = {
    "adduser": "passwd",
    "why": "explain",
    "backup": "records",
    "help": "--help",
    "history": "audit",
    "htpasswd": "passwd",
    "log": "audit",
    "promote": "push",
    "serve": "run",
    "validate": "check",
    "server": "run",
    "start": "run",
    "tokens": "token",
    "version": "--version",
}
"""Words that others use as verbs, and what is meant here."""

_REMOVE = "remove the file from its folder, or hide a release with 'pypiserver-lite yank'; a running server sees both."
_UPLOAD = "publish with 'twine upload --repository-url http://HOST:PORT/ FILES'."
_INSTALL = "install with 'pip install --index-url http://HOST:PORT/simple/ PROJECT'."
_ELSEWHERE = {
    "delete": _REMOVE,
    "download": _INSTALL,
    "install": _INSTALL,
    "list": "a running server lists what it has at / and /simple/.",
    "publish": _UPLOAD,
    "remove": _REMOVE,
    "rm": _REMOVE,
    "search": "a running server has a search at /search.",
    "update": "updating as pypiserver does is not here yet.",
    "upload": _UPLOAD,
}
"""Words that others use as verbs, and how it is done where it is no verb here."""


def _verb(words: list[str]) -> tuple[str, list[str]]:
    """The verb and the other words. As in pypiserver, options may stand before it, and it may be left out.

    Raises ConfigError for a word that looks like a verb and is none: a folder that is named so is served as ``./WORD``.
    """
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "--":
        at += 2 if words[at] in _VALUED else 1
    first = words[at] if at < len(words) else "run"
    if first in _VERBS:
        return first, words[:at] + words[at + 1 :]
    word = first.lower()
    near = [word] if word in _ELSEWHERE else difflib.get_close_matches(word, [*_VERBS, *_MEANT, "update"], 1, 0.75)
    near += [verb for verb in _VERBS if sorted(verb) == sorted(word)]
    if not near or not first.isalpha():
        return "run", words
    hint = _ELSEWHERE.get(near[0], f"did you mean 'pypiserver-lite {_MEANT.get(near[0], near[0])}'?")
    raise ConfigError(f"there is no verb {first!r}; {hint} A folder of that name is ./{first}")


_VALUED = {flag for setting in settings.SETTINGS.values() if setting.takes_value for flag in setting.flags}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `argv` (default: this process's) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a folder may have a name that it cannot spell
    if words in (["-h"], ["--help"]):
        print(_help())
        return 0
    try:
        verb, words = _verb(words)
        if verb != "run":
            # What a verb did or could not do it says itself, and once.
            logging.getLogger("pypiserver_lite.audit").addHandler(logging.NullHandler())
        return _VERBS[verb][0](words)
    except ConfigError as error:
        print(f"pypiserver-lite: {error}", file=sys.stderr)
        return 2
    except PypiServerLiteError as error:
        print(f"pypiserver-lite: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
