"""Where a file lies, as a page of the upstream says, and what its bytes are known by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from ..model import File, Project, Side
from .addresses import origin_of
from .exchange import Named

_KNOWN = {name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_")}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies, or what belongs to it."""

    file: File
    named: Named
    """The hosts that its page names."""
    side: Side = ""

    @property
    def url(self) -> str:
        """Its address."""
        return beside(self.file.url, self.side)


def place_of(project: Project, file: File, side: Side = "") -> Place:
    """That of a file of a project. Whoever reads it holds this, and not the whole page."""
    urls = (other.url for other in project.files if other.mirror == file.mirror)
    origins = map(origin_of, {"/".join(url.split("/", 3)[:3]) for url in urls})
    return Place(file, frozenset((origin.host, origin.port) for origin in origins), side)


def beside(url: str, side: str) -> str:
    """Where what belongs to the file at `url` lies."""
    if not side:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path + side))


def strongest(hashes: Mapping[str, str]) -> tuple[str, str] | None:
    """The digest to check a file by: sha256 where there is one, for everybody knows it; else the longest known."""
    if "sha256" in hashes:
        return "sha256", hashes["sha256"]
    return max((found for found in hashes.items() if found[0] in _KNOWN), key=lambda found: len(found[1]), default=None)
