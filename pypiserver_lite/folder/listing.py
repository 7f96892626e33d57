"""Listing folders: names and kinds alone, no `stat` of a file and no look inside."""

from __future__ import annotations

import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from packaging.utils import NormalizedName

from .. import dists
from ..disk import GONE, STAGED_PREFIX
from . import facts

SIDES = (".metadata", ".asc", ".provenance", ".yanked")
"""What may lie beside a distribution and belongs to it: its name and one of these."""

Entry = tuple[str, str]
"""A distribution: the folder it lies in, fully resolved, and its file name."""

Order = tuple[int, tuple[str, ...]]
"""Where a folder stands among all: the number of its root and the names that lead to it. The first wins."""
Stamp = tuple[int, int, int, int]

DEPTH = 32
"""Folders below each other that are looked at."""
_LIKE_PACKAGES = (".whl", ".egg", ".zip", ".gz", ".bz2", ".xz", ".tgz", ".tar", ".z", ".exe", ".msi")
_MOST_CLOSED = 1000  # folders outside the roots; a link may lead to the whole disk
_FEW = 200  # names that are looked at one by one in less time than it takes to list a large folder


@dataclass(slots=True)
class Listing:
    """One folder as it was last listed. Changed only by the snapshot, under its lock."""

    path: str
    """What to look at: a root as it was named, which may be a link that is pointed elsewhere one day."""
    real: str
    order: Order
    stamp: Stamp | None = None
    """Times and identity of the folder when it was listed; ``None`` if it was not there."""
    failed: bool = False
    """Whether it could not be listed; then names are as of the last time."""
    lost: bool = False
    """Whether it may hold names that nobody knows."""
    young: bool = False
    """Whether the folder may have changed since without a change of its times."""
    listed: float = 0.0
    """When the listing began, by the snapshot's clock."""
    cost: float = 0.0
    """How long it took, in seconds."""
    ours: bool = False
    """Whether we ourselves changed something in the folder since."""
    files: dict[str, NormalizedName] = field(default_factory=dict)
    sides: set[str] = field(default_factory=set)
    folders: dict[str, str] = field(default_factory=dict)
    """Name → resolved path of the folders in it."""
    closed: bool = False
    """Whether it lies outside the roots, and only a link leads to it: nothing in it is served."""
    held: set[NormalizedName] = field(default_factory=set)
    """Projects of which something lies here that is not served, for a link leads out of the roots, or nowhere."""
    said: bool = False
    """Whether that was said."""


def stamp_of(status: os.stat_result) -> Stamp:
    """What tells one state of a folder from another."""
    # The time of the last status change cannot be set back, as rsync sets back that of the last modification.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def base_of(name: str) -> str | None:
    """The distribution's name that a side file's begins with."""
    for side in SIDES:
        if name.endswith(side):
            return name.removesuffix(side)
    return None


class _Single:
    """What `os.DirEntry` tells, of one name; nothing is true of one that is gone. Its methods raise OSError."""

    def __init__(self, folder: str, name: str) -> None:
        self.name, self.path = name, os.path.join(folder, name)

    def is_file(self, *, follow_symlinks: bool) -> bool:
        """Whether it is a file."""
        return stat.S_ISREG(_mode(self.path, follow_symlinks))

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(_mode(self.path, follow_symlinks))

    def is_symlink(self) -> bool:
        """Whether it is a link."""
        return stat.S_ISLNK(_mode(self.path, follow_symlinks=False))


def _mode(path: str, follow_symlinks: bool = True) -> int:
    """What kind of thing is there; 0 for nothing. Raises OSError."""
    try:
        return os.stat(path, follow_symlinks=follow_symlinks).st_mode
    except OSError as error:
        if error.errno in GONE:
            return 0
        raise


_Entry = _Single | os.DirEntry[str]


def _entries(folder: str, names: set[str] | None) -> Iterator[_Entry]:
    """What is in a folder, or of it just what has these names. Raises OSError."""
    if names is not None and len(names) <= _FEW:
        for name in names:
            yield _Single(folder, name)
        return
    with os.scandir(folder) as found:
        for entry in found:
            if names is None or entry.name in names:
                yield entry


class Walk:
    """One pass over the folders: lists what is `stale` or new, takes the rest as it is known."""

    def __init__(
        self,
        known: dict[str, Listing],
        stale: set[str],
        inside: Callable[[str], bool],
        complain: Callable[[str, str], None],
        clock: Callable[[], float],
    ) -> None:
        self._known, self._stale, self._inside, self._complain = known, stale, inside, complain
        self._clock = clock
        self.found: dict[str, Listing] = {}
        self.appeared: defaultdict[NormalizedName, list[Entry]] = defaultdict(list)
        self.unserved = 0
        """How many files that look like packages, and folders that lie too deep, were seen and are not served."""
        self.example = ""
        """One of them."""
        self.leftovers: dict[str, list[str]] = {}
        self._gone: dict[NormalizedName, set[Entry]] = {}
        self._touched: set[NormalizedName] = set()
        self._closed = 0

    def visit(self, path: str, real: str, order: Order) -> None:
        """Take in the folder at `path`, which is `real` when resolved, and what is below it."""
        if real in self.found:
            return
        if len(order[1]) > DEPTH:
            self._leave(path)
            return
        if closed := self._outside(real):
            self._closed += 1
            if self._closed > _MOST_CLOSED:
                self._complain(
                    order[1][0], f"it leads to more than {_MOST_CLOSED} folders; not all their names are kept"
                )
                return
        listing = self._known.get(real)
        if listing is None or real in self._stale or listing.path != path:
            listing = self._list(path, real, order, listing, closed)
        if listing is None:
            return
        self.found[real] = listing
        for name in sorted(listing.folders):
            self.visit(os.path.join(listing.real, name), listing.folders[name], (order[0], (*order[1], name)))

    def _leave(self, path: str) -> None:
        self.unserved += 1
        self.example = self.example or path

    def _outside(self, real: str) -> bool:
        """Whether a folder is neither a root nor in one."""
        return not self._inside(real + os.sep)

    def _list(self, path: str, real: str, order: Order, old: Listing | None, closed: bool) -> Listing | None:
        listing = Listing(path, real, order, closed=closed)
        listing.listed = self._clock()
        if old is not None:
            listing.files, listing.sides, listing.folders = old.files, old.sides, old.folders
            listing.held, listing.said = old.held, old.said
        try:
            now = time.time_ns()
            status = os.stat(path)
            listing.stamp, listing.young = stamp_of(status), facts.young(status.st_ctime_ns, now)
            self._scan(listing)
        except (FileNotFoundError, NotADirectoryError) as error:
            if order[1]:
                return None
            listing.stamp, listing.young, listing.lost = None, False, True
            self._update(listing, {}, list(listing.files), set(), {})
            self._complain(path, str(error.strerror))
        except OSError as error:
            # What somebody closed to us (lost+found, for one) is left out; of what failed nobody knows what is in it.
            listing.failed = True
            listing.lost = not closed and not (order[1] and isinstance(error, PermissionError))
            if not closed:  # the link to it is said to be left out, with all there is behind it
                self._complain(path, str(error.strerror))
        listing.cost = self._clock() - listing.listed
        return listing

    def _scan(self, listing: Listing) -> None:
        known = listing.files
        unknown: set[str] | None = None
        gone: list[str] = []
        sides: set[str] = set()
        if known:
            # A hundred thousand names take no time as long as nothing is done with each. Whether a known one still is
            # a file is seen when the file is asked for.
            names = set(os.listdir(listing.real))
            unknown, sides = names.difference(known, listing.sides), names & listing.sides
            if len(known) > len(names) - len(unknown) - len(sides):
                gone = [name for name in known if name not in names]
        fresh: dict[str, NormalizedName] = {}
        folders: dict[str, str] = {}
        held: set[NormalizedName] = set()
        left_out = ""
        project_of = dists.project_of
        for entry in _entries(listing.real, unknown):
            name = entry.name
            if name[0] == ".":
                if name.startswith(STAGED_PREFIX):
                    self.leftovers.setdefault(listing.real, []).append(name)
                continue
            try:
                folder = "" if entry.is_file(follow_symlinks=False) else self._folder(entry, listing.closed)
            except OSError as error:
                # It is there all the same: its page will say that it cannot be read, and not be shorter.
                folder = ""
                self._complain(entry.path, str(error.strerror))
            if folder:
                folders[name] = folder
                if not listing.closed and self._outside(folder):
                    left_out = name
            elif folder is None or listing.closed:
                # It is visibly here: nobody else is asked for that name.
                project = project_of(name)
                if project is not None and (folder is not None or entry.is_symlink()):
                    held.add(project)
                    left_out = name
            else:
                project = project_of(name)
                if project is not None:
                    fresh[name] = project
                elif name.endswith(SIDES):
                    sides.add(name)
                elif not name.isprintable():
                    self._complain(entry.path, "its name cannot be written in a page")
                elif name.lower().endswith(_LIKE_PACKAGES):
                    self._leave(entry.path)
        self._update(listing, fresh, gone, sides, folders)
        listing.held = held
        if left_out and not listing.closed and not listing.said:
            listing.said = True
            self._complain(
                os.path.join(listing.real, left_out),
                "this link, and maybe others beside it, leads nowhere, or out of the packages folders, where it is "
                "followed with --follow-links alone; the names are kept from upstreams",
            )

    def _folder(self, entry: _Entry, closed: bool) -> str | None:
        """The folder that an entry is or leads to, resolved; empty for a file, ``None`` for nothing of ours.

        A folder outside the roots is looked at too, but no link in it is followed, and no way back.
        """
        if not entry.is_symlink():
            folder = entry.is_dir(follow_symlinks=False)
            return entry.path if folder and (not closed or self._outside(entry.path)) else None
        if closed:
            return None
        real = os.path.realpath(entry.path)
        if self._inside(real):
            mode = _mode(real)
            return real if stat.S_ISDIR(mode) else "" if stat.S_ISREG(mode) else None
        return real if self._outside(real) and os.path.isdir(real) else None

    def _update(
        self,
        listing: Listing,
        fresh: dict[str, NormalizedName],
        gone: Iterable[str],
        sides: set[str],
        folders: dict[str, str],
    ) -> None:
        # In place: the names that stay are not held twice, and a folder of 100,000 costs only what changed in it.
        files, folder = listing.files, listing.real
        for name in gone:
            self._gone.setdefault(files.pop(name), set()).add((folder, name))
        appeared = self.appeared
        for name, project in fresh.items():
            if name not in files:
                appeared[project].append((folder, name))
        files.update(fresh)
        for name in sides ^ listing.sides:
            owner = dists.project_of(base_of(name) or "")
            if owner is not None:
                self._touched.add(owner)
        listing.sides, listing.folders = sides, folders

    def changes(
        self, projects: Mapping[NormalizedName, tuple[Entry, ...]]
    ) -> Iterator[tuple[NormalizedName, tuple[Entry, ...]]]:
        """What each project that this walk saw a change of consists of now."""
        for real, listing in self._known.items():
            if real not in self.found:
                for name, project in listing.files.items():
                    self._gone.setdefault(project, set()).add((real, name))
        for project in self._touched | self._gone.keys() | self.appeared.keys():
            gone = self._gone.get(project, ())
            kept = [entry for entry in projects.get(project, ()) if entry not in gone]
            yield project, (*kept, *self.appeared.get(project, ()))
