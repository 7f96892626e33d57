"""A value of the file as it is meant: variables filled in, secrets read from their files, paths from its folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import values
from .rows import Setting


class NoVariable(ValueError):
    """The environment lacks a variable that a value names."""


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_PATHS = (values.parse_path, values.parse_paths, values.parse_passwords)
_SEVERAL = (
    *(values.parse_paths, values.parse_words, values.parse_hosts, values.parse_actions, values.parse_urls),
    *(values.parse_patterns, values.parse_choices, values.parse_exemptions, values.parse_texts, values.parse_names),
    *(values.parse_bases, values.parse_people, values.parse_members, values.parse_whom, values.parse_rights),
)
_ADDRESSES = (values.parse_url, values.parse_urls)
_SECRET_LIMIT = 4096  # bytes of the file of a password


def takes_several(setting: Setting) -> bool:
    """Whether a list may stand there."""
    return setting.parse in _SEVERAL


def takes_texts(setting: Setting) -> bool:
    """Whether texts alone may stand there."""
    return setting.parse in (values.parse_line, values.parse_text, *_PATHS, *_SEVERAL)


def check_kind(value: object, setting: Setting) -> None:
    """Raise ValueError for a value of a kind that cannot be meant. What it is stays unsaid: it may be a password."""
    if isinstance(value, dict):
        raise ValueError("it is one value, and no table")
    if isinstance(value, list) and not takes_several(setting):
        raise ValueError("it is one value, and no list")
    for item in value if isinstance(value, list) else [value]:
        if setting.parse is values.parse_switch:
            fits, wanted = isinstance(item, bool), "true or false"
        elif takes_texts(setting):
            fits, wanted = isinstance(item, str), "a text in quotes"
        else:
            fits, wanted = not isinstance(item, (bool, list, dict, float)), "a number or a text in quotes"
        if not fits:
            raise ValueError(f"{_kind(item)} cannot stand here; {wanted} is needed")


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or time")


def filled_in(value: Any, setting: Setting, folder: Path, environ: Mapping[str, str], *, is_file: bool = False) -> Any:
    """A value of the file in `folder` as it is meant; with `is_file`, it names the file that holds it.

    Raises NoVariable for a variable that is not there, and ValueError for what cannot be
    read with variables filled in: their values stay unsaid.
    """
    used: list[str] = []

    def one(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise NoVariable(f"the environment has no variable {match[1]}")
        used.append(match[0])
        return environ[match[1]]

    value = _each(value, lambda text: _VARIABLE.sub(one, text))
    if is_file:
        return _secret(folder / values.parse_path(value))
    if setting.parse is values.parse_sendfile:
        sendfile = values.parse_sendfile(value)
        value = replace(sendfile, mappings=tuple((prefix, folder / path) for prefix, path in sendfile.mappings))
    elif setting.parse in _PATHS:
        no_passwords = setting.parse is values.parse_passwords and value == "."
        value = value if no_passwords else _each(value, lambda text: _path(text, folder))
    try:
        setting.parse(value)
    except ValueError:
        if not used:
            raise
        names = ", ".join(dict.fromkeys(used))
        hint = " (a password in it has %2F for /, %40 for @)" if setting.parse in _ADDRESSES else ""
        raise ValueError(f"it cannot be read once {names} is filled in; what is wanted: {setting.help}{hint}") from None
    return value


def _path(text: str, folder: Path) -> str:
    return str(folder / values.parse_path(text))


def _each(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [change(item) if isinstance(item, str) else item for item in value]
    return change(value) if isinstance(value, str) else value


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_SECRET_LIMIT + 1).decode("utf-8").strip()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path}: it is not a text in UTF-8") from None  # the cause quotes it
    if not text or len(text) > _SECRET_LIMIT:
        raise ValueError(f"{path} is empty" if not text else f"{path} is too long for a password")
    return text
