"""Which of many projects show nothing, without looking at all of them when somebody asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain, islice

from packaging.utils import NormalizedName

from .errors import Busy, Unavailable
from .kept import start

_PATIENCE = 0.1  # seconds for which a request waits for a look at all projects; it is enough for some thousands
_SHARE = 20  # looking takes at most one part in so many of the time
_MOST = 2000  # projects that are looked at once more for each list
_AT_ONCE = 100  # projects that are looked at before others get their turn


class Emptied:
    """Of some names those that `shows` nothing, which may raise Unavailable.

    They are looked for in the background. What is left out of a list is
    looked at for this very list; what was not found yet is still in it.
    Of very many, some are looked at for each list in turn, and the others
    are as the background last found them. What is held is some of the names.
    """

    def __init__(self, shows: Callable[[NormalizedName], bool]) -> None:
        self._shows = shows
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._again = 0.0
        self._looked: tuple[object, object] = None, None
        self._found: frozenset[NormalizedName] = frozenset()
        self._shown: frozenset[NormalizedName] = frozenset()  # of those, what showed something when last looked at
        self._turn = 0
        self._listed: tuple[object, object, object, Sequence[NormalizedName]] = None, None, None, ()

    def without(self, names: Sequence[NormalizedName], state: object) -> Sequence[NormalizedName]:
        """The names without those that show nothing: the very same object while neither changed.

        `state` is another object whenever any of them may show something else than before.
        """
        self._look(names, state)
        before = self._listed
        found = self._found
        if before[0] is names and before[1] is state and before[2] is found:
            return before[3]
        shown = self._shown = frozenset(name for name in self._some(found) if self._says(name))
        empty = found - shown
        listed = tuple(name for name in names if name not in empty) if empty else names
        listed = before[3] if before[3] == listed else listed
        self._listed = names, state, found, listed
        return listed

    def _some(self, found: frozenset[NormalizedName]) -> list[NormalizedName]:
        """Those to look at once more: all, or what showed something the last time and those whose turn it is."""
        begin = self._turn if self._turn < len(found) else 0
        self._turn = begin + _MOST
        again = self._shown & found
        rest = (name for name in chain(islice(found, begin, None), islice(found, begin)) if name not in again)
        return list(islice(chain(again, rest), _MOST))

    def _look(self, names: Sequence[NormalizedName], state: object) -> None:
        """Have all names looked at that were not since they changed, and wait a moment for that."""
        looked = self._looked
        if looked[0] is names and looked[1] is state:
            return
        with self._lock:
            if (self._thread is not None and self._thread.is_alive()) or time.monotonic() < self._again:
                return  # who comes meanwhile does not wait
            try:
                thread = self._thread = start("emptied", self._look_through, names, state)
            except Busy:
                return  # the next one tries again
        thread.join(_PATIENCE)

    def _look_through(self, names: Sequence[NormalizedName], state: object) -> None:
        began = time.monotonic()
        found = set()
        for number, name in enumerate(names):
            if not self._says(name):
                found.add(name)
            if number % _AT_ONCE == _AT_ONCE - 1:
                time.sleep(0.001)
        if found != self._found:
            self._found = frozenset(found)
        self._looked = names, state
        self._again = time.monotonic() + (time.monotonic() - began) * _SHARE

    def _says(self, name: NormalizedName) -> bool:
        """Whether a project shows anything; so it counts as long as nobody can say."""
        try:
            return self._shows(name)
        except Unavailable:
            return True
