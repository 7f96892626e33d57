"""What is kept of an upstream, as a source that asks nobody: for commands beside a running server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packaging.utils import NormalizedName

from ..errors import Unavailable
from ..model import Content, Project, Side
from .source import Remote


class Recalled:
    """The pages that are kept of an upstream, as a `Source`."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def names(self) -> Sequence[NormalizedName]:
        """Nothing: an upstream's list is its own."""
        return ()

    def filenames(self) -> Iterable[tuple[NormalizedName, str]]:
        """Nothing, as `names`."""
        return ()

    def project(self, name: NormalizedName) -> Project | None:
        """The project as its page was, however long ago. Raises Unavailable where none is kept."""
        project = self._remote.recall(name)
        if project is None:
            raise Unavailable("it is not asked from here, and no page of it is kept; a running server can say")
        return project

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """Raises Unavailable."""
        raise Unavailable("the upstream is not asked from here")
