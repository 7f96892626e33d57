"""What was made once and stays true: kept while what it was made of is the very same object, bounded in bytes."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_MOST_BYTES = 32 * 2**20
_EACH = 500  # bytes that an entry takes besides its thing and the texts in its key

Thing = TypeVar("Thing")
Key = tuple[object, ...]
"""Texts, and objects that are there anyway."""


class Kept(Generic[Thing]):
    """Things by key, at most `most_bytes` together with their keys; `weigh` tells how many a thing takes, nearly.

    Whoever asks for a thing that is being made waits for it instead of making
    it too. Safe for threads.
    """

    def __init__(self, weigh: Callable[[Thing], int], most_bytes: int = _MOST_BYTES) -> None:
        self._weigh, self._most = weigh, most_bytes
        self._kept: dict[Key, tuple[tuple[object, ...], Thing, int]] = {}
        self._making: dict[Key, threading.Lock] = {}
        self._lock = threading.Lock()
        self.weight = 0
        """Bytes of all that is kept, nearly."""

    def get(self, key: Key, sources: tuple[object, ...], make: Callable[[], Thing]) -> Thing:
        """The thing made of `sources` under `key`; made anew when one of them is another object than last time.

        Raises what `make` raises; then nothing is kept.
        """
        kept = self._kept.get(key)
        if kept is not None and all(map(operator.is_, kept[0], sources)):
            return kept[1]
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            kept = self._kept.get(key)
            if kept is not None and all(map(operator.is_, kept[0], sources)):
                return kept[1]
            try:
                thing = make()
                self._keep(key, sources, thing)
            finally:
                # Those who wait hold the same lock; one who comes now finds the thing.
                with self._lock:
                    self._making.pop(key, None)
        return thing

    def _keep(self, key: Key, sources: tuple[object, ...], thing: Thing) -> None:
        weight = self._weigh(thing) + _EACH + sum(4 * len(part) for part in key if isinstance(part, str))
        with self._lock:
            self._forget(key)
            self._kept[key] = sources, thing, weight
            self.weight += weight
            # The oldest go first: what is still asked for is soon made again. One that is too large alone may stay.
            while self.weight > self._most and len(self._kept) > 1:
                self._forget(next(iter(self._kept)))

    def _forget(self, key: Key) -> None:
        old = self._kept.pop(key, None)
        self.weight -= old[2] if old is not None else 0

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self.weight = 0
