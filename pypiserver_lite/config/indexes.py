"""What the file of settings alone can say: upstreams by name, and what an index shows of what it has.

A field is a row, as in `settings`; its key in the file is its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from .rows import row
from .values import (
    Choice,
    Url,
    choice,
    parse_bases,
    parse_choices,
    parse_duration,
    parse_exemptions,
    parse_moment,
    parse_path,
    parse_patterns,
    parse_rights,
    parse_seconds,
    parse_size,
    parse_switch,
    parse_text,
    parse_texts,
    parse_url,
    parse_urls,
    parse_whom,
    parse_words,
)

ROOT = "/"
"""The name of the index that stands at the root of the server."""

_TAKEN = frozenset({"simple", "+simple", "packages", "pypi", "project", "search", "legacy", "-", "+api", "metrics"})
_WORDS = frozenset({"rpc2", "health", "login", "admin", "json", "favicon.ico", "robots.txt", "simple", "packages"})
_TAKEN_BELOW = (_TAKEN | _WORDS) - {"pypi"}  # devpi has root/pypi, and no page is called so


def check_name(name: str, health: str = "/health", base: str = "") -> str | None:
    """Why an index may not be called so, or ``None`` if it may: ``NAME`` or ``USER/NAME``, and no route of the server.

    `health` is the path where monitoring asks, `base` the one under which clients see the server.
    """
    parts = name.split("/")
    if len(parts) > 2 or not all(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", part) for part in parts):
        return 'a name has letters, digits and . _ - between them, or is two such words, as in "team/dev"'
    if parts[0].lower() in _TAKEN | _WORDS or f"/{name}/".startswith(f"{health}/"):
        return f"/{parts[0]}/ is a page of the server itself; take another name"
    if f"{health}/".startswith(f"/{name}/"):
        return f"it would hide {health}, where monitoring asks; take another name, or another health_endpoint"
    if f"{base}/".startswith(f"/{name}/"):
        # Of /NAME/simple/ nobody could tell whether a proxy has taken the path away already.
        return f"server_base_url begins with /{name}/, too; take another name"
    if len(parts) == 2 and parts[1].lower() in _TAKEN_BELOW:
        return f"/{name}/ would hide a page of /{parts[0]}/; take another name"
    return None


@dataclass(frozen=True, slots=True)
class Spelling:
    """What the settings of an upstream are called where somebody wrote them, by field of `UpstreamSettings`."""

    names: Mapping[str, str]
    where: Callable[[str], str] | None = None
    """The place of a field in a file, which clients are not told."""

    def called(self, key: str) -> str:
        """A setting's name, for everybody."""
        return self.names[key]

    def placed(self, key: str) -> str:
        """A setting's name and where it stands, for the operator."""
        return f"{self.where(key)}: {self.names[key]}" if self.where else self.names[key]


FLAGS = Spelling(
    {
        "url": "--fallback-url",
        "mode": "--fallback-mode",
        "ttl": "--cache-ttl",
        "rate": "--fallback-rate",
        "hosts": "--fallback-host",
        "ca": "--fallback-ca",
        "proxy": "--fallback-proxy",
        "netrc": "--netrc",
    }
)
"""Of an upstream that flags describe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """An upstream: where it is, for which names it is asked, and how."""

    name: str
    url: Url | None = row(None, parse_url, "its simple index; left out: PyPI")
    mirrors: tuple[Url, ...] = row((), parse_urls, "further addresses of the same, asked in order when one is down")
    mode: str = row(
        "cache",
        choice("redirect", "proxy", "cache"),
        "redirect: clients go there themselves; proxy: it is asked for them, and nothing is kept; cache: its pages and "
        "files are kept in --cache-dir",
    )
    only: tuple[str, ...] = row((), parse_patterns, "names or patterns that it is asked for (default: all)")
    never: tuple[str, ...] = row((), parse_patterns, "names or patterns that it is never asked for")
    ttl: int = row(600, parse_seconds, "seconds for which its page is believed before it is asked again")
    rate: int | None = row(None, parse_size, "most bytes per second taken from it (default: unlimited)")
    hosts: tuple[str, ...] = row((), parse_words, "further HOST or HOST:PORT that it may redirect to")
    ca: Path | None = row(None, parse_path, "certificates of the authorities it is checked with")
    proxy: Url | None = row(None, parse_url, "HTTP proxy through which it is asked")
    netrc: Path | None = row(None, parse_path, "netrc file with its password")
    username: str | None = row(None, parse_text, "the user that the server of its url knows us as")
    password: str | None = row(None, parse_text, "that user's password; mirrors have theirs in their address or netrc")
    spelling: Spelling = field(default=FLAGS, compare=False)

    @property
    def urls(self) -> tuple[Url | None, ...]:
        """Its addresses in order; ``None`` is PyPI's."""
        return (self.url, *self.mirrors)

    def __repr__(self) -> str:
        return f"UpstreamSettings({self.name!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """What an index shows of what it has, its folders' files and its upstreams' alike."""

    cooldown: int | None = row(
        None,
        parse_duration,
        "hide files younger than this, such as 7d or 12h, counted from when they were first seen if their time is "
        "not known",
    )
    until: datetime | None = row(
        None, parse_moment, "hide files that were uploaded later than this, such as 2026-10-01, or first seen later"
    )
    allow: tuple[Choice, ...] | None = row(None, parse_choices, "show these projects or releases alone")
    deny: tuple[Choice, ...] = row((), parse_choices, "hide these projects or releases")
    exempt: tuple[Choice, ...] = row(
        (), parse_exemptions, "show these whatever else is said, through that day: 'NAME==VERSION until DATE'"
    )
    merge: tuple[str, ...] = row(
        (), parse_patterns, "names of which the upstream's files are shown beside those of the folders"
    )
    wheels_only: bool = row(False, parse_switch, "hide everything but wheels")
    prereleases: bool = row(True, parse_switch, "whether pre-releases are shown")
    licences: tuple[str, ...] | None = row(
        None,
        parse_texts,
        "show releases under these licences alone (SPDX expressions, or the words of the metadata), none whose "
        "licence is not known",
    )
    size: int | None = row(None, parse_size, "hide files larger than this, and those whose size is not known")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may do what, or may not. The first rule that names an action for somebody, a project and an index decides."""

    who: tuple[str, ...] = row(
        (),
        parse_whom,
        "users, groups as '@NAME', '*' for anybody, without a login too, 'users' for anybody with one, 'owner' for "
        "whoever published the project first",
    )
    may: frozenset[str] = row(
        frozenset(), parse_rights, "what they may, of list, download, upload, yank, remove, push, admin; '*' for all"
    )
    may_not: frozenset[str] = row(frozenset(), parse_rights, "what they may not, of the same")
    projects: tuple[str, ...] = row((), parse_patterns, "names or patterns of projects it is about (default: all)")
    indexes: tuple[str, ...] = row((), parse_bases, "indexes it is about; '/' is the one at the root (default: all)")
    place: str = field(default="", compare=False)
    """Where it stands, for the operator."""
