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
_Role = Literal["file", "folder", "withheld", ""]
"""What an entry of a folder is to us: served, looked into, a name that is kept from others, or nothing."""

DEPTH = 32
"""Folders below each other that are looked at."""
_LIKE_PACKAGES = (".whl", ".egg", ".zip", ".gz", ".bz2", ".xz", ".tgz", ".tar", ".z", ".exe", ".msi")
_MOST_CLOSED = 1000  # folders outside the roots; a link may lead to the whole disk


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
    device: int = 0
    """On which disk it was when it was seen last."""
    unmounted: bool = False
    """Whether it had files on a disk of its own, and is empty now on another."""
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


@dataclass(slots=True)
class _Seen:
    """What one look at a folder found; of files, those that were not known."""

    files: dict[str, NormalizedName] = field(default_factory=dict)
    sides: set[str] = field(default_factory=set)
    folders: dict[str, str] = field(default_factory=dict)
    held: set[NormalizedName] = field(default_factory=set)
    left_out: str = ""


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
            listing.device = old.device
        below, had = listing.order[1], bool(listing.files or listing.folders)
        try:
            now = time.time_ns()
            status = os.stat(listing.path)
            listing.stamp, listing.young = stamp_of(status), facts.young(status.st_ctime_ns, now)
            listing.device = status.st_dev
            self._scan(listing)
            if below and old is not None and not listing.files and not listing.folders:
                self._found_empty(listing, old, had)
        except (FileNotFoundError, NotADirectoryError) as error:
            if below:
                return None
            listing.stamp, listing.young, listing.lost = None, False, True
            self._update(listing, _Seen(), list(listing.files))
            self._complain(listing.path, str(error.strerror))
        except OSError as error:
            # Nobody knows what is in it, but that file systems have a lost+found of their own.
            listing.failed = True
            listing.lost = not listing.closed and below[-1:] != ("lost+found",)
            if not listing.closed:  # the link to it is said to be left out, with all there is behind it
                refused = "; what no other folder has is refused until it can be read" if listing.lost else ""
                self._complain(listing.path, f"{error.strerror}{refused}")
        listing.cost = self._clock() - listing.listed
        return listing

    def _found_empty(self, listing: Listing, old: Listing, had: bool) -> None:
        """See whether a disk is missing where an empty folder is, which was as `old` and `had` files or folders."""
        parent = self._known.get(os.path.dirname(listing.path))
        own = parent is not None and old.device != parent.device
        listing.unmounted = old.unmounted or (had and own and old.device != listing.device)
        if listing.unmounted:
            listing.failed = listing.lost = True
            self._complain(
                listing.path,
                "it was a disk of its own and is empty now; what it had, and what no folder has, is refused until it "
                "is mounted again, or this folder removed",
            )

    def _scan(self, listing: Listing) -> None:
        """Take in what is new in a folder, and let go of what is gone. Raises OSError."""
        known, missing, seen = listing.files, len(listing.files), _Seen()
        with os.scandir(listing.real) as entries:
            for entry in entries:
                name = entry.name
                # A hundred thousand names take no time as long as nothing is done with each. Whether a known one still
                # is a file is seen when the file is asked for.
                if name in known:
                    missing -= 1
                elif name in listing.sides:
                    seen.sides.add(name)
                elif name[0] != ".":
                    self._sort(entry, listing.closed, seen)
                elif name.startswith(STAGED_PREFIX):
                    self.leftovers.setdefault(listing.real, []).append(name)
        here = set(os.listdir(listing.real)) if missing else known
        self._update(listing, seen, [name for name in known if name not in here] if missing else [])
        listing.held, listing.left_out = seen.held, listing.left_out or seen.left_out
        if seen.left_out and not listing.closed:
            self._complain(
                os.path.join(listing.real, listing.left_out),
                "this link, and maybe others beside it, leads nowhere, or out of the packages folders, where it is "
                "followed with --follow-links alone; the names are kept from upstreams",
            )

    def _sort(self, entry: os.DirEntry[str], closed: bool, seen: _Seen) -> None:
        """Put an entry where it belongs, by what it is and by its name."""
        name, (role, real) = entry.name, self._role(entry, closed)
        if role == "folder":
            seen.folders[name] = real
            if self._outside(real):
                seen.left_out = name
            return
        project = dists.project_of(name) if role else None
        if role == "file" and project is not None:
            seen.files[name] = project
        elif project is not None:
            seen.held.add(project)
            seen.left_out = name
        elif role == "file" and name.endswith(SIDES):
            seen.sides.add(name)
        elif role == "file" and not name.isprintable():
            self._complain(entry.path, "its name cannot be written in a page")
        elif role == "file" and name.lower().endswith(_LIKE_PACKAGES):
            self._leave(entry.path)

    def _role(self, entry: os.DirEntry[str], closed: bool) -> tuple[_Role, str]:
        """What an entry is, and what it leads to, resolved; in a folder that is `closed` no link is followed."""
        try:
            if entry.is_file(follow_symlinks=False):
                return "withheld" if closed else "file", ""
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
            mode = os.stat(real).st_mode
            return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "withheld", real
        except OSError as error:
            if error.errno in GONE:
                return "withheld", ""
            # It is there all the same: its page will say that it cannot be read, and not be shorter.
            self._complain(entry.path, str(error.strerror))
            return "withheld" if closed else "file", ""

    def _update(self, listing: Listing, seen: _Seen, gone: Iterable[str]) -> None:
        # In place: the names that stay are not held twice, and a folder of 100,000 costs only what changed in it.
        files, folder = listing.files, listing.real
        for name in gone:
            self._gone.setdefault(files.pop(name), set()).add((folder, name))
        appeared = self.appeared
        for name, project in seen.files.items():
            if name not in files:
                appeared[project].append((folder, name))
        files.update(seen.files)
        for name in seen.sides ^ listing.sides:
            owner = dists.project_of(base_of(name) or "")
            if owner is not None:
                self._touched.add(owner)
        listing.sides, listing.folders = seen.sides, seen.folders

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
