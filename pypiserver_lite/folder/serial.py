"""A number that tells one state of the folders from another, for mirrors."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from ..model import SERIALS_SINCE, SETTLES, State
from .listing import Stamp


class Serial:
    """The present `State`."""

    def __init__(self) -> None:
        self._state, self._last_change = State(0), 0

    def state(self, now: float | None = None) -> State:
        """The folders as they were at the last look; `now` is in seconds since 1970."""
        state = self._state
        if not state.settled and (time.time() if now is None else now) >= state.moment + SETTLES:
            self._state = state = State(state.serial + 1, settled=True)
        return state

    def advance(self, stamps: Iterable[Stamp], *, changed: bool) -> None:
        """Folders have these stamps now; `changed`: something in them is known to be another."""
        # The time of the last status change cannot be set; Windows has none, and calls that of creation so.
        times = (stamp[0 if os.name == "nt" else 1] // 10**9 - SERIALS_SINCE for stamp in stamps)
        last = max((self._last_change, *times))
        if last != self._last_change:
            self._state, self._last_change = State(last), last
        elif changed:
            # Within a second, and within a tick of the file system, times tell nothing.
            self._state = State(self._state.serial, settled=self._state.settled)
