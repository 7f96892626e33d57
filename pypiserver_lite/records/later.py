"""What is written some seconds later, all at once, by a thread that is there only until then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from ..errors import Unavailable

EVERY = 10.0
"""Seconds between what waits and its being written."""

_log = logging.getLogger(__name__)


class Later:
    """Calls each of `writes` some seconds after `soon`, and at the end. What raises Unavailable is tried again."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self.writes: Sequence[Callable[[], None]] = ()
        self._said = ""
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._end = threading.Event()

    def soon(self) -> None:
        """There is something to write. Never raises, never waits for a disk."""
        if self._thread is None and not self._closed:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, args=(self._end,), name="records", daemon=True)
                    self._thread.start()

    def now(self) -> bool:
        """Write what waits; whether all could be. Never raises: the log says once what hinders."""
        with self._writing:  # so that who is about to end waits for a thread that took what is to be written
            return self._write()

    def _write(self) -> bool:
        said = ""
        for write in self.writes:
            try:
                write()
            except Unavailable as error:
                said = str(error)
        if said and said != self._said:
            _log.warning(
                "%s; what was refused and downloaded is not put on record until it can be (--no-download-counts has "
                "nothing counted)",
                said,
            )
        self._said = said
        return not said

    def close(self) -> None:
        """Write what waits, and stop."""
        self._closed = True
        self._end.set()
        thread = self._thread
        if thread is not None:
            thread.join()
        self.now()

    def at_exit(self) -> None:
        """As the process ends: write what waits, if nobody closed it. Never raises."""
        if not self._closed:
            self.now()

    def after_fork(self) -> None:
        """In a child process: there is no thread."""
        self._begin()

    def _work(self, end: threading.Event) -> None:
        end.wait(self._every)
        self._thread = None  # what comes from now on may be too late for this one
        if not self._closed and not self.now():
            self.soon()
