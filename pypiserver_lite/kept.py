"""Work shared by all who ask for it, what is kept of it within bounds, and waiting that is bounded."""

from __future__ import annotations

import contextvars
import math
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import FIFOCache

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

    def under_way(self, key: K) -> bool:
        """Whether somebody is doing this work now."""
        return key in self._flights

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
            raise Late("this was asked for a while ago, and there is no answer yet")
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
        self._begin()

    def _begin(self) -> None:
        self._free = threading.BoundedSemaphore(self.places)
        self._seats = threading.BoundedSemaphore(self._room) if self._room else None

    def after_fork(self) -> None:
        """In a child process: whoever was through, or waited, is not here."""
        self._begin()
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
    def inside(self, most: float = math.inf) -> Iterator[None]:
        """Be through for the length of a block, after `most` seconds at most. Raises Busy."""
        self.enter(most)
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


@dataclass(slots=True)
class _Entry(Generic[V]):
    made_of: tuple[Callable[[], object], ...]
    thing: V
    weight: int
    used: bool = False

    def is_of(self, sources: tuple[object, ...]) -> bool:
        for at, source in enumerate(sources):  # noqa: SIM110  # asked at every page, and `all` costs twice as much
            if self.made_of[at]() is not source:
                return False
        return True


class _Things(FIFOCache[Hashable, _Entry[V]]):
    """Forgets what came first, but what was used since has a second chance: using a thing moves nothing."""

    def popitem(self) -> tuple[Hashable, _Entry[V]]:
        """Take the first out that has no second chance; cachetools asks for it where room is needed."""
        key, entry = super().popitem()
        while entry.used:
            entry.used = False
            self[key] = entry
            key, entry = super().popitem()
        return key, entry


_EACH = 500  # bytes that an entry takes besides its thing and the texts in its key


def _weight_of_key(key: Hashable) -> int:
    parts = key if isinstance(key, tuple) else (key,)
    return sum(4 * len(part) for part in parts if isinstance(part, (str, bytes)))


class Kept(Generic[V]):
    """Things by key, each kept while what it was made of is the very same object.

    Together with their keys they have at most `most_bytes`, or are one;
    `weigh` tells how many a thing has, nearly. A key holds texts, bytes, and
    objects that are there anyway; so do not tuples, but projects, end when
    nobody else has them. Whoever asks for a thing that is being made waits
    for it, and passes `waiting` meanwhile. Safe for threads.
    """

    def __init__(
        self, weigh: Callable[[V], int], most_bytes: int = 32 * 2**20, waiting: Turnstile | None = None
    ) -> None:
        self._weigh = weigh
        self._things: _Things[V] = _Things(most_bytes, getsizeof=lambda entry: entry.weight)
        self._large: tuple[Hashable, _Entry[V]] | None = None
        self._waiting = waiting
        self._flights: Flights[tuple[object, ...], V] = Flights(waiting=waiting)
        self._lock = threading.Lock()

    @property
    def weight(self) -> int:
        """Bytes of all that is kept, nearly."""
        large = self._large
        return int(self._things.currsize) + (0 if large is None else large[1].weight)

    def find(self, key: Hashable, sources: tuple[object, ...] = ()) -> V | None:
        """What is kept under `key`, if it was made of these very `sources`; ``None`` if there is nothing."""
        try:
            entry = self._things[key]  # without the lock: nothing moves
        except KeyError:
            large = self._large
            if large is None or large[0] != key:
                return None
            entry = large[1]
        if sources and not entry.is_of(sources):
            return None
        entry.used = True
        return entry.thing

    def put(self, key: Hashable, thing: V, sources: tuple[object, ...] = ()) -> None:
        """Keep a thing that was made of `sources`. One that is too large to be kept with others is kept alone."""
        weight = self._weigh(thing) + _EACH + _weight_of_key(key)
        entry = _Entry(tuple(map(_reference, sources)), thing, weight)
        with self._lock:
            self._forget(key)
            if weight > self._things.maxsize:
                self._things.clear()
                self._large = key, entry
            else:
                self._large = None
                self._things[key] = entry

    def get(self, key: tuple[object, ...], sources: tuple[object, ...], make: Callable[[], V]) -> V:
        """The thing made of `sources` under `key`, by `make`, anew when one of them is another object.

        Raises what `make` raises, and Busy where too many wait; then nothing is kept.
        """
        found = self.find(key, sources)
        if found is not None:
            return found

        def made() -> V:
            found = self.find(key, sources)
            if found is None:
                found = make()
                self.put(key, found, sources)
            return found

        return self._flights.do((*key, *map(id, sources)), made)

    def drop(self, key: Hashable) -> None:
        """Forget one thing."""
        with self._lock:
            self._forget(key)

    def _forget(self, key: Hashable) -> None:
        self._things.pop(key, None)
        if self._large is not None and self._large[0] == key:
            self._large = None

    def after_fork(self) -> None:
        """In a child process: whoever held the lock, or was making something, is not here. What is kept starts anew."""
        self._lock = threading.Lock()
        self._flights = Flights(waiting=self._waiting)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._things.clear()
            self._large = None

    def part(self, of: Hashable) -> Kept[V]:
        """Things under keys of their own, kept here with all others and within the same bounds."""
        return _Part(self, of)


class _Part(Kept[V]):
    """What is kept in `whole` of `of`."""

    def __init__(self, whole: Kept[V], of: Hashable) -> None:
        self._whole, self._of = whole, of

    @property
    def weight(self) -> int:
        return self._whole.weight

    def find(self, key: Hashable, sources: tuple[object, ...] = ()) -> V | None:
        return self._whole.find(self._key(key), sources)

    def put(self, key: Hashable, thing: V, sources: tuple[object, ...] = ()) -> None:
        self._whole.put(self._key(key), thing, sources)

    def get(self, key: tuple[object, ...], sources: tuple[object, ...], make: Callable[[], V]) -> V:
        return self._whole.get(self._key(key), sources, make)

    def drop(self, key: Hashable) -> None:
        self._whole.drop(self._key(key))

    def after_fork(self) -> None:
        self._whole.after_fork()

    def clear(self) -> None:
        self._whole.clear()

    def _key(self, key: Hashable) -> tuple[Hashable, ...]:
        return (self._of, *key) if isinstance(key, tuple) else (self._of, key)
