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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from time import monotonic

from packaging.utils import NormalizedName

from .. import dists
from ..disk import sweep
from .budget import Budget
from .listing import DEPTH, Entry, Listing, Walk, base_of, stamp_of
from .names import Names
from .roots import Roots, lost
from .serial import Serial

_log = logging.getLogger(__name__)

MAX_AGE = 1.0
"""Seconds for which a check may be left out at the very most."""
# What is saved up must outlast a check that was interrupted by others' work, or one hiccup would hide a change. And a
# check costs more than its own time, for each stat lets other threads in: with 8 % of the time, a page on granian took
# a fifth longer than with 2 %.
_CHECKS = {"share": 0.005, "burst": 0.1, "slow": 0.002}
_LISTINGS = {"share": 0.25, "burst": 1.0, "slow": 0.01}
_MANY = 2000  # files; fewer are listed in less time than an upload takes to reach the disk


class Snapshot:
    """Every project's files in `roots`, the first root first. Safe for threads.

    `added` is told of files that appear after the start; it must be quick.
    `remembered` tells the projects of files that were ever read below a (resolved) folder.
    Names once had are in a copy below `copies` where they cannot be written
    in the folders. With `follow_links`, links may lead out of the roots. Raises ConfigError
    if the file of names once had is damaged.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        added: Callable[[Sequence[Entry]], None],
        *,
        remembered: Callable[[str], Iterator[NormalizedName]],
        follow_links: bool = False,
        copies: Path | None = None,
        recording: bool = True,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        # Not resolved: a root may be a link that is pointed elsewhere while we serve.
        self._roots = tuple(os.path.abspath(root) for root in roots)
        self._added, self._follow_links, self._recording = added, follow_links, recording
        self.clock = clock
        """What tells seconds, of an arbitrary beginning."""
        self.folders: dict[str, Listing] = {}
        """By resolved path, in the order in which they win. Replaced as a whole."""
        self.projects: dict[NormalizedName, tuple[Entry, ...]] = {}
        """Every distribution of a project; its tuple is another one after any change to its files and their sides."""
        self.real_roots: tuple[str, ...] = ()
        """The roots, resolved."""
        self.idle_until = 0.0
        """Until then, by `clock`, no check is due."""
        self._checked = 0.0
        self._checks, self._listings = Budget(**_CHECKS), Budget(**_LISTINGS)
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._looks = self._looked = 0
        self._changes: set[object] = set()
        """Those under way. Each will write down all names that are new."""
        self.serial = Serial()
        self._complaints: set[str] = set()
        self._names: tuple[NormalizedName, ...] = ()
        self._names_stale = True
        self._held: set[NormalizedName] = set()
        self.kept_names = Names(self._roots, self.projects, copies)
        """The names that are ours without having files."""
        self.kept_names.load()
        self.roots = Roots(self._roots, self.kept_names, remembered)
        self._list([], first=True)
        self._record()

    def refresh(self, name: NormalizedName | None = None) -> None:
        """See what changed, if a check is due; it always is for a project `name` that is not known here.

        Nothing of the latter is put off: whoever is told that a name is not here may take it from somebody else.
        """
        if name is not None and name not in self.projects:
            self.look()
            return
        now = self.clock()
        if now < self.idle_until:
            return
        self._checked = now
        if self._list_stale(now):
            self._record(wait=False)

    def _list_stale(self, now: float | None) -> bool:
        """List what is due at `now`, or with ``None`` all that changed, which no budget pays for; whether any was."""
        stale = self._stale(now)
        if now is not None:
            self.charge(now, len(self.folders))
        if stale:
            with self._lock:
                if stale := self._stale(now):  # nobody else saw to it while we waited
                    self._list(stale)
        return bool(stale)

    def look(self) -> None:
        """See all that changed before this was called; of many who ask at once, one looks for all."""
        # The next to begin: one that is under way may have looked where something changed since.
        wanted, listed = self._looks + 1, False
        with self._looking:
            if self._looked < wanted:
                self._looks += 1
                listed = self._list_stale(None)
                self._looked = self._looks
        if listed:
            self._record(wait=False)

    def charge(self, began: float, looks: int) -> None:
        """Account for a check of so many folders or files that `began` then and ends now."""
        self._checks.spend(began, self.clock(), looks)
        self.idle_until = min(self._checks.empty_until, self._checked + MAX_AGE)

    def had(self, name: NormalizedName) -> bool:
        """Whether the name is ours: it has files, or had some once and was not released, or a link for one is here."""
        return name in self.projects or name in self._held or self.kept_names.keeps(name)

    def release(self, names: Iterable[NormalizedName] | None) -> None:
        """Keep these names no more, or with ``None`` none without files, in roots as they are. Raises Unavailable."""
        with self._lock:
            self.kept_names.release(names)

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

    def ranked(self, entries: Iterable[Entry]) -> list[Entry]:
        """All of them, those of a folder that wins first; sorted within each folder."""
        ranked, folders = sorted(entries), self.folders
        if len(folders) > 1:
            ranked.sort(key=lambda entry: folders[entry[0]].order if entry[0] in folders else (len(folders),))
        return ranked

    def listed(self, entries: tuple[Entry, ...]) -> Iterable[Entry]:
        """One entry for each file name, that of the folder which wins; sorted within each folder."""
        if len(entries) == 1:
            return entries
        # Here, not where the entries are found: of a hundred thousand files, few are asked for soon.
        winners: dict[str, Entry] = {}
        for entry in self.ranked(entries):
            winners.setdefault(entry[1], entry)
        return winners.values()

    def sides(self, folder: str) -> Collection[str]:
        """The names of what lay beside distributions when the folder was listed."""
        listing = self.folders.get(folder)
        return () if listing is None else listing.sides

    def entries(self) -> Iterator[Entry]:
        """All distributions, in no particular order; changes meanwhile may be missing."""
        for listing in list(self.folders.values()):
            for name in list(listing.files):
                yield listing.real, name

    def covered(self) -> tuple[str, ...]:
        """Resolved folders below which all files lie."""
        return tuple({Path(root).anchor for root in self.real_roots}) if self._follow_links else self.real_roots

    def inside(self, path: str) -> bool:
        """Whether a resolved path is one that is served: it lies in one of the roots, or links may lead anywhere."""
        return self._follow_links or any(path.startswith(root.rstrip(os.sep) + os.sep) for root in self.real_roots)

    def first_root(self) -> str:
        """The resolved first root, where uploads end up. Raises DiskFailed if it is lost."""
        if not os.path.isdir(self._roots[0]) or self.roots.lost(0):
            raise lost()
        return os.path.realpath(self._roots[0])

    def count(self) -> int:
        """How many distributions there are, those that lose to another of the same name included."""
        return sum(len(listing.files) for listing in self.folders.values())

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Be done with changes when it is written down which names they brought; meanwhile nobody waits for that."""
        change = object()
        self._changes.add(change)
        done = False
        try:
            yield
            done = True
        finally:
            self._changes.discard(change)
            self._record(wait=done)

    @contextmanager
    def changing(self, folder: str) -> Iterator[dict[str, bool]]:
        """Hold while changing names in a known folder.

        What the yielded mapping is told, whether something of a name is there
        now, is seen at once. The folder is listed again later all the same,
        for somebody else may have changed it in the same instant.
        """
        with self._lock:
            changes: dict[str, bool] = {}
            try:
                yield changes
            finally:
                listing = self.folders.get(folder)
                if listing is not None:
                    self._patch(listing, changes)

    def _patch(self, listing: Listing, changes: Mapping[str, bool]) -> None:
        listing.ours = True
        touched: dict[NormalizedName, set[str]] = {}
        for name, there in changes.items():
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
        changed: dict[NormalizedName, tuple[Entry, ...]] = {}
        for project, names in touched.items():
            kept = [e for e in self.projects.get(project, ()) if e[0] != listing.real or e[1] not in names]
            changed[project] = (*kept, *((listing.real, name) for name in sorted(names) if name in listing.files))
        self._put(changed)
        # Last: whoever sees the new state sees what changed.
        try:
            self.serial.advance([stamp_of(os.stat(listing.path))], changed=True)
        except OSError as error:
            _log.debug("%a has no time of its last change: %s", listing.path, error.strerror)

    def _put(self, changed: Mapping[NormalizedName, tuple[Entry, ...]]) -> None:
        """Put fresh tuples, even of the same entries, in place: what was built from old ones is out of date.

        Project by project, which no reader sees half done: a copy of the whole would cost milliseconds.
        """
        gone = [project for project, entries in changed.items() if not entries and project in self.projects]
        new = [project for project, entries in changed.items() if entries and project not in self.projects]
        # First, so that nobody finds a name neither here nor kept.
        self.kept_names.went(gone)
        for project, entries in changed.items():
            if entries:
                self.projects[project] = entries
            else:
                self.projects.pop(project, None)
        self.kept_names.came(new)
        self._names_stale |= bool(gone or new)

    def _record(self, *, wait: bool = True) -> None:
        """Write down new names, but nothing where a disk may be missing. Who does not `wait` leaves it to who does."""
        if self._recording and self.roots.first_is_there and (wait or not self._changes):
            self.kept_names.write(marks=self.roots.whole, wait=wait)

    def _stale(self, now: float | None) -> list[Listing]:
        """The folders that changed, or may have: those that are due at `now`, or with ``None`` all of them."""
        stale = []
        for listing in self.folders.values():
            changed = listing.changed()
            # What failed and is as it was fails again, and says so of itself.
            doubtful = listing.young or (listing.failed and now is not None)
            if (changed or doubtful) and (now is None or now >= listing.listed + self._pause(listing, changed)):
                stale.append(listing)
        return stale

    def _pause(self, listing: Listing, changed: bool) -> float:
        """Seconds between two listings of a folder that changed, or may have."""
        if listing.failed:
            return MAX_AGE
        if listing.ours and len(listing.files) > _MANY:
            # The change is most likely ours and known. Listing 100,000 files after each upload would take all time.
            return min(10 * listing.cost, MAX_AGE)
        pause = min(self._listings.empty_until - listing.listed, MAX_AGE)
        # To be young is a doubt only: the request that just listed a large folder does not wait for that again.
        return pause if changed else max(pause, 2 * listing.cost)

    def _list(self, stale: Sequence[Listing], *, first: bool = False) -> None:
        """List these folders and those newly found in them, and put the new state in place."""
        began = self.clock()
        self.real_roots = tuple(os.path.realpath(root) for root in self._roots)
        walk = Walk(self.folders, {listing.real for listing in stale}, self.inside, self.complain, self.clock)
        for number, root in enumerate(self._roots):
            walk.visit(root, self.real_roots[number], (number, ()))
        if first:
            self.roots.begin(walk.found, self.real_roots)
        else:
            self.roots.see(self.projects, self.folders, walk.found, self.real_roots)
        changes, changed = walk.changes(self.projects), False
        # Before the projects: which of two files wins, and what lies beside it, is asked of the folders.
        self.folders = {**self.folders, **walk.found}
        while some := dict(islice(changes, 1000)):  # not all at once, for the first time they are all there are
            self._put(some)
            changed = True
        self.folders = walk.found
        self.roots.settle()
        self._held = set().union(*(listing.held for listing in self.folders.values()))
        stamps = [each.stamp for each in self.folders.values() if each.stamp is not None and not each.closed]
        self.serial.advance(stamps, changed=changed)
        for listing in self.folders.values():
            if listing.stamp is not None and not listing.failed and not listing.closed:
                # It is in order: should it fail again, that is worth another line.
                self._complaints.discard(listing.path)
        if first:
            _say_what_was_seen(walk)
            return
        # Another process may have had names that came and went since.
        self.kept_names.look()
        self._listings.spend(began, self.clock(), sum(len(listing.files) for listing in stale))
        if walk.appeared:
            self._added([entry for entries in walk.appeared.values() for entry in entries])

    def complain(self, path: str, problem: str) -> None:
        """One log line for each thing that is wrong, however often it is seen."""
        if path not in self._complaints and len(self._complaints) < 1000:
            self._complaints.add(path)
            _log.warning("%a is left out: %s", path, problem)

    def after_fork(self) -> None:
        """In a child process: whoever held the lock is not here."""
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._changes.clear()
        self.kept_names.after_fork()


def _say_what_was_seen(walk: Walk) -> None:
    """At the start: what lies there and is not served, and what a crash left is removed."""
    if walk.unserved:
        _log.warning(
            "%d files or folders are not served, nor are their names kept from upstreams; %a for one: served are "
            "wheels, eggs and sdists by their usual names, with endings in small letters, and at most %d folders deep",
            walk.unserved,
            walk.example,
            DEPTH,
        )
    for folder, names in walk.leftovers.items():
        sweep(Path(folder), names)
