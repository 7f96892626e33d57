"""What is written some seconds later, by one thread that is there while something waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from ..errors import Unavailable

EVERY = 10.0
"""Seconds between what waits and its being written."""

_log = logging.getLogger(__name__)


class Later:
    """Calls each of `writes` some seconds after `soon`, and at `close`. What raises Unavailable is tried again."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self.writes: Sequence[Callable[[], None]] = ()
        self._said = ""
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._end = threading.Event()

    def soon(self) -> None:
        """There is something to write."""
        if self._thread is None and not self._end.is_set():
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="records", daemon=True)
                    self._thread.start()

    def now(self) -> None:
        """Write what waits. Never raises: the log says once what hinders."""
        said = ""
        for write in self.writes:
            try:
                write()
            except Unavailable as error:
                said = str(error)
        if said and said != self._said:
            _log.warning("downloads and refusals are not put on record: %s", said)
        self._said = said

    def close(self) -> None:
        """Write what waits, and stop."""
        self._end.set()
        thread = self._thread
        if thread is not None:
            thread.join()
        self.now()

    def after_fork(self) -> None:
        """In a child process: there is no thread."""
        ended = self._end.is_set()
        self._begin()
        if ended:
            self._end.set()

    def _work(self) -> None:
        while not self._end.wait(self._every):
            self.now()
