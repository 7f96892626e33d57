"""The file of settings: TOML, with the server's and the root index's settings at the top, and a table for each other.

``[upstream.NAME]``, ``[index.NAME]`` or ``[index."USER/NAME"]``, ``[policy]``
and ``[index.NAME.policy]``; ``[groups]``, and a ``[[rule]]`` for each rule of
who may do what. Paths are relative to the file's folder. ``${NAME}``
in a text is that variable of the environment. What is wrong is said with the
file, the line and, for a key that is not known, the nearest one that is.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ..errors import ConfigError, Unfinished
from .filled import NoVariable, check_kind, filled_in
from .indexes import ROOT, PolicySettings, Rule, Spelling, UpstreamSettings
from .lines import find_line
from .rows import Setting, near
from .settings import (
    GROUP,
    INDEX_KEYS,
    POLICY_KEYS,
    RULE_KEYS,
    SERVER_KEYS,
    UPSTREAM_KEYS,
    Config,
    IndexSettings,
)
from .values import NO_PASSWORDS
from .whole import faults, index_table, rule_table

FILENAME = "pypiserver-lite.toml"
"""What is read in the working folder if no other file is named."""

Table = tuple[str, ...]
"""The way to a table: ``("index", "prod", "policy")``; nothing for the top."""

FALLBACK = ("fallback_url", "disable_fallback", "fallback_mode")
"""Settings that name the upstreams of the root index, as `upstreams` does."""
ROOT_ONLY = {"fallback_ca", "fallback_proxy", "fallback_rate", "fallback_host", "cache_ttl", "netrc", *FALLBACK}
"""Settings that no other index has than the root one: others name their upstreams."""
_NOT_HERE = {"config": "it names this file"}
_TABLES = ("index", "upstream", "policy", "groups", "rule")
_INHERITED = (
    *(
        "passwords",
        "authenticate",
        "admin",
        "max_upload",
        "hash_algo",
        "cache_control",
        "templates",
        "logo",
        "follow_links",
        "private",
    ),
)
_LARGEST = 2**20  # bytes of the file
_MOST_LINES = 5000  # that are parsed again and again to find one


class Given(NamedTuple):
    """What a file says, not yet read value by value."""

    path: Path
    text: str
    top: dict[str, Any]
    """Settings of the server and of the root index, by name."""
    indexes: dict[str, dict[str, Any]]
    upstreams: dict[str, dict[str, Any]]
    policies: dict[str, dict[str, Any]]
    """By the name of the index."""
    groups: dict[str, Any]
    rules: list[dict[str, Any]]

    def where(self, table: Table, key: str | None = None) -> str:
        """The file and the line of a key of a table, or of the table's head, as messages name them."""
        line = find_line(self.text, (*table, *(() if key is None else (key,))))
        return f"{self.path}, line {line}" if line else str(self.path)

    def refuse(self, table: Table, key: str | None, reason: object, kind: type[ConfigError] = ConfigError) -> NoReturn:
        """Raise a ConfigError with the place of a key and what is wrong there."""
        name = ".".join(quoted(part) for part in (*table, *([key] if key else [])))
        if table[:1] == ("rule",):
            name = f"rule {table[1]}" + (f", {key}" if key else "")
        raise kind(f"{self.where(table, key)}: {name}: {reason}")

    def complete(self, config: Config, *, overruled: bool) -> Config:
        """`config` of the top with all that is said below it.

        `overruled`: flags or variables name the upstreams of the root index.
        Raises ConfigError for what cannot be read, is not known or
        contradicts itself.
        """
        upstreams = {name: self._upstream(name, keys) for name, keys in self.upstreams.items()}
        policies = {name: self._policy(name, keys) for name, keys in self.policies.items()}
        root = dataclasses.replace(
            config.index,
            policy=policies.get(ROOT),
            upstreams=None if overruled else config.index.upstreams,
        )
        indexes = {name: self._index(name, keys, root, policies.get(name)) for name, keys in self.indexes.items()}
        groups = self._read(("groups",), self.groups, dict.fromkeys(self.groups, GROUP))
        whole = dataclasses.replace(
            config,
            groups=groups,
            rules=tuple(self._rule(number, keys) for number, keys in enumerate(self.rules, 1)),
            index=root,
            indexes=indexes,
            upstreams=upstreams,
            file=self.path,
            origins={
                **config.origins,
                **{
                    (name, key): f"{self.where(index_table(name), key)}: index.{quoted(name)}.{key}"
                    for name, keys in self.indexes.items()
                    for key in keys
                },
            },
            places={name: f"{self.where(index_table(name))}: index.{quoted(name)}" for name in indexes},
        )
        for table, key, reason in faults(whole):
            self.refuse(table, key, reason)
        return whole

    def _index(
        self, name: str, keys: Mapping[str, Any], root: IndexSettings, policy: PolicySettings | None
    ) -> IndexSettings:
        table = index_table(name)
        for key in keys:
            if key in ROOT_ONLY:
                self.refuse(
                    table,
                    key,
                    "an index names its upstreams in 'upstreams', and how they are asked stands "
                    "in their own tables, [upstream.NAME]",
                )
        own = self._read(table, keys, INDEX_KEYS)
        inherited = {key: getattr(root, key) for key in _INHERITED}
        if own.get("passwords") == NO_PASSWORDS:
            inherited["admin"] = ()  # nobody logs in there
        return IndexSettings(**{"packages": (), "upstreams": (), **inherited, **own, "policy": policy})

    def _upstream(self, name: str, keys: Mapping[str, Any]) -> UpstreamSettings:
        table = ("upstream", name)
        own = self._read(table, keys, UPSTREAM_KEYS)
        names = {key: ".".join(map(quoted, (*table, key))) for key in UPSTREAM_KEYS}
        spelling = Spelling(names, partial(self.where, table))
        upstream = UpstreamSettings(name=name, spelling=spelling, **own)
        if "only" in own and not upstream.only:  # some would read that as no name, others as every one
            self.refuse(table, "only", "it names no project; leave it out for all, or the upstream out of 'upstreams'")
        for word in upstream.never:
            if _normal(word) in map(_normal, upstream.only):
                self.refuse(table, "never", f"{word!r} stands in 'only' too; leave out one of them")
        if upstream.mode == "redirect":
            for key in ("mirrors", "username", "password", "netrc"):
                if key in own:
                    self.refuse(table, key, 'mode = "redirect" sends clients there themselves, which cannot have this')
            if upstream.url and "@" in upstream.url.split("/")[2]:
                self.refuse(
                    table,
                    "url",
                    "it holds a password that every client would be sent, with mode = "
                    '"redirect"; take "proxy" or "cache"',
                )
        if (upstream.username is None) != (upstream.password is None):
            self.refuse(table, None, "username and password belong together; give both", Unfinished)
        if upstream.username is not None and upstream.url and "@" in upstream.url.split("/")[2]:
            self.refuse(table, "username", "the address in 'url' says who we are too; leave out one of them")
        return upstream

    def _policy(self, name: str, keys: Mapping[str, Any]) -> PolicySettings:
        return PolicySettings(**self._read((*index_table(name), "policy"), keys, POLICY_KEYS))

    def _rule(self, number: int, keys: Mapping[str, Any]) -> Rule:
        table = rule_table(number)
        for key in ("projects", "indexes"):
            if keys.get(key) == []:
                self.refuse(table, key, "it names none; leave it out, and the rule is about all")
        return Rule(**self._read(table, keys, RULE_KEYS), place=self.where(table))

    def _read(self, table: Table, keys: Mapping[str, Any], known: Mapping[str, Setting]) -> dict[str, Any]:
        found = {}
        for key, value in keys.items():
            try:
                found[key] = known[key].parse(value)
            except ValueError as error:
                self.refuse(table, key, error)
        return found


def _normal(pattern: str) -> str:
    return re.sub(r"[-_.]+", "-", pattern).lower()


def read(path: Path, environ: Mapping[str, str]) -> Given:
    """What the file at `path` says; ``${NAME}`` is looked for in `environ`. Raises ConfigError, with the line."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from error
    return parse(path, decoded(path, data), environ)


def decoded(path: Path, data: bytes) -> str:
    """The text of a file. Raises ConfigError."""
    if len(data) > _LARGEST:
        raise ConfigError(f"{path}: it has more than {_LARGEST} bytes, and can hardly be meant")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: it is not a text in UTF-8") from None  # the cause quotes it


def parse(path: Path, text: str, environ: Mapping[str, str]) -> Given:
    """What a file at `path` would say with this text. Raises ConfigError, with the line."""
    text = text.replace("\r\n", "\n")
    tables = parsed(path, text)
    given = Given(path, text, {}, {}, {}, {}, {}, [])
    top = {key: value for key, value in tables.items() if key not in _TABLES}
    indexes, upstreams = _tables(given, tables, "index"), _tables(given, tables, "upstream")
    if also := [key for key in FALLBACK if key in top and "upstreams" in top]:
        given.refuse((), also[0], "the upstreams are named twice; leave out this or 'upstreams'")
    if ROOT in indexes:
        given.refuse(("index", ROOT), None, "what is said of the index at the root stands at the top of the file")
    given.top.update(_settled(given, (), top, {**SERVER_KEYS, **INDEX_KEYS}, environ))
    policies = {ROOT: tables["policy"]} if "policy" in tables else {}
    for name, keys in indexes.items():
        if "policy" in keys:
            policies[name] = keys.pop("policy")
        given.indexes[name] = _settled(given, ("index", name), keys, INDEX_KEYS, environ)
    for name, keys in policies.items():
        if not isinstance(keys, dict):
            given.refuse(index_table(name), "policy", "it is a table, with a line for each rule")
        given.policies[name] = _settled(given, (*index_table(name), "policy"), keys, POLICY_KEYS, environ)
    for name, keys in upstreams.items():
        given.upstreams[name] = _settled(given, ("upstream", name), keys, UPSTREAM_KEYS, environ)
    _read_rights(given, tables, environ)
    return given


def _read_rights(given: Given, tables: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    groups, rules = tables.get("groups", {}), tables.get("rule", [])
    if not isinstance(groups, dict):
        given.refuse((), "groups", "it is a table, with a line for each group: [groups]")
    for name in groups:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name, re.ASCII):
            given.refuse(("groups",), name, "a name has letters, digits and . _ - between them")
    given.groups.update(_settled(given, ("groups",), groups, dict.fromkeys(groups, GROUP), environ))
    if not isinstance(rules, list) or not all(isinstance(keys, dict) for keys in rules):
        given.refuse((), "rule", "each rule has a table of its own, and two brackets: [[rule]]")
    for number, keys in enumerate(rules, 1):
        given.rules.append(_settled(given, rule_table(number), keys, RULE_KEYS, environ))


def parsed(path: Path, text: str) -> dict[str, Any]:
    """The tables of a text in TOML. Raises ConfigError."""
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        return tomlkit.parse(text).unwrap()
    except ParseError as error:
        line, said = error.line, re.sub(r" at line \d+ col \d+$", "", str(error))
    except (TOMLKitError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        # A key or table that stands twice, or what the library itself stumbles over: it tells no line.
        line, said = _failing_line(text, type(error)), str(error) or type(error).__name__
    said = "".join(char if char.isprintable() else repr(char)[1:-1] for char in said)
    raise ConfigError(f"{path}, line {line}: this is not right as TOML: {said}")


def _failing_line(text: str, kind: type[Exception]) -> int:
    """The first line up to which a text fails in this way."""
    import tomlkit

    lines = text.splitlines(keepends=True)
    for number in range(1, min(len(lines), _MOST_LINES) + 1):
        try:
            tomlkit.parse("".join(lines[:number])).unwrap()
        except Exception as error:
            if type(error) is kind:
                return number
    return len(lines)


def _tables(given: Given, tables: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    found = tables.get(kind, {})
    if not isinstance(found, dict):
        given.refuse((), kind, f"each has a table of its own: [{kind}.NAME]")
    for name, keys in found.items():
        if not isinstance(keys, dict):
            given.refuse((kind,), name, f"each {kind} has a table of its own: [{kind}.NAME]")
    return {name: dict(keys) for name, keys in found.items()}


def _settled(
    given: Given, table: Table, keys: Mapping[str, Any], known: Mapping[str, Setting], environ: Mapping[str, str]
) -> dict[str, Any]:
    """The values of a table with variables filled in, secrets read from their files, and paths from the file's folder.

    Raises ConfigError for a key that is not `known` and for a value of a wrong kind.
    """
    found = {}
    for key, value in keys.items():
        name = "password" if key == "password_file" and "password" in known else key
        if key not in known and isinstance(value, dict) and len(table) == 2 and table[0] == "index":
            words = quoted(f"{table[1]}/{key}")
            given.refuse(table, key, f"{unknown(table, key, known)}; an index of two words is [index.{words}]")
        if key not in known and isinstance(value, dict) and table == ("policy",):
            given.refuse(table, key, f"the rules of an index stand in [index.{quoted(key)}.policy]")
        if name not in known or key in _NOT_HERE:
            given.refuse(table, key, unknown(table, key, known))
        if name != key and name in keys:
            given.refuse(table, key, "the password is given twice; leave out this or 'password'")
        try:
            check_kind(value, known[name])
            found[name] = filled_in(value, known[name], given.path.parent, environ, is_file=name != key)
        except ValueError as error:
            given.refuse(table, key, error, Unfinished if isinstance(error, NoVariable) else ConfigError)
    return found


def unknown(table: Table, key: str, known: Mapping[str, Setting]) -> str:
    """What to say of a key that has no place in a table."""
    if key in _NOT_HERE:
        return f"it cannot stand here: {_NOT_HERE[key]}"
    if key in SERVER_KEYS:
        return "it is a setting of the whole server: put it at the top of the file, above the first [table]"
    if key in INDEX_KEYS:
        return "it is a setting of an index: it belongs at the top of the file, or in [index.NAME]"
    if key in POLICY_KEYS:
        here = table if table[:1] == ("index",) else ()
        return f"it is a rule of a policy: put it in [{'.'.join(map(quoted, (*here[:2], 'policy')))}]"
    if key in UPSTREAM_KEYS or key == "password_file":
        return "it is a setting of an upstream: put it in [upstream.NAME]"
    if key in RULE_KEYS and key not in known:
        return "it belongs to a rule of who may do what: put it below a [[rule]]"
    more = _TABLES if not table else ("policy",) if known is INDEX_KEYS else ()
    return f"there is no such setting{near(key, [*known, *more])}"


def quoted(part: str) -> str:
    """A part of a key as it may stand in a file, in one line."""
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part, re.ASCII) else json.dumps(part)
