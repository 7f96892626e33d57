"""Where in a text in TOML a key is set, to say so or to take it out. The text has been parsed already, and is right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby, takewhile
from typing import NamedTuple

Path = tuple[str, ...]
"""Tables and key, from the top: ``("index", "prod", "packages")``, and ``("rule", "3", "who")`` in a third [[rule]]."""

STRING = r'"""(?:\\.|[^\\])*?"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!\')|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
"""A text in TOML, of each kind."""
_PART = rf"(?:[A-Za-z0-9_-]+|{STRING})"
_KEY = re.compile(rf"[ \t]*({_PART}(?:[ \t]*\.[ \t]*{_PART})*)[ \t]*", re.DOTALL)
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_TOKEN = re.compile(rf"{STRING}|#[^\n]*|[\[\]{{}},=\n]|[^\[\]{{}},=\n\"'#]+", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def split_key(text: str) -> Path | None:
    """The parts of a dotted key; ``None`` if that is none."""
    key = _KEY.fullmatch(text)
    return None if key is None else _parts(key[1])


def find_line(text: str, path: Path) -> int | None:
    """The number of the line where a key or table begins, else the nearest table around it; ``None`` for the top."""
    places = _places(text)
    while path and path not in places:
        path = path[:-1]
    return text.count("\n", 0, places[path]) + 1 if path else None


@lru_cache(maxsize=1)  # asked for one key after another of the same text
def _places(text: str) -> dict[Path, int]:
    """Where each table and key begins."""
    found: dict[Path, int] = {}
    for said in _statements(text, found):
        for end in range(1, len(said.path) + 1):
            found.setdefault(said.path[:end], said.begins)
        if said.is_head:
            found[said.path] = said.begins  # where it stands itself, rather than a table below it
    return found


def without(text: str, path: Path) -> str:
    """A text without a key, or a table with all that is in it; the same if that stands within a value.

    Comments go with it that stand in between, or behind something on its line. What stands after all of it is about
    what follows.
    """
    parts = []
    kept_to = 0
    for goes, several in groupby(_statements(text, {}), lambda said: said.path[: len(path)] == path):
        if goes:
            every = list(several)
            parts.append(text[kept_to : text.rfind("\n", 0, every[0].begins) + 1])
            kept_to = every[-1].ends
            if parts[-1].endswith(("\n\n", "\n\r\n")) or not "".join(parts):
                blank = re.compile(r"[ \t]*\r?\n").match(text, kept_to)
                kept_to = kept_to if blank is None else blank.end()
    return "".join([*parts, text[kept_to:]])


def end_of(text: str, table: Path) -> int:
    """Where the last of a table ends, else of the nearest around it; what stands after it is about what follows."""
    every = list(_statements(text, {}))
    if not table:
        return max((said.ends for said in takewhile(lambda said: not said.is_head, every)), default=0)
    while table and not any(said.path[: len(table)] == table for said in every):
        table = table[:-1]
    return max((said.ends for said in every if table and said.path[: len(table)] == table), default=len(text))


class _Statement(NamedTuple):
    """A key with its value, or the head of a table."""

    path: Path
    is_head: bool
    begins: int
    ends: int
    """After the end of its line."""


def _statements(text: str, inner: dict[Path, int]) -> Iterator[_Statement]:
    """All of a text in their order; `inner` gets where the keys of inline tables begin."""
    count: Counter[Path] = Counter()
    table: Path = ()
    at = _skip(text, 0)
    while at < len(text):
        begins = at
        is_head, is_array = text[at] == "[", text.startswith("[[", at)
        while is_head and text[at : at + 1] == "[":
            at += 1
        key = _KEY.match(text, at)
        if key is None:
            return
        path = _parts(key[1])
        if is_head:
            if is_array:
                count[path] += 1
                path = (*path, str(count[path]))
            table = path
            at = text.find("\n", key.end()) + 1 or len(text)
        else:
            path = (*table, *path)
            at = _value(text, key.end(), path, inner)
        yield _Statement(path, is_head, begins, at)
        at = _skip(text, at)


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return at if blank is None else blank.end()


def _value(text: str, at: int, path: Path, found: dict[Path, int]) -> int:
    """Where the value of `path` ends, with the keys of inline tables in it `found`."""
    open_: list[tuple[str, Path]] = []
    here, word, wants_key = path, "", False
    for token in _TOKEN.finditer(text, at):
        sign = token[0]
        if sign == "\n" and not open_:
            return token.end()
        if sign in ("{", "["):
            open_.append((sign, here))
            wants_key, word = sign == "{", ""
        elif sign in ("}", "]") and open_:
            _, here = open_.pop()
            wants_key = False
        elif sign == ",":
            kind, here = open_[-1] if open_ else ("", here)
            wants_key, word = kind == "{", ""
        elif sign == "=" and wants_key and open_:
            key = _KEY.fullmatch(word)
            here = (*open_[-1][1], *(_parts(key[1]) if key else ()))
            found.setdefault(here, token.start())
            wants_key = False
        elif wants_key and not sign.startswith(("#", "\n")):
            word += sign
    return len(text)


def _parts(key: str) -> Path:
    return tuple(_unquoted(match[0]) for match in re.finditer(_PART, key, re.DOTALL))


def _unquoted(part: str) -> str:
    if not part.startswith(('"', "'")):
        return part
    inner = part[1:-1]
    return _ESCAPE.sub(_character, inner) if part.startswith('"') else inner


def _character(match: re.Match[str]) -> str:
    what = match[1]
    if len(what) == 1:
        return _ESCAPED.get(what, what)
    number = int(what[1:], 16)
    return chr(number) if number < 0x110000 else ""
