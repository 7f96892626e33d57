"""What is said of the indexes of a server: on home pages to people, and as JSON in devpi's shape to programs.

Of others than itself an index names only those that whoever asks may list.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.indexes import ROOT
from ..config.values import public

if TYPE_CHECKING:
    from ..index import Way
    from ..model import User
    from ..site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An index in the list of all."""

    name: str
    title: str
    description: str
    href: str
    """From the home page that lists it to its own."""
    bases: tuple[str, ...]


Who = Callable[["Site"], "User | None"]
"""Who asks, as an index knows them without verifying anything: a login that is right here may be wrong there."""


def shown(sites: Mapping[str, Site], asked: Site, who: Who) -> Iterator[Site]:
    """The index that was asked, and of the others those that whoever asks may list."""
    for site in sites.values():
        if site.name == asked.name or site.gate.book.reaches(who(site), "list"):
            yield site


def listed(sites: Mapping[str, Site], asked: Site, who: Who) -> list[Listed]:
    """The other indexes, as the home page of the root one lists them; those of others list none."""
    if asked.name != ROOT:
        return []
    sites = {site.name: site for site in shown(sites, asked, who)}
    return [
        Listed(
            name=site.name,
            title=site.settings.title,
            description=site.settings.description,
            href=f"{site.name}/",
            bases=tuple(base for base in site.settings.bases if base in sites),
        )
        for site in sites.values()
        if site.name != ROOT
    ]


def described(sites: Mapping[str, Site], asked: Site, who: Who) -> dict[str, object]:
    """The index that was asked, or at the root all of them by user, as devpi has them.

    Those of no user, ``/`` itself too, are of one without a name.
    """
    sites = {site.name: site for site in shown(sites, asked, who)}
    if asked.name != ROOT:
        return {"type": "indexconfig", "result": _facts(asked, sites)}
    users: dict[str, dict[str, object]] = {}
    for site in sites.values():
        user, slash, name = site.name.rpartition("/")
        users.setdefault(user, {})[name or slash] = _facts(site, sites)
    result = {user: {"username": user, "indexes": indexes} for user, indexes in users.items()}
    return {"type": "list:userconfig", "result": result}


def _facts(site: Site, shown: Container[str]) -> dict[str, object]:
    settings, ways = site.settings, site.index.ways
    mirror = bool(ways) and not settings.packages and not settings.bases
    facts: dict[str, object] = {"type": "mirror" if mirror else "stage", "volatile": settings.overwrite}
    bases = [base for base in settings.bases if base in shown]
    facts |= {"mirror_url": public(ways[0].url)} if mirror else {"bases": bases}
    facts |= {key: text for key in ("title", "description") if (text := getattr(settings, key))}
    facts["upstreams"] = [{"name": way.name, "url": public(way.url), "mode": mode(site, way)} for way in ways]
    return facts


def mode(site: Site, way: Way) -> str:
    """How an upstream of an index is asked: ``redirect``, ``proxy`` or ``cache``."""
    named = site.config.upstreams.get(way.name)
    return site.config.index.fallback_mode if named is None else named.mode
