"""Bringing a file from an upstream: checked, and gone on with where it breaks off."""

from __future__ import annotations

import contextvars
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from ..errors import Busy, Missing, NoSpace, Unavailable
from ..kept import start
from . import hops
from .arriving import Arriving
from .growing import Growing
from .mirrors import Mirrors
from .places import Place, strongest
from .replies import Transfer
from .window import Window

_PAUSES = (0.0, 0.2, 1.0, 2.0)
_PART = 2**20  # bytes that give all tries back, or a tenth of the file: less may come now and then for ever
_log = logging.getLogger(__name__)


class Wrong(Unavailable):
    """What the upstream sends are not the bytes of the file."""


_BEGIN: Mapping[str, bytes] = {
    ".whl": b"PK",
    ".zip": b"PK",
    ".egg": b"PK",
    ".gz": b"\x1f\x8b",
    ".tgz": b"\x1f\x8b",
    ".bz2": b"BZh",
    ".xz": b"\xfd7zXZ\0",
}
"""How archives begin, by how their names end."""


class Check:
    """Whether bytes are those of a known digest, and how many they are.

    Where no digest is known, they must begin as an archive of their name does: a page to log in at, sent instead, does
    not. What is wrong with them is said of the file `name` and the upstream at `host`; `on_wrong` hears whose they are.
    """

    def __init__(
        self,
        hashes: Mapping[str, str],
        size: int | None,
        name: str,
        host: str,
        on_wrong: Callable[[Sequence[str]], object] = lambda givers: None,
    ) -> None:
        self.host = host
        self._name = name
        self._known = strongest(hashes)
        self._digester = hashlib.new(self._known[0], usedforsecurity=False) if self._known else None
        self._begin = b"" if self._known else _BEGIN.get(os.path.splitext(name)[1].lower(), b"")
        self.size = size
        self.seen = 0
        self.givers: list[str] = []
        """Which addresses of the upstream they come from, in order."""
        self._on_wrong = on_wrong

    @property
    def exact(self) -> bool:
        """Whether a digest tells the right bytes from all others."""
        return self._known is not None

    @property
    def packed(self) -> bool:
        """Whether the file may be said to be packed by gzip, and its digest tells that this was not done besides."""
        return self.exact and self._name.endswith((".gz", ".tgz"))

    @property
    def short(self) -> bool:
        """Whether more bytes must come."""
        return self.size is not None and self.seen < self.size

    @property
    def certain(self) -> bool:
        """Whether there is anything at all to tell a right file by."""
        return self.exact or self.size is not None

    def expect(self, body: Transfer) -> None:
        """Compare with what the upstream says before it sends anything. Raises Wrong."""
        self.givers.append(body.giver)
        if body.size is not None:
            if self.size not in (None, body.size):
                raise self._wrong(f"sends {self._name} with {body.size} bytes, its page states {self.size}")
            self.size = body.size

    def update(self, data: bytes) -> None:
        """Take note of the next bytes. Raises Wrong for such a file, and once they are too many."""
        if not data.startswith(self._begin[self.seen :][: len(data)]):
            raise self._wrong(f"sent something else for {self._name}: it does not begin as such a file does")
        self.seen += len(data)
        if self.size is not None and self.seen > self.size:
            raise self._wrong(f"sent more than the {self.size} bytes of {self._name}")
        if self._digester is not None:
            self._digester.update(data)

    def finish(self) -> None:
        """All bytes are in. Raises Wrong if they are not those that were expected."""
        if self._known is None and self.seen <= len(self._begin):
            raise self._wrong(f"sent {self.seen} bytes for {self._name}")
        if self.size is not None and self.seen != self.size:
            raise self._wrong(f"sent {self.seen} of the {self.size} bytes of {self._name}")
        if self._known and self._digester and not hmac.compare_digest(self._digester.hexdigest(), self._known[1]):
            algorithm, stated = self._known
            got = self._digester.hexdigest()
            raise self._wrong(f"sent {self._name} with the {algorithm} {got}, its page states {stated}")

    def _wrong(self, what: str) -> Wrong:
        self._on_wrong(self.givers)
        return Wrong(f"the upstream {self.host} {what}")


class Fetch:
    """The file at `place`, from byte `start` on; its upstream has begun to answer when this is made.

    Until it begins, it is waited for as long as those do who are `patient`.

    Raises Unavailable, Late, Busy, Loop, and Missing, and Unavailable for another file than `check` knows.
    """

    def __init__(self, upstream: Mirrors, place: Place, check: Check, start: int = 0, *, patient: bool = False) -> None:
        self._upstream, self._place, self._patient = upstream, place, patient
        self.check = check
        self._body = upstream.open(place, start=start, packed=check.packed, patient=patient)
        try:
            check.expect(self._body)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give up what has not come."""
        self._body.close()

    def pieces(self) -> Iterator[bytes]:
        """The bytes that `check` has not seen; where they break off, the rest is asked for.

        A digest, or the upstream's own name for the bytes, must tell that it belongs to the beginning. A few tries in
        a row must bring a real part of the file. Until the first byte is here, this takes no longer than the request
        in hand has left (`hops`). Raises Unavailable, Missing.
        """
        check, validator, failures = self.check, self._body.validator, 0
        brought = at = check.seen
        while True:
            try:
                if failures:
                    time.sleep(_PAUSES[failures - 1])
                    if at:
                        hops.answered()
                    if_range = validator if at else None
                    self._body = self._upstream.open(
                        self._place, start=at, if_range=if_range, packed=check.packed, again=failures
                    )
                    check.givers.append(self._body.giver)
                if self._body.start != at and not check.exact:
                    validator = None
                    raise Unavailable("the upstream's file changed while it was being fetched")
                for data in self._body.pieces(at):
                    check.update(data)
                    yield data
                if check.size is None or check.seen >= check.size:
                    return
                raise Unavailable("the upstream broke off in the middle of a file")
            except Wrong:
                raise
            except Unavailable as error:
                at = check.seen
                if at - brought >= (_PART if check.size is None else min(_PART, max(check.size // 10, 1))):
                    brought, failures = at, 0
                failures += 1
                sure = check.exact or validator is not None
                if sure and at and failures > len(_PAUSES):
                    raise type(error)(f"{error}, and {failures} tries have brought {at - brought} bytes") from error
                if not sure or failures > len(_PAUSES) or (not at and hops.left() <= 0):
                    raise
                _log.info("going on with a download at byte %d: %s", at, error)
            finally:
                self.close()

    def checked(self) -> Iterator[bytes]:
        """The bytes of the whole file; what makes them complete only if they are right. Raises as `pieces`."""
        held = b""
        for piece in self.pieces():
            if held:
                yield held
            held = b"" if self.check.short else piece
            if not held:
                yield piece
        self.check.finish()
        if held:
            yield held


class Passing:
    """A file that the cache cannot take, as `fetch` has begun to bring it: for the first who asks for it."""

    def __init__(self, fetch: Fetch) -> None:
        self.size = fetch.check.size
        self._fetches = [fetch]

    def claim(self) -> Fetch | None:
        """What brings it; ``None`` if another has that."""
        try:
            return self._fetches.pop()
        except IndexError:
            return None


class Download(Arriving):
    """A file that is fetched into `growing`.

    Made when the upstream has begun to answer, so that its refusal is the
    asker's answer and not a broken connection. What is in `growing` already is
    taken for the beginning, which the check has to confirm by a digest. When
    the disk takes no more, those who read it get the rest all the same. `start`
    lets it run in a thread of its own; `ended` is called when it is over, or
    nobody else can have it.
    """

    def __init__(self, fetch: Fetch, growing: Growing, ended: Callable[[], object]) -> None:
        super().__init__(growing, fetch.check.size)
        self._claimed = False
        self._fetch, self._check = fetch, fetch.check
        self._growing = growing
        self._window: Window | None = None
        self._ended = ended

    def start(self) -> None:
        """Let it run. Raises Busy if the system has no thread left."""
        try:
            start("download", contextvars.copy_context().run, self._run)
        except Busy as error:
            self._fetch.close()
            self._failed(error)
            raise

    def _run(self) -> None:
        error: Unavailable | Missing | None = Unavailable("a download failed")
        try:
            self._take_up(self._growing.size)
            for data in self._fetch.pieces():
                self._take(data)
                self.advance(self._check.seen if self._check.short else self._check.seen - len(data))
            self._check.finish()
            error = None
        except (Unavailable, Missing) as raised:
            error = raised
        except OSError as raised:
            _log.warning("the cache folder cannot be read: %s", raised.strerror)
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
            self.advance(self._check.seen)

    def _take(self, data: bytes) -> None:
        if self._window is None:
            try:
                self._growing.write(data)
                return
            except OSError as error:
                _log.warning("the cache cannot take the rest of a file (%s); it is passed through", error.strerror)
            self._window = self._file = Window(
                self._growing, self._check.seen - len(data), awaited=lambda: self._awaited
            )
            self._growing.discard()
            self._ended()
        self._window.write(data)

    def _end(self, error: Unavailable | Missing | None) -> None:
        right = error is None and self._check.certain and self._window is None
        try:
            # Before the last piece is handed out: who has the whole file finds it kept.
            if right:
                self._growing.publish()
            else:
                self._growing.discard()
        finally:
            if error is None:
                self.advance(self._check.seen, whole=True)
            if self._window is None:
                self._ended()
        if error is not None:
            # Last, so that whoever asks again when told does not meet this one.
            self._failed(error)
        elif not self._check.certain:
            _log.info("a file without digest and length was passed on and not kept")

    def _failed(self, error: Unavailable | Missing) -> None:
        _log.warning("a download from %s failed: %s", self._check.host, error)
        self.fail(error)
