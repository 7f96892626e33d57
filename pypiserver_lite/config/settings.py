"""Every setting, once: name, type, default, help.

A field of `ServerSettings` (in `server`) or `IndexSettings` is the row from which the
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
from .server import ServerSettings
from .values import (
    Url,
    choice,
    parse_actions,
    parse_bases,
    parse_cache_control,
    parse_hash_algo,
    parse_line,
    parse_members,
    parse_names,
    parse_passwords,
    parse_path,
    parse_paths,
    parse_patterns,
    parse_people,
    parse_seconds,
    parse_size,
    parse_switch,
    parse_url,
    parse_urls,
    parse_words,
)

ENV_PREFIX = "PYPISERVER_LITE_"


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
