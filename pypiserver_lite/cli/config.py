"""``config``: the file of settings, read and changed."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import edit, file, load
from ..errors import ConfigError, Missing, Unfinished
from ..rewrite import rewrite
from .check import tried
from .meaning import shown_address
from .users import ask

_CONFIG = """Read and change the file of settings; comments and order stay as they are.

  pypiserver-lite config set index.prod.upstreams pypi other      several values make a list
  pypiserver-lite config set index.team/dev.title "What is not ready"
  pypiserver-lite config set upstream.other.password              which it asks for, or takes from a pipe
  pypiserver-lite config get index.prod.upstreams                 one line for each value
  pypiserver-lite config unset index.prod.policy.cooldown         or a whole table: index.prod.policy

The file is the one of --config, of PYPISERVER_LITE_CONFIG, or pypiserver-lite.toml in this folder. What a server would
refuse is not written. A running server takes the change when it is told to read its settings again (SIGHUP)."""


def config(argv: Sequence[str]) -> int:
    """``config``: read and change the file of settings."""
    parser = load.make_parser("pypiserver-lite config", _CONFIG, names=["config"])
    parser.usage = "%(prog)s {set,get,unset} KEY [VALUE ...] [OPTIONS]"
    parser.add_argument("action", choices=("set", "get", "unset"), metavar="{set,get,unset}", help="what to do")
    parser.add_argument("key", metavar="KEY", help="a setting by its place in the file, such as index.prod.upstreams")
    parser.add_argument("values", metavar="VALUE", nargs="*", default=[], help="for set: what it shall be")
    given = vars(parser.parse_intermixed_args(list(argv)))
    action, words = given["action"], given["values"]
    if words and action != "set":
        raise ConfigError(f"config {action} takes no values")
    named = given.get("config") or load.from_variables(os.environ).get("config") or file.FILENAME
    path, key = Path(str(named)), edit.parse_key(given["key"])
    if action == "get":
        _get(path, key)
        return 0
    if action == "unset":
        key = edit.table_called(key, _text(path))
    if action == "unset" and edit.is_table(key):
        value = None
    else:
        setting = edit.setting_of(key)
        if action == "set" and key[-1] == "password":
            words = [_password(words)]
        value = None if action == "unset" else edit.value_of(words, setting)
    _change(path, key, value)
    said = "unset" if value is None else f"set to {_line(key, value)}"
    print(f"{path}: {edit.shown(key)} {said}")
    return 0


def _password(words: Sequence[str]) -> str:
    """A password, which is no word of a command that others could see. Raises ConfigError."""
    if words and not words[0].startswith("${"):
        raise ConfigError(
            "others see the words of a command: leave the password out to be asked for it, pipe it in, write "
            "'${NAME}' for a variable of the environment, or set password_file"
        )
    if words:
        return words[0]
    return ask("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")


def _get(path: Path, key: tuple[str, ...]) -> None:
    edit.setting_of(key)
    text = _text(path)
    value = edit.find(text, key)
    if value is None:
        raise Missing(f"{path} does not say {edit.shown(key)}")
    for item in value if isinstance(value, list) else [value]:
        print(_shown(key, item))


def _text(path: Path) -> str:
    """What stands in the file. Raises ConfigError, also for what is not right as TOML."""
    try:
        text = file.decoded(path, path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    file.parsed(path, text)
    return text


def _shown(key: tuple[str, ...], value: Any) -> str:
    """A value for people, without a secret."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if not key:
        return text
    if key[-1] == "password" and "${" not in text:
        return "***"
    return shown_address(text) if "://" in text else text


def _line(key: tuple[str, ...], value: Any) -> str:
    return (
        ", ".join(_shown(key, item) for item in value) or "nothing" if isinstance(value, list) else _shown(key, value)
    )


def _change(path: Path, key: tuple[str, ...], value: Any) -> None:
    """Write the file with one key changed, if a server could still use it. Raises ConfigError."""

    def made(data: bytes) -> bytes:
        mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
        text = file.decoded(path, data)
        before = text.replace("\r\n", "\n")
        file.parsed(path, before)
        after = edit.changed(before, key, value)
        _check(path, key, before, after)
        return mark + (after.replace("\n", "\r\n") if "\r\n" in text else after).encode()

    try:
        # A new file that holds a secret is for its owner alone.
        kept = _line(key, value) != _line((), value)
        rewrite(path, made, create=None if value is None else 0o600 if kept else 0o666)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _check(path: Path, key: tuple[str, ...], before: str, after: str) -> None:
    """Raise ConfigError for a text that a server could not use, unless something else was wrong with it before.

    What may be about to come is told alone: the other one of user and password, a variable that only the server's
    environment has.
    """
    problem = _problem(path, after)
    if problem is None:
        return
    if isinstance(problem, Unfinished):
        print(f"warning: until more is said, this cannot be served: {problem}", file=sys.stderr)
        return
    if edit.shown(key) in str(problem) or _problem(path, before) is None:
        raise problem
    print(f"warning: as before, this cannot be served: {problem}", file=sys.stderr)


def _problem(path: Path, text: str) -> ConfigError | None:
    try:
        tried(load.of_text(path, text, os.environ))
    except ConfigError as error:
        return error
    return None
