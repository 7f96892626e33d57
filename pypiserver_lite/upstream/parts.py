"""Which servers send parts of files: found out once, so that nothing is promised that needs them where they do not."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import partial

from ..errors import Missing, Unavailable
from ..kept import Flights, Kept
from . import hops
from .cache import Cache
from .mirrors import Mirrors
from .places import Place

SMALL = 2**18
"""A file of so many bytes is as well fetched whole."""
_PATIENCE = 2.0  # seconds that a page is held up at most
_NOT_FOR_EVER = 3600.0  # seconds; a server may learn it
_REST = 60.0  # seconds until one that gave no answer is asked again
_SERVERS = 2**18  # bytes
_log = logging.getLogger(__name__)


class Parts:
    """Whether those servers send parts of files that an upstream's pages name.

    That they do holds until a file shows otherwise, in `cache` across restarts. `clock` tells seconds since 1970.
    """

    def __init__(self, upstream: Mirrors, cache: Cache | None, clock: Callable[[], float]) -> None:
        self._upstream, self._cache, self._clock = upstream, cache, clock
        self._known = Kept[tuple[bool, float]](lambda known: 0, most_bytes=_SERVERS)  # by server; since when
        self._in_vain = Kept[float](lambda since: 0, most_bytes=_SERVERS)  # when a server was asked that said nothing
        self._questions: Flights[str, bool] = Flights()

    def sent_by(self, server: str) -> bool | None:
        """Whether a server (as `server_of` calls it) sends parts; ``None``: nobody knows."""
        known = self._known.find(server)
        if known is None and self._cache is not None and self._cache.get("pages", self._key(server)) is not None:
            known = (True, self._clock())
            self._known.put(server, known)
        if known is None or not (known[0] or self._is_within(_NOT_FOR_EVER, known[1])):
            return None
        return known[0]

    def ask(self, place: Place) -> None:
        """Find it out by the file at `place`, unless it is known; where that takes long, the next one will know."""
        server = server_of(place.url)
        if self.sent_by(server) is not None or self._is_within(_REST, self._in_vain.find(server) or 0.0):
            return
        try:
            self._questions.do_behind(server, partial(self._ask, place), min(_PATIENCE, hops.left()))
        except (Unavailable, Missing) as error:
            self._in_vain.put(server, self._clock())
            _log.debug("whether %s sends parts of files is not known yet: %s", server, error)

    def _is_within(self, seconds: float, since: float) -> bool:
        return 0 <= self._clock() - since < seconds

    def _ask(self, place: Place) -> bool:
        sends = self._upstream.sends_parts(place)
        self.note(place.url, sends)
        return sends

    def note(self, url: str, sends: bool) -> None:
        """The server of this address does send parts of files, or does not."""
        server = server_of(url)
        if self.sent_by(server) is not sends:
            _log.info("%s sends %s of files", server, "parts" if sends else "no parts")
        self._known.put(server, (sends, self._clock()))
        if self._cache is not None:
            if sends:
                self._cache.put("pages", self._key(server), b"")
            else:
                self._cache.drop("pages", self._key(server))

    def _key(self, server: str) -> str:
        return hashlib.sha256(f"parts\0{self._upstream.url}\0{server}".encode()).hexdigest()


def server_of(url: str) -> str:
    """Scheme, host and port of an address that a page names."""
    return "/".join(url.split("/", 3)[:3])
