"""What is said of files that are not shown: on a project's page, and to programs."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from packaging.utils import NormalizedName

from ..kept import Kept, Turnstile
from ..model import Project
from ..policy.explain import Explanation, Seen, explain
from ..policy.fits import Target

if TYPE_CHECKING:
    from ..site import Site

QUESTIONS = ("name", "version", "python", "platform")
"""What may be asked about."""
MOST = 100
"""Files that a page names."""


class HiddenFile(NamedTuple):
    """A file that is hidden, and by what."""

    filename: str
    why: str


class Hiding:
    """The files that the policies of `site` hide. Who waits for another's looking them up passes `waiting`."""

    def __init__(self, site: Site, waiting: Turnstile) -> None:
        self._site, self._waiting = site, waiting
        self._kept = Kept[tuple[HiddenFile, ...]](
            lambda files: sum(len(file.filename) + len(file.why) for file in files), waiting=waiting
        )

    def as_seen(self, site: Site, view: Hashable) -> Hiding:
        """The same of `site`, which is a part of this one."""
        seen = copy.copy(self)
        seen._site, seen._kept = site, self._kept.part(view)
        return seen

    def of(self, project: Project) -> Sequence[HiddenFile]:
        """Those of a project that whoever may list this index may hear of, the newest first.

        The very same object while they stay the same. Raises Unavailable.
        """
        index = self._site.index
        if not index.governed:
            return ()
        sources = (project, index.state())
        found = self._kept.find(project.name, sources)
        if found is None:
            before = self._kept.find(project.name)
            found = tuple(map(_shown, self._hidden(project)))
            found = before if before == found else found
            self._kept.put(project.name, found, sources)
        return found

    def explained(self, name: NormalizedName, version: str, python: str, platform: str) -> dict[str, Any]:
        """Whose a name is, and each of its files with what hides it, as far as whoever may list this index may hear.

        Empty texts ask nothing. Raises Invalid for a Python or platform that is none, Unavailable, and Busy: of a
        large project that is much work.
        """
        target = Target(python or None, platform or None) if python or platform else None
        with self._waiting.inside():
            explanation = self._told(name)
            return (explanation.of(version) if version else explanation).as_json(target)

    def _hidden(self, project: Project) -> list[Seen]:
        return [seen for seen in self._told(project.name).files if seen.hidden]

    def _told(self, name: NormalizedName) -> Explanation:
        return explain(self._site.index, name, self._site.index.shares.__contains__)


def _shown(seen: Seen) -> HiddenFile:
    own = {index for index, _ in seen.hidden}
    others = f" (in {', '.join(sorted(own))})" if own != {seen.index} else ""
    return HiddenFile(seen.file.filename, "; ".join(str(verdict) for _, verdict in seen.hidden) + others)
