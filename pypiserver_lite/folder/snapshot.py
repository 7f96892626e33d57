"""Which files lie in the folders, kept current at next to no cost.

A `Snapshot` knows the names of all distributions and what lies beside them,
from listing the folders alone: no `stat` of a file, no look inside. Adding,
removing and renaming change a folder's times, so one `stat` of each folder
tells whether the snapshot is current; a folder that changed is listed again.
"""

from __future__ import annotations

import logging
import os
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from time import monotonic

from packaging.utils import NormalizedName

from .. import dists
from ..disk import Budget, sweep
from ..errors import DiskFailed
from ..model import SERIALS_SINCE, State
from .listing import DEPTH, Entry, Listing, Stamp, Walk, base_of, stamp_of
from .names import Names

_log = logging.getLogger(__name__)

MAX_AGE = 1.0
"""Seconds for which a check may be left out at the very most."""
# What is saved up must outlast a check that was interrupted by others' work, or one hiccup would hide a change. And a
# check costs more than its own time, for each stat lets other threads in: with 8 % of the time, a page on granian took
# a fifth longer than with 2 %.
_CHECK_SHARE, _CHECK_BURST = 0.005, 0.1
_LIST_SHARE, _LIST_BURST = 0.25, 1.0
_SLOW_CHECK, _SLOW_LISTING, _SLOW_LOOK = 0.002, 0.01, 0.00001
_SETTLES = 3  # seconds; clocks differ, and FAT counts every other one
_MANY = 2000  # files; fewer are listed in less time than an upload takes to reach the disk


class Snapshot:
    """Every project's files in `roots`, the first root first. Safe for threads.

    `added` is told of files that appear after the start; it must be quick.
    `remembered` tells whether files below a (resolved) folder were ever read.
    Names once had are in a copy below `copies` where they cannot be written
    in the folders. With `follow_links`, links may lead out of the roots. Raises ConfigError
    if the file of names once had is damaged.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        added: Callable[[Sequence[Entry]], None],
        *,
        remembered: Callable[[str], bool],
        follow_links: bool = False,
        copies: Path | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        # Not resolved: a root may be a link that is pointed elsewhere while we serve.
        self._roots = tuple(os.path.abspath(root) for root in roots)
        self._added = added
        self._follow_links = follow_links
        self.clock = clock
        """What tells seconds, of an arbitrary beginning."""
        self._lock = threading.Lock()
        self._looking = threading.Condition()
        self._looks = self._looked = 0
        self._under_way = False
        self._checks = Budget(_CHECK_SHARE, _CHECK_BURST)
        self._listings = Budget(_LIST_SHARE, _LIST_BURST)
        self._complaints: set[str] = set()
        self._names: tuple[NormalizedName, ...] = ()
        self._names_stale = True
        self.folders: dict[str, Listing] = {}
        """By resolved path, in the order in which they win. Replaced as a whole."""
        self.projects: dict[NormalizedName, tuple[Entry, ...]] = {}
        """Every distribution of a project; its tuple is another one after any change to its files and their sides."""
        self._state = State(0)
        self._last_change = 0
        self.idle_until = 0.0
        """Until then, by `clock`, no check is due."""
        self._checked = 0.0
        self._real_roots: tuple[str, ...] = ()
        self._unknown = False
        self._filled: dict[int, tuple[int, ...]] = {}
        self._emptied: dict[int, int] = {}
        self._held: set[NormalizedName] = set()
        self._had = Names(self._roots, self.projects, copies)
        self._had.load()
        self._list([], first=True)
        for number, real in enumerate(self.real_roots()):
            known = self._had.recorded or number in self._filled
            if not known and (remembered(real) or self._had.was_linked(number)):
                self._is_emptied(number)
        self._record()

    # --- asking

    def refresh(self, now: float, name: NormalizedName | None = None) -> None:
        """See what changed, if a check is due at `now`; it always is for a project `name` that is not known here.

        Nothing of the latter is put off: whoever is told that a name is not here may take it from somebody else.
        """
        if name is not None and name not in self.projects:
            self._look()
            return
        if now < self.idle_until:
            return
        stale = self._stale(now)
        self._checked = now
        self.charge(now, len(self.folders))
        if stale:
            with self._lock:
                if stale := self._stale(now):  # nobody else saw to it while we waited
                    self._list(stale)

    def _look(self) -> None:
        """See all that changed before this was called; of many who ask at once, one looks for all."""
        with self._looking:
            # The next to begin: one that is under way may have looked where something changed since.
            wanted = self._looks + 1
            self._looking.wait_for(lambda: self._looked >= wanted or not self._under_way)
            if self._looked >= wanted:
                return
            self._under_way, self._looks = True, self._looks + 1
        done = self._looked
        try:
            if self._stale(None):
                with self._lock:
                    if stale := self._stale(None):
                        self._list(stale)
            done = self._looks
        finally:
            with self._looking:
                self._under_way, self._looked = False, done
                self._looking.notify_all()

    def charge(self, began: float, looks: int) -> None:
        """Account for a check of so many folders or files that `began` then and ends now."""
        # A check that was interrupted by other work costs no more than a slow one would, or it would hide changes.
        self._checks.spend(began, min(self.clock() - began, _SLOW_CHECK + looks * _SLOW_LOOK))
        self.idle_until = min(self._checks.empty_until, self._checked + MAX_AGE)

    def lost(self) -> bool:
        """Whether a root or its names cannot be read, or an empty one replaced it: nobody can say what is not here."""
        if self._emptied or self._had.unsure:
            self._had.look()
            if self._had.cleared > min(self._emptied.values(), default=0):
                self._emptied.clear()
                self._filled.clear()
        return self._unknown or bool(self._emptied) or self._had.unsure

    def had(self, name: NormalizedName) -> bool:
        """Whether the name is ours: it has files, or had some once and was not released, or a link for one is here."""
        return name in self.projects or name in self._held or self._had.keeps(name)

    def kept(self) -> tuple[NormalizedName, ...]:
        """The names that are ours without having files, sorted."""
        return self._had.kept()

    def release(self, names: Iterable[NormalizedName] | None) -> None:
        """Keep these names no more, or with ``None`` none without files, in roots as they are. Raises Unavailable."""
        with self._lock:
            self._had.release(names)

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

    def covered(self) -> tuple[str, ...]:
        """Resolved folders below which all files lie."""
        return tuple({Path(root).anchor for root in self._real_roots}) if self._follow_links else self._real_roots

    def inside(self, path: str) -> bool:
        """Whether a resolved path is one that is served: it lies in one of the roots, or links may lead anywhere."""
        return self._follow_links or any(path.startswith(root.rstrip(os.sep) + os.sep) for root in self._real_roots)

    def first_root(self) -> str:
        """The resolved first root, where uploads end up. Raises DiskFailed if it is lost."""
        if not os.path.isdir(self._roots[0]) or (self.lost() and 0 in self._emptied):
            raise lost()
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
        listing.ours = True
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
        changed: dict[NormalizedName, tuple[Entry, ...]] = {}
        for project, names in touched.items():
            kept = [e for e in self.projects.get(project, ()) if e[0] != listing.real or e[1] not in names]
            changed[project] = (*kept, *((listing.real, name) for name in sorted(names) if name in listing.files))
        self._put(changed)
        self._record()
        # Last: whoever sees the new state sees what changed.
        try:
            self._advance([stamp_of(os.stat(listing.path))], changed=True)
        except OSError as error:
            _log.debug("%a has no time of its last change: %s", listing.path, error.strerror)

    def _put(self, changed: Mapping[NormalizedName, tuple[Entry, ...]]) -> None:
        """Put fresh tuples, even of the same entries, in place: what was built from old ones is out of date.

        Project by project, which no reader sees half done: a copy of the whole would cost milliseconds.
        """
        gone = [project for project, entries in changed.items() if not entries and project in self.projects]
        new = [project for project, entries in changed.items() if entries and project not in self.projects]
        # First, so that nobody finds a name neither here nor kept.
        self._had.went(gone)
        for project, entries in changed.items():
            if entries:
                self.projects[project] = entries
            else:
                self.projects.pop(project, None)
        self._had.came(new)
        self._names_stale |= bool(gone or new)

    def _record(self) -> None:
        """Write down new names, but nothing where a disk may be missing."""
        if not self._unknown and not self._emptied:
            self._had.write()

    # --- listing

    def _stale(self, now: float | None) -> list[Listing]:
        """The folders that changed, or may have: those that are due at `now`, or with ``None`` all of them."""
        found = []
        for listing in self.folders.values():
            try:
                same = listing.stamp == stamp_of(os.stat(listing.path))
            except OSError:
                same = listing.stamp is None
            if now is None:
                # What failed and is as it was fails again, and says so of itself.
                if not same or listing.young:
                    found.append(listing)
                continue
            # To be young is a doubt only: the request that just listed a large folder does not wait for that again.
            doubtful = listing.young and now - listing.listed > 2 * listing.cost
            if (not same or doubtful or listing.failed) and now >= self._due(listing):
                found.append(listing)
        return found

    def _due(self, listing: Listing) -> float:
        """When a folder that changed, or may have, is listed again."""
        if listing.failed:
            wait = MAX_AGE
        elif listing.ours and len(listing.files) > _MANY:
            # The change is most likely ours and known. Listing 100,000 files after each upload would take all time.
            wait = 10 * listing.cost
        else:
            wait = self._listings.empty_until - listing.listed
        return listing.listed + min(wait, MAX_AGE)

    def _list(self, stale: Sequence[Listing], *, first: bool = False) -> None:
        """List these folders and those newly found in them, and put the new state in place."""
        began = self.clock()
        self._real_roots = tuple(os.path.realpath(root) for root in self._roots)
        walk = Walk(self.folders, {listing.real for listing in stale}, self.inside, self.complain, self.clock)
        for number, root in enumerate(self._roots):
            walk.visit(root, self._real_roots[number], (number, ()))
        self._look_at_roots(walk.found)
        changes, changed = walk.changes(self.projects), False
        while some := dict(islice(changes, 1000)):  # not all at once, for the first time they are all there are
            self._put(some)
            changed = True
        self.folders = walk.found
        self._held = set().union(*(listing.held for listing in self.folders.values()))
        stamps = [each.stamp for each in self.folders.values() if each.stamp is not None and not each.closed]
        self._advance(stamps, changed=changed)
        for listing in self.folders.values():
            if listing.stamp is not None and not listing.failed and not listing.closed:
                # It is in order: should it fail again, that is worth another line.
                self._complaints.discard(listing.path)
        if first:
            if walk.unserved:
                _log.warning(
                    "%d files or folders are not served, nor are their names kept from upstreams; %a for one: served "
                    "are wheels, eggs and sdists by their usual names, with endings in small letters, and at most %d "
                    "folders deep",
                    walk.unserved,
                    walk.example,
                    DEPTH,
                )
            for folder, names in walk.leftovers.items():
                sweep(Path(folder), names)
            return
        # Another process may have had names that came and went since.
        self._had.look()
        self._record()
        looks = sum(len(listing.files) for listing in stale)
        self._listings.spend(began, min(self.clock() - began, _SLOW_LISTING + looks * _SLOW_LOOK))
        if walk.appeared:
            self._added([entry for entries in walk.appeared.values() for entry in entries])

    def _look_at_roots(self, found: Mapping[str, Listing]) -> None:
        """See whether a root was replaced by an empty one."""
        self._unknown = any(listing.lost for listing in found.values())
        filled = {listing.order[0] for listing in found.values() if listing.files}
        self._had.filled(filled)
        for number, real in enumerate(self._real_roots):
            listing = found.get(real)
            identity = () if listing is None or listing.stamp is None else listing.stamp[2:]
            if number in filled:
                self._filled[number] = identity
            before = self._filled.get(number)
            if before == identity or (before is None and self._had.marked(number)):
                self._emptied.pop(number, None)
            elif identity and number not in self._emptied and (before is not None or self._had.misses(number)):
                self._is_emptied(number)

    def _is_emptied(self, number: int) -> None:
        self._emptied[number] = self._had.cleared
        _log.error(
            "%s is empty and was not before: is its disk mounted? Projects that no folder has are refused until its "
            "files are back, or until you say that it is meant: pypiserver-lite names release --all %s",
            self._roots[number],
            " ".join(f"--in {shlex.quote(root)}" for root in self._roots),
        )

    def state(self, now: float) -> State:
        """The folders as they were at the last look; `now` is in seconds since 1970."""
        state = self._state
        if not state.settled and now >= SERIALS_SINCE + state.serial + _SETTLES:
            self._state = state = State(state.serial + 1, settled=True)
        return state

    def _advance(self, stamps: Iterable[Stamp], *, changed: bool) -> None:
        # The time of the last status change cannot be set; Windows has none, and calls that of creation so.
        times = (stamp[0 if os.name == "nt" else 1] // 10**9 - SERIALS_SINCE for stamp in stamps)
        last = max((self._last_change, *times))
        if last != self._last_change:
            self._state, self._last_change = State(last), last
        elif changed:
            # Within a second, and within a tick of the file system, times tell nothing.
            self._state = State(self._state.serial, settled=self._state.settled)

    def complain(self, path: str, problem: str) -> None:
        """One log line for each thing that is wrong, however often it is seen."""
        if path not in self._complaints and len(self._complaints) < 1000:
            self._complaints.add(path)
            _log.warning("%a is left out: %s", path, problem)

    def after_fork(self) -> None:
        """In a child process: whoever held the lock is not here."""
        self._lock, self._looking, self._under_way = threading.Lock(), threading.Condition(), False
        self._had.after_fork()


def lost() -> DiskFailed:
    """What it means for whoever asks that a root is lost."""
    return DiskFailed("a packages folder cannot be read now, or is empty as if its disk were missing; try again later")


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
