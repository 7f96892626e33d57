"""Whether the packages folders are those that they were, or a disk is missing."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from packaging.utils import NormalizedName

from ..errors import DiskFailed
from .listing import Entry, Listing
from .names import Names

_log = logging.getLogger(__name__)


class Roots:
    """The packages folders by number; one that had files and was replaced by an empty one is *emptied*.

    `names` tells which of them had files before this process began, and
    `remembered` the projects of files that were ever read below a (resolved)
    folder.
    """

    def __init__(
        self, paths: Sequence[str], names: Names, remembered: Callable[[str], Iterator[NormalizedName]]
    ) -> None:
        self._paths, self._names, self._remembered = paths, names, remembered
        self._unknown, self._first, self._settled = False, False, True
        self._filled: dict[int, tuple[int, ...]] = {}
        """What each had for an identity when it had files last."""
        self._emptied: dict[int, int] = {}
        """How often an operator had spoken when each was found empty."""
        self._hidden: dict[int | str, frozenset[NormalizedName]] = {}
        """By root, or by folder: the projects of what was there when it could be looked at last."""
        self.hidden: frozenset[NormalizedName] = frozenset()
        """Projects that may have files where nobody can look now: what is known of them may be a part."""

    @property
    def whole(self) -> bool:
        """Whether everything was there at the last look."""
        return not self._unknown and not self._emptied

    @property
    def first_is_there(self) -> bool:
        """Whether the first root, where names are written down, was there at the last look."""
        return self._first and 0 not in self._emptied

    def begin(self, found: Mapping[str, Listing], real: Sequence[str]) -> None:
        """The same as `see`, at the start: where nothing was recorded, ask who else may remember files of a root.

        Their projects are names once had: when a backup is copied back, nobody knows of the last until it is there.
        """
        self._compare(found, real)
        for number, root in enumerate(real) if not self._names.recorded else ():
            names = frozenset(self._remembered(root))
            self._names.recall(names)
            if number not in self._filled and (names or self._names.was_linked(number)):
                self._found_empty(number)
        self._hide({}, {}, found, real)

    def see(
        self,
        projects: Mapping[NormalizedName, tuple[Entry, ...]],
        before: Mapping[str, Listing],
        found: Mapping[str, Listing],
        real: Sequence[str],
    ) -> None:
        """What the folders hold now, by resolved path, the resolved roots, and the `projects` of the folders `before`.

        The listings of those may have changed since; the projects not yet.
        """
        self._compare(found, real)
        self._hide(projects, before, found, real)

    def _hide(
        self,
        projects: Mapping[NormalizedName, tuple[Entry, ...]],
        before: Mapping[str, Listing],
        found: Mapping[str, Listing],
        real: Sequence[str],
    ) -> None:
        hidden: dict[int | str, frozenset[NormalizedName]] = {}
        for number, root in enumerate(real):
            listing = found.get(root)
            if number in self._emptied or listing is None or listing.stamp is None:
                known = self._hidden.get(number)
                if not known:  # found once: while a root is lost, it is looked for each second
                    within = {folder for folder, each in before.items() if each.order[0] == number}
                    known = _projects_in(within, projects) or frozenset(self._remembered(root))
                hidden[number] = known
        for folder, listing in found.items():
            if listing.failed and not listing.files:
                known = self._hidden.get(folder)
                if not known:
                    within = {each for each in before if (each + os.sep).startswith(folder + os.sep)}
                    known = _projects_in(within, projects) or frozenset(self._remembered(folder))
                hidden[folder] = known
        self._hidden, self._settled = hidden, False
        self.hidden |= frozenset().union(*hidden.values())

    def settle(self) -> None:
        """What `see` was told is now what everybody is told: what is back is hidden no more."""
        self.hidden, self._settled = frozenset().union(*self._hidden.values()), True

    def _compare(self, found: Mapping[str, Listing], real: Sequence[str]) -> None:
        self._unknown = any(listing.lost for listing in found.values())
        first = found.get(real[0])
        self._first = first is not None and not first.lost
        filled = {listing.order[0] for listing in found.values() if listing.files}
        self._names.filled(filled)
        for number, root in enumerate(real):
            listing = found.get(root)
            identity = () if listing is None or listing.stamp is None else listing.stamp[2:]
            if number in filled:
                self._filled[number] = identity
            before = self._filled.get(number)
            if before == identity or (before is None and self._names.marked(number)):
                self._emptied.pop(number, None)
            elif identity and number not in self._emptied and (before is not None or self._names.misses(number)):
                self._found_empty(number)

    def _found_empty(self, number: int) -> None:
        self._emptied[number] = self._names.cleared
        _log.error(
            "%s is empty and was not before: is its disk mounted? What it had, and what no folder has, is refused "
            "until its files are back, or until you say that it is meant: pypiserver-lite names release --all %s",
            self._paths[number],
            " ".join(f"--in {shlex.quote(path)}" for path in self._paths),
        )

    def lost(self, number: int | None = None) -> bool:
        """Whether a root or its names cannot be read, or was emptied: nobody can say what is not here.

        With a number, whether that one was emptied.
        """
        if self._emptied or self._names.unsure:
            self._names.look()
            if self._names.cleared > min(self._emptied.values(), default=0):
                self._emptied.clear()
                self._filled.clear()
        if number is not None:
            return number in self._emptied
        return not self.whole or self._names.unsure

    def check(self) -> None:
        """Raises DiskFailed if nobody can say what is not here."""
        if self.lost():
            raise lost()

    def check_name(self, name: NormalizedName) -> None:
        """Raises DiskFailed if the project may have files where nobody can look now."""
        if name in self.hidden and (not self._settled or self.lost()):
            raise lost()


def _projects_in(folders: set[str], projects: Mapping[NormalizedName, tuple[Entry, ...]]) -> frozenset[NormalizedName]:
    return frozenset(name for name, entries in projects.items() if not folders.isdisjoint(e[0] for e in entries))


def lost() -> DiskFailed:
    """What it means for whoever asks that a root is lost."""
    return DiskFailed("a packages folder cannot be read now, or is empty as if its disk were missing; try again later")
