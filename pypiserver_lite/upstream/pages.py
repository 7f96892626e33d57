"""Pages of an upstream that were asked for, kept in memory within a bound and on disk across restarts.

Core metadata
(PEP 658) is announced as follows:

- The upstream announces it: so do we, with the same digests. If it then turns
  out to be missing or wrong, it is made from the wheel; where nothing may be
  kept, it is no longer announced, so that clients take the wheel.
- The upstream announces it for no file of the project, and we may keep
  things (``cache``): we announce it for every wheel with a sha256, without a
  digest (``true``), since nothing is known of it yet. When asked for, it is
  taken from the wheel if that is here, else from the end of the upstream's
  wheel, else from the wheel fetched whole, which a client would have had to
  do anyway.
- The upstream announces it for other files of the project: then its silence
  means that this file has none, and we are silent too.
- A file whose metadata could not be had is remembered, and no longer
  announced.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import logging
import math
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from packaging.utils import NormalizedName

from ..errors import Busy, Unavailable
from ..kept import Flights, Kept, Turnstile
from ..model import NO_HASHES, File, Project
from ..simple.parse import LARGE_PAGE, PAGE_LIMIT, parse_project
from . import hops
from .cache import Cache
from .client import UNCHANGED, Page, Upstream

_ABSENCES = 8 * 2**20  # bytes; anybody can ask for any name
_GLANCE = 0.3
_log = logging.getLogger(__name__)
_FILE_WEIGHT, _PAGE_WEIGHT = 1200, 2000  # bytes of memory, measured on files with all that the public index says

_LARGE_PARTS, _MIDDLE_PARTS = 25_000, 4_000  # brackets; a file has one to four, and takes twice its weight in between
_SMALL_PAGE, _TOGETHER = 2**18, 32 * 2**20  # bytes of one that always comes in; of all that are coming in
_PATIENCE, _WAITING = 8.0, 4
# Of the process, for so is the memory: however many upstreams there are, a large page may take 300 MB.
_large = Turnstile(1, _WAITING, _PATIENCE)
_middle = Turnstile(2, 1000, _PATIENCE)


class Known:
    """A project as the upstream last described it, and how current that is."""

    __slots__ = (
        "bare",
        "checked",
        "etag",
        "failed",
        "modified",
        "place",
        "project",
        "silent",
        "size",
        "used",
    )

    def __init__(self, project: Project, page: Page, checked: float) -> None:
        self.project = project
        self.etag = page.etag
        self.modified = page.modified
        self.size = len(page.body)
        self.checked = checked
        """Seconds since 1970 when the upstream last confirmed it, as all moments here."""
        self.used = checked
        self.failed = 0.0
        """When the upstream last gave no answer about it; 0: it has given one since."""
        self.silent = False
        """Whether the upstream's page announces no core metadata at all."""
        self.bare: frozenset[str] = frozenset()
        """Files whose core metadata could not be had, where no archive remembers them."""
        self.place: _Place | None = None
        """That of a project too large to be kept."""

    @property
    def weight(self) -> int:
        """Bytes in memory, nearly."""
        return _PAGE_WEIGHT + max(_FILE_WEIGHT * len(self.project.files), self.size)


_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h


@functools.cache
def _trimmer() -> Callable[[int], object]:
    """What gives free memory back to the system: glibc keeps some 30 MB for each thread that read a large page.

    From the first call on it also keeps no block of a large page's size, as it would after it has seen some.
    """
    try:
        library = ctypes.CDLL(None)
        found: Callable[[int], object] = library.malloc_trim
        library.mallopt(_MMAP_THRESHOLD, _SMALL_PAGE)
    except (TypeError, AttributeError, OSError):  # another C library, which has other habits
        return lambda keep: None
    return found


class _Coming:
    """The bytes of all pages that are coming in."""

    def __init__(self) -> None:
        self.size = 0
        self._lock = threading.Lock()

    def change(self, by: int, most: float = math.inf) -> bool:
        """Count so many more, unless they are then more than `most`; whether they are counted."""
        with self._lock:
            if self.size + by > most:
                return False
            self.size += by
            return True


_coming = _Coming()


class _Place:
    """The place of the one large page that may be in memory; given back when nobody holds it any more."""

    def __init__(self) -> None:
        _large.enter(hops.left())
        weakref.finalize(self, _large.leave).atexit = False
        _trimmer()(0)


class Turn:
    """The turn of a page that takes much memory, taken when that shows; as a block, it is over at the end.

    A `place` that is had already, for another state of the same page, will do.
    """

    def __init__(self, place: _Place | None) -> None:
        self.place = place
        self._size = 0
        self._held = ExitStack()

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, *_: object) -> None:
        self.place = None
        self._held.close()
        _coming.change(-self._size)
        if self._size > _SMALL_PAGE:
            _trimmer()(0)

    def hold(self, size: int) -> None:
        """Have so many bytes of a page in memory; beyond what one may have, or all together, take the turn.

        Raises Busy.
        """
        if self.place is not None:
            return
        if size > _SMALL_PAGE:
            _trimmer()
        if size <= LARGE_PAGE and _coming.change(size - self._size, math.inf if size <= _SMALL_PAGE else _TOGETHER):
            self._size = size
        else:
            self.take()

    def take(self) -> None:
        """Be the only one with a large page from now on. Raises Busy."""
        self.place = self.place or _Place()

    def take_for(self, body: bytes) -> None:
        """Take the turn that this page needs, if any. Raises Busy."""
        parts = body.count(b"{") + body.count(b"[") + body.count(b"<")
        if len(body) > LARGE_PAGE or parts > _LARGE_PARTS:
            self.take()
        elif parts > _MIDDLE_PARTS:
            self._held.enter_context(_middle.inside())

    def last(self, known: Known) -> None:
        """The turn is not over before nobody holds this project any more."""
        known.place = self.place
        weakref.finalize(known.project, _held_until_now, self.place).atexit = False


def _held_until_now(place: _Place | None) -> None:
    """Called when a project is gone: what was held for it can be given back."""


class Pages:
    """What is known, by name. Looking up takes no lock; beyond `limit` bytes the least recently used are dropped."""

    def __init__(self, limit: int) -> None:
        self.known: dict[NormalizedName, Known] = {}
        self._limit = limit
        self._weight = 0
        self._lock = threading.Lock()

    def add(self, name: NormalizedName, page: Known) -> bool:
        """Keep a page, replacing the one of that name, unless it alone is beyond the limit; whether it is kept."""
        if page.weight > self._limit:
            self.drop(name)
            return False
        with self._lock:
            before = self.known.get(name)
            self.known[name] = page
            self._weight += page.weight - (before.weight if before else 0)
            if self._weight > self._limit:
                for other, old in sorted(self.known.items(), key=lambda item: item[1].used):
                    if self._weight <= self._limit * 9 // 10 or other == name:
                        break
                    del self.known[other]
                    self._weight -= old.weight
        return True

    def drop(self, name: NormalizedName) -> None:
        """Forget a page."""
        with self._lock:
            before = self.known.pop(name, None)
            self._weight -= before.weight if before else 0


class Archive:
    """Pages on disk as they came, so that a restart without the upstream serves them."""

    def __init__(self, cache: Cache, upstream: str) -> None:
        self._cache = cache
        self._upstream = upstream

    def _key(self, name: NormalizedName, what: str = "page") -> str:
        return hashlib.sha256(f"{what}\0{self._upstream}\0{name}".encode()).hexdigest()

    def save(self, name: NormalizedName, page: Page) -> None:
        """Keep a page."""
        head = {"url": page.url, "type": page.content_type, "etag": page.etag, "modified": page.modified}
        record = json.dumps(head).encode() + b"\n" + zlib.compress(page.body, 1)
        self._cache.put("pages", self._key(name), record)

    def load(self, name: NormalizedName, newer_than: float, turn: Turn) -> tuple[Project, Page, float] | None:
        """The project, its page and when it was confirmed, if that is later than `newer_than`. Raises Busy."""
        stamp = self._cache.stamp("pages", self._key(name))
        if stamp is None or stamp <= newer_than:
            return None
        record = self._cache.get("pages", self._key(name))
        if record is None:
            return None
        try:
            head, _, packed = record.partition(b"\n")
            fields = json.loads(head)
            unpacker = zlib.decompressobj()
            body = unpacker.decompress(packed, LARGE_PAGE)
            if unpacker.unconsumed_tail:
                turn.take()
                body += unpacker.decompress(unpacker.unconsumed_tail, PAGE_LIMIT - LARGE_PAGE)
            page = Page(
                body=body,
                content_type=fields["type"],
                url=fields["url"],
                etag=fields["etag"],
                modified=fields["modified"],
            )
            return _parsed(name, page, turn), page, stamp
        except Busy:
            raise
        except (ValueError, KeyError, TypeError, zlib.error, Unavailable):
            self._cache.drop("pages", self._key(name))  # of another version of ours
            return None

    def renew(self, name: NormalizedName) -> None:
        """The page was confirmed."""
        self._cache.renew("pages", self._key(name))

    def drop(self, name: NormalizedName) -> None:
        """The upstream has this project no more."""
        self._cache.drop("pages", self._key(name))

    def bare(self, name: NormalizedName) -> frozenset[str]:
        """Files whose core metadata could not be had, though the page promises it."""
        record = self._cache.get("pages", self._key(name, "bare"))
        return frozenset(record.decode().split("\n")) if record else frozenset()

    def add_bare(self, name: NormalizedName, filenames: Iterable[str]) -> None:
        """Remember further ones."""
        self._cache.put("pages", self._key(name, "bare"), "\n".join(sorted(self.bare(name) | set(filenames))).encode())


def _parsed(name: NormalizedName, page: Page, turn: Turn) -> Project:
    turn.take_for(page.body)
    return parse_project(page.body, page.content_type, page.url, name)


class Times(NamedTuple):
    """Seconds for which things hold."""

    fresh: float
    """A page is current."""
    absent: float
    """A project is believed not to exist."""
    patience: float
    """Waiting for a page that is known in an older state; the question goes on when that is served."""
    retry: float
    """Leaving the upstream alone about a page after it failed."""


class Shelf:
    """The projects of one upstream: current ones at once, others after asking, known ones whatever happens.

    `archive` keeps them across restarts, and stands for being allowed to keep
    things; `memory` bounds those in memory, in bytes. Who waits for the
    upstream passes the turnstile. `clock` tells seconds since 1970. Safe to
    share between threads.
    """

    def __init__(
        self,
        upstream: Upstream,
        archive: Archive | None,
        times: Times,
        memory: int,
        turnstile: Turnstile,
        clock: Callable[[], float],
    ) -> None:
        self._upstream = upstream
        self._archive = archive
        self._times = times
        self._turnstile = turnstile
        self._clock = clock
        self._pages = Pages(memory)
        self._known = self._pages.known
        # Name → when the upstream said that it has no such project, in seconds since 1970.
        self._absent = Kept[float](lambda since: 0, most_bytes=_ABSENCES)
        self._lookups: Flights[NormalizedName, Project | None] = Flights()
        self._questions: Flights[NormalizedName, Project | None] = Flights()
        self._outage: float | None = None

    def project(self, name: NormalizedName) -> Project | None:
        """As `Source` has it. Raises Unavailable, Late, Busy, Loop."""
        known = self._known.get(name)
        now = self._clock()
        if known is not None and 0 <= now - known.checked < self._times.fresh:
            known.used = now
            return known.project
        if 0 <= now - (self._absent.find(name) or 0.0) < self._times.absent:
            return None
        try:
            with self._turnstile.inside():
                return self._lookups.do(name, partial(self._look_up, name))
        except Busy:
            if known is None:
                raise
            known.failed = known.failed or now
            return known.project

    def stale(self, name: NormalizedName) -> float | None:
        """Seconds since a project was confirmed that is served only because the upstream gives no answer now."""
        known = self._known.get(name)
        # One whose question was answered after all is current, whatever those who did not wait for it noted.
        now = self._clock()
        if known is None or not known.failed or 0 <= now - known.checked < self._times.fresh:
            return None
        return max(now - known.checked, 0.0)

    def is_silent(self, name: NormalizedName) -> bool:
        """Whether the upstream's page announces no core metadata at all."""
        known = self._known.get(name)
        return known is not None and known.silent

    def withdraw(self, name: NormalizedName, filename: str) -> None:
        """Announce this file's core metadata no more."""
        known = self._known.get(name)
        if self._archive is not None:
            self._archive.add_bare(name, [filename])
        elif known is not None:
            known.bare |= {filename}
        if known is not None:
            known.project = self._announced(known.project, known.silent, known.bare)

    def _look_up(self, name: NormalizedName) -> Project | None:
        now = self._clock()
        known = self._from_disk(name, now)
        # A stamp in the future (a clock was set back, or another machine's is wrong) says nothing about any age.
        if known is not None and (
            0 <= now - known.checked < self._times.fresh or 0 <= now - known.failed < self._times.retry
        ):
            known.used = now
            return known.project
        if 0 <= now - (self._absent.find(name) or 0.0) < self._times.absent:
            return None  # another thread found out between our looking and our turn
        question = partial(self._ask, name, known)
        if known is None:
            try:
                return question()
            except Unavailable as error:
                self._failed(name, None, error)
                raise
        # An upstream that was silent a moment ago gets a last glance from everybody, not everybody's patience.
        patience = self._times.patience if self._outage is None else min(self._times.patience, _GLANCE)
        try:
            return self._questions.do_behind(name, question, patience)
        except Unavailable as error:
            self._failed(name, known, error)
            return known.project

    def _ask(self, name: NormalizedName, known: Known | None) -> Project | None:
        """What the upstream says now, taken down. Raises Unavailable, Late, Busy, Loop."""
        with Turn(known.place if known else None) as turn:
            return self._asked(name, known, turn)

    def _asked(self, name: NormalizedName, known: Known | None, turn: Turn) -> Project | None:
        answer = self._upstream.page(
            name,
            etag=known.etag if known else None,
            modified=known.modified if known else None,
            on_size=turn.hold,
        )
        if answer is UNCHANGED and known is not None:
            self._succeeded()
            self._upstream.traffic.unchanged(known.size)
            if self._archive:
                self._archive.renew(name)
            self._confirm(known, self._clock())
            return known.project
        if not isinstance(answer, Page):
            self._succeeded()
            self._absent.put(name, self._clock())
            self._pages.drop(name)
            if self._archive:
                self._archive.drop(name)
            return None
        project = _parsed(name, answer, turn)
        self._succeeded()
        if self._archive:
            self._archive.save(name, answer)
        return self._learn(name, project, answer, self._clock(), turn).project

    def _from_disk(self, name: NormalizedName, now: float) -> Known | None:
        """What memory or disk knows, whichever was confirmed later: another process may have been there."""
        known = self._known.get(name)
        if self._archive is None or (known is not None and 0 <= now - known.checked < self._times.fresh):
            return known
        with Turn(None) as turn:
            found = self._archive.load(name, known.checked if known else 0.0, turn)
            return self._learn(name, *found, turn) if found else known

    def _learn(self, name: NormalizedName, project: Project, page: Page, checked: float, turn: Turn) -> Known:
        silent = all(file.core_metadata is None for file in project.files)
        before = self._known.get(name)
        bare = before.bare if before else frozenset[str]()
        project = self._announced(project, silent, bare)
        if before is not None and before.project == project:
            project = before.project  # the same facts are the same object
        known = Known(project, page, checked)
        known.silent, known.bare = silent, bare
        self._confirm(known, checked)
        if not self._pages.add(name, known):
            turn.last(known)
        self._absent.drop(name)
        return known

    def _confirm(self, known: Known, checked: float) -> None:
        known.checked, known.failed, known.used = checked, 0.0, self._clock()

    def _announced(self, project: Project, silent: bool, bare: frozenset[str]) -> Project:
        if self._archive is None:
            silent = False  # nothing can be made of wheels here
        else:
            bare = self._archive.bare(project.name)
        if not silent and not bare:
            return project

        def announce(file: File) -> File:
            if file.filename in bare:
                return replace(file, core_metadata=None)
            if silent and file.filename.endswith(".whl") and "sha256" in file.hashes:
                return replace(file, core_metadata=NO_HASHES)
            return file

        return replace(project, files=tuple(announce(file) for file in project.files))

    def _failed(self, name: NormalizedName, known: Known | None, error: Unavailable) -> None:
        if isinstance(error, Busy):
            pass  # that is us
        elif self._outage is None:
            self._outage = self._clock()
            _log.warning("%s (serving what is known until it recovers)", error)
        elif known is not None and not known.failed:
            _log.info("serving what is known of %s: %s", name, error)
        if known is not None:
            known.failed = self._clock()

    def _succeeded(self) -> None:
        since, self._outage = self._outage, None
        if since is not None:
            _log.warning(
                "the upstream %s answers again, after %d s", self._upstream.origin.label, self._clock() - since
            )
