"""Work shared by all who ask for it, what is kept of it within bounds, and waiting that is bounded."""

from __future__ import annotations

import contextvars
import math
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Generic, TypeVar

from .errors import Busy, Late, PypiServerLiteError, Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def start(name: str, work: Callable[..., object], *arguments: object) -> threading.Thread:
    """Let `work` run in a thread of its own, which does not keep the process from ending.

    Raises Busy if the system has no thread left; what the caller took for the work is then still the caller's.
    """
    thread = threading.Thread(target=work, args=arguments, name=f"pypiserver-lite-{name}", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise Busy("this machine has no thread left for that now; try again shortly") from error
    return thread


class _Flight(Generic[V]):
    def __init__(self) -> None:
        self.landed = threading.Event()
        self.value: list[V] = []
        self.error: Exception | None = None


def _again(error: BaseException) -> Exception:
    """The error for another thread. The same one would hold all frames it passed, and they the flight: in a circle."""
    if isinstance(error, (PypiServerLiteError, OSError)):
        return type(error)(*error.args)
    return Unavailable("somebody else asked for the same, and failed")


class Flights(Generic[K, V]):
    """Work by key, done by the first caller and shared with all who call meanwhile. Holds no more keys than callers.

    Who waits for another's work passes `waiting` for that time, if there is one.
    """

    def __init__(self, patience: float = 90.0, waiting: Turnstile | None = None) -> None:
        self._patience, self._waiting = patience, waiting
        self._lock = threading.Lock()
        self._flights: dict[K, _Flight[V]] = {}

    def do(self, key: K, work: Callable[[], V]) -> V:
        """The result of `work`, or of the same work that another thread is doing.

        Raises what it raises, Late, and Busy where too many wait.
        """
        flight, leading = self._join(key)
        if leading:
            return self._lead(key, flight, work)
        with self._waiting.inside() if self._waiting is not None else nullcontext():
            return self._wait(flight, self._patience)

    def do_behind(self, key: K, work: Callable[[], V], patience: float) -> V:
        """As `do`, but raises Late after `patience` seconds; the work goes on in a thread of its own."""
        flight, leading = self._join(key)
        if leading:
            run = contextvars.copy_context().run  # the work is still done for the request in hand
            try:
                start("asking", run, self._fly, key, flight, work)
            except Busy as error:
                self._land(key, flight, error)
        return self._wait(flight, patience)

    def _join(self, key: K) -> tuple[_Flight[V], bool]:
        with self._lock:
            flight = self._flights.get(key)
            leading = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        return flight, leading

    def _fly(self, key: K, flight: _Flight[V], work: Callable[[], V]) -> None:
        try:
            self._lead(key, flight, work)
        except PypiServerLiteError:
            return  # told to those who wait

    def _lead(self, key: K, flight: _Flight[V], work: Callable[[], V]) -> V:
        try:
            value = work()
        except BaseException as error:
            self._land(key, flight, error)
            raise
        flight.value.append(value)
        self._land(key, flight, None)
        return value

    def _land(self, key: K, flight: _Flight[V], error: BaseException | None) -> None:
        flight.error = None if error is None else _again(error)
        with self._lock:
            del self._flights[key]
        flight.landed.set()

    def _wait(self, flight: _Flight[V], patience: float) -> V:
        if not flight.landed.wait(patience):
            raise Late("somebody else asked for this a while ago, and has no answer yet")
        if flight.error is not None:
            raise _again(flight.error)
        return flight.value[0]


class Turnstile:
    """Lets so many callers through at once, `room` more wait a moment, and the rest are told at once to come back.

    Whoever may have to wait for something slow (an upstream, a digest, the
    reader of a file under way) holds a thread of the server meanwhile. With
    fewer places than threads, there is always one left for what is at hand;
    `within` is a turnstile that all kinds of slow work pass besides, so that
    they do not fill all places together.
    """

    def __init__(self, places: int, room: int = 0, patience: float = 0.0, within: Turnstile | None = None) -> None:
        self.places, self._room, self._patience = places, room, patience
        self._within = within
        self.after_fork()

    def after_fork(self) -> None:
        """In a child process: whoever was through, or waited, is not here."""
        self._free = threading.BoundedSemaphore(self.places)
        self._seats = threading.BoundedSemaphore(self._room) if self._room else None
        if self._within is not None:
            self._within.after_fork()

    def enter(self, most: float = math.inf) -> None:
        """Get through, after `most` seconds at most. Raises Busy; otherwise `leave` must follow."""
        if self._within is None:
            self._enter(most)
            return
        self._within.enter(most)
        try:
            self._enter(most)
        except BaseException:
            self._within.leave()
            raise

    def _enter(self, most: float) -> None:
        if self._free.acquire(blocking=False):
            return
        if self._seats is not None and self._seats.acquire(blocking=False):
            try:
                if self._free.acquire(timeout=max(min(self._patience, most), 0.0)):
                    return
            finally:
                self._seats.release()
        raise Busy("too many requests that take long are under way; try again shortly")

    def leave(self) -> None:
        """Make way for the next."""
        self._free.release()
        if self._within is not None:
            self._within.leave()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be through for the length of a block. Raises Busy."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def through(self, begin: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
        """The pieces that `begin` returns; who reads them is through until the last, or until nobody does any more.

        Raises Busy, and what `begin` raises.
        """
        self.enter()
        try:
            return _Pieces(begin(), self)
        except BaseException:
            self.leave()
            raise


class _Pieces(Iterator[bytes]):
    """Pieces whose reader has a place at a turnstile: until the last, until closed, or until nobody holds them."""

    def __init__(self, pieces: Iterator[bytes], turnstile: Turnstile) -> None:
        self._pieces = pieces
        self._leave = weakref.finalize(self, turnstile.leave)
        self._leave.atexit = False

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self._leave()
            raise

    def close(self) -> None:
        """Make way, and let go of what the pieces come from."""
        self._leave()
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


def _reference(source: object) -> Callable[[], object]:
    """What returns the source, and keeps it only if it must: that may be larger than what is made of it."""
    try:
        return weakref.ref(source)
    except TypeError:
        return lambda: source


def _are(references: tuple[Callable[[], object], ...], sources: tuple[object, ...]) -> bool:
    return not sources or all(reference() is source for reference, source in zip(references, sources, strict=True))


_EACH = 500  # bytes that an entry takes besides its thing and the texts in its key


class Kept(Generic[V]):
    """Things by key, each kept while what it was made of is the very same object.

    Together with their keys they have at most `most_bytes`, or are one;
    `weigh` tells how many a thing has, nearly. A key holds texts, and objects
    that are there anyway; so do not tuples, but projects, end when nobody
    else has them. Whoever asks for a thing that is being made waits
    for it, and passes `waiting` meanwhile. Safe for threads.
    """

    def __init__(
        self, weigh: Callable[[V], int], most_bytes: int = 32 * 2**20, waiting: Turnstile | None = None
    ) -> None:
        self._weigh, self._most = weigh, most_bytes
        self._things: dict[tuple[object, ...], tuple[tuple[Callable[[], object], ...], V, int]] = {}
        self._flights: Flights[tuple[object, ...], V] = Flights(waiting=waiting)
        self._lock = threading.Lock()
        self.weight = 0
        """Bytes of all that is kept, nearly."""

    def get(self, key: tuple[object, ...], sources: tuple[object, ...], make: Callable[..., V], *given: object) -> V:
        """The thing made of `sources` under `key`, by `make(*given)`, anew when one of them is another object.

        Raises what `make` raises, and Busy where too many wait; then nothing is kept.
        """
        found = self._things.get(key)
        if found is not None and _are(found[0], sources):
            return found[1]

        def made() -> V:
            found = self._things.get(key)
            if found is not None and _are(found[0], sources):
                return found[1]
            thing = make(*given)
            self._keep(key, sources, thing)
            return thing

        return self._flights.do((*key, *map(id, sources)), made)

    def _keep(self, key: tuple[object, ...], sources: tuple[object, ...], thing: V) -> None:
        weight = self._weigh(thing) + _EACH + sum(4 * len(part) for part in key if isinstance(part, str))
        with self._lock:
            self._forget(key)
            self._things[key] = tuple(map(_reference, sources)), thing, weight
            self.weight += weight
            # The oldest go first: what is still asked for is soon made again. One that is too large alone may stay.
            while self.weight > self._most and len(self._things) > 1:
                self._forget(next(iter(self._things)))

    def _forget(self, key: tuple[object, ...]) -> None:
        old = self._things.pop(key, None)
        self.weight -= old[2] if old is not None else 0

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._things.clear()
            self.weight = 0
