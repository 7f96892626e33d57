"""Which names are meant, and who may be asked for them: decided before anybody is asked. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from packaging.utils import NormalizedName

from ..patterns import Names


class Reserved:
    """Names that are an index's own though they have no files: those of the `patterns`, and those once had.

    `had` tells whether a name is or was in a folder of ours.
    """

    def __init__(self, patterns: Iterable[str], had: Callable[[NormalizedName], bool] = lambda name: False) -> None:
        self._had = had
        self._names = Names(patterns)

    def refuses(self, name: NormalizedName) -> str | None:
        """Why nobody else may be asked for this name; ``None`` if they may."""
        if self._names.has(name):
            return f"{name} is reserved for this index (--private '{self._names.pattern(name)}'), and has no files here"
        if self._had(name):
            return (
                f"{name} was here and has no files any more, or links that are not served (see the log); "
                "'pypiserver-lite names' can let it go"
            )
        return None
