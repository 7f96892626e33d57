"""Another index as a source: passed through, or kept.

A page's facts are the upstream's; its addresses stay inside, and clients get
every file from us. What is announced is what can be given: `pages` says which
core metadata that is, and here it is found or made.

A file comes from the cache as a file on disk. While it is on its way, every
asker reads it as it grows, from one download. Small ranges of a file that is
not here (a resolver looking into a wheel) are passed on without fetching it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, cast
from urllib.parse import urlsplit, urlunsplit
from weakref import WeakValueDictionary

from packaging.utils import NormalizedName

from .. import metadata
from ..archives import core_metadata
from ..dists import same_version, try_normalize
from ..errors import Busy, ConfigError, Late, Missing, Unavailable
from ..kept import Flights, Kept, Turnstile
from ..model import NO_HASHES, Content, File, HandOver, LocalFile, Project, Side, Stream
from .addresses import Unreachable, origin_of
from .bodies import Body
from .cache import Cache, Growing
from .client import Named, Upstream
from .download import Borrowed, Check, Download, Source, Whole, checked, pieces, strongest, unbroken
from .pages import Archive, Shelf, Times
from .ranged import TAIL, RangedFile

_SMALL_RANGE = 2**20
_METADATA_LIMIT = 8 * 2**20
_SIGNATURE_LIMIT = 2**16
_SIZES = 8 * 2**20  # bytes
_MOST_WAITING = 1000
_TRIES = 3
_log = logging.getLogger(__name__)


class Remote:
    """The projects of one upstream, as a `Source`.

    `mode` ``proxy`` keeps pages in memory only and passes files through;
    ``cache`` keeps both in `cache`. A page counts as current for `ttl`
    seconds, a missing project for `absent_ttl`. A page that is known already
    is confirmed within `patience` seconds, or served as it is while the
    question goes on; then the upstream is left alone about it for `retry`
    seconds. `memory` bounds the pages held in memory, in bytes. Whoever waits
    for the upstream, or reads a file from it, passes the `turnstile`. `clock`
    tells seconds since 1970.

    Safe to share between threads; a page that is known and current costs a
    dictionary look-up.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        mode: Literal["proxy", "cache"],
        cache: Cache | None = None,
        turnstile: Turnstile | None = None,
        ttl: float = 600.0,
        absent_ttl: float = 60.0,
        patience: float = 3.0,
        retry: float = 10.0,
        memory: int = 32 * 2**20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if mode == "cache" and cache is None:
            raise ConfigError("--fallback-mode cache needs a folder: --cache-dir")
        self.upstream = upstream
        self.traffic = upstream.traffic
        self._cache = cache if mode == "cache" else None
        archive = None
        if self._cache:
            archive = Archive(self._cache, upstream.url)
            self._cache.keep_bound()
        self._turnstile = turnstile or Turnstile(_MOST_WAITING)
        # Files leave two places to pages where there are many; no more, for uv asks for fifty files at once.
        places = self._turnstile.places
        self._files = Turnstile(places - min(2, places // 16), within=self._turnstile)
        times = Times(ttl, absent_ttl, patience, retry)
        self._shelf = Shelf(upstream, archive, times, memory, self._turnstile, clock)
        self._starts: Flights[str, Source | None] = Flights()
        self._makings: Flights[str, bytes | None] = Flights()
        self._downloads: dict[str, Download] = {}
        self._borrowed: WeakValueDictionary[str, Borrowed] = WeakValueDictionary()
        self._sizes = Kept[tuple[int | None]](lambda size: 0, most_bytes=_SIZES)

    def __repr__(self) -> str:
        return f"Remote({self.upstream!r})"

    def names(self) -> Sequence[NormalizedName]:
        """Nothing: an upstream's list is its own; its projects are found by name."""
        return ()

    def filenames(self) -> Iterable[tuple[NormalizedName, str]]:
        """Nothing, as `names`."""
        return ()

    def project(self, name: NormalizedName) -> Project | None:
        """The project as the upstream has it, or ``None`` if it says (status 404) that it has none.

        If it says nothing sensible, what it said last is returned (see
        `stale`). Raises Unavailable, Late, Busy or Loop if there is no such.
        """
        return self._shelf.project(name)

    def stale(self, name: NormalizedName) -> float | None:
        """Seconds since the upstream confirmed a project that is served only because it gives no answer now."""
        return self._shelf.stale(name)

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """A file, its core metadata or its signature. Raises Missing, Unavailable, Late, Busy, Loop."""
        project = self.project(name)
        if project is None:
            return None
        file = project.by_filename.get(filename)
        if file is None:
            raise Missing(f"{name} has no file of that name")
        if side == "":
            return (
                self._file(_named(project), file)
                if self._cache is None
                else self._cached_file(self._cache, project, file)
            )
        if side == ".metadata" and file.core_metadata is not None:
            return _of_bytes(self._metadata(_named(project), file))
        if side == ".asc" and file.has_signature:
            with self._turnstile.inside():
                data = self.upstream.small(_beside(file.url, ".asc"), named=_named(project), limit=_SIGNATURE_LIMIT)
            if data is not None:
                return _of_bytes(data)
        raise Missing(f"there is no {side} of this file")

    def close(self) -> None:
        """Close idle connections."""
        self.upstream.close()

    # --- files, passed through

    def _file(self, named: Named, file: File) -> Stream:
        size = file.size if file.size is not None else self._size_of(named, file)
        return self._stream(file, size, partial(self._passed, named, file, size))

    def _size_of(self, named: Named, file: File) -> int | None:
        known = self._sizes.find(file.url)
        if known is None:
            with self._turnstile.inside():
                known = (self.upstream.size(file.url, named=named),)
            self._sizes.put(file.url, known)
        return known[0]

    def _passed(self, named: Named, file: File, size: int | None, start: int, stop: int | None) -> Iterator[bytes]:
        """The half-open range of a file as it comes. The upstream is asked before this returns."""
        whole = start == 0 and stop in (None, size)
        body = self.upstream.open(file.url, named=named, start=start, stop=None if whole else stop)
        try:
            check = self._check(file, size)
            if size is not None:
                check.expect(body)
        except BaseException:
            body.close()
            raise
        if whole:
            return checked(unbroken(self.upstream, file.url, named, body, check), check)
        return _part(body, start, size if stop is None else stop, self.upstream.rate.take)

    def _check(self, file: File, size: int | None) -> Check:
        return Check(file.hashes, size, file.filename, self.upstream.origin.label)

    # --- files, kept

    def _cached_file(self, cache: Cache, project: Project, file: File) -> Content:
        kept = self._kept(cache, file)
        if kept is not None and kept.seen is not None:
            self.traffic.cached(kept.seen.size)
            return kept
        named, size, source = _named(project), file.size, None
        if size is None:
            # Only the answer tells how much it will be.
            with self._turnstile.inside():
                source = self._source(cache, named, file)
            size = source.size if source else self._size_of(named, file)
        filled = partial(self._filled, cache, named, file, size, source)
        stream = self._stream(file, size, filled)

        def read_or_hand(start: int, stop: int | None, hand_over: HandOver) -> Iterator[bytes]:
            running = self._downloads.get(self._key(file))
            if running is not None and running.size is not None and running.ready(0) > 0:
                return filled(start, stop, hand_over)  # which waits for nothing, so that no place is needed
            return self._files.through(partial(filled, start, stop, hand_over))

        return replace(stream, read_or_hand=read_or_hand)

    def _kept(self, cache: Cache, file: File) -> LocalFile | None:
        found = cache.find("files", self._key(file), file.size)
        return found and LocalFile(path=Path(found.path), tag=_tag(file), seen=found)

    def _stream(self, file: File, size: int | None, read: Callable[[int, int | None], Iterator[bytes]]) -> Stream:
        def reading(start: int, stop: int | None) -> Iterator[bytes]:
            return self._files.through(partial(read, start, stop))

        return Stream(read=reading, size=size, tag=_tag(file), modified=file.uploaded)

    def keeps(self, file: File) -> bool:
        """Whether a file of ours is in the cache now, so that the upstream is not needed for it."""
        return self._cache is not None and self._cache.stamp("files", self._key(file)) is not None

    def _key(self, file: File) -> str:
        """What a file and its metadata are kept by: nothing that is said of another project's file can reach them."""
        facts: list[object] = [self.upstream.url, file.project, file.filename]
        if "sha256" in file.hashes:
            facts.append(file.hashes["sha256"])
        else:
            address = urlunsplit(urlsplit(file.url)._replace(query=""))
            uploaded = file.uploaded.isoformat() if file.uploaded else None
            facts += [address, file.size, uploaded, sorted(file.hashes.items())]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _filled(
        self,
        cache: Cache,
        named: Named,
        file: File,
        size: int | None,
        source: Source | None,
        start: int,
        stop: int | None,
        hand_over: HandOver | None = None,
    ) -> Iterator[bytes]:
        """The half-open range of a file that is not here yet. The upstream has been asked when this returns."""
        key = self._key(file)
        small = stop is not None and size is not None and stop - start <= min(_SMALL_RANGE, size // 2)
        if source is None and (not small or key in self._downloads or cache.find("files", key, size) is not None):
            source = self._source(cache, named, file)
        if source is None:
            return self._passed(named, file, size, start, stop)
        return self._followed(cache, named, file, source, start, stop, hand_over)

    def _followed(
        self,
        cache: Cache,
        named: Named,
        file: File,
        source: Source,
        start: int,
        stop: int | None,
        hand_over: HandOver | None,
    ) -> Iterator[bytes]:
        """The half-open range of a growing file; if the process that fetches it dies, we go on in its place."""
        at = start
        for _ in range(_TRIES):
            ours = isinstance(source, Download) and source.claim()
            try:
                for piece in pieces(source, at, stop, _ignore if ours else self.traffic.cached, hand_over):
                    at += len(piece)
                    yield piece
                return
            except Unavailable:
                # A digest says that the rest will belong to what was sent already.
                if not isinstance(source, Borrowed) or strongest(file.hashes) is None:
                    raise
            source = self._source(cache, named, file) or source
        raise Unavailable("no process manages to fetch this file")

    def _source(self, cache: Cache, named: Named, file: File) -> Source | None:
        """The file as it grows in the cache; ``None`` if the disk refuses to hold it."""
        key = self._key(file)
        running = self._downloads.get(key)
        return running or self._starts.do(key, lambda: self._begin(cache, named, file))

    def _begin(self, cache: Cache, named: Named, file: File) -> Source | None:
        key = self._key(file)
        for _ in range(_TRIES):
            running = self._downloads.get(key)
            if running is not None:
                return running
            try:
                found = cache.find("files", key, file.size)
                if found is not None:
                    return Whole(found.path)
                # Only a digest tells whether what a process before us left is the beginning.
                resumable = file.size is not None and strongest(file.hashes) is not None
                growing = cache.begin("files", key, file.size, resumable=resumable)
            except OSError as error:
                _log.warning("the cache cannot take %s (%s); it is passed through", file.filename, error.strerror)
                return None
            if growing is not None:
                return self._download(named, file, growing)
            borrowed = self._borrowed.get(key)
            if borrowed is not None and borrowed.alive:
                return borrowed
            followed = cache.follow("files", key)
            if followed is not None:
                again = partial(self._source, cache, named, file) if strongest(file.hashes) else None
                borrowed = self._borrowed[key] = Borrowed(followed, file.size, again)
                return borrowed
        raise Unavailable("another process was downloading this file and gave up; try again")

    def _download(self, named: Named, file: File, growing: Growing) -> Download:
        key = self._key(file)
        try:
            download = self._downloads[key] = Download(
                self.upstream,
                file.url,
                named=named,
                check=self._check(file, file.size),
                growing=growing,
                ended=partial(self._ended, key),
            )
            download.start()
        except BaseException as error:
            self._downloads.pop(key, None)
            # What a process before us left is of use when the upstream answers again, unless it refuses to go on there.
            growing.discard(keep=isinstance(error, (Late, Busy, Unreachable)))
            raise
        return download

    def _ended(self, key: str, right: bool) -> None:
        self._downloads.pop(key, None)

    # --- core metadata

    def _metadata(self, named: Named, file: File) -> bytes:
        """The core metadata that the page promises, byte for byte. Raises Missing, Unavailable."""
        key = self._key(file)
        known = self._cache.get("metadata", key) if self._cache else None
        if known is not None and _right(known, file):
            self.traffic.cached(len(known))
            return known
        with self._turnstile.inside():
            data = self._makings.do(key, lambda: self._obtain(named, file))
        if data is None:
            self._shelf.withdraw(file.project, file.filename)
            raise Missing("this file has no readable core metadata")
        if self._cache:
            self._cache.put("metadata", key, data)
        return data

    def _obtain(self, named: Named, file: File) -> bytes | None:
        if self._cache is None or not self._shelf.is_silent(file.project):
            data = self.upstream.small(_beside(file.url, ".metadata"), named=named, limit=_METADATA_LIMIT)
            if data is not None and _right(data, file):
                return data
            _log.warning("the upstream announces core metadata of %s that it does not have", file.filename)
            if self._cache is None:
                return None
        data = self._made(self._cache, named, file)
        return data if data is not None and _right(data, file) else None

    def _made(self, cache: Cache, named: Named, file: File) -> bytes | None:
        """From the file itself, with as little of it as will do. Raises Unavailable."""
        here = cache.find("files", self._key(file), file.size) is not None
        if not here and file.filename.endswith(".whl") and file.size is not None and file.size > 2 * TAIL:
            broken: list[Unavailable] = []
            data = core_metadata(
                cast("BinaryIO", RangedFile(file.size, partial(self._range, named, file, broken))), file.filename
            )
            if not broken:
                return data
            _log.info("looking into %s did not work, fetching it: %s", file.filename, broken[0])
        source = self._source(cache, named, file)
        if source is None:
            raise Unavailable("the cache cannot take this file, so its core metadata cannot be made")
        available, complete = 0, False
        while not complete:
            available, complete = source.wait(available)
        whole = RangedFile(available, lambda start, stop: source.read(stop - start, start))
        return core_metadata(cast("BinaryIO", whole), file.filename)

    def _range(self, named: Named, file: File, broken: list[Unavailable], start: int, stop: int) -> bytes:
        """Exactly these bytes. A failure is noted in `broken`, for the reader of archives takes it for a bad one."""
        try:
            body = self.upstream.open(file.url, named=named, start=start, stop=stop)
            try:
                if body.start != start or body.size != file.size:
                    raise Unavailable("the upstream does not send parts of files")
                return b"".join(_part(body, start, stop, self.upstream.rate.take))
            finally:
                body.close()
        except Missing as error:
            broken.append(Unavailable(str(error)))
            raise
        except Unavailable as error:
            broken.append(error)
            raise


def _tag(file: File) -> str | None:
    """The same while a file is on its way and once it is kept, so that a broken download can be resumed."""
    known = strongest(file.hashes)
    return known[1][:32] if known else None


def _of_bytes(data: bytes) -> Stream:
    def read(start: int, stop: int | None) -> tuple[bytes]:
        return (data[start:stop],)

    return Stream(read=read, size=len(data), tag=hashlib.sha256(data).hexdigest()[:32])


def _part(body: Body, start: int, stop: int | None, take: Callable[[int], None]) -> Iterator[bytes]:
    """The half-open range of a file, also where the upstream sends everything. Raises Unavailable if it ends early."""
    try:
        at = body.start
        for piece in body:
            take(len(piece))
            wanted = piece[max(start - at, 0) : None if stop is None else max(stop - at, 0)]
            at += len(piece)
            if wanted:
                yield wanted
            if stop is not None and at >= stop:
                return
        if stop is not None and at < stop:
            raise Unavailable("the upstream broke off in the middle of a file")
    finally:
        body.close()


def _right(data: bytes, file: File) -> bool:
    """Whether core metadata is that of a file: it names its project and version, and has the digest announced, if any.

    Installers believe the one and the other without looking into the file.
    """
    said, known = metadata.parse(data), strongest(file.core_metadata or NO_HASHES)
    return (
        try_normalize(said.text("name")) == file.project
        and same_version(said.text("version"), file.version)
        and (
            known is None
            or hmac.compare_digest(hashlib.new(known[0], data, usedforsecurity=False).hexdigest(), known[1])
        )
    )


def _beside(url: str, side: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path + side))


def _named(project: Project) -> Named:
    """The hosts that the project's page names. Whoever reads a file holds these, and not the whole page."""
    origins = {"/".join(file.url.split("/", 3)[:3]) for file in project.files}
    named = frozenset((origin.host, origin.port) for origin in map(origin_of, origins))
    return lambda: named


def _ignore(size: int) -> None:
    """Count nothing."""
