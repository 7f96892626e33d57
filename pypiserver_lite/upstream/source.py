"""Another index as a source: passed through, or kept.

A page's facts are the upstream's; its addresses stay inside, and clients get
every file from us. What is announced is what can be given: `pages` says which
core metadata that is, `core_metadata` finds or makes it, `files` gets the files.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from packaging.utils import NormalizedName

from ..errors import ConfigError, Missing
from ..kept import Turnstile
from ..model import Content, File, Side, Stream
from .archive import Archive
from .cache import Cache
from .client import Upstream
from .core_metadata import CoreMetadata
from .files import Files, Wanted
from .health import Health
from .mirrors import Mirrors
from .pages import Shelf
from .parts import Parts
from .places import Place, place_of

_SIGNATURE_LIMIT = 2**16  # bytes
_MOST_WAITING = 1000


class Remote(Shelf):
    """The projects of one upstream, at one or several `addresses`, as a `Source`.

    `mode` ``proxy`` keeps pages in memory only and passes files through;
    ``cache`` keeps both in `cache`. A page counts as current for `ttl`
    seconds, a missing project for `absent_ttl`. A page that is known already
    is confirmed within `patience` seconds, or served as it is while the
    question goes on; then the upstream is left alone about it for `retry`
    seconds. `memory` bounds the pages held in memory, in bytes. Whoever waits
    for the upstream, or reads a file from it, passes the `turnstile`. `clock`
    tells seconds since 1970.

    Safe to share between threads; a page that is known and current costs a
    look-up.
    """

    def __init__(
        self,
        *addresses: Upstream,
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
        if mode == "proxy":
            cache = None
        elif cache is None:
            raise ConfigError("--fallback-mode cache needs a folder: --cache-dir")
        else:
            cache.keep_bound()
        upstream = Mirrors(addresses)
        turnstile = turnstile or Turnstile(_MOST_WAITING)
        parts = Parts(upstream, cache, clock)
        super().__init__(
            upstream,
            Archive(cache, upstream.url, upstream.mirrors),
            parts,
            turnstile,
            ttl=ttl,
            absent_ttl=absent_ttl,
            patience=patience,
            retry=retry,
            memory=memory,
            clock=clock,
        )
        self.traffic = upstream.traffic
        self._files = Files(upstream, cache, turnstile, parts, self._moved)
        self._metadata = CoreMetadata(self._files, self)

    def __repr__(self) -> str:
        return f"Remote({self.upstream!r})"

    def names(self) -> Sequence[NormalizedName]:
        """Nothing: an upstream's list is its own; its projects are found by name."""
        return ()

    def filenames(self) -> Iterable[tuple[NormalizedName, str]]:
        """Nothing, as `names`."""
        return ()

    def open(self, name: NormalizedName, filename: str, side: Side = "") -> Content | None:
        """A file, its core metadata or its signature. Raises Missing, Unavailable, Late, Busy, Loop."""
        project = self.project(name)
        if project is None or filename not in project.by_filename:
            # It may be a file that a page of another process lists.
            project = self.look_again(name)
        if project is None:
            return None
        file = project.by_filename.get(filename)
        if file is None:
            raise Missing(f"{name} has no file of that name")
        if side == "":
            return self._files.open(project, file)
        if side == ".metadata" and file.core_metadata is not None:
            return _of_bytes(self._metadata.of(Wanted(self._files, place_of(project, file))))
        if side == ".asc" and file.has_signature:
            with self._turnstile.inside():
                data = self.upstream.small(place_of(project, file, ".asc"), _SIGNATURE_LIMIT)
            if data is not None:
                return _of_bytes(data)
        raise Missing(f"there is no {side} of this file")

    def _moved(self, file: File) -> Place | None:
        """Where the very same file lies by a page that was asked for again; ``None`` if nowhere else."""
        project = self.look_again(file.project)
        found = None if project is None else project.by_filename.get(file.filename)
        if project is None or found is None or found.url == file.url or self._files.key(found) != self._files.key(file):
            return None
        return place_of(project, found)

    def keeps(self, file: File) -> bool:
        """Whether a file of ours is in the cache now, so that the upstream is not needed for it."""
        return self._files.keeps(file)

    def health(self, name: str) -> Health:
        """How the upstream does that the settings call `name`."""
        return self.upstream.health(name)

    def close(self) -> None:
        """Close idle connections."""
        self.upstream.close()


def _of_bytes(data: bytes) -> Stream:
    def read(start: int, stop: int | None) -> tuple[bytes]:
        return (data[start:stop],)

    return Stream(read=read, size=len(data), tag=hashlib.sha256(data).hexdigest()[:32])
