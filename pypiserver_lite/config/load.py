"""Settings as they are given: flags over environment over the file over the defaults."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from . import file
from .indexes import ROOT
from .rows import Setting, near
from .server import ServerSettings
from .settings import ENV_PREFIX, INDEX_KEYS, SETTINGS, Config, IndexSettings, default, flag
from .values import parse_path, parse_paths

_SERVICE_LINK = re.compile(
    r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=.*"
    r"|(.+_)?PORT=(tcp|udp|sctp)://.*",
    re.DOTALL,
)
"""What Kubernetes adds to `ENV_PREFIX` for each Service whose name begins with ours."""
_GROUPS = ("server", "limits", "rights", "upstream", "pages", "storage", "log")  # as --help shows them


def from_settings(
    settings: Mapping[str, object], *, label: Callable[[str], str] = str, known: Mapping[str, Setting] = SETTINGS
) -> Config:
    """A `Config` of settings by field name, each given as text or as its own type.

    `label` turns a field name into what the operator typed, for messages.
    Raises ConfigError for a name that is not `known` (with the nearest that
    is) and for a value that cannot be read.
    """
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known:
            raise ConfigError(f"there is no setting {name!r}{near(name, known)}")
        if name == "packages" and value == ():
            values[name] = ()  # an index without a folder
            continue
        try:
            values[name] = None if value is None else known[name].parse(value)
        except ValueError as error:
            raise ConfigError(f"{label(name)}: {error}") from error
        if value is None and default(name) is not None:
            del values[name]
    if "packages" not in values:
        values["packages"] = _packages(label("packages"))
    server = {row.name: values.pop(row.name) for row in dataclasses.fields(ServerSettings) if row.name in values}
    return Config(server=ServerSettings(**server), index=IndexSettings(**values))


def _packages(label: str) -> tuple[Path, ...]:
    """The default of the packages folders. Raises ConfigError for a user without a home."""
    try:
        return parse_paths(default("packages"))
    except ValueError as error:
        raise ConfigError(f"{label}: {error}") from error


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError where argparse would print its usage and leave."""

    def error(self, message: str) -> Any:
        """What argparse calls for a wrong command line."""
        wrong = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        found = difflib.get_close_matches(wrong[1], self._option_string_actions, 1) if wrong else []
        raise ConfigError(f"{message}; " + (f"did you mean {found[0]}?" if found else f"see '{self.prog} --help'"))


def make_parser(prog: str, description: str, epilog: str = "", names: Iterable[str] | None = None) -> Parser:
    """The parser of a command that takes the settings `names` (default: all, as ``run`` does)."""
    parser = Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    groups = {title: parser.add_argument_group(title) for title in _GROUPS}
    for name in SETTINGS if names is None else names:
        setting = SETTINGS[name]
        group = groups[setting.group]
        if not setting.flags:
            group.add_argument(name, nargs="*", metavar=name.upper(), help=setting.help)
        elif not setting.takes_value:
            action = "store_true" if setting.switch else "count"
            group.add_argument(*setting.flags, dest=name, action=action, help=setting.help)
        else:
            action = "append" if setting.repeat else "store"
            metavar = setting.metavar or name.upper()
            group.add_argument(*setting.flags, dest=name, metavar=metavar, action=action, help=setting.help)
    return parser


def load(parser: Parser, argv: Sequence[str], environ: Mapping[str, str], path: Path | None = None) -> Config:
    """The settings of flags over environment over the file over defaults.

    The file is at `path`, or else the one that `gather` finds. Raises ConfigError.
    """
    given = vars(parser.parse_intermixed_args(list(argv)))
    if not given.get("packages"):
        given.pop("packages", None)
    return gather(given if path is None else {**given, "config": path}, environ)


def from_environ(environ: Mapping[str, str], path: Path | None = None) -> Config:
    """The settings of the environment over those of the file, found as `load` does, over the defaults.

    Raises ConfigError.
    """
    return gather({} if path is None else {"config": path}, environ)


def gather(given: Mapping[str, object], environ: Mapping[str, str], *, label: Callable[[str], str] = flag) -> Config:
    """The settings `given` (``label`` says what they are called) over environment over the file over defaults.

    The file is the one that ``config`` names, or the one in the working folder. Raises ConfigError.
    """
    variables = from_variables(environ, without=given.keys())
    named = given.get("config", variables.get("config"))
    path = Path(file.FILENAME) if named is None else parse_path(named)
    if named is None and not path.is_file():
        config = from_settings(
            {**variables, **given}, label=lambda name: label(name) if name in given else _variable(name)
        )
        return dataclasses.replace(config, origins={(ROOT, name): _variable(name) for name in variables})
    return _over_file(path, variables, given, environ, label)


def of_file(path: Path, given: Mapping[str, object]) -> Config:
    """The settings `given` over those of a file over the defaults. Raises ConfigError."""
    return _over_file(path, {}, {**given, "config": path}, os.environ, str)


def _over_file(
    path: Path,
    variables: Mapping[str, object],
    given: Mapping[str, object],
    environ: Mapping[str, str],
    label: Callable[[str], str],
) -> Config:
    return _over(file.read(path, environ), variables, given, label)


def of_text(path: Path, text: str, environ: Mapping[str, str]) -> Config:
    """The settings that a file at `path` would give with this text, with those of the environment over them.

    Raises ConfigError.
    """
    return _over(file.parse(path, text, environ), from_variables(environ), {"config": path}, str)


def _over(
    said: file.Given, variables: Mapping[str, object], given: Mapping[str, object], label: Callable[[str], str]
) -> Config:
    top = dict(said.top)
    overruled = any(name in given or name in variables for name in file.FALLBACK)
    if "packages" not in {**variables, **given, **top} and (said.indexes or {"bases", "upstreams"} & top.keys()):
        top["packages"] = ()
    packages = {**top, **variables, **given}.get("packages")
    if not overruled and not {"upstreams", *file.FALLBACK} & top.keys() and ("bases" in top or packages == ()):
        top["upstreams"] = ()  # the default, PyPI, is for an index with folders of its own

    def called(name: str) -> str:
        if name in given:
            return label(name)
        return _variable(name) if name in variables else f"{said.where((), name)}: {name}"

    config = from_settings({**top, **variables, **given}, label=called, known={**SETTINGS, **INDEX_KEYS})
    origins = {(ROOT, name): called(name) for name in {**said.top, **variables, **given}}
    return said.complete(dataclasses.replace(config, origins=origins), overruled=overruled)


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper()


def _is_service_link(variable: str, value: str) -> bool:
    return _SERVICE_LINK.fullmatch(f"{variable.removeprefix(ENV_PREFIX)}={value}") is not None


def from_variables(environ: Mapping[str, str], without: Iterable[str] = ()) -> dict[str, object]:
    """The settings that the environment gives, by field name, `without` some.

    Raises ConfigError for unknown ones, but for what Kubernetes tells every
    container of a Service that has our name.
    """
    found: dict[str, object] = {}
    for variable, value in environ.items():
        if not variable.startswith(ENV_PREFIX) or not value or _is_service_link(variable, value):
            continue
        name = variable.removeprefix(ENV_PREFIX).lower()
        if name not in SETTINGS:
            nearest = difflib.get_close_matches(name, SETTINGS, 1)
            hint = f"; did you mean {_variable(nearest[0])}?" if nearest else ""
            raise ConfigError(f"the environment variable {variable} is no setting of this server{hint}")
        if name in without:
            continue
        if name == "packages":
            found[name] = [part for part in value.split(os.pathsep) if part]
        else:
            found[name] = value.split() if SETTINGS[name].repeat else value
    return found
