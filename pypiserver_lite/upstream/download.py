"""Bringing a file into the cache while any number of clients read it already.

One thread fetches; readers follow the growing file from wherever they want to
start. What makes the file complete is held back until its digest is checked:
a client of a wrong or short file sees its connection break, never a
good-looking file.
"""

from __future__ import annotations

import contextvars
import hashlib
import hmac
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from .. import disk
from ..errors import Busy, Late, Missing, NoSpace, Unavailable
from ..kept import start
from ..model import Followable, HandOver
from . import hops
from .bodies import Body
from .cache import Followed, Growing
from .client import Named, Upstream

_PIECE = 2**16  # bytes
_PAUSES = (0.0, 0.2, 1.0, 2.0)
_POLL = 0.02
_PART = 2**20  # bytes that give all tries back, or a tenth of the file: less may come now and then for ever
_STRENGTH = (
    "sha512",
    "sha384",
    "sha256",
    "sha3_512",
    "sha3_384",
    "sha3_256",
    "blake2b",
    "blake2s",
    "sha224",
    "sha1",
    "md5",
)
_log = logging.getLogger(__name__)


def strongest(hashes: Mapping[str, str]) -> tuple[str, str] | None:
    """The digest to check a file by: sha256 where there is one, for everybody knows it; else the strongest known."""
    for algorithm in ("sha256", *_STRENGTH):
        if algorithm in hashes:
            return algorithm, hashes[algorithm]
    return None


class Check:
    """Whether bytes are those of a known digest, and how many they are.

    What is wrong with them is said of the file `name` and the upstream at `host`.
    """

    def __init__(self, hashes: Mapping[str, str], size: int | None, name: str, host: str) -> None:
        self._name, self._upstream = name, f"the upstream {host}"
        self._known = strongest(hashes)
        self._digester = hashlib.new(self._known[0], usedforsecurity=False) if self._known else None
        self.size = size
        self.seen = 0

    @property
    def exact(self) -> bool:
        """Whether a digest tells the right bytes from all others."""
        return self._known is not None

    @property
    def certain(self) -> bool:
        """Whether there is anything at all to tell a right file by."""
        return self.exact or self.size is not None

    def expect(self, body: Body) -> None:
        """Compare with what the upstream says before it sends anything. Raises Unavailable."""
        if body.size is not None:
            if self.size not in (None, body.size):
                raise self._wrong(f"sends {self._name} with {body.size} bytes, its page states {self.size}")
            self.size = body.size

    def update(self, data: bytes) -> None:
        """Take note of the next bytes. Raises Unavailable once they are too many."""
        self.seen += len(data)
        if self.size is not None and self.seen > self.size:
            raise self._wrong(f"sent more than the {self.size} bytes of {self._name}")
        if self._digester is not None:
            self._digester.update(data)

    def finish(self) -> None:
        """All bytes are in. Raises Unavailable if they are not those that were expected."""
        if self.size is not None and self.seen != self.size:
            raise self._wrong(f"sent {self.seen} of the {self.size} bytes of {self._name}")
        if self._known and self._digester and not hmac.compare_digest(self._digester.hexdigest(), self._known[1]):
            algorithm, stated = self._known
            got = self._digester.hexdigest()
            raise self._wrong(f"sent {self._name} with the {algorithm} {got}, its page states {stated}")

    def _wrong(self, what: str) -> Unavailable:
        return Unavailable(f"{self._upstream} {what}")


def unbroken(upstream: Upstream, url: str, named: Named, body: Body, check: Check) -> Iterator[bytes]:
    """The bytes of a file that `check` has not seen, from `body` on; where they break off, the rest is asked for.

    A digest, or the upstream's own name for the bytes, must tell that it belongs to the beginning. A few tries in a
    row must bring a real part of the file. Until the first byte is here, this takes no longer than the request in hand
    has left (`hops`). Raises Unavailable, Missing.
    """
    validator, failures, at = body.validator, 0, check.seen
    brought = at
    while True:
        try:
            if failures:
                time.sleep(_PAUSES[failures - 1])
                body = upstream.open(url, named=named, start=at, if_range=validator if at else None)
            if body.start != at and not check.exact:
                validator = None
                raise Unavailable("the upstream's file changed while it was being fetched")
            skip = at - body.start  # sent again by an upstream that knows no ranges
            for piece in body:
                upstream.rate.take(len(piece))
                data, skip = piece[skip:], max(skip - len(piece), 0)
                if data:
                    check.update(data)
                    yield data
            if check.size is None or check.seen >= check.size:
                return
            raise Unavailable("the upstream broke off in the middle of a file")
        except Unavailable as error:
            at = check.seen
            if at - brought >= (_PART if check.size is None else min(_PART, max(check.size // 10, 1))):
                brought, failures = at, 0
            failures += 1
            sure = check.exact or validator is not None
            over = check.size is not None and at > check.size
            if sure and not over and at and failures > len(_PAUSES):
                raise type(error)(f"{error}, and {failures} tries have brought {at - brought} bytes") from error
            if not sure or over or failures > len(_PAUSES) or (not at and hops.left() <= 0):
                raise
            _log.info("going on with a download at byte %d: %s", at, error)
        finally:
            body.close()


def checked(pieces: Iterator[bytes], check: Check) -> Iterator[bytes]:
    """The bytes of a whole file that `check` has noted; what makes them complete only if they are right."""
    held = b""
    for piece in pieces:
        if held:
            yield held
        held = b""
        if check.size is not None and check.seen < check.size:
            yield piece
        else:
            held = piece
    check.finish()
    if held:
        yield held


class Source(Followable, Protocol):
    """A file that grows under its readers."""

    size: int | None

    def wait(self, at: int) -> tuple[int, bool]:
        """Wait until more than `at` bytes may be read; how many, and whether that is all. Raises Unavailable."""


def pieces(
    source: Source, start: int, stop: int | None, count: Callable[[int], None], hand_over: HandOver | None = None
) -> Iterator[bytes]:
    """The half-open range of a growing file, as soon as its bytes are there.

    What comes after the first piece goes to `hand_over`, if there is one, and nobody waits here for more; nor for the
    first, once others have come.
    """
    at, last = start, source.size if stop is None else stop
    if hand_over is not None and last is not None and source.ready(0) > 0 >= source.ready(at):
        count(last - at)
        yield hand_over(source, at, last)
        return
    while stop is None or at < stop:
        available, complete = source.wait(at)
        end = available if stop is None else min(available, stop)
        while at < end:
            data = source.read(min(_PIECE, end - at), at)
            if not data:
                raise Unavailable("the cache lost a file while it was being read")
            at += len(data)
            count(len(data))
            yield data
            if hand_over is not None and last is not None and at < last:
                count(last - at)
                yield hand_over(source, at, last)
                return
        if complete:
            return


class Download:
    """A file on its way from `url` into `growing`.

    Made when the upstream has begun to answer, so that its refusal (Missing,
    Unavailable, Late, Busy, Loop) is the asker's answer and not a broken
    connection. What is in `growing` already is taken for its beginning, which
    `check` has to confirm by a digest. `start` lets it run in a thread of its own;
    `ended` is called when it is over, with whether the file was whole and right.
    """

    def __init__(
        self,
        upstream: Upstream,
        url: str,
        *,
        named: Named,
        check: Check,
        growing: Growing,
        ended: Callable[[bool], None],
    ) -> None:
        self._upstream = upstream
        self._url = url
        self._named = named
        self._check = check
        self._growing = growing
        self._ended = ended
        self._changed = threading.Condition()
        self._available = 0
        self._complete = False
        self._error: Unavailable | Missing | None = None
        self._watchers: set[Callable[[], object]] = set()
        self.size = check.size
        self._claimed = False
        self._body = upstream.open(url, named=named, start=growing.size)
        try:
            self._check.expect(self._body)
        except BaseException:
            self._body.close()
            raise
        self.size = self._check.size

    def start(self) -> None:
        """Let it run. Raises Busy if the system has no thread left."""
        try:
            start("download", contextvars.copy_context().run, self._run, self._body)
        except Busy as error:
            self._body.close()
            self._fail(error)
            raise

    def claim(self) -> bool:
        """True for the first who asks: the one for whom the bytes come from the upstream."""
        with self._changed:
            claimed, self._claimed = self._claimed, True
        return not claimed

    def wait(self, at: int) -> tuple[int, bool]:
        """As `Source` has it."""
        with self._changed:
            while self._available <= at and not self._complete and self._error is None:
                self._changed.wait()
            self._check_failed(at)
            return self._available, self._complete

    def ready(self, at: int) -> int:
        """As `Followable` has it."""
        with self._changed:
            self._check_failed(at)
            return self._available - at

    def _check_failed(self, at: int) -> None:
        if self._available <= at and self._error is not None:
            raise type(self._error)(str(self._error))

    def watch(self, wake: Callable[[], object]) -> None:
        """As `Followable` has it. The same `wake`, given by many, is called once."""
        with self._changed:
            self._watchers.add(wake)

    def read(self, size: int, at: int) -> bytes:
        """As `Source` has it."""
        return self._growing.read(size, at)

    def _run(self, body: Body) -> None:
        error: Unavailable | Missing | None = Unavailable("a download failed")
        try:
            self._take_up(self._growing.size)
            for data in unbroken(self._upstream, self._url, self._named, body, self._check):
                self._growing.write(data)
                short = self.size is not None and self._check.seen < self.size
                self._advance(self._check.seen if short else self._check.seen - len(data))
            self._check.finish()
            error = None
        except (Unavailable, Missing) as raised:
            error = raised
        except OSError as raised:
            _log.warning("the cache folder cannot be written to: %s", raised.strerror)
            error = NoSpace("the disk of the cache is full or broken")
        finally:
            self._end(error)

    def _take_up(self, size: int) -> None:
        """What a process before this one left, whatever it is: the digest tells at the end."""
        while self._check.seen < size:
            data = self._growing.read(min(2**20, size - self._check.seen), self._check.seen)
            if not data:
                raise Unavailable("the cache lost a file while it was being read")
            self._check.update(data)
            self._advance(self._check.seen)

    def _end(self, error: Unavailable | Missing | None) -> None:
        right = error is None and self._check.certain
        try:
            # Before the last piece is handed out: who has the whole file finds it kept.
            if right:
                self._growing.publish()
            else:
                self._growing.discard()
        finally:
            if error is None:
                self._advance(self._check.seen, complete=True)
            self._ended(right)
        if error is not None:
            # Last, so that whoever asks again when told does not meet this one.
            self._fail(error)
        elif not right:
            _log.info("a file without digest and length was passed on and not kept")

    def _advance(self, available: int, *, complete: bool = False) -> None:
        with self._changed:
            self._available = max(available, self._available)
            self._complete = complete
        self._tell()

    def _fail(self, error: Unavailable | Missing) -> None:
        _log.warning("a download from %s failed: %s", self._upstream.origin.label, error)
        with self._changed:
            self._error = error
        self._tell()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
            watchers = tuple(self._watchers)
        for wake in watchers:  # without the lock, which they may be waiting for
            wake()


class Borrowed:
    """A download that another process makes, followed on disk.

    Gives up `patience` seconds after the last new byte, and when that process
    does; those who `watch` then go on with the file that `again` returns, if
    there is one. One may serve any number of readers.
    """

    def __init__(
        self,
        followed: Followed,
        size: int | None,
        again: Callable[[], Source | None] | None = None,
        patience: float = 60.0,
    ) -> None:
        self._followed = followed
        self._again = again
        self._patience = patience
        self._lock = threading.Lock()
        self._watchers: set[Callable[[], object]] = set()
        self._successor: Source | None = None
        self._known = 0
        self._error: Unavailable | Missing | None = None
        self.size = size

    @property
    def alive(self) -> bool:
        """Whether it is worth to be followed."""
        return self._error is None and self._followed.state()[1] is not None

    def wait(self, at: int) -> tuple[int, bool]:
        """As `Source` has it."""
        seen, deadline = -1, 0.0
        while True:
            size, complete = self._followed.state()
            if complete:
                return size, True
            if complete is None:
                raise Unavailable("the process that was downloading this file gave up")
            # What would make the file complete is not checked yet.
            available = size if self.size is not None and size < self.size else size - 1
            if available > at:
                return available, False
            now = time.monotonic()
            if size != seen:
                seen, deadline = size, now + self._patience
            elif now > deadline:
                raise Late("the process that is downloading this file does not go on")
            time.sleep(_POLL)

    def ready(self, at: int) -> int:
        """As `Followable` has it."""
        error = self._error
        if self._known <= at and error is not None:
            raise type(error)(str(error))
        return self._known - at

    def read(self, size: int, at: int) -> bytes:
        """As `Source` has it."""
        return (self._successor or self._followed).read(size, at)

    def watch(self, wake: Callable[[], object]) -> None:
        """As `Followable` has it. The first has a thread look at the file; raises Busy if there is none left."""
        with self._lock:
            if not self._watchers:
                start("following", contextvars.copy_context().run, self._follow)
            self._watchers.add(wake)

    def _follow(self) -> None:
        complete = False
        while not complete and self._error is None:
            try:
                self._known, complete = (self._successor or self).wait(self._known)
            except (Unavailable, Missing) as error:
                self._succeed(error)
            with self._lock:
                watchers = tuple(self._watchers)
            for wake in watchers:
                wake()

    def _succeed(self, error: Unavailable | Missing) -> None:
        """Have a successor, or else fail."""
        try:
            if self._again is None or self._successor is not None:
                raise error
            self._successor = self._again()
            if self._successor is None:
                raise error
        except (Unavailable, Missing) as raised:
            self._error = raised


class Whole:
    """A file that lies in the cache, read as if it grew. Raises OSError if it is gone."""

    def __init__(self, path: str) -> None:
        handle = os.open(path, disk.READ)
        weakref.finalize(self, os.close, handle)
        self._handle = handle
        self._size = os.fstat(handle).st_size
        self.size: int | None = self._size

    def wait(self, at: int) -> tuple[int, bool]:
        """As `Source` has it."""
        return self._size, True

    def ready(self, at: int) -> int:
        """As `Followable` has it."""
        return self._size - at

    def watch(self, wake: Callable[[], object]) -> None:
        """As `Followable` has it: all is here."""

    def read(self, size: int, at: int) -> bytes:
        """As `Source` has it."""
        return disk.read_at(self._handle, size, at)
