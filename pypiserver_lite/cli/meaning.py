"""What settings mean, as values that can be printed or written as JSON: no secret is among them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from ..config import settings
from ..config.indexes import ROOT, PolicySettings, UpstreamSettings
from ..config.server import ServerSettings
from ..config.settings import Config
from ..config.values import RIGHTS, Choice, shown_size
from ..site import Site, Sites, records_file, routes
from .remarks import remarks, reserved
from .serve import server

_ABOUT_SERVER = {"config", "host", "port", "server", "server_base_url", "tls_cert", "tls_key"}
_UNITS = ((604800, "week"), (86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def meaning(config: Config, sites: Sites) -> dict[str, Any]:
    """What settings mean, of which these are the sites."""
    return {
        "file": None if config.file is None else str(config.file),
        "server": _server(config),
        "indexes": [_index(site) for site in sites.by_name.values()],
        "remarks": [*remarks(config), *routes.remarks(config)],
    }


def _server(config: Config) -> dict[str, Any]:
    given = config.server
    host = f"[{given.host}]" if ":" in given.host else given.host
    base = given.server_base_url
    return {
        "listens": f"{'https' if given.tls_cert else 'http'}://{host}:{given.port}/",
        "seen_at": None if base == "/" else base,
        "runs_on": server(config),
        "records": None if (file := records_file(config)) is None else str(file),
        "differs": {
            row.name: _plain(getattr(given, row.name))
            for row in dataclasses.fields(ServerSettings)
            if row.name not in _ABOUT_SERVER and getattr(given, row.name) != settings.default(row.name)
        },
    }


def _plain(value: object) -> object:
    if isinstance(value, (tuple, frozenset)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, str)) or value is None else str(value)


def _index(site: Site) -> dict[str, Any]:
    config, given = site.config, site.settings
    reserves = reserved(config, site.name)
    may = {action: _who(site, action) for action in ("list", "download", "update")}
    if not given.packages:
        may["update"] = "nowhere"
    return {
        "name": site.name,
        "path": "/" if site.name == ROOT else f"/{site.name}/",
        "title": given.title,
        "description": given.description,
        "folders": [{"path": str(path), "writable": os.access(path, os.W_OK | os.X_OK)} for path in given.packages],
        "looks_in": [
            {"index": name, "folders": [str(path) for path in config.of(name).packages]}
            for name in config.chain(site.name)
        ],
        "asks": list(_upstreams(site)),
        "reserves": sorted(reserves[0]),
        "reserves_but_merges": sorted(reserves[1]),
        "policies": {
            name: list(_rules(policy))
            for name in config.chain(site.name)
            if (policy := config.of(name).policy) is not None
        },
        "may": may,
        "admins": list(given.admin),
        "rules": list(_rights(site)),
        "passwords": str(given.passwords) if site.gate.asks_passwords else None,
        "overwrite": given.overwrite,
    }


def _rights(site: Site) -> Iterator[dict[str, Any]]:
    """The rules of who may do what, in order; none where flags say it."""
    book, groups = site.gate.book, site.config.groups
    for rule, by in () if book.by_flags else book.every():
        yield {
            "by": by,
            "who": list(rule.who),
            "groups": {who[1:]: list(groups.get(who[1:], ())) for who in rule.who if who.startswith("@")},
            "may": [action for action in RIGHTS if action in rule.may],
            "may_not": [action for action in RIGHTS if action in rule.may_not],
            "projects": list(rule.projects),
        }


def _who(site: Site, action: str) -> str:
    if action in site.gate.book.open:
        return "anybody"
    if not site.gate.book.by_flags:
        return "rules"
    return "users" if site.gate.asks_passwords else "nobody"


def _upstreams(site: Site) -> Iterator[dict[str, Any]]:
    config = site.config
    known: dict[str, UpstreamSettings] = {
        upstream.name: upstream for name in config.chain(site.name) for upstream in config.asked_by(config.of(name))
    }
    for way in site.ways():
        upstream = known[way.name]
        yield {
            "name": way.name,
            "address": shown_address(way.url),
            "mirrors": [shown_address(url) for url in upstream.mirrors],
            "mode": upstream.mode,
            "only": list(upstream.only),
            "never": list(upstream.never),
        }


def shown_address(url: str) -> str:
    """An address without a user and password in it."""
    scheme, slashes, rest = url.partition("//")
    place, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{place.rpartition('@')[2]}{slash}{path}"


def _rules(policy: PolicySettings) -> Iterator[str]:
    """What a policy does, each as a part of a sentence."""
    if policy.allow is not None:
        yield f"hides all but {_listed(policy.allow)}"
    if policy.deny:
        yield f"hides {_listed(policy.deny)}"
    if policy.cooldown is not None:
        yield f"hides files younger than {span(policy.cooldown)}"
    if policy.until is not None:
        yield f"hides files uploaded after {policy.until:%Y-%m-%d %H:%M} UTC"
    if policy.wheels_only:
        yield "hides everything but wheels"
    if not policy.prereleases:
        yield "hides pre-releases"
    if policy.licences is not None:
        yield f"hides releases that are not under {', '.join(policy.licences)}"
    if policy.size is not None:
        yield f"hides files larger than {shown_size(policy.size)}"
    if policy.exempt:
        yield f"shows all the same: {_listed(policy.exempt)}"
    if policy.merge:
        yield f"shows the upstream's files beside those of the folders for {', '.join(policy.merge)}"


def _listed(choices: tuple[Choice, ...]) -> str:
    return ", ".join(map(str, choices)) or "nothing"


def span(seconds: int) -> str:
    """A span of time as people say it: ``7 days``, ``36 hours``."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds and seconds % size == 0), (1, "second"))
    count = seconds // size
    return f"{count} {unit}{'' if count == 1 else 's'}"
