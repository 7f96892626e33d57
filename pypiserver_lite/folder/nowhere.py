"""The store of an index that has no folder of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.utils import NormalizedName

from ..errors import Invalid, Missing
from ..model import Content, Piece, Project, Side, State, Upload

_SAID = "this index has no folder of its own, and takes no uploads"


class Nowhere:
    """A `Store` that has nothing and takes nothing."""

    _state = State(0, True)

    def names(self) -> Sequence[NormalizedName]:
        """None."""
        return ()

    def filenames(self) -> Iterable[tuple[NormalizedName, str]]:
        """None."""
        return ()

    def project(self, name: NormalizedName) -> Project | None:
        """``None``: none is here."""
        return None

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """``None``: none is here."""
        return None

    def state(self, now: float | None = None) -> State:
        """Always the same."""
        return self._state

    def stage(self) -> Path:
        """Raises Invalid."""
        raise Invalid(_SAID)

    def add(self, upload: Upload, *, overwrite: bool = False) -> bool:
        """Raises Invalid."""
        raise Invalid(_SAID)

    def remove(self, name: NormalizedName, version: str) -> tuple[str, ...]:
        """Raises Missing."""
        raise Missing(f"{name} {version} is not in a folder of this index")

    def yank(self, name: NormalizedName, version: str, reason: str | None) -> tuple[str, ...]:
        """Raises Missing."""
        raise Missing(f"{name} {version} is not in a folder of this index")

    def pieces(self, name: NormalizedName, version: str) -> tuple[Piece, ...]:
        """Raises Missing."""
        raise Missing(f"{name} {version} is not in a folder of this index")

    def take(self, pieces: Sequence[Piece]) -> tuple[str, ...]:
        """Raises Invalid."""
        raise Invalid(_SAID)
