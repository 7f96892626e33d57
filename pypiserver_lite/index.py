"""Several sources as one: the first that has a project owns it, and nobody after it is asked.

That order is the safety promise against dependency confusion: a name the
folder has never reaches an upstream, and a source that cannot answer ends
the search instead of letting the next one answer for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from packaging.utils import NormalizedName

from .model import Content, Project, Side, Source


class Index:
    """A `Source` over sources, asked in order."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)
        # One value, so that no thread pairs one state's parts with another's names.
        self._known: tuple[tuple[Sequence[NormalizedName], ...], Sequence[NormalizedName]] = (), ()

    def names(self) -> Sequence[NormalizedName]:
        """Every project of every source, sorted; the same object while no source's set changed."""
        parts = tuple(source.names() for source in self._sources)
        if len(parts) == 1:
            return parts[0]
        known = self._known
        if len(known[0]) != len(parts) or any(a is not b for a, b in zip(known[0], parts, strict=True)):
            known = self._known = parts, tuple(sorted(set().union(*parts)))
        return known[1]

    def filenames(self) -> Iterator[tuple[NormalizedName, str]]:
        """Every file of the first source that has its project."""
        owned: set[NormalizedName] = set()
        for source in self._sources:
            for name, filename in source.filenames():
                if name not in owned:
                    yield name, filename
            owned.update(source.names())

    def project(self, name: NormalizedName) -> Project | None:
        """The project as its owner has it, or ``None`` if no source has it. Raises Unavailable."""
        for source in self._sources:
            project = source.project(name)
            if project is not None:
                return project
        return None

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """A file as the project's owner has it, ``None`` if no source has the project. Raises Missing, Unavailable."""
        for source in self._sources:
            content = source.open(name, filename, side)
            if content is not None:
                return content
        return None
