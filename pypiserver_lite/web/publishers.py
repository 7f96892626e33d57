"""Who published the files of a project here, for its pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import Unavailable
from ..model import File, Project
from ..records import Published

if TYPE_CHECKING:
    from ..site import Site

_NOTHING: Mapping[str, Published] = {}
Known = tuple[Mapping[str, Published], ...]
"""By file name, of each index that may have the files, in the order in which they win."""


class Publishers:
    """What the records say of the files of `site`, and of those of its bases that whoever sees it may see."""

    def __init__(self, site: Site) -> None:
        self._records = site.records
        self._indexes = tuple(name for name in site.config.chain(site.name) if name in site.index.shares)

    def of(self, project: Project) -> Known:
        """What is known of a project: the very same mappings while that stays so, and empty ones if nobody can say."""
        try:
            return tuple(self._records.trail.uploads(name, project.name) for name in self._indexes)
        except Unavailable:
            return tuple(_NOTHING for _ in self._indexes)


def publisher(file: File, known: Known) -> Published | None:
    """Who published these very bytes, and when; ``None`` if that is on no record."""
    if file.url:
        return None
    digest = file.hashes.get("sha256")
    for published in filter(None, (one.get(file.filename) for one in known)):
        # Somebody may have put another file in its place by hand.
        if not (digest and published.sha256 and digest != published.sha256):
            return published
    return None
