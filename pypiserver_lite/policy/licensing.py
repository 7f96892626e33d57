"""Finding out what releases say of their licence: in the background, the newest first, and never twice."""

from __future__ import annotations

import logging
import math
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from .. import metadata, releases
from ..errors import Busy, PypiServerLiteError
from ..kept import Kept, Turnstile, start
from ..model import File, Opener, Project
from .licences import Said
from .remembered import Remembered, digest_in, key_of

_log = logging.getLogger(__name__)

_MOST = 20_000  # releases that wait to be looked at; those of the last ranks make way, until somebody asks again
_PORTION = 200  # releases of a project that whoever asks for it has looked at; the next ones when somebody asks again
_RETRY = 600.0  # seconds after which core metadata that are not there are looked for again
_PAUSE, _LONGEST = 2.0, 30.0  # seconds after which a source that cannot say is asked again, at first and at last
_FILE_WEIGHT = 1000  # bytes, nearly: of a file, which may be held by nobody else
_MOST_UNNAMED = 16 * 2**20  # bytes of files without a digest
_SOON = 1.0  # seconds after which to look again at what is being found out


class Licences(NamedTuple):
    """What is known of the licences of some releases."""

    said: Mapping[str, Said]
    """What they say, by version, as far as that is known."""
    later: frozenset[str]
    """Of the others those of which it may be known before long: nobody looked yet, or their source cannot say now."""
    until: float
    """The moment to ask again, in seconds since 1970; infinite if nothing is left to be found out."""


class _Task(NamedTuple):
    key: bytes
    lasting: bool
    """Whether the key names these bytes for ever."""
    project: Project
    version: str
    source: Opener


class _Failure(NamedTuple):
    """What could not be found out."""

    when: float
    pause: float
    """Seconds after `when` until it is tried again."""
    nothing: bool
    """Whether there is nothing to be read; else the source could not say."""


class _Waiting:
    """Releases that wait to be looked at: the first of every project, then the second, of equals what was asked last.

    So nobody who asks for much keeps others from what they need most: the newest.
    """

    def __init__(self) -> None:
        self._ranks: list[dict[bytes, _Task]] = [{} for _ in range(_PORTION)]
        self._rank_of: dict[bytes, int] = {}

    def put(self, rank: int, task: _Task) -> None:
        """Have one looked at before all others of its rank, whatever it had before."""
        if task.key in self._rank_of:
            del self._ranks[self._rank_of[task.key]][task.key]
        self._ranks[rank][task.key] = task
        self._rank_of[task.key] = rank

    def take(self) -> _Task | None:
        """The next one; ``None`` if there is none."""
        for rank in self._ranks:
            if rank:
                _, task = rank.popitem()
                del self._rank_of[task.key]
                return task
        return None

    def cut(self, most: int) -> None:
        """Forget the last ones, so that `most` are left."""
        while len(self._rank_of) > most:
            rank = next(rank for rank in reversed(self._ranks) if rank)
            key = next(iter(rank))
            del rank[key], self._rank_of[key]

    def __contains__(self, key: bytes) -> bool:
        return key in self._rank_of

    def __len__(self) -> int:
        return len(self._rank_of)


class Licensing:
    """What releases say of their licence, as `remembered`, else from their core metadata.

    Whoever asks first waits `patience` seconds at most, and passes `waiting`
    meanwhile. So many `threads` at most look at files, of each project those
    of the newest releases first. `clock` tells seconds since 1970.
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
        self._tasks = _Waiting()
        self._looked_at: set[bytes] = set()
        self._failed: dict[bytes, _Failure] = {}
        self._unnamed = Kept[bytes](lambda key: _FILE_WEIGHT, most_bytes=_MOST_UNNAMED)
        self._threads: list[threading.Thread] = []

    def of(self, project: Project, versions: Sequence[str], source: Opener) -> Licences:
        """What some releases of a project say; `versions` begin with the newest, `source` has their core metadata."""
        first = _first_files(project)
        found = {version: self._key(first[version], project.origin) for version in versions if version in first}
        keys = {version: key for version, (key, _) in found.items()}
        known = self.remembered.said(keys.values(), self._clock())
        if len(known) < len(set(keys.values())):
            asked = ((*found[version], version) for version, key in keys.items() if key not in known)
            self._ask(_Task(key, lasting, project, version, source) for key, lasting, version in asked)
            known = self.remembered.said(keys.values(), self._clock())
        said = {version: known[key] for version, key in keys.items() if key in known}
        later, until, now = set(), math.inf, self._clock()
        with self._changed:
            for version, key in keys.items() if len(said) < len(keys) else ():
                if version not in said:
                    failure = self._failure(key, now)
                    until = min(until, now + _SOON if failure is None else failure.when + failure.pause)
                    later |= set() if failure is not None and failure.nothing else {version}
        return Licences(said, frozenset(later), until)

    def _key(self, file: File, origin: str) -> tuple[bytes, bool]:
        """What stands for what a file says, and whether it does for ever.

        A digest names it, that of the core metadata as well. Without any (``hash_algo = "no"``, a plain upstream)
        other bytes may come under this name, even of this size: then it is what is known of this very object.
        """
        named = digest_in(file.hashes)
        if not named and (metadata := digest_in(file.core_metadata or {})):
            named = f"metadata {metadata}"
        if named:
            return key_of(file, origin, named), True
        return self._unnamed.get((file.filename, id(file)), (file,), partial(secrets.token_bytes, 16)), False

    def _failure(self, key: bytes, now: float) -> _Failure | None:
        """Why nobody looks at a release now; ``None`` if somebody does, or may."""
        failure = None if self._is_wanted(key) else self._failed.get(key)
        return failure if failure is not None and 0 <= now - failure.when < failure.pause else None

    def _is_wanted(self, key: bytes) -> bool:
        return key in self._tasks or key in self._looked_at

    def _ask(self, tasks: Iterable[_Task]) -> None:
        """Have some releases looked at, before others that were asked for earlier; wait a little if any is new."""
        now = self._clock()
        with self._changed:
            due = list(islice((task for task in tasks if self._failure(task.key, now) is None), _PORTION))
            new = {task.key for task in due if not self._is_wanted(task.key)}
            for rank, task in enumerate(due):
                if task.key not in self._looked_at:
                    self._tasks.put(rank, task)
            self._tasks.cut(_MOST)
            self._man()
        if new:
            self._wait(new)

    def _man(self) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        while len(self._threads) < min(self._most_threads, len(self._tasks) + len(self._looked_at)):
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
            self._changed.wait_for(lambda: not any(map(self._is_wanted, keys)), self._patience)

    def _work(self) -> None:
        while True:
            with self._changed:
                task = self._tasks.take()
                if task is None:
                    self._threads.remove(threading.current_thread())
                    return
                self._looked_at.add(task.key)
            found: bool | None = None
            try:
                found = self._look(task)
            except PypiServerLiteError as error:
                _log.info("the licence of %s %s is not known: %s", task.project.name, task.version, error)
            finally:
                with self._changed:
                    self._looked_at.discard(task.key)
                    self._note(task.key, found)
                    self._changed.notify_all()

    def _look(self, task: _Task) -> bool:
        """Find out what one release says, and remember it; false if it has no core metadata that could be read.

        Raises Unavailable if its source cannot say now.
        """
        if self.remembered.said((task.key,), self._clock()):
            return True  # whoever asked looked it up just before another had found it
        about = releases.about(task.project, task.version, task.source)
        if about is metadata.NOTHING:
            return False
        self.remembered.note({task.key: Said.by(about)}, self._clock(), lasting=task.lasting)
        return True

    def _note(self, key: bytes, found: bool | None) -> None:
        """What came of looking; ``None``: the source could not say."""
        before = self._failed.pop(key, None)
        if found:
            return
        if len(self._failed) >= _MOST:
            self._failed.clear()
        # A source that was away for a moment hides nothing for long, nor is one that stays away asked for ever.
        pause = _PAUSE if before is None or before.nothing else min(2 * before.pause, _LONGEST)
        nothing = found is not None
        self._failed[key] = _Failure(self._clock(), _RETRY if nothing else pause, nothing)

    def close(self) -> None:
        """Look at nothing more, and close what is remembered."""
        with self._changed:
            self._tasks.cut(0)
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
