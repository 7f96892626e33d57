"""Every setting, once: name, type, default, help.

A field of `ServerSettings` or `IndexSettings` is the row from which the
command-line flag, the environment variable ``PYPISERVER_LITE_<NAME>``, the key
in the file and the keyword of `make_app` follow. Those of `UpstreamSettings`
and `PolicySettings`, and what says so, can be said in the file alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .indexes import ROOT, PolicySettings, Rule, UpstreamSettings
from .rows import Setting, row
from .values import (
    Sendfile,
    Url,
    choice,
    parse_actions,
    parse_base_url,
    parse_bases,
    parse_cache_control,
    parse_count,
    parse_endpoint,
    parse_hash_algo,
    parse_hosts,
    parse_line,
    parse_members,
    parse_names,
    parse_passwords,
    parse_path,
    parse_paths,
    parse_patterns,
    parse_people,
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

OTHER_SERVERS = (
    *("auto", "wsgiref", "cherrypy", "cheroot", "paste", "twisted", "tornado", "gevent", "geventsocketio", "eventlet"),
    *("rocket", "bjoern", "meinheld", "fapws3", "diesel", "gae", "flup", "cgi", "aiohttp", "uvloop"),
)
"""Servers that pypiserver or Bottle can run on, and this index has no need of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """What an index serves, from where, to whom, and how its pages look."""

    packages: tuple[Path, ...] = row(
        (Path("~/packages"),),
        parse_paths,
        "folders to serve; the first that has a file name wins, and uploads go to the first (default: ~/packages)",
        shown=False,
    )
    passwords: Path | None = row(
        None,
        parse_passwords,
        "htpasswd file of those who may log in, read again when it changes; '.' for none "
        "(default: none, and uploads are refused)",
        *("-P", "--passwords"),
        metavar="FILE",
        group="rights",
    )
    authenticate: frozenset[str] = row(
        "update",
        parse_actions,
        "comma-separated actions that need a login, of update, download and list; '.' for none, together with -P .",
        *("-a", "--authenticate"),
        metavar="LIST",
        group="rights",
    )
    admin: tuple[str, ...] = row(
        (),
        parse_people,
        "user who may do everything, whatever rules say, and have the settings read again; may be repeated",
        "--admin",
        metavar="USER",
        group="rights",
        repeat=True,
    )
    overwrite: bool = row(
        False, parse_switch, "an upload may replace a file", "-o", "--overwrite", group="rights", switch=True
    )
    max_upload: int | None = row(
        None,
        parse_size,
        "largest upload taken, such as 500MB or 5GB (default: no limit but the disk's)",
        "--max-upload",
        metavar="SIZE",
        group="rights",
    )
    fallback_url: tuple[Url, ...] = row(
        (),
        parse_urls,
        "simple index that is asked for projects no folder has; may be repeated with proxy and cache: asked in order "
        "(default: PyPI)",
        "--fallback-url",
        metavar="URL",
        group="upstream",
        repeat=True,
    )
    disable_fallback: bool = row(
        False,
        parse_switch,
        "a project no folder has is not found, and nobody else is asked",
        "--disable-fallback",
        group="upstream",
        switch=True,
    )
    fallback_mode: str = row(
        "redirect",
        choice("redirect", "proxy", "cache"),
        "redirect: clients go to the upstream themselves; proxy: it is asked for them, and nothing is kept; cache: its "
        "pages and files are kept in --cache-dir",
        "--fallback-mode",
        metavar="MODE",
        group="upstream",
    )
    private: tuple[str, ...] = row(
        (),
        parse_patterns,
        "name or pattern such as 'acme-*' that is never asked of an upstream, uploaded or not; may be repeated",
        "--private",
        metavar="NAME",
        group="upstream",
        repeat=True,
    )
    cache_ttl: int = row(
        600,
        parse_seconds,
        "seconds for which an upstream's page is believed before it is asked again",
        "--cache-ttl",
        metavar="SECONDS",
        group="upstream",
    )
    fallback_rate: int | None = row(
        None,
        parse_size,
        "most bytes per second taken from upstreams, over all downloads (default: unlimited)",
        "--fallback-rate",
        metavar="SIZE",
        group="upstream",
    )
    fallback_host: tuple[str, ...] = row(
        (),
        parse_words,
        "further HOST or HOST:PORT that upstreams may redirect to, for proxy and cache; may be repeated "
        "(default: their own and those their pages name)",
        "--fallback-host",
        metavar="HOST",
        group="upstream",
        repeat=True,
    )
    fallback_ca: Path | None = row(
        None,
        parse_path,
        "certificates of the authorities that https upstreams are checked with, for proxy and cache (default: what "
        "REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE or SSL_CERT_FILE names, else those that the system trusts)",
        "--fallback-ca",
        metavar="FILE",
        group="upstream",
    )
    fallback_proxy: Url | None = row(
        None,
        parse_url,
        "HTTP proxy through which upstreams are asked, for proxy and cache (default: what HTTPS_PROXY, HTTP_PROXY, "
        "ALL_PROXY and NO_PROXY say)",
        "--fallback-proxy",
        metavar="URL",
        group="upstream",
    )
    netrc: Path | None = row(
        None,
        parse_path,
        "netrc file with the upstreams' passwords, for proxy and cache (default: none)",
        "--netrc",
        metavar="FILE",
        group="upstream",
    )
    hash_algo: str | None = row(
        "sha256",
        parse_hash_algo,
        "hash shown in links, or 'no'",
        "--hash-algo",
        metavar="NAME",
        group="pages",
    )
    cache_control: int | None = row(
        None,
        parse_cache_control,
        "seconds for which clients may use a file without asking again (default: a year where files cannot be replaced "
        "or removed over HTTP, else none)",
        "--cache-control",
        metavar="SECONDS",
        group="pages",
    )
    welcome: Path | None = row(
        None, parse_path, "template of the home page (default: built in)", "--welcome", metavar="FILE", group="pages"
    )
    templates: Path | None = row(
        None,
        parse_path,
        "folder whose *.tpl files replace the built-in pages of the same name",
        "--templates",
        metavar="DIR",
        group="pages",
    )
    title: str = row("", parse_line, "what the index is called on its pages", "--title", metavar="TEXT", group="pages")
    description: str = row(
        "", parse_line, "a sentence about it, for the home page", "--description", metavar="TEXT", group="pages"
    )
    logo: str = row(
        "",
        parse_line,
        "picture beside the title: the name of a file in --templates, or an https address",
        "--logo",
        metavar="FILE",
        group="pages",
    )
    bases: tuple[str, ...] = row((), parse_bases, "indexes whose files this one has too, own files first", in_file=True)
    upstreams: tuple[str, ...] | None = row(
        None,
        parse_names,
        "upstreams that are asked, in this order (default at the root: those of --fallback-url)",
        in_file=True,
    )
    policy: PolicySettings | None = field(default=None)
    follow_links: bool = row(
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

    config: Path | None = row(
        None,
        parse_path,
        "file of settings, in TOML; flags and variables win over it (default: pypiserver-lite.toml in the working "
        "folder, if there is one)",
        "--config",
        metavar="FILE",
    )
    port: int = row(8080, parse_port, "port to listen on; 0 takes a free one", "-p", "--port")
    host: str = row(
        "127.0.0.1",
        parse_text,
        "address to listen on; 0.0.0.0 lets other machines in",
        *("-i", "-H", "--interface", "--host"),
        note=", this machine only",
    )
    server: str = row(
        "waitress",
        choice("waitress", "granian", "gunicorn", also=OTHER_SERVERS),
        "WSGI server to run on: waitress, or granian or gunicorn if it is installed; for the others that pypiserver "
        "knows, waitress runs",
        "--server",
    )
    server_base_url: str = row(
        "/",
        parse_base_url,
        "address at which clients see this index behind a proxy, https://HOST/PATH/, or the path alone; what is asked "
        "under that path is answered too",
        "--server-base-url",
        metavar="URL",
    )
    backend: str | None = row(
        None,
        choice("auto", "simple-dir", "cached-dir"),
        "pypiserver's, without effect: the folder is always kept indexed",
        "--backend",
    )
    workers: int = row(
        1,
        parse_count,
        "processes, with granian and gunicorn",
        "--workers",
        metavar="N",
        group="limits",
    )
    tls_cert: Path | None = row(
        None,
        parse_path,
        "certificate, to serve https with granian or gunicorn; needs --tls-key",
        "--tls-cert",
        metavar="FILE",
    )
    tls_key: Path | None = row(None, parse_path, "the certificate's key", "--tls-key", metavar="FILE")
    health_endpoint: str = row("/health", parse_endpoint, "where monitoring asks", "--health-endpoint", metavar="PATH")
    threads: int | None = row(
        None,
        parse_threads,
        "requests worked on at once (default: 16, or 104 with --fallback-mode proxy or cache)",
        "--threads",
        metavar="N",
        group="limits",
    )
    connection_limit: int = row(
        1000,
        parse_count,
        "connections open at once; beyond it the longest idle give way, then the slowest",
        "--connection-limit",
        metavar="N",
        group="limits",
    )
    idle_timeout: int = row(
        120,
        parse_count,
        "seconds after which a silent connection is closed",
        "--idle-timeout",
        metavar="SECONDS",
        group="limits",
    )
    grace: int = row(
        10,
        parse_seconds,
        "seconds that requests under way get when the server is told to stop",
        "--grace",
        metavar="SECONDS",
        group="limits",
    )
    max_header: int = row(
        "64KiB",
        parse_size,
        "largest head of a request",
        "--max-header",
        metavar="SIZE",
        group="limits",
    )
    trusted_proxy: tuple[str, ...] = row(
        (),
        parse_words,
        "address or network of a proxy whose X-Forwarded-* are believed; may be repeated (default: nobody's)",
        "--trusted-proxy",
        metavar="ADDRESS",
        group="server",
        repeat=True,
    )
    allow_host: tuple[str, ...] = row(
        (),
        parse_hosts,
        "further name that a server on a loopback address answers to, or '*' for any; may be repeated "
        "(default: names of this machine)",
        "--allow-host",
        metavar="NAME",
        group="server",
        repeat=True,
    )
    sendfile_header: Sendfile | None = row(
        None,
        parse_sendfile,
        "header by which the web server in front is told to send a file itself: X-Sendfile, or "
        "X-Accel-Redirect=/PREFIX:FOLDER for nginx (default: none, files are sent from here)",
        "--sendfile-header",
        metavar="NAME[=PREFIX:FOLDER]",
    )
    cache_dir: Path | None = row(
        None,
        parse_path,
        "where digests, metadata and what comes from the upstream are kept; may be deleted at any time "
        "(default: the user's cache folder)",
        "--cache-dir",
        metavar="DIR",
        group="storage",
    )
    state_dir: Path | None = row(
        None,
        parse_path,
        "where the records are kept: who did what, tokens, owners, downloads; never to be deleted "
        "(default: .pypiserver-lite in the first packages folder)",
        "--state-dir",
        metavar="DIR",
        group="storage",
    )
    audit_log: Path | None = row(
        None,
        parse_path,
        "file that each change and each refusal is added to as well, as a line of JSON",
        "--audit-log",
        metavar="FILE",
        group="log",
    )
    no_download_counts: bool = row(
        False, parse_switch, "do not count downloads", "--no-download-counts", group="storage", switch=True
    )
    cache_size: int = row(
        "10GB",
        parse_size,
        "most bytes of the upstream's files that are kept",
        "--cache-size",
        metavar="SIZE",
        group="upstream",
    )
    verbose: int = row(0, parse_seconds, "say more; twice: everything", "-v", "--verbose", group="log", counted=True)
    quiet: bool = row(False, parse_switch, "say only what went wrong", "-q", "--quiet", group="log", switch=True)
    log_file: Path | None = row(
        None, parse_path, "write the log to this file too", "--log-file", metavar="FILE", group="log"
    )
    log_stream: str = row(
        "stderr",
        choice("stderr", "stdout", "none"),
        "write the log to stderr, stdout or none",
        "--log-stream",
        metavar="STREAM",
        group="log",
    )
    log_frmt: str = row(
        "%(asctime)s|%(name)s|%(levelname)s|%(thread)d|%(message)s",
        parse_text,
        "format of log lines, as Python's logging has it",
        "--log-frmt",
        metavar="FORMAT",
        shown=False,
        group="log",
    )
    log_req_frmt: str = row(
        "%(REQUEST_METHOD)s %(PATH_INFO)s from %(REMOTE_ADDR)s",
        parse_text,
        "format of the line for each request; %%(NAME)s takes WSGI's variables",
        "--log-req-frmt",
        metavar="FORMAT",
        shown=False,
        group="log",
    )
    log_res_frmt: str = row(
        "%(status)s %(REQUEST_METHOD)s %(PATH_INFO)s",
        parse_text,
        "format of the line for each answer; also knows %%(status)s and %%(size)s",
        "--log-res-frmt",
        metavar="FORMAT",
        shown=False,
        group="log",
    )
    log_err_frmt: str = row(
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
    """The index at the root."""
    indexes: Mapping[str, IndexSettings] = field(default_factory=dict)
    """Further ones by name."""
    upstreams: Mapping[str, UpstreamSettings] = field(default_factory=dict)
    """Upstreams by name."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Users by the name of their group, for rules."""
    rules: tuple[Rule, ...] = ()
    """Who may do what, in order; an index that none of them is about goes by its `authenticate`."""
    file: Path | None = None
    """The file that these were read from, if there is one."""
    places: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where in that file each further index stands, for messages."""
    origins: Mapping[tuple[str, str], str] = field(default_factory=dict, compare=False)
    """What each setting that a file or a variable gives is called there, and where it stands, by index and name."""

    def value(self, name: str) -> object:
        """The value of the setting `name`, of the server or of the index at the root."""
        return getattr(self.server if hasattr(self.server, name) else self.index, name)

    def of(self, name: str) -> IndexSettings:
        """The settings of an index by name."""
        return self.index if name == ROOT else self.indexes[name]

    def ruled(self, name: str) -> bool:
        """Whether rules say who may do what in an index, and not its `authenticate`."""
        return any(not rule.indexes or name in rule.indexes for rule in self.rules)

    def chain(self, name: str) -> tuple[str, ...]:
        """An index and those it is based on, each once, in the order in which they win."""
        found: dict[str, None] = {}
        waiting = [name]
        while waiting:
            index = waiting.pop()
            if index not in found:
                found[index] = None
                waiting.extend(reversed(self.of(index).bases))
        return tuple(found)

    def asked_by(self, index: IndexSettings) -> tuple[UpstreamSettings, ...]:
        """The upstreams of an index itself, in the order in which they are asked."""
        if index.upstreams is not None:
            return tuple(self.upstreams[name] for name in index.upstreams)
        if index.disable_fallback:
            return ()
        return tuple(
            UpstreamSettings(
                name="fallback" if at == 0 else f"fallback-{at + 1}",
                url=url,
                mode=index.fallback_mode,
                ttl=index.cache_ttl,
                rate=index.fallback_rate,
                hosts=index.fallback_host,
                ca=index.fallback_ca,
                proxy=index.fallback_proxy,
                netrc=index.netrc,
            )
            for at, url in enumerate(index.fallback_url or (None,))
        )


def _rows(part: type) -> dict[str, Setting]:
    return {row.name: row.metadata["setting"] for row in dataclasses.fields(part) if "setting" in row.metadata}


_ROWS = {row.name: row for part in (IndexSettings, ServerSettings) for row in dataclasses.fields(part)}
INDEX_KEYS: Mapping[str, Setting] = _rows(IndexSettings)
SERVER_KEYS: Mapping[str, Setting] = _rows(ServerSettings)
UPSTREAM_KEYS: Mapping[str, Setting] = _rows(UpstreamSettings)
POLICY_KEYS: Mapping[str, Setting] = _rows(PolicySettings)
RULE_KEYS: Mapping[str, Setting] = _rows(Rule)
GROUP = Setting(parse_members, "users of a group, for rules")
"""Each key of ``[groups]``."""
SETTINGS: Mapping[str, Setting] = {
    name: setting for name, setting in {**INDEX_KEYS, **SERVER_KEYS}.items() if not setting.in_file
}
"""Those that have a flag and a variable."""


def default(name: str) -> object:
    """What a setting is without being given."""
    return _ROWS[name].default


def flag(name: str) -> str:
    """The long flag of a field, or its placeholder on the command line."""
    flags = SETTINGS[name].flags
    return flags[-1] if flags else name.upper()
