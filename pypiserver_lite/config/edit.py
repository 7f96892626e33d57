"""The text of a file of settings with one of them changed; comments and order stay."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from . import values
from .file import quoted, unknown
from .filled import takes_several, takes_texts
from .lines import STRING, Path, end_of, split_key, without
from .rows import Setting
from .settings import INDEX_KEYS, POLICY_KEYS, SERVER_KEYS, UPSTREAM_KEYS


def parse_key(word: str) -> Path:
    """The way to a setting or a table that a word means, such as ``index.team/dev.packages``. Raises ConfigError."""
    parts = split_key(word) if '"' in word or "'" in word else tuple(word.split("."))
    if parts is None or not all(parts):
        raise ConfigError(f"{word[:100]!r} is no key, such as port or index.prod.upstreams")
    if parts[0] in ("index", "upstream") and len(parts) > 3:
        # Names may hold a dot.
        end = -2 if parts[0] == "index" and parts[-2] == "policy" else -1
        parts = (parts[0], ".".join(parts[1:end]), *parts[end:])
    return parts


def shown(path: Path) -> str:
    """A key as it stands in a file."""
    return ".".join(map(quoted, path))


def is_table(path: Path) -> bool:
    """Whether a key leads to a whole table."""
    return path == ("policy",) or (path[0] in ("index", "upstream") and len(path) < 3) or _is_policy(path)


def _is_policy(path: Path) -> bool:
    return path[0] == "index" and len(path) == 3 and path[2] == "policy"


def table_called(path: Path, text: str) -> Path:
    """The table of a right text whose name, with its dots, a key spells; the key as it is if there is none."""
    table = (path[0], ".".join(path[1:]))
    return table if len(path) > 2 and isinstance(find(text, table), dict) else path


def setting_of(path: Path) -> Setting:
    """The setting that a key means. Raises ConfigError if there is none."""
    *table, key = path
    known: Mapping[str, Setting] = {**SERVER_KEYS, **INDEX_KEYS}
    if path[0] == "upstream" and len(path) == 3:
        known = {**UPSTREAM_KEYS, "password_file": UPSTREAM_KEYS["netrc"]}
    elif (path[0] == "policy" and len(path) == 2) or (path[0] == "index" and len(path) == 4 and path[2] == "policy"):
        known = POLICY_KEYS
    elif path[0] == "index" and len(path) == 3:
        known = INDEX_KEYS
    elif len(path) != 1 or is_table(path):
        raise ConfigError(f"{shown(path)}: that is no setting; name one, as in index.prod.upstreams")
    if key not in known or key == "config":
        raise ConfigError(f"{shown(path)}: {unknown(tuple(table), key, known)}")
    return known[key]


def value_of(words: Sequence[str], setting: Setting) -> Any:
    """The value that words of a command mean. Raises ConfigError."""
    if takes_several(setting):
        return list(words)
    if len(words) != 1:
        raise ConfigError("exactly one value is needed")
    (word,) = words
    try:
        if setting.parse is values.parse_switch:
            return values.parse_switch(word)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return int(word) if not takes_texts(setting) and re.fullmatch("-?[0-9]{1,12}", word, re.ASCII) else word


def find(text: str, path: Path) -> Any:
    """What a right text says of a key, ``None`` if nothing."""
    import tomlkit

    here: Any = tomlkit.parse(text).unwrap()
    for part in path:
        if not isinstance(here, dict) or part not in here:
            return None
        here = here[part]
    return here


def changed(text: str, path: Path, value: Any) -> str:
    """A right text with a key set to `value`, or with ``None`` without that key or table.

    Raises ConfigError where that cannot be done and the rest left as it is.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    expected = copy.deepcopy(tomlkit.parse(text).unwrap())
    _change(expected, path, value)
    try:
        # For tomlkit, what stands above a table is of the one before: it would go with that, or part from its own.
        made = without(text, path) if value is None else text
        if made == text:
            end = end_of(text, path[:-1])
            document = tomlkit.parse(text[:end])
            _change(document, path, value)
            made = tomlkit.dumps(document) + text[end:]
        right = _without_empty(tomlkit.parse(made).unwrap(), path) == _without_empty(expected, path)
    except (TOMLKitError, ValueError, TypeError, KeyError, AttributeError):
        right = False
    if not right:
        raise ConfigError(f"{shown(path)}: the way in which this file is written does not allow that; edit it by hand")
    return made


def _change(tables: MutableMapping[str, Any], path: Path, value: Any) -> None:
    import tomlkit
    from tomlkit.items import Array

    *ways, key = path
    for at, way in enumerate(ways):
        if way not in tables:
            if value is None:
                return
            new: Any = {} if isinstance(tables, dict) and type(tables) is dict else tomlkit.table(at < len(ways) - 1)
            tables[way] = new
        tables = tables[way]
    if value is None:
        tables.pop(key, None)
    else:
        old = tables.get(key)
        again = _rewritten(old.as_string(), value) if isinstance(old, Array) and isinstance(value, list) else None
        tables[key] = value if again is None else tomlkit.value(again)


def _without_empty(tables: dict[str, Any], path: Path) -> dict[str, Any]:
    """Without the tables around a key that have nothing in them: one that is written as a.b = 1 goes with its b."""
    if path[:1] and isinstance(inner := tables.get(path[0]), dict):
        inner = _without_empty(inner, path[1:])
        tables = {**tables, path[0]: inner} if inner else {key: tables[key] for key in tables if key != path[0]}
    return tables


@dataclass
class _Part:
    """A part of a list as it is written: the comments on the lines above it, itself, and what follows on its line."""

    above: list[str]
    text: str
    behind: str = ""


def _rewritten(old: str, value: Sequence[str]) -> str | None:
    """A list of several lines with other parts, but with its comments; ``None`` for one that is written otherwise.

    What stands behind a part on its line is about it, and goes where it goes.
    """
    import tomlkit

    if "\n" not in old:
        return None
    parts: list[_Part] = []
    above: list[str] = []
    head, space, line = "", "", 0
    for token in re.finditer(rf"{STRING}|(#[^\n]*)|[,\n]|[^,\n\"'#]+", old[1:-1], re.DOTALL):
        sign = token[0]
        if token[1] and line == 0:
            above, head = [*above, sign] if parts else above, head if parts else f"  {sign}"
        elif token[1] and parts and not above and line == 1:
            parts[-1].behind = space + sign
        elif token[1]:
            above.append(sign)
        elif sign == "\n":
            line = 2
        elif sign.startswith(('"', "'")):
            parts.append(_Part(above, sign))
            above, line = [], 1
        elif sign != "," and sign.strip():
            return None
        space = sign if sign.isspace() and sign != "\n" else ""
    known: dict[str, _Part] = {}
    gone: list[str] = []
    for part in parts:
        word = str(tomlkit.value(part.text))
        part.above = gone + part.above
        gone = [] if word in value else part.above
        known.setdefault(word, part)
    above = gone + above
    if not (value or above or head):
        return "[]"
    found = re.search(r"\n([ \t]*)[^ \t\n]", old)
    indent, end = found[1] if found else "  ", old.rpartition("\n")[2]
    lines = ["[" + head]
    for word in value:
        part = known.get(word) or _Part([], tomlkit.string(word).as_string())
        lines += [*part.above, f"{part.text},{part.behind}"]
    return f"\n{indent}".join([*lines, *above]) + f"\n{end if end.strip() == ']' else ']'}"
