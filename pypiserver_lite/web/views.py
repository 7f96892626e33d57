"""What is made for each part of an index that somebody sees, and kept for all who see the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from cachetools import LRUCache

from ..rights.rules import View

MOST = 64
"""Views that are kept; of more, those that were looked at last."""

T = TypeVar("T")


class Views(Generic[T]):
    """Things by view, each made by `make` when it is first asked for. Safe for threads."""

    def __init__(self, make: Callable[[View], T]) -> None:
        self._make = make
        self._made: LRUCache[View, T] = LRUCache(MOST)
        self._lock = threading.Lock()

    def of(self, view: View) -> T:
        """What is made for a view."""
        with self._lock:
            made = self._made.get(view)
            if made is None:
                made = self._made[view] = self._make(view)
            return made

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._made.clear()
