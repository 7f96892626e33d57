"""Who may be asked for a name: rules that are decided before anybody is asked. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence

from packaging.utils import NormalizedName

from ..errors import Missing
from ..model import Content, Project, Side, Source


class Reserved:
    """Names that are this index's own though they have no files: patterns such as ``acme-*``, and those once had.

    `had` tells whether a name is or was in a folder of ours. A pattern is
    compared in the normalised form of names (PEP 503), so that ``Acme.*`` and
    ``acme_*`` mean the same.
    """

    def __init__(self, patterns: Iterable[str], had: Callable[[NormalizedName], bool] = lambda name: False) -> None:
        self._had = had
        normalized = (re.sub(r"[-_.]+", "-", pattern.strip()).lower() for pattern in patterns)
        expressions = [fnmatch.translate(pattern) for pattern in normalized if pattern]
        self._match = re.compile("|".join(expressions)).match if expressions else None

    def refuses(self, name: NormalizedName) -> str | None:
        """Why nobody else may be asked for this name; ``None`` if they may."""
        if self._match is not None and self._match(name) is not None:
            return f"{name} is reserved for this index (--private), and has no files here"
        if self._had(name):
            return (
                f"{name} was here and has no files any more, or links that are not served (see the log); "
                "'pypiserver-lite names' can let it go"
            )
        return None


class Withheld:
    """A source that is never asked for reserved names; for those it says that there is no such project here.

    That is not the absence that would send the question on: `project` and
    `open` raise Missing with the reason, which ends the search.
    """

    def __init__(self, source: Source, reserved: Reserved) -> None:
        self._source = source
        self._reserved = reserved

    def names(self) -> Sequence[NormalizedName]:
        """What the source has."""
        return self._source.names()

    def filenames(self) -> Iterable[tuple[NormalizedName, str]]:
        """What the source has."""
        return self._source.filenames()

    def project(self, name: NormalizedName) -> Project | None:
        """What the source has. Raises Missing for a reserved name, and what the source raises."""
        self._check(name)
        return self._source.project(name)

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """What the source has. Raises Missing for a reserved name, and what the source raises."""
        self._check(name)
        return self._source.open(name, filename, side)

    def _check(self, name: NormalizedName) -> None:
        reason = self._reserved.refuses(name)
        if reason is not None:
            raise Missing(reason)
