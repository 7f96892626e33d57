"""The core metadata that a page promises: the upstream's own, or what its wheels hold."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
from typing import BinaryIO, cast

from .. import metadata
from ..archives import core_metadata
from ..dists import same_version, try_normalize
from ..errors import Missing, Unavailable
from ..kept import Flights
from ..model import NO_HASHES, File
from .download import strongest
from .files import Files, Wanted, beside
from .pages import Shelf
from .ranged import TAIL, RangedFile

_LIMIT = 8 * 2**20  # bytes
_log = logging.getLogger(__name__)


class CoreMetadata:
    """That of the `files` which the pages on `shelf` list, found or made once."""

    def __init__(self, files: Files, shelf: Shelf) -> None:
        self._files = files
        self._shelf = shelf
        self._makings: Flights[str, bytes | None] = Flights()

    def of(self, wanted: Wanted) -> bytes:
        """That of one file, byte for byte. Raises Missing, Unavailable."""
        file, cache = wanted.file, self._files.cache
        known = cache.get("metadata", wanted.key) if cache else None
        if known is not None and _right(known, file):
            self._files.upstream.traffic.cached(len(known))
            return known
        with self._files.turnstile.inside():
            data = self._makings.do(wanted.key, lambda: self._obtain(wanted))
        if data is None:
            self._shelf.withdraw(file.project, file.filename)
            raise Missing("this file has no readable core metadata")
        if cache:
            cache.put("metadata", wanted.key, data)
        return data

    def _obtain(self, wanted: Wanted) -> bytes | None:
        file = wanted.file
        if self._files.cache is None or not self._shelf.is_silent(file.project):
            data = self._files.upstream.small(beside(file.url, ".metadata"), named=wanted.named, limit=_LIMIT)
            if data is not None and _right(data, file):
                return data
            _log.warning("the upstream announces core metadata of %s that it does not have", file.filename)
            if self._files.cache is None:
                return None
        data = self._made(wanted)
        return data if data is not None and _right(data, file) else None

    def _made(self, wanted: Wanted) -> bytes | None:
        """From the file itself, with as little of it as will do. Raises Unavailable."""
        file = wanted.file
        here = self._files.kept(file) is not None
        if not here and file.filename.endswith(".whl") and file.size is not None and file.size > 2 * TAIL:
            ranged = RangedFile(file.size, wanted.range)
            data = core_metadata(cast("BinaryIO", ranged), file.filename)
            if ranged.failed is None:
                return data
            _log.info("looking into %s did not work, fetching it: %s", file.filename, ranged.failed)
        arriving = wanted.arriving()
        if arriving is None:
            raise Unavailable("the cache cannot take this file, so its core metadata cannot be made")
        size, _ = arriving.wait(math.inf)
        whole = RangedFile(size, lambda start, stop: arriving.read(stop - start, start))
        return core_metadata(cast("BinaryIO", whole), file.filename)


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
