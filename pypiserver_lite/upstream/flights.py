"""One asks, the others wait for the answer."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ..errors import Late, PypiServerLiteError, Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight(Generic[V]):
    def __init__(self) -> None:
        self.landed = threading.Event()
        self.value: list[V] = []
        self.error: BaseException | None = None


class Flights(Generic[K, V]):
    """Work by key, done by the first caller and shared with all who call meanwhile. Holds no more keys than callers."""

    def __init__(self, patience: float = 90.0) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._flights: dict[K, _Flight[V]] = {}

    def do(self, key: K, work: Callable[[], V]) -> V:
        """The result of `work`, or of the same work that another thread is doing. Raises what it raises, and Late."""
        flight, leading = self._join(key)
        return self._lead(key, flight, work) if leading else self._wait(flight, self._patience)

    def do_behind(self, key: K, work: Callable[[], V], patience: float) -> V:
        """As `do`, but raises Late after `patience` seconds; the work goes on in a thread of its own."""
        flight, leading = self._join(key)
        if leading:
            run = contextvars.copy_context().run  # the work is still done for the request in hand
            thread = threading.Thread(target=run, args=(self._fly, key, flight, work), name="pypiserver-lite-asking")
            thread.daemon = True
            thread.start()
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
            flight.value.append(value)
            return value
        except BaseException as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()

    def _wait(self, flight: _Flight[V], patience: float) -> V:
        if not flight.landed.wait(patience):
            raise Late("the upstream was asked for this a while ago, and has no answer yet")
        if flight.value:
            return flight.value[0]
        if isinstance(flight.error, PypiServerLiteError):
            # Not the same object: each thread adds its own traceback.
            raise type(flight.error)(str(flight.error)) from flight.error
        raise Unavailable("somebody else asked the upstream for the same, and failed") from flight.error
