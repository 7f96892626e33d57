"""Finding out what releases say of their licence: in the background, the newest first, and never twice."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from .. import metadata, releases
from ..errors import Busy, PypiServerLiteError
from ..kept import Turnstile, start
from ..model import File, Opener, Project
from .licences import Said
from .remembered import Remembered, key_of

_log = logging.getLogger(__name__)

_MOST = 20_000  # releases that wait to be looked at; who asks for more asks again
_RETRY = 600.0  # seconds after which it is tried again to find out what could not be
_SOON = 1.0  # seconds after which to look again at what is being found out


class _Task(NamedTuple):
    key: bytes
    project: Project
    version: str
    source: Opener


class Licensing:
    """What releases say of their licence, as `remembered`, else from their core metadata.

    Whoever asks first waits `patience` seconds at most, and passes `waiting`
    meanwhile. So many `threads` at most look at files, those of the newest
    releases first. `clock` tells seconds since 1970.
    """

    def __init__(
        self,
        remembered: Remembered,
        waiting: Turnstile | None = None,
        patience: float = 2.0,
        threads: int = 2,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.remembered, self._waiting, self._patience, self._clock = remembered, waiting, patience, clock
        self._most_threads = threads
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_after_fork, weakref.ref(self)))

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._batches: list[list[_Task]] = []
        self._wanted: set[bytes] = set()
        self._failed: dict[bytes, float] = {}
        self._threads: list[threading.Thread] = []

    def of(self, project: Project, versions: Sequence[str], source: Opener) -> tuple[Mapping[str, Said | None], float]:
        """What some releases of a project say, ``None`` where that is not known; and the moment to ask again.

        `versions` begin with the newest; `source` has their core metadata.
        """
        first = _first_files(project)
        keys = {version: key_of(first[version], project.origin) for version in versions if version in first}
        known = self.remembered.said(keys.values(), self._clock())
        if len(known) < len(set(keys.values())):
            tasks = [_Task(key, project, version, source) for version, key in keys.items() if key not in known]
            self._ask(tasks)
            known = self.remembered.said(keys.values(), self._clock())
        return {version: known.get(key) for version, key in keys.items()}, self._again(keys.values() - known.keys())

    def _again(self, unknown: set[bytes]) -> float:
        with self._changed:
            if not unknown:
                return math.inf
            if unknown & self._wanted or unknown - self._failed.keys():
                return self._clock() + _SOON
            return min(self._failed[key] for key in unknown) + _RETRY

    def _ask(self, tasks: list[_Task]) -> None:
        """Have some releases looked at; wait a little, if nobody asked before."""
        now = self._clock()
        with self._changed:
            tried = {key for key, when in self._failed.items() if 0 <= now - when < _RETRY}
            new = [task for task in tasks if task.key not in self._wanted and task.key not in tried]
            new = new[: max(0, _MOST - len(self._wanted))]
            if not new:
                return
            self._wanted.update(task.key for task in new)
            self._batches.append(new[::-1])
            self._man()
        self._wait({task.key for task in new})

    def _man(self) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        while len(self._threads) < self._most_threads:
            try:
                self._threads.append(start("licences", self._work))
            except Busy:
                return  # the next one tries again

    def _wait(self, keys: set[bytes]) -> None:
        if self._waiting is None:
            self._settle(keys)
            return
        try:
            self._waiting.enter()
        except Busy:
            return
        try:
            self._settle(keys)
        finally:
            self._waiting.leave()

    def _settle(self, keys: set[bytes]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not keys & self._wanted, self._patience)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._batches:
                    self._threads.remove(threading.current_thread())
                    return
                # Whoever asked last is waiting; the others have an answer that is good for now.
                task = self._batches[-1].pop()
                if not self._batches[-1]:
                    self._batches.pop()
            found = False
            try:
                found = self._look(task)
            except PypiServerLiteError as error:
                _log.info("the licence of %s %s is not known: %s", task.project.name, task.version, error)
            finally:
                with self._changed:
                    self._wanted.discard(task.key)
                    if not found:
                        if len(self._failed) >= _MOST:
                            self._failed.clear()
                        self._failed[task.key] = self._clock()
                    self._changed.notify_all()

    def _look(self, task: _Task) -> bool:
        """Find out what one release says, and remember it; false if it has no core metadata that could be read."""
        about = releases.about(task.project, task.version, task.source)
        if about is metadata.NOTHING:
            return False
        self.remembered.note({task.key: Said.by(about)}, self._clock())
        return True

    def close(self) -> None:
        """Look at nothing more, and close what is remembered."""
        with self._changed:
            self._batches.clear()
        self.remembered.close()

    def after_fork(self) -> None:
        """In a child process: whoever was at work is not here."""
        self._begin()


def _first_files(project: Project) -> dict[str, File]:
    """Of each release the file that stands for it: a wheel if it has one."""
    found: dict[str, File] = {}
    for file in sorted(project.files, key=lambda file: (not file.filename.endswith(".whl"), file.size or 0)):
        found.setdefault(file.version, file)
    return found


def _after_fork(ref: weakref.ref[Licensing]) -> None:
    licensing = ref()
    if licensing is not None:
        licensing.after_fork()
