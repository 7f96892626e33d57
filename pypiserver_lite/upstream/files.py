"""The files of an upstream, as they can be had: from the cache, on their way into it, or passed through.

A file comes from the cache as a file on disk. While it is on its way, every
asker reads it as it grows, from one download. Small ranges of a file that is
not here (a resolver looking into a wheel) are passed on without fetching it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from ..errors import Busy, Late, Missing, Unavailable
from ..kept import Flights, Kept, Turnstile
from ..model import Content, File, HandOver, LocalFile, Project, Side, Stream
from . import hops
from .arriving import SILENT, Arriving, Following, whole
from .cache import Cache
from .download import Check, Download, Fetch, Passing
from .growing import Followed, Growing
from .hosts import Unreachable
from .mirrors import Mirrors
from .parts import SMALL, Parts, server_of
from .places import Place, place_of, strongest
from .replies import Refused

T = TypeVar("T")
_SMALL_RANGE = 2**20  # bytes
_REST = 6.0  # seconds; until then, a server that was found silent is left alone
_BEHIND = 60.0  # seconds that a file may take to begin, whoever waits for it
_SIZES = 8 * 2**20  # bytes
_log = logging.getLogger(__name__)


class Files:
    """What all files of one upstream share: kept in `cache`, if there is one; who waits for them passes `turnstile`."""

    def __init__(
        self,
        upstream: Mirrors,
        cache: Cache | None,
        turnstile: Turnstile,
        parts: Parts,
        moved: Callable[[File], Place | None],
    ) -> None:
        self.upstream = upstream
        self.moved = moved
        """Where a file lies now that its address has not any more; ``None`` if nowhere else."""
        self.cache = cache
        self.parts = parts
        self.turnstile = turnstile
        # Files leave two places to pages where there are many; no more, for uv asks for fifty files at once.
        self.readers = Turnstile(turnstile.places - min(2, turnstile.places // 16), within=turnstile)
        self.arriving: dict[str, Arriving] = {}
        self.begun: Flights[str, Arriving | Passing | None] = Flights()
        self.sizes = Kept[tuple[int | None]](lambda size: 0, most_bytes=_SIZES)

    def key(self, file: File) -> str:
        """What a file and its metadata are kept by: nothing that is said of another project's file can reach them."""
        facts: list[object] = [self.upstream.url, file.project, file.filename]
        if "sha256" in file.hashes:
            facts.append(file.hashes["sha256"])
        else:
            address = urlunsplit(urlsplit(file.url)._replace(query=""))
            uploaded = file.uploaded.isoformat() if file.uploaded else None
            facts += [address, file.size, uploaded, sorted(file.hashes.items())]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def kept(self, file: File) -> LocalFile | None:
        """The file as it lies in the cache."""
        found = self.cache and self.cache.find("files", self.key(file), file.size)
        return LocalFile(path=Path(found.path), tag=_tag(file), seen=found) if found else None

    def keeps(self, file: File) -> bool:
        """Whether the file is in the cache; it does not count as used."""
        return self.cache is not None and self.cache.stamp("files", self.key(file)) is not None

    def open(self, project: Project, file: File) -> Content:
        """The file in the cache, or what it comes from. Raises Missing, Unavailable, Late, Busy, Loop."""
        kept = self.kept(file)
        if kept is None or kept.seen is None:
            return Wanted(self, place_of(project, file)).stream()
        self.upstream.traffic.cached(kept.seen.size)
        return kept


class Wanted:
    """A file that is not here, and lies at `place`."""

    def __init__(self, files: Files, place: Place) -> None:
        self.place = place
        self.file = file = place.file
        self.key = files.key(file)
        self._files = files
        self._upstream = files.upstream
        self._exact = strongest(file.hashes) is not None

    def stream(self) -> Stream:
        """It as it comes; where the page does not state its size, the upstream is asked now."""
        size, arriving = self.file.size, None
        if size is None and self._files.cache is not None:
            with self._files.turnstile.inside():
                arriving = self._asked()
        if size is None:  # only an answer tells how much it will be
            size = arriving.size if arriving else self._told_size()

        def read(start: int, stop: int | None, hand_over: HandOver | None = None) -> Iterator[bytes]:
            begin = partial(self._read, arriving, size, start, stop, hand_over)
            running = self._files.arriving.get(self.key)
            if hand_over is not None and running is not None and running.size is not None and running.ready(0) > 0:
                return begin()  # which waits for nothing, so that no place is needed
            return self._files.readers.through(begin)

        return Stream(
            read=read,
            read_or_hand=read,
            size=size,
            tag=_tag(self.file),
            modified=self.file.uploaded,
            soon=None if size is not None and size <= SMALL else self._comes_soon,
        )

    def _comes_soon(self, start: int) -> bool:
        beginning = self._files.begun.under_way(self.key)  # first: then it arrives
        running = self._files.arriving.get(self.key)
        if running is not None and running.ready(start) >= 0:
            return True
        parts, server = self._files.parts, server_of(self.file.url)
        if not beginning and running is None and parts.sent_by(server) is None:
            with self._files.turnstile.inside():
                parts.ask(self.place)
        return parts.sent_by(server) is not False

    def _told_size(self) -> int | None:
        known = self._files.sizes.find(self.key)
        if known is not None:
            return known[0]
        with self._files.turnstile.inside():
            return self.size()

    def _read(
        self,
        arriving: Arriving | Passing | None,
        size: int | None,
        start: int,
        stop: int | None,
        hand_over: HandOver | None,
    ) -> Iterator[bytes]:
        """The half-open range of it. The upstream has been asked when this returns."""
        small = stop is not None and size is not None and stop - start <= min(_SMALL_RANGE, size // 2)
        if arriving is None and not (
            small and self.key not in self._files.arriving and not self._files.kept(self.file)
        ):
            arriving = self._asked()
        if arriving is None or isinstance(arriving, Passing):
            return self._passed(arriving, size, start, stop)
        count = (lambda size: None) if arriving.claim() else self._upstream.traffic.cached
        return arriving.pieces(start, stop, count, hand_over)

    def _passed(self, passing: Passing | None, size: int | None, start: int, stop: int | None) -> Iterator[bytes]:
        fetch = passing.claim() if passing is not None else None
        if start == 0 and stop in (None, size):
            return (fetch or self._fetch(size)).checked()
        if fetch is not None:  # for its place is needed
            fetch.close()
        check = self._check(size)
        body = self._at(partial(self._upstream.open, start=start, stop=stop, packed=check.packed))
        try:
            check.expect(body)
        except BaseException:
            body.close()
            raise
        return body.pieces(start, size if stop is None else stop)

    def _fetch(self, size: int | None, start: int = 0, *, patient: bool = False) -> Fetch:
        return self._at(lambda place: Fetch(self._upstream, place, self._check(size), start, patient=patient))

    def beside(self, side: Side, limit: int) -> bytes | None:
        """What lies beside it, `limit` bytes at most; ``None`` if nothing. Raises Unavailable, Late, Busy, Loop."""

        def ask(place: Place) -> bytes:
            data = self._upstream.small(replace(place, side=side), limit)
            if data is None:
                raise Missing("the upstream does not have it")
            return data

        try:
            return self._at(ask)
        except Missing:
            return None

    def _at(self, ask: Callable[[Place], T]) -> T:
        """What is asked of where it lies; where that is refused, the page may name another address by now."""
        try:
            return ask(self.place)
        except (Missing, Refused):
            place = self._files.moved(self.file)
            if place is None or place.url == self.place.url:
                raise
            self.place = place
            return ask(place)

    def _check(self, size: int | None) -> Check:
        return Check(self.file.hashes, size, self.file.filename, self._upstream.origin.label, self._wrong)

    def _wrong(self, givers: Sequence[str]) -> None:
        """What these addresses gave is not the file, nor what one of them may have said of its size."""
        self._files.sizes.drop(self.key)
        self._upstream.blame(self.file, givers)

    def arriving(self, alone: bool = False) -> Arriving | None:
        """It as it grows in the cache; ``None`` if there is none, or the disk refuses to hold it.

        If `alone`, what another process has of it, which may be stuck, is left to that. Raises Late where it has not
        begun to come in the time of the request in hand; then it still may, for whoever asks again.
        """
        asked = self._asked(alone)
        return None if isinstance(asked, Passing) else asked

    def _asked(self, alone: bool = False) -> Arriving | Passing | None:
        """The same; and a file that the cache refuses, now that the upstream says how large it is."""
        if self._files.cache is None:
            return None
        running = self._files.arriving.get(self.key)
        begin = partial(self._begin, self._files.cache, alone)
        return running or self._files.begun.do_behind(self.key, begin, min(hops.left(), 2 * _BEHIND))

    @property
    def is_coming(self) -> bool:
        """Whether it is on its way into the cache, or has been asked for."""
        return self.key in self._files.arriving or self._files.begun.under_way(self.key)

    def come(self) -> None:
        """Let it come into the cache for those who ask later, a moment after a part of it did not come in time."""
        cache = self._files.cache

        def begin(cache: Cache) -> Arriving | Passing | None:
            time.sleep(_REST)
            return self._begin(cache, alone=False)

        try:
            if cache is not None and not self.is_coming:
                self._files.begun.do_behind(self.key, partial(begin, cache), 0.0)
        except (Unavailable, Missing) as error:
            _log.debug("%s is not here yet: %s", self.file.filename, error)

    def _begin(self, cache: Cache, alone: bool) -> Arriving | Passing | None:
        hops.go_on(_BEHIND)
        running = self._files.arriving.get(self.key)
        if running is not None:
            return running
        try:
            found = self._files.kept(self.file)
            if found is not None:
                return whole(found.path)
            # Only a digest tells whether what a process before us left is the beginning.
            resumable = self.file.size is not None and self._exact
            opened = cache.begin("files", self.key, self.file.size, resumable=resumable, alone=alone)
            if self.file.size is None and isinstance(opened, Followed) and not opened.begins(SILENT):
                # That process may have been told how large the file is, and pass it through.
                opened = cache.begin("files", self.key, None, alone=True)
        except OSError as error:
            self._refused(error)
            return None
        try:
            arriving = self._followed(opened) if isinstance(opened, Followed) else self._downloaded(opened)
            if isinstance(arriving, Passing):
                return arriving
            self._files.arriving[self.key] = arriving
            arriving.start()
        except BaseException as error:
            self._ended()
            if isinstance(opened, Growing):
                # What a process before us left is of use when the upstream answers again, unless it refuses that.
                opened.discard(keep=isinstance(error, (Late, Busy, Unreachable)))
            raise
        return arriving

    def _followed(self, followed: Followed) -> Following:
        return Following(followed, self.file.size, self._ended, self.arriving, exact=self._exact)

    def _downloaded(self, growing: Growing) -> Download | Passing:
        fetch = self._fetch(self.file.size, growing.size, patient=True)
        if self.file.size is None and fetch.check.size is not None:
            try:
                growing.expect(fetch.check.size)
            except OSError as error:
                self._refused(error)
                growing.discard()
                return Passing(fetch)
        return Download(fetch, growing, self._ended)

    def _refused(self, error: OSError) -> None:
        _log.warning("the cache cannot take %s (%s); it is passed through", self.file.filename, error.strerror)

    def _ended(self) -> None:
        self._files.arriving.pop(self.key, None)

    def size(self) -> int | None:
        """Bytes of it, as its page states or the upstream says now. Raises Missing, Unavailable, Late, Busy, Loop."""
        if self.file.size is not None:
            return self.file.size
        known = self._files.sizes.find(self.key)
        if known is not None:
            return known[0]
        # Not every server that sends files, or parts of them, answers HEAD, or is allowed to be asked so.
        packed = self._check(None).packed
        with closing(self._at(partial(self._upstream.open, stop=1, packed=packed, soon=True))) as body:
            size = body.size
        if self._exact:  # another file of that name has another digest
            self._files.sizes.put(self.key, (size,))
        return size

    def range(self, size: int, start: int, stop: int) -> bytes:
        """Exactly these of its `size` bytes, from the upstream. Raises Missing, Unavailable, Late, Busy, Loop."""
        body = self._at(partial(self._upstream.open, start=start, stop=stop, soon=True))
        try:
            if body.start != start:
                self._files.parts.note(self.file.url, False)
                raise Unavailable("the upstream does not send parts of files")
            if body.size != size:
                raise Unavailable("the upstream's file changed while it was being looked into")
            return b"".join(body.pieces(start, stop))
        finally:
            body.close()


def _tag(file: File) -> str | None:
    """The same while a file is on its way and once it is kept, so that a broken download can be resumed."""
    known = strongest(file.hashes)
    return known[1][:32] if known else None
