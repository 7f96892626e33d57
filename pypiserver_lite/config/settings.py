"""Every setting, once: name, type, default, help.

A field of `ServerSettings` or `IndexSettings` is the row from which the command-line flag, the
environment variable ``PYPISERVER_LITE_<NAME>`` and the keyword of `make_app`
follow. Flags win over the environment, the environment over the defaults.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .values import (
    Sendfile,
    Url,
    choice,
    parse_actions,
    parse_base_url,
    parse_cache_control,
    parse_count,
    parse_endpoint,
    parse_hash_algo,
    parse_hosts,
    parse_passwords,
    parse_path,
    parse_paths,
    parse_patterns,
    parse_port,
    parse_seconds,
    parse_sendfile,
    parse_size,
    parse_switch,
    parse_text,
    parse_threads,
    parse_url,
    parse_urls,
    parse_words,
)

ENV_PREFIX = "PYPISERVER_LITE_"
_SERVICE_LINK = re.compile(
    r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=.*"
    r"|(.+_)?PORT=(tcp|udp|sctp)://.*",
    re.DOTALL,
)
"""What Kubernetes adds to `ENV_PREFIX` for each Service whose name begins with ours."""
_GROUPS = ("server", "limits", "rights", "upstream", "pages", "storage", "log")  # as --help shows them

OTHER_SERVERS = (
    *("auto", "wsgiref", "cherrypy", "cheroot", "paste", "twisted", "tornado", "gevent", "geventsocketio", "eventlet"),
    *("rocket", "bjoern", "meinheld", "fapws3", "diesel", "gae", "flup", "cgi", "aiohttp", "uvloop"),
)
"""Servers that pypiserver or Bottle can run on, and this index has no need of."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a setting is spelled and read.

    `parse` takes what a flag, a variable or a caller gave, returns the
    field's value and raises ValueError with the reason if it cannot.
    """

    parse: Callable[[Any], Any]
    help: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    group: str = "server"
    switch: bool = False
    """The flag takes no value."""
    counted: bool = False
    """The flag takes no value and counts."""
    repeat: bool = False
    """The flag may be given more than once; a variable separates by white space."""

    @property
    def takes_value(self) -> bool:
        """Whether a word follows the flag."""
        return not (self.switch or self.counted)


def _row(
    default: Any, parse: Callable[[Any], Any], help: str, *flags: str, note: str = "", shown: bool = True, **more: Any
) -> Any:
    """The field of a setting. A `default` in text is read as any other value, and stands in the help with its `note`.

    ``None`` and empty ones do not; what they mean is for the help to say.
    """
    if shown and default:
        help += f" (default: {default}{note})"
    value = parse(default) if isinstance(default, str) else default
    return field(default=value, metadata={"setting": Setting(parse, help, flags, **more)})


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """What an index serves, from where, to whom, and how its pages look."""

    packages: tuple[Path, ...] = _row(
        (Path("~/packages"),),
        parse_paths,
        "folders to serve; the first that has a file name wins, and uploads go to the first (default: ~/packages)",
        shown=False,
    )
    passwords: Path | None = _row(
        None,
        parse_passwords,
        "htpasswd file of those who may log in, read again when it changes; '.' for none "
        "(default: none, and uploads are refused)",
        *("-P", "--passwords"),
        metavar="FILE",
        group="rights",
    )
    authenticate: frozenset[str] = _row(
        "update",
        parse_actions,
        "comma-separated actions that need a login, of update, download and list; '.' for none, together with -P .",
        *("-a", "--authenticate"),
        metavar="LIST",
        group="rights",
    )
    overwrite: bool = _row(
        False, parse_switch, "an upload may replace a file", "-o", "--overwrite", group="rights", switch=True
    )
    max_upload: int | None = _row(
        None,
        parse_size,
        "largest upload taken, such as 500MB or 5GB (default: no limit but the disk's)",
        "--max-upload",
        metavar="SIZE",
        group="rights",
    )
    fallback_url: tuple[Url, ...] = _row(
        (),
        parse_urls,
        "simple index that is asked for projects no folder has; may be repeated with proxy and cache: asked in order "
        "(default: PyPI)",
        "--fallback-url",
        metavar="URL",
        group="upstream",
        repeat=True,
    )
    disable_fallback: bool = _row(
        False,
        parse_switch,
        "a project no folder has is not found, and nobody else is asked",
        "--disable-fallback",
        group="upstream",
        switch=True,
    )
    fallback_mode: str = _row(
        "redirect",
        choice("redirect", "proxy", "cache"),
        "redirect: clients go to the upstream themselves; proxy: it is asked for them, and nothing is kept; cache: its "
        "pages and files are kept in --cache-dir",
        "--fallback-mode",
        metavar="MODE",
        group="upstream",
    )
    private: tuple[str, ...] = _row(
        (),
        parse_patterns,
        "name or pattern such as 'acme-*' that is never asked of an upstream, uploaded or not; may be repeated",
        "--private",
        metavar="NAME",
        group="upstream",
        repeat=True,
    )
    cache_ttl: int = _row(
        600,
        parse_seconds,
        "seconds for which an upstream's page is believed before it is asked again",
        "--cache-ttl",
        metavar="SECONDS",
        group="upstream",
    )
    fallback_rate: int | None = _row(
        None,
        parse_size,
        "most bytes per second taken from upstreams, over all downloads (default: unlimited)",
        "--fallback-rate",
        metavar="SIZE",
        group="upstream",
    )
    fallback_host: tuple[str, ...] = _row(
        (),
        parse_words,
        "further HOST or HOST:PORT that upstreams may redirect to, for proxy and cache; may be repeated "
        "(default: their own and those their pages name)",
        "--fallback-host",
        metavar="HOST",
        group="upstream",
        repeat=True,
    )
    fallback_ca: Path | None = _row(
        None,
        parse_path,
        "certificates of the authorities that https upstreams are checked with, for proxy and cache (default: what "
        "REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE or SSL_CERT_FILE names, else those that the system trusts)",
        "--fallback-ca",
        metavar="FILE",
        group="upstream",
    )
    fallback_proxy: Url | None = _row(
        None,
        parse_url,
        "HTTP proxy through which upstreams are asked, for proxy and cache (default: what HTTPS_PROXY, HTTP_PROXY, "
        "ALL_PROXY and NO_PROXY say)",
        "--fallback-proxy",
        metavar="URL",
        group="upstream",
    )
    netrc: Path | None = _row(
        None,
        parse_path,
        "netrc file with the upstreams' passwords, for proxy and cache (default: none)",
        "--netrc",
        metavar="FILE",
        group="upstream",
    )
    hash_algo: str | None = _row(
        "sha256",
        parse_hash_algo,
        "hash shown in links, or 'no'",
        "--hash-algo",
        metavar="NAME",
        group="pages",
    )
    cache_control: int | None = _row(
        None,
        parse_cache_control,
        "seconds for which clients may use a file without asking again (default: a year where files cannot be replaced "
        "or removed over HTTP, else none)",
        "--cache-control",
        metavar="SECONDS",
        group="pages",
    )
    welcome: Path | None = _row(
        None, parse_path, "template of the home page (default: built in)", "--welcome", metavar="FILE", group="pages"
    )
    templates: Path | None = _row(
        None,
        parse_path,
        "folder whose *.tpl files replace the built-in pages of the same name",
        "--templates",
        metavar="DIR",
        group="pages",
    )
    follow_links: bool = _row(
        False,
        parse_switch,
        "list and serve what links lead to outside the packages folders too, files and whole folders",
        "--follow-links",
        group="storage",
        switch=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The process that serves it: address, server, limits, folders of its own, log."""

    port: int = _row(8080, parse_port, "port to listen on; 0 takes a free one", "-p", "--port")
    host: str = _row(
        "127.0.0.1",
        parse_text,
        "address to listen on; 0.0.0.0 lets other machines in",
        *("-i", "-H", "--interface", "--host"),
        note=", this machine only",
    )
    server: str = _row(
        "waitress",
        choice("waitress", "granian", "gunicorn", also=OTHER_SERVERS),
        "WSGI server to run on: waitress, or granian or gunicorn if it is installed; for the others that pypiserver "
        "knows, waitress runs",
        "--server",
    )
    server_base_url: str = _row(
        "/",
        parse_base_url,
        "address at which clients see this index behind a proxy, https://HOST/PATH/, or the path alone; what is asked "
        "under that path is answered too",
        "--server-base-url",
        metavar="URL",
    )
    backend: str | None = _row(
        None,
        choice("auto", "simple-dir", "cached-dir"),
        "pypiserver's, without effect: the folder is always kept indexed",
        "--backend",
    )
    workers: int = _row(
        1,
        parse_count,
        "processes, with granian and gunicorn",
        "--workers",
        metavar="N",
        group="limits",
    )
    tls_cert: Path | None = _row(
        None,
        parse_path,
        "certificate, to serve https with granian or gunicorn; needs --tls-key",
        "--tls-cert",
        metavar="FILE",
    )
    tls_key: Path | None = _row(None, parse_path, "the certificate's key", "--tls-key", metavar="FILE")
    health_endpoint: str = _row("/health", parse_endpoint, "where monitoring asks", "--health-endpoint", metavar="PATH")
    threads: int | None = _row(
        None,
        parse_threads,
        "requests worked on at once (default: 16, or 104 with --fallback-mode proxy or cache)",
        "--threads",
        metavar="N",
        group="limits",
    )
    connection_limit: int = _row(
        1000,
        parse_count,
        "connections open at once; beyond it the longest idle give way, then the slowest",
        "--connection-limit",
        metavar="N",
        group="limits",
    )
    idle_timeout: int = _row(
        120,
        parse_count,
        "seconds after which a silent connection is closed",
        "--idle-timeout",
        metavar="SECONDS",
        group="limits",
    )
    grace: int = _row(
        10,
        parse_seconds,
        "seconds that requests under way get when the server is told to stop",
        "--grace",
        metavar="SECONDS",
        group="limits",
    )
    max_header: int = _row(
        "64KiB",
        parse_size,
        "largest head of a request",
        "--max-header",
        metavar="SIZE",
        group="limits",
    )
    trusted_proxy: tuple[str, ...] = _row(
        (),
        parse_words,
        "address or network of a proxy whose X-Forwarded-* are believed; may be repeated (default: nobody's)",
        "--trusted-proxy",
        metavar="ADDRESS",
        group="server",
        repeat=True,
    )
    allow_host: tuple[str, ...] = _row(
        (),
        parse_hosts,
        "further name that a server on a loopback address answers to, or '*' for any; may be repeated "
        "(default: names of this machine)",
        "--allow-host",
        metavar="NAME",
        group="server",
        repeat=True,
    )
    sendfile_header: Sendfile | None = _row(
        None,
        parse_sendfile,
        "header by which the web server in front is told to send a file itself: X-Sendfile, or "
        "X-Accel-Redirect=/PREFIX:FOLDER for nginx (default: none, files are sent from here)",
        "--sendfile-header",
        metavar="NAME[=PREFIX:FOLDER]",
    )
    cache_dir: Path | None = _row(
        None,
        parse_path,
        "where digests, metadata and what comes from the upstream are kept; may be deleted at any time "
        "(default: the user's cache folder)",
        "--cache-dir",
        metavar="DIR",
        group="storage",
    )
    cache_size: int = _row(
        "10GB",
        parse_size,
        "most bytes of the upstream's files that are kept",
        "--cache-size",
        metavar="SIZE",
        group="upstream",
    )
    verbose: int = _row(0, parse_seconds, "say more; twice: everything", "-v", "--verbose", group="log", counted=True)
    quiet: bool = _row(False, parse_switch, "say only what went wrong", "-q", "--quiet", group="log", switch=True)
    log_file: Path | None = _row(
        None, parse_path, "write the log to this file too", "--log-file", metavar="FILE", group="log"
    )
    log_stream: str = _row(
        "stderr",
        choice("stderr", "stdout", "none"),
        "write the log to stderr, stdout or none",
        "--log-stream",
        metavar="STREAM",
        group="log",
    )
    log_frmt: str = _row(
        "%(asctime)s|%(name)s|%(levelname)s|%(thread)d|%(message)s",
        parse_text,
        "format of log lines, as Python's logging has it",
        "--log-frmt",
        metavar="FORMAT",
        shown=False,
        group="log",
    )
    log_req_frmt: str = _row(
        "%(REQUEST_METHOD)s %(PATH_INFO)s from %(REMOTE_ADDR)s",
        parse_text,
        "format of the line for each request; %%(NAME)s takes WSGI's variables",
        "--log-req-frmt",
        metavar="FORMAT",
        shown=False,
        group="log",
    )
    log_res_frmt: str = _row(
        "%(status)s %(REQUEST_METHOD)s %(PATH_INFO)s",
        parse_text,
        "format of the line for each answer; also knows %%(status)s and %%(size)s",
        "--log-res-frmt",
        metavar="FORMAT",
        shown=False,
        group="log",
    )
    log_err_frmt: str = _row(
        "%(status)s %(REQUEST_METHOD)s %(PATH_INFO)s: %(error)s",
        parse_text,
        "format of the line for each refusal or failure; also knows %%(error)s",
        "--log-err-frmt",
        metavar="FORMAT",
        shown=False,
        group="log",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, checked one by one; `site.build` checks what they name."""

    server: ServerSettings = field(default_factory=ServerSettings)
    index: IndexSettings = field(default_factory=IndexSettings)

    def value(self, name: str) -> object:
        """The value of the setting `name`."""
        return getattr(self.server if hasattr(self.server, name) else self.index, name)


_ROWS = {row.name: row for part in (IndexSettings, ServerSettings) for row in dataclasses.fields(part)}
SETTINGS: Mapping[str, Setting] = {name: row.metadata["setting"] for name, row in _ROWS.items()}


def from_settings(settings: Mapping[str, object], *, label: Callable[[str], str] = str) -> Config:
    """A `Config` of settings by field name, each given as text or as its own type.

    `label` turns a field name into what the operator typed, for messages.
    Raises ConfigError for an unknown name (with the nearest known one) and
    for a value that cannot be read.
    """
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, 1)
            raise ConfigError(f"there is no setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        try:
            values[name] = None if value is None else SETTINGS[name].parse(value)
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


def default(name: str) -> object:
    """What a setting is without being given."""
    return _ROWS[name].default


def flag(name: str) -> str:
    """The long flag of a field, or its placeholder on the command line."""
    flags = SETTINGS[name].flags
    return flags[-1] if flags else name.upper()


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError where argparse would print its usage and leave."""

    def error(self, message: str) -> Any:
        """What argparse calls for a wrong command line."""
        wrong = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        near = difflib.get_close_matches(wrong[1], self._option_string_actions, 1) if wrong else []
        raise ConfigError(f"{message}; " + (f"did you mean {near[0]}?" if near else f"see '{self.prog} --help'"))


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


def load(parser: Parser, argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """The settings of flags over environment over defaults. Raises ConfigError."""
    given = vars(parser.parse_intermixed_args(list(argv)))
    if not given.get("packages"):
        given.pop("packages", None)
    settings = {**from_variables(environ, without=given.keys()), **given}
    return from_settings(settings, label=lambda name: flag(name) if name in given else _variable(name))


def from_environ(environ: Mapping[str, str]) -> Config:
    """The settings of the environment over the defaults. Raises ConfigError."""
    return from_settings(from_variables(environ), label=_variable)


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
            near = difflib.get_close_matches(name, SETTINGS, 1)
            hint = f"; did you mean {_variable(near[0])}?" if near else ""
            raise ConfigError(f"the environment variable {variable} is no setting of this server{hint}")
        if name in without:
            continue
        if name == "packages":
            found[name] = [part for part in value.split(os.pathsep) if part]
        else:
            found[name] = value.split() if SETTINGS[name].repeat else value
    return found
