"""Listing folders: names and kinds alone, no `stat` of a file and no look inside."""

from __future__ import annotations

import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

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
_Kind = Literal["file", "folder", "withheld", ""]
"""What an entry of a folder is to us: served, looked into, a name that is kept from others, or nothing."""

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
    left_out: str = ""
    """The first link in it that was seen not to be served."""

    def changed(self) -> bool:
        """Whether the folder is another one than was listed, by its times and identity."""
        try:
            return self.stamp != stamp_of(os.stat(self.path))
        except OSError:
            return self.stamp is not None


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


def _compared(listing: Listing) -> tuple[set[str] | None, list[str], set[str]]:
    """The names in a folder that are new, ``None`` for all; those of files that are gone, and of sides that stay."""
    known = listing.files
    if not known:
        return None, [], set()
    # A hundred thousand names take no time as long as nothing is done with each. Whether a known one still is a file
    # is seen when the file is asked for.
    names = set(os.listdir(listing.real))
    new, sides = names.difference(known, listing.sides), names & listing.sides
    all_here = len(known) == len(names) - len(new) - len(sides)
    return new, [] if all_here else [name for name in known if name not in names], sides


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
        listing, closed = self._known.get(real), self._outside(real)
        self._closed += closed
        if closed and self._closed > _MOST_CLOSED:
            self._complain(order[1][0], f"it leads to more than {_MOST_CLOSED} folders; not all their names are kept")
            return
        if listing is None or real in self._stale or listing.path != path:
            listing = self._list(Listing(path, real, order, closed=closed, listed=self._clock()), listing)
        if listing is None:
            return
        self.found[real] = listing
        for name, folder in sorted(listing.folders.items()):
            self.visit(os.path.join(real, name), folder, (order[0], (*order[1], name)))

    def _leave(self, path: str) -> None:
        self.unserved += 1
        self.example = self.example or path

    def _outside(self, real: str) -> bool:
        """Whether a folder is neither a root nor in one."""
        return not self._inside(real + os.sep)

    def _list(self, listing: Listing, old: Listing | None) -> Listing | None:
        """List the folder, of which `old` is what is known; ``None`` if it is gone, and is no root."""
        if old is not None:
            listing.files, listing.sides, listing.folders = old.files, old.sides, old.folders
            listing.held, listing.left_out = old.held, old.left_out
        below = listing.order[1]
        try:
            now = time.time_ns()
            status = os.stat(listing.path)
            listing.stamp, listing.young = stamp_of(status), facts.young(status.st_ctime_ns, now)
            self._scan(listing)
        except (FileNotFoundError, NotADirectoryError) as error:
            if below:
                return None
            listing.stamp, listing.young, listing.lost = None, False, True
            self._update(listing, {}, list(listing.files), set(), {})
            self._complain(listing.path, str(error.strerror))
        except OSError as error:
            # What somebody closed to us (lost+found, for one) is left out; of what failed nobody knows what is in it.
            listing.failed = True
            listing.lost = not listing.closed and not (below and isinstance(error, PermissionError))
            if not listing.closed:  # the link to it is said to be left out, with all there is behind it
                self._complain(listing.path, str(error.strerror))
        listing.cost = self._clock() - listing.listed
        return listing

    def _scan(self, listing: Listing) -> None:
        """Take in what is new in a folder, and let go of what is gone. Raises OSError."""
        new, gone, sides = _compared(listing)
        fresh: dict[str, NormalizedName] = {}
        folders: dict[str, str] = {}
        held: set[NormalizedName] = set()
        left_out = ""
        project_of = dists.project_of
        for entry in _entries(listing.real, new):
            name = entry.name
            if name[0] == ".":
                if name.startswith(STAGED_PREFIX):
                    self.leftovers.setdefault(listing.real, []).append(name)
                continue
            kind, real = self._kind(entry, listing.closed)
            project = project_of(name) if kind in ("file", "withheld") else None
            if kind == "folder":
                folders[name] = real
                left_out = name if self._outside(real) else left_out
            elif kind == "withheld" and project is not None:
                held.add(project)
                left_out = name
            elif project is not None:
                fresh[name] = project
            elif kind == "file" and name.endswith(SIDES):
                sides.add(name)
            elif kind == "file":
                self._unknown(entry)
        self._update(listing, fresh, gone, sides, folders)
        listing.held, listing.left_out = held, listing.left_out or left_out
        if left_out and not listing.closed:
            self._complain(
                os.path.join(listing.real, listing.left_out),
                "this link, and maybe others beside it, leads nowhere, or out of the packages folders, where it is "
                "followed with --follow-links alone; the names are kept from upstreams",
            )

    def _kind(self, entry: _Entry, closed: bool) -> tuple[_Kind, str]:
        """What an entry is, and what it leads to, resolved; in a folder that is `closed` no link is followed."""
        try:
            if entry.is_file(follow_symlinks=False):
                return "withheld" if closed else "file", entry.path
            if not entry.is_symlink():
                # From a folder outside the roots, no way leads back.
                ours = entry.is_dir(follow_symlinks=False) and (not closed or self._outside(entry.path))
                return "folder" if ours else "", entry.path
            if closed:
                return "withheld", entry.path
            real = os.path.realpath(entry.path)
            if not self._inside(real):
                # It is visibly here: nobody else is asked for that name, nor for those behind it.
                return "folder" if self._outside(real) and os.path.isdir(real) else "withheld", real
            mode = _mode(real)
            return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "withheld", real
        except OSError as error:
            # It is there all the same: its page will say that it cannot be read, and not be shorter.
            self._complain(entry.path, str(error.strerror))
            return "withheld" if closed else "file", entry.path

    def _unknown(self, entry: _Entry) -> None:
        """A file that is no distribution and belongs to none."""
        if not entry.name.isprintable():
            self._complain(entry.path, "its name cannot be written in a page")
        elif entry.name.lower().endswith(_LIKE_PACKAGES):
            self._leave(entry.path)

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
