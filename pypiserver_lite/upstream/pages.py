"""The projects of an upstream, as its pages describe them: kept in memory within a bound, on disk across restarts.

Core metadata (PEP 658) is announced as follows:

- The upstream announces it: so do we, with the same digests. If it then turns
  out to be missing or wrong, it is made from the wheel; where nothing may be
  kept, it is no longer announced, so that clients take the wheel.
- The upstream announces it for no file of the project, and we may keep
  things (``cache``): we announce it for every wheel with a sha256 that is
  small or lies on a server that sends parts of files, without a digest
  (``true``), since nothing is known of it yet. When asked for, it is taken
  from the wheel if that is here, else from the end of the upstream's wheel,
  else from the wheel fetched whole. Installers go no other way where it is
  announced, nor do they wait until a large wheel is here.
- The upstream announces it for other files of the project: then its silence
  means that this file has none, and we are silent too.
- A file whose metadata could not be had is remembered, and no longer
  announced.
"""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from packaging.utils import NormalizedName

from ..errors import Busy, Late, Unavailable
from ..kept import Flights, Kept, Turnstile
from ..model import NO_HASHES, File, Project
from .archive import Archive
from .client import UNCHANGED, FetchedPage
from .hosts import Unreachable
from .mirrors import Mirrors
from .parts import SMALL, Parts, server_of
from .places import place_of
from .turns import Seat, Turn

_ABSENCES = 8 * 2**20  # bytes; anybody can ask for any name
_LOOKED = 2**18  # bytes
_GLANCE = 0.3  # seconds
_JUST_NOW, _NOT_AGAIN = 1.0, 3.0  # seconds
_FILE_WEIGHT, _PAGE_WEIGHT = 1200, 2000  # bytes of memory, measured on files with all that the public index says
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Known:
    """A project as the upstream last described it, and how current that is. Moments are seconds since 1970."""

    project: Project
    etag: str | None
    modified: str | None
    size: int
    """Bytes of its page."""
    silent: bool
    """Whether the upstream's page announces no core metadata at all."""
    checked: float
    """When the upstream last confirmed it."""
    mirror: str = ""
    """Which of several addresses of the upstream it is from; nothing for the first."""
    failed: float = 0.0
    """When the upstream last gave no answer about it; 0: it has given one since."""
    seat: Seat | None = None
    """That of a project too large to be kept."""

    @property
    def weight(self) -> int:
        """Bytes in memory, nearly."""
        return _PAGE_WEIGHT + max(_FILE_WEIGHT * len(self.project.files), self.size)


class Shelf:
    """The projects of one upstream: current ones at once, others after asking, known ones whatever happens.

    `archive` keeps them across restarts, and stands for being allowed to keep
    things; `parts` tells of which files a part can be had. Who waits for the
    upstream passes the turnstile. The rest is as `source.Remote` has it. Safe
    to share between threads.
    """

    def __init__(
        self,
        upstream: Mirrors,
        archive: Archive,
        parts: Parts,
        turnstile: Turnstile,
        *,
        ttl: float,
        absent_ttl: float,
        patience: float,
        retry: float,
        memory: int,
        clock: Callable[[], float],
    ) -> None:
        self.upstream = upstream
        self._archive = archive
        self._parts = parts
        self._turnstile = turnstile
        self._ttl, self._absent_ttl, self._patience, self._retry = ttl, absent_ttl, patience, retry
        self._memory = memory
        self._clock = clock
        self._known = Kept[Known](lambda known: known.weight, most_bytes=memory + _PAGE_WEIGHT)  # for it weighs keys
        # Name → when the upstream said that it has no such project, in seconds since 1970.
        self._absent = Kept[float](lambda since: 0, most_bytes=_ABSENCES)
        self._lookups: Flights[NormalizedName, Project | None] = Flights()
        self._questions: Flights[NormalizedName, Project | None] = Flights()
        self._second_looks: Flights[NormalizedName, Project | None] = Flights()
        self._looked = Kept[float](lambda since: 0, most_bytes=_LOOKED)  # when; in seconds since 1970
        self._outage: float | None = None

    def project(self, name: NormalizedName) -> Project | None:
        """The project as the upstream has it, or ``None`` if it says (status 404) that it has none.

        If it says nothing sensible, what it said last is returned (see
        `stale`). Raises Unavailable, Late, Busy or Loop if there is no such.
        """
        known = self._known.find(name)
        now = self._clock()
        if known is not None and self._is_fresh(known, now):
            return known.project
        if self._is_absent(name, now):
            return None
        try:
            with self._turnstile.inside():
                return self._lookups.do(name, partial(self._look_up, name))
        except Busy:
            if known is None:
                raise
            known.failed = known.failed or now
            return known.project

    def look_again(self, name: NormalizedName) -> Project | None:
        """The project as `project` has it, but asked for now where somebody seems to know more of it than we do.

        Another process, or another server over the same upstream, may have
        asked later. Many who ask are answered together, and what the upstream
        said a moment ago is believed. Raises as `project` does.
        """
        known, now = self._known.find(name), self._clock()
        told = self._absent.find(name) if known is None else known.checked
        looked = self._looked.find(name)
        if not self._second_looks.under_way(name) and (
            _is_within(_JUST_NOW, told, now) or _is_within(_NOT_AGAIN, looked, now)
        ):
            return self.project(name)
        with self._turnstile.inside():
            return self._second_looks.do(name, partial(self._look_again, name))

    def _look_again(self, name: NormalizedName) -> Project | None:
        self._looked.put(name, self._clock())
        try:
            return self._look_up(name, _JUST_NOW)
        except Unavailable as error:
            _log.debug("%s was not looked at again: %s", name, error)
            return self._lookups.do(name, partial(self._look_up, name))

    def recall(self, name: NormalizedName) -> Project | None:
        """The project as it is known here, however old that is, without asking; ``None`` if it is not. Raises Busy."""
        known = self._from_disk(name, self._clock())
        return None if known is None else known.project

    def stale(self, name: NormalizedName) -> float | None:
        """Seconds since a project was confirmed that is served only because the upstream gives no answer now."""
        known = self._known.find(name)
        # One whose question was answered after all is current, whatever those who did not wait for it noted.
        now = self._clock()
        if known is None or not known.failed or self._is_fresh(known, now):
            return None
        return max(now - known.checked, 0.0)

    def is_silent(self, name: NormalizedName) -> bool:
        """Whether the upstream's page announces no core metadata at all."""
        known = self._known.find(name)
        return known is not None and known.silent

    def withdraw(self, name: NormalizedName, filename: str) -> None:
        """Announce this file's core metadata no more."""
        self._archive.add_bare(name, filename)
        known = self._known.find(name)
        if known is not None:
            self._announce_again(known)

    def _is_fresh(self, known: Known, now: float, most: float = math.inf) -> bool:
        return _is_within(min(self._ttl, most), known.checked, now)

    def _is_absent(self, name: NormalizedName, now: float, most: float = math.inf) -> bool:
        since = self._absent.find(name)
        # Another process may have been told something else since.
        return _is_within(min(self._absent_ttl, most), since, now) and not self._archive.has_since(name, since or 0.0)

    def _look_up(self, name: NormalizedName, most: float = math.inf) -> Project | None:
        """The project as it was `most` seconds ago, or later."""
        now = self._clock()
        known = self._from_disk(name, now, most)
        if known is not None and (self._is_fresh(known, now, most) or 0 <= now - known.failed < self._retry):
            return known.project
        if self._is_absent(name, now, most):
            return None  # another thread found out between our looking and our turn
        question = partial(self._ask, name, known)
        if known is None:
            try:
                return question()
            except Unavailable as error:
                self._failed(name, None, error)
                raise
        # An upstream that was silent a moment ago gets a last glance from everybody, not everybody's patience.
        patience = self._patience if self._outage is None else min(self._patience, _GLANCE)
        try:
            return self._questions.do_behind(name, question, patience)
        except Unavailable as error:
            self._failed(name, known, error)
            return known.project

    def _ask(self, name: NormalizedName, known: Known | None) -> Project | None:
        """What the upstream says now, taken down. Raises Unavailable, Late, Busy, Loop."""
        with Turn(known.seat if known else None) as turn:
            return self._answered(name, known, turn)  # which lets go of the page before the turn is over

    def _answered(self, name: NormalizedName, known: Known | None, turn: Turn) -> Project | None:
        etag, modified, mirror = (known.etag, known.modified, known.mirror) if known else (None, None, "")
        answer = self.upstream.page(name, turn, etag=etag, modified=modified, of=mirror)
        if isinstance(answer, tuple):
            page, stated = answer
            project = self._agreed(known, stated) if known and len(self.upstream.clients) > 1 else stated
            self._succeeded()
            if project is stated:
                self._archive.save(name, page)
            self._ask_for_parts(project, _is_silent(project))
            return self._learn(name, project, page, self._clock(), turn).project
        self._succeeded()
        if answer is UNCHANGED and known is not None:
            self.upstream.traffic.unchanged(known.size)
            self._archive.renew(name)
            known.checked, known.failed = self._clock(), 0.0
            self._ask_for_parts(known.project, known.silent)
            self._announce_again(known)
            return known.project
        self._absent.put(name, self._clock())
        self._known.drop(name)
        self._archive.drop(name)
        return None

    def _agreed(self, known: Known, stated: Project) -> Project:
        """What is to be believed of what a page states of a project that is known: the very same, mostly."""
        before = known.project.by_filename
        if known.silent:  # what is announced all the same is ours
            before = {name: replace(file, core_metadata=None) for name, file in before.items()}
        files = tuple(self.upstream.agreed(before.get(file.filename), file) for file in stated.files)
        return stated if all(map(operator.is_, files, stated.files)) else replace(stated, files=files)

    def _from_disk(self, name: NormalizedName, now: float, most: float = math.inf) -> Known | None:
        """What memory or disk knows, whichever was confirmed later: another process may have been there."""
        known = self._known.find(name)
        if known is not None and self._is_fresh(known, now, most):
            return known
        with Turn(None) as turn:
            found = self._archive.load(name, known.checked if known else 0.0, turn)
            return self._learn(name, *found, turn) if found else known

    def _learn(self, name: NormalizedName, project: Project, page: FetchedPage, checked: float, turn: Turn) -> Known:
        silent = _is_silent(project)
        project = self._announced(project, silent)
        before = self._known.find(name)
        if before is not None and before.project == project:
            project = before.project  # the same facts are the same object
        known = Known(project, page.etag, page.modified, len(page.body), silent, checked, page.mirror)
        if known.weight <= self._memory:
            self._known.put(name, known)
        else:
            self._known.drop(name)
            known.seat = turn.seat
            if turn.seat is not None:
                turn.seat.hold_for(project)
        self._absent.drop(name)
        return known

    def _announce_again(self, known: Known) -> None:
        project = self._announced(known.project, known.silent)
        if project != known.project:
            known.project = project
            if known.seat is not None:
                known.seat.hold_for(project)

    def _announced(self, project: Project, silent: bool) -> Project:
        silent = silent and self._archive.keeps  # or nothing can be made of wheels
        bare = self._archive.bare(project.name)
        if not silent and not bare:
            return project
        wheels = filter(_is_large, project.files) if silent else ()
        in_parts = {server: self._parts.sent_by(server) for server in {server_of(file.url) for file in wheels}}

        def announce(file: File) -> File:
            said = file.core_metadata
            if file.filename in bare:
                said = None
            elif silent and _can_be_read(file):
                said = NO_HASHES if not _is_large(file) or in_parts[server_of(file.url)] else None
            return file if said == file.core_metadata else replace(file, core_metadata=said)

        return replace(project, files=tuple(announce(file) for file in project.files))

    def _ask_for_parts(self, project: Project, silent: bool) -> None:
        if silent and self._archive.keeps:
            wheel = next((file for file in reversed(project.files) if _can_be_read(file) and _is_large(file)), None)
            if wheel is not None:
                self._parts.ask(place_of(project, wheel))

    def _failed(self, name: NormalizedName, known: Known | None, error: Unavailable) -> None:
        if isinstance(error, Busy):
            pass  # that is us
        elif self._outage is None and (isinstance(error, (Late, Unreachable)) or self.upstream.failing):
            self._outage = self._clock()
            _log.warning("%s (serving what is known until it recovers)", error)
        elif known is not None and not known.failed:
            # One that refuses a project is there, and may well answer about another.
            level = logging.INFO if self._outage is not None else logging.WARNING
            _log.log(level, "serving what is known of %s: %s", name, error)
        if known is not None:
            known.failed = self._clock()

    def _succeeded(self) -> None:
        since, self._outage = self._outage, None
        if since is not None:
            _log.warning("the upstream %s answers again, after %d s", self.upstream.origin.label, self._clock() - since)


def _is_within(seconds: float, since: float | None, now: float) -> bool:
    # A stamp in the future (a clock was set back, or another machine's is wrong) says nothing about any age.
    return since is not None and 0 <= now - since < seconds


def _is_silent(project: Project) -> bool:
    return all(file.core_metadata is None for file in project.files)


def _can_be_read(file: File) -> bool:
    """Whether core metadata can be made of a file, once enough of it is here."""
    return file.filename.endswith(".whl") and "sha256" in file.hashes


def _is_large(file: File) -> bool:
    return file.size is None or file.size > SMALL
