"""SIGHUP where it means that the settings are to be read again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from ..kept import start

NUMBER: int = getattr(signal, "SIGHUP", 0)
"""SIGHUP; 0 where the system has none."""


class Hangup:
    """From now on SIGHUP calls `act` in a thread of its own: once more after each signal, never twice at a time.

    A signal that comes before `act` is named is remembered. To be made in the main thread.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        if NUMBER:
            signal.signal(NUMBER, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signal."""
        self._asked.set()

    def calls(self, act: Callable[[], object]) -> None:
        """Name what is done."""
        start("settings", self._run, act)

    def _run(self, act: Callable[[], object]) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            act()


def join(application: object, parent: int) -> None:
    """Have `application`, if it reads settings again, tell the process `parent` so, as long as that is our parent.

    It may be asked to by a request, and others serve too.
    """

    def tell() -> None:
        if NUMBER and os.getppid() == parent:
            os.kill(parent, NUMBER)

    if hasattr(application, "others"):
        application.others = tell
