"""Which files lie in the folders, kept current at next to no cost.

A `Snapshot` knows the names of all distributions and what lies beside them,
from listing the folders alone: no `stat` of a file, no look inside. Adding,
removing and renaming change a folder's times, so one `stat` of each folder
tells whether the snapshot is current; a folder that changed is listed again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from packaging.utils import NormalizedName

from .. import dists
from ..disk import Budget, sweep
from .listing import Entry, Listing, Walk, base_of, stamp_of

_log = logging.getLogger(__name__)

MAX_AGE = 1.0
"""Seconds for which a check may be left out at the very most."""
# What is saved up must outlast a check that was interrupted by others' work, or one hiccup would hide a change. And a
# check costs more than its own time, for each stat lets other threads in: with 8 % of the time, a page on granian took
# a fifth longer than with 2 %.
_CHECK_SHARE, _CHECK_BURST = 0.005, 0.1
_LIST_SHARE, _LIST_BURST = 0.25, 1.0
_SLOW_CHECK, _SLOW_LISTING, _SLOW_LOOK = 0.002, 0.01, 0.00001
_MANY = 2000  # files; fewer are listed in less time than an upload takes to reach the disk


class Snapshot:
    """Every project's files in `roots`, the first root first. Safe for threads.

    `added` is told of files that appear after the start; it must be quick.
    """

    def __init__(self, roots: Sequence[Path], added: Callable[[Sequence[Entry]], None]) -> None:
        # Not resolved: a root may be a link that is pointed elsewhere while we serve.
        self._roots = tuple(os.path.abspath(root) for root in roots)
        self._added = added
        self._lock = threading.Lock()
        self._checks = Budget(_CHECK_SHARE, _CHECK_BURST)
        self._listings = Budget(_LIST_SHARE, _LIST_BURST)
        self._complaints: set[str] = set()
        self._names: tuple[NormalizedName, ...] = ()
        self._names_stale = True
        self.folders: dict[str, Listing] = {}
        """By resolved path, in the order in which they win. Replaced as a whole."""
        self.projects: dict[NormalizedName, tuple[Entry, ...]] = {}
        """Every distribution of a project; its tuple is another one after any change to its files and their sides."""
        self.idle_until = 0.0
        """Until then (`monotonic`) no check is due."""
        self._checked = 0.0
        self._real_roots: tuple[str, ...] = ()
        self._list([], first=True)

    # --- asking

    def refresh(self, now: float) -> None:
        """See what changed, if a check is due at `now`; afterwards the snapshot is current."""
        if now < self.idle_until:
            return
        stale = self._stale(now)
        self._checked = now
        self.charge(now, len(self.folders))
        if stale:
            with self._lock:
                if stale := self._stale(now):  # nobody else saw to it while we waited
                    self._list(stale)

    def charge(self, began: float, looks: int) -> None:
        """Account for a check of so many folders or files that `began` then and ends now."""
        # A check that was interrupted by other work costs no more than a slow one would, or it would hide changes.
        self._checks.spend(began, min(monotonic() - began, _SLOW_CHECK + looks * _SLOW_LOOK))
        self.idle_until = min(self._checks.empty_until, self._checked + MAX_AGE)

    def lost(self) -> bool:
        """Whether a root cannot be read now, so that nobody can say what is not here."""
        return any(
            (listing.stamp is None or listing.failed) and not listing.order[1] for listing in self.folders.values()
        )

    def names(self) -> tuple[NormalizedName, ...]:
        """Every project, sorted; the same object while the set is unchanged."""
        if self._names_stale:
            with self._lock:
                names = tuple(sorted(self.projects))
                if names != self._names:
                    self._names = names
                self._names_stale = False
        return self._names

    def find(self, name: NormalizedName, filename: str) -> Entry | None:
        """The file of that name that is listed for the project."""
        for listing in self.folders.values() if len(self.folders) < 8 else ():
            if listing.files.get(filename) == name:
                return listing.real, filename
        return next((e for e in self.listed(self.projects.get(name, ())) if e[1] == filename), None)

    def listed(self, entries: tuple[Entry, ...]) -> Iterable[Entry]:
        """One entry for each file name, that of the folder which wins; sorted within each folder."""
        if len(entries) == 1:
            return entries
        # Here, not where the entries are found: of a hundred thousand files, few are asked for soon.
        ranked, folders = sorted(entries), self.folders
        if len(folders) == 1:
            return ranked
        ranked.sort(key=lambda entry: folders[entry[0]].order if entry[0] in folders else (len(folders),))
        winners: dict[str, Entry] = {}
        for entry in ranked:
            winners.setdefault(entry[1], entry)
        return winners.values()

    def has_side(self, folder: str, name: str) -> bool:
        """Whether something of this name lay beside a distribution when the folder was listed."""
        listing = self.folders.get(folder)
        return listing is not None and name in listing.sides

    def has_sides(self, folder: str) -> bool:
        """Whether anything lay beside any distribution there."""
        listing = self.folders.get(folder)
        return listing is not None and bool(listing.sides)

    def entries(self) -> Iterator[Entry]:
        """All distributions, in no particular order; changes meanwhile may be missing."""
        for listing in list(self.folders.values()):
            for name in list(listing.files):
                yield listing.real, name

    def real_roots(self) -> tuple[str, ...]:
        """The roots, resolved."""
        return self._real_roots

    def inside(self, path: str) -> bool:
        """Whether a resolved path lies in one of the roots."""
        return any(path.startswith(root.rstrip(os.sep) + os.sep) for root in self._real_roots)

    def first_root(self) -> str:
        """The resolved first root, where uploads end up."""
        return os.path.realpath(self._roots[0])

    def count(self) -> int:
        """How many distributions there are, those that lose to another of the same name included."""
        return sum(len(listing.files) for listing in self.folders.values())

    # --- our own changes

    @contextmanager
    def changing(self, folder: str) -> Iterator[Changes]:
        """Hold while changing names in a known folder; what is told to the yielded object is seen at once.

        The folder is listed again later all the same, for somebody else may
        have changed it in the same instant.
        """
        with self._lock:
            changes = Changes()
            try:
                yield changes
            finally:
                listing = self.folders.get(folder)
                if listing is not None:
                    self._patch(listing, changes)

    def _patch(self, listing: Listing, changes: Changes) -> None:
        listing.ours = monotonic()
        touched: dict[NormalizedName, set[str]] = {}
        for name, there in changes.names.items():
            base = base_of(name)
            project = dists.project_of(base or name)
            if project is None:
                continue
            touched.setdefault(project, set())
            if base is not None:
                (listing.sides.add if there else listing.sides.discard)(name)
                continue
            touched[project].add(name)
            if there:
                listing.files[name] = project
            else:
                listing.files.pop(name, None)
        for project, names in touched.items():
            # A fresh tuple, even of the same entries: what was built from the old one is out of date.
            kept = [e for e in self.projects.get(project, ()) if e[0] != listing.real or e[1] not in names]
            kept += [(listing.real, name) for name in sorted(names) if name in listing.files]
            # One assignment, which no reader sees half done: a copy of the whole would cost milliseconds.
            if kept:
                if project not in self.projects:
                    self._names_stale = True
                self.projects[project] = tuple(kept)
            elif self.projects.pop(project, None):
                self._names_stale = True

    # --- listing

    def _stale(self, now: float) -> list[Listing]:
        """The folders that must be listed now: they changed, or may have, and the budget allows it."""
        found = []
        for listing in self.folders.values():
            try:
                same = listing.stamp == stamp_of(os.stat(listing.path))
            except OSError:
                same = listing.stamp is None
            # To be young is a doubt only: the request that just listed a large folder does not wait for that again.
            doubtful = listing.young and now - listing.listed > 2 * listing.cost
            if (not same or doubtful or listing.failed) and self._may_list(listing, now):
                found.append(listing)
        return found

    def _may_list(self, listing: Listing, now: float) -> bool:
        since = now - listing.listed
        if since >= MAX_AGE or listing.failed:
            return since >= MAX_AGE
        if now - listing.ours < MAX_AGE and len(listing.files) > _MANY:
            # The change is most likely ours and known. Listing 100,000 files after each upload would take all time.
            return since >= 10 * listing.cost
        return now >= self._listings.empty_until

    def _list(self, stale: Sequence[Listing], *, first: bool = False) -> None:
        """List these folders and those newly found in them, and put the new state in place."""
        began = monotonic()
        self._real_roots = tuple(os.path.realpath(root) for root in self._roots)
        walk = Walk(self.folders, {listing.real for listing in stale}, self.inside, self.complain)
        for number, root in enumerate(self._roots):
            walk.visit(root, self._real_roots[number], (number, ()))
        self._names_stale |= walk.merge(self.projects)
        self.folders = walk.found
        for listing in self.folders.values():
            if listing.stamp is not None and not listing.failed:
                # It is in order: should it fail again, that is worth another line.
                self._complaints.discard(listing.path)
        if first:
            for folder, names in walk.leftovers.items():
                sweep(Path(folder), names)
            return
        looks = sum(len(listing.files) for listing in stale)
        self._listings.spend(began, min(monotonic() - began, _SLOW_LISTING + looks * _SLOW_LOOK))
        if walk.appeared:
            self._added([entry for entries in walk.appeared.values() for entry in entries])

    def complain(self, path: str, problem: str) -> None:
        """One log line for each thing that is wrong, however often it is seen."""
        if path not in self._complaints and len(self._complaints) < 1000:
            self._complaints.add(path)
            _log.warning("%a is left out: %s", path, problem)

    def after_fork(self) -> None:
        """In a child process: whoever held the lock is not here."""
        self._lock = threading.Lock()


class Changes:
    """What we did to a folder: name → whether it is there now."""

    def __init__(self) -> None:
        self.names: dict[str, bool] = {}

    def added(self, name: str) -> None:
        """The file is there."""
        self.names[name] = True

    def removed(self, name: str) -> None:
        """The file is gone."""
        self.names[name] = False
