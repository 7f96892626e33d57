"""The file of settings: TOML, with the server's and the root index's settings at the top, and a table for each other.

``[upstream.NAME]``, ``[index.NAME]`` or ``[index."USER/NAME"]``, ``[policy]``
and ``[index.NAME.policy]``. Paths are relative to the file's folder. ``${NAME}``
in a text is that variable of the environment. What is wrong is said with the
file, the line and, for a key that is not known, the nearest one that is.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ..errors import ConfigError
from . import values
from .indexes import ROOT, PolicySettings, UpstreamSettings, check_name
from .rows import Setting
from .settings import INDEX_KEYS, POLICY_KEYS, SERVER_KEYS, UPSTREAM_KEYS, Config, IndexSettings

FILENAME = "pypiserver-lite.toml"
"""What is read in the working folder if no other file is named."""

Table = tuple[str, ...]
"""The way to a table: ``("index", "prod", "policy")``; nothing for the top."""

FALLBACK = ("fallback_url", "disable_fallback", "fallback_mode")
"""Settings that name the upstreams of the root index, as `upstreams` does."""
_NOT_HERE = {"config": "it names this file"}
_OWN_ONLY = {"fallback_ca", "fallback_proxy", "fallback_rate", "fallback_host", "cache_ttl", "netrc", *FALLBACK}
_INHERITED = (
    *("passwords", "authenticate", "max_upload", "hash_algo", "cache_control", "templates", "follow_links", "private"),
)
_PATHS = (values.parse_path, values.parse_paths, values.parse_passwords)
_SEVERAL = (
    *(values.parse_paths, values.parse_words, values.parse_hosts, values.parse_actions, values.parse_urls),
    *(values.parse_patterns, values.parse_choices, values.parse_exemptions, values.parse_texts, values.parse_names),
    values.parse_bases,
)
_MOMENTS = (values.parse_moment,)


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

    def where(self, table: Table, key: str | None = None) -> str:
        """The file and the line of a key of a table, or of the table's head, as messages name them."""
        line = _line(self.text, table, key)
        return f"{self.path}, line {line}" if line else str(self.path)

    def refuse(self, table: Table, key: str | None, reason: object) -> NoReturn:
        """Raise ConfigError with the place of a key and what is wrong there."""
        name = ".".join(_quoted(part) for part in (*table, *([key] if key else [])))
        raise ConfigError(f"{self.where(table, key)}: {name}: {reason}")

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
        whole = dataclasses.replace(config, index=root, indexes=indexes, upstreams=upstreams, file=self.path)
        self._check(whole)
        return whole

    def _index(
        self, name: str, keys: Mapping[str, Any], root: IndexSettings, policy: PolicySettings | None
    ) -> IndexSettings:
        table = _index_table(name)
        for key in keys:
            if key in _OWN_ONLY:
                self.refuse(
                    table,
                    key,
                    "an index names its upstreams in 'upstreams', and how they are asked stands "
                    "in their own tables, [upstream.NAME]",
                )
        own = self._read(table, keys, INDEX_KEYS)
        inherited = {key: getattr(root, key) for key in _INHERITED}
        return IndexSettings(**{"packages": (), "upstreams": (), **inherited, **own, "policy": policy})

    def _upstream(self, name: str, keys: Mapping[str, Any]) -> UpstreamSettings:
        table = ("upstream", name)
        own = self._read(table, keys, UPSTREAM_KEYS)
        upstream = UpstreamSettings(name=name, **own)
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
            self.refuse(table, None, "username and password belong together; give both")
        return upstream

    def _policy(self, name: str, keys: Mapping[str, Any]) -> PolicySettings:
        return PolicySettings(**self._read((*_index_table(name), "policy"), keys, POLICY_KEYS))

    def _read(self, table: Table, keys: Mapping[str, Any], known: Mapping[str, Setting]) -> dict[str, Any]:
        found = {}
        for key, value in keys.items():
            if key not in known:
                self.refuse(table, key, f"there is no such setting{_near(key, known)}")
            try:
                found[key] = known[key].parse(value)
            except ValueError as error:
                self.refuse(table, key, error)
        return found

    def _check(self, config: Config) -> None:
        names = [ROOT, *config.indexes]
        for name in config.indexes:
            table = _index_table(name)
            reason = check_name(name, config.server.health_endpoint)
            if reason:
                self.refuse(table, None, reason)
            index = config.indexes[name]
            if "/" in name and name.split("/")[0] in config.indexes:
                self.refuse(table, None, f"/{name}/ would hide a page of the index {name.split('/')[0]}")
            if not (index.packages or index.bases or index.upstreams):
                self.refuse(table, None, "it has nothing to serve; give it packages, bases or upstreams")
        for name in names:
            index, table = config.of(name), _index_table(name)
            for base in index.bases:
                if base not in names:
                    self.refuse(table, "bases", f"there is no index {base!r}{_near(base, names)}")
            for upstream in index.upstreams or ():
                if upstream not in config.upstreams:
                    known = _near(upstream, config.upstreams) or "; give it a table, [upstream.NAME]"
                    self.refuse(table, "upstreams", f"there is no upstream {upstream!r}{known}")
        for name in names:
            circle = _circle(name, config)
            if circle:
                self.refuse(_index_table(name), "bases", f"they lead back to itself: {' → '.join(circle)}")


def read(path: Path, environ: Mapping[str, str]) -> Given:
    """What the file at `path` says; ``${NAME}`` is looked for in `environ`. Raises ConfigError, with the line."""
    import tomlkit
    from tomlkit.exceptions import ParseError

    try:
        text = path.read_text(encoding="utf-8")
        tables = tomlkit.parse(text).unwrap()
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: it is not a text in UTF-8") from error
    except ParseError as error:
        said = re.sub(r" at line \d+ col \d+$", "", str(error))
        raise ConfigError(f"{path}, line {error.line}: {said}") from error
    given = Given(path, text, {}, {}, {}, {})
    top, indexes, upstreams, policy = (
        {key: value for key, value in tables.items() if key not in ("index", "upstream", "policy")},
        _tables(given, tables, "index"),
        _tables(given, tables, "upstream"),
        tables.get("policy"),
    )
    at_top = {**SERVER_KEYS, **INDEX_KEYS}
    for key in top:
        if key in _NOT_HERE:
            given.refuse((), key, f"it cannot stand here: {_NOT_HERE[key]}")
        if key not in at_top:
            given.refuse((), key, f"there is no such setting{_near(key, [*at_top, 'index', 'upstream', 'policy'])}")
    also = [key for key in FALLBACK if key in top and "upstreams" in top]
    if also:
        given.refuse((), also[0], "the upstreams are named twice; leave out this or 'upstreams'")
    given.top.update(_settled(given, (), top, at_top, environ))
    policies = {ROOT: policy} if policy is not None else {}
    for name, keys in indexes.items():
        if "policy" in keys:
            policies[name] = keys.pop("policy")
        given.indexes[name] = _settled(given, ("index", name), keys, INDEX_KEYS, environ)
    for name, keys in policies.items():
        table = (*_index_table(name), "policy")
        if not isinstance(keys, dict):
            given.refuse(table[:-1], "policy", "it is a table, with a line for each rule")
        given.policies[name] = _settled(given, table, keys, POLICY_KEYS, environ)
    for name, keys in upstreams.items():
        given.upstreams[name] = _settled(given, ("upstream", name), keys, UPSTREAM_KEYS, environ)
    return given


def _tables(given: Given, tables: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    found = tables.get(kind, {})
    if not isinstance(found, dict) or not all(isinstance(keys, dict) for keys in found.values()):
        given.refuse((), kind, f"each has a table of its own: [{kind}.NAME]")
    return {name: dict(keys) for name, keys in found.items()}


def _settled(
    given: Given, table: Table, keys: Mapping[str, Any], known: Mapping[str, Setting], environ: Mapping[str, str]
) -> dict[str, Any]:
    """The values of a table with variables filled in, secrets read from their files, and paths from the file's folder.

    Raises ConfigError for a value of a wrong kind.
    """
    found = {}
    for key, value in keys.items():
        name, setting = key, known.get(key)
        if setting is None and key == "password_file" and "password" in known:
            name, setting = "password", known["password"]
            if "password" in keys:
                given.refuse(table, key, "the password is given twice; leave out this or 'password'")
        if setting is None:
            given.refuse(table, key, f"there is no such setting{_near(key, known)}")
        _check_kind(given, table, key, value, setting)
        value = _each(value, lambda text: _filled(given, table, key, text, environ))  # noqa: B023 - used at once
        if key == "password_file":
            value = _secret(given, table, key, str(value))
        elif setting.parse in _PATHS:
            value = _each(value, lambda text: text if text == "." else str(given.path.parent / Path(text).expanduser()))
        found[name] = value
    return found


def _check_kind(given: Given, table: Table, key: str, value: Any, setting: Setting) -> None:
    parse: Callable[[Any], Any] = setting.parse
    if isinstance(value, dict):
        given.refuse(table, key, "it is one value, and no table")
    if isinstance(value, list) and parse not in _SEVERAL:
        given.refuse(table, key, "it is one value, and no list")
    for item in value if isinstance(value, list) else [value]:
        if parse is values.parse_switch:
            fits = isinstance(item, bool)
        elif parse in (values.parse_line, values.parse_text, *_PATHS, *_SEVERAL):
            fits = isinstance(item, str)
        else:
            fits = not isinstance(item, (bool, list, dict, float))
        if not fits:
            wanted = "true or false" if parse is values.parse_switch else "a text in quotes"
            given.refuse(table, key, f"{str(item)[:50]} is of a wrong kind; {wanted} is needed")


def _each(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [change(item) if isinstance(item, str) else item for item in value]
    return change(value) if isinstance(value, str) else value


def _filled(given: Given, table: Table, key: str, text: str, environ: Mapping[str, str]) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1] not in environ:
            given.refuse(table, key, f"the environment has no variable {match[1]}")
        return environ[match[1]]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", one, text)


def _secret(given: Given, table: Table, key: str, name: str) -> str:
    path = given.path.parent / Path(name).expanduser()
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        given.refuse(table, key, f"{path}: {getattr(error, 'strerror', None) or 'it is not a text in UTF-8'}")
    if not text:
        given.refuse(table, key, f"{path} is empty")
    return text


def _index_table(name: str) -> Table:
    return () if name == ROOT else ("index", name)


def _quoted(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part, re.ASCII) else f'"{part}"'


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _circle(name: str, config: Config) -> list[str]:
    """The way from an index over its bases back to itself; nothing if there is none."""
    ways = [[name]]
    seen = set()
    while ways:
        way = ways.pop()
        for base in config.of(way[-1]).bases:
            if base == name:
                return [*way, base]
            if base not in seen:
                seen.add(base)
                ways.append([*way, base])
    return []


def _line(text: str, table: Table, key: str | None) -> int | None:
    """The number of the line where a key of a table is set, or where the table begins, as far as can be seen."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    def head(line: str) -> Table | None:
        if not re.match(r"\s*\[[^\[]", line):
            return None
        try:
            here: Any = tomlkit.parse(line + "\n").unwrap()
        except TOMLKitError:  # a list that begins a line
            return None
        way: list[str] = []
        while isinstance(here, dict) and len(here) == 1:
            ((name, here),) = here.items()
            way.append(str(name))
        return tuple(way)

    current: Table = ()
    begins = None
    for number, line in enumerate(text.splitlines(), 1):
        found = head(line)
        if found is not None:
            current = found
            if current[: len(table)] == table and begins is None and table:
                begins = number
            continue
        if key is not None and current == table and re.match(rf"\s*([\"']?){re.escape(key)}\1\s*[=.]", line):
            return number
    return begins
