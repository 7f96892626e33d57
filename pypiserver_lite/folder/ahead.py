"""Reading files before anybody asks: one quiet thread, newest files first."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from time import monotonic

from ..errors import Busy, Unavailable
from ..kept import start
from ..model import FileState
from .listing import Entry
from .memory import Reader

_log = logging.getLogger(__name__)

_BATCH = 200
_HEAD_START = 1.0
_PRUNE_EVERY = 3600.0
_SAY_EVERY = 10.0
_SETTLING = 1.0  # seconds until a file that was just written is looked at again


class ReadAhead:
    """Finds out about files in the background.

    `entries` yields all files there are, `look` the present state of one, and
    `vanished` drops what is remembered of files that are gone.
    """

    def __init__(
        self,
        reader: Reader,
        entries: Callable[[], Iterable[Entry]],
        look: Callable[[Entry], FileState | None],
        vanished: Callable[[], None],
    ) -> None:
        self._reader, self._entries, self._look, self._vanished = reader, entries, look, vanished
        self._reset()
        self.dormant = False
        """Whether it ran in the process that this one was forked from, and should be started here."""

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._queue: deque[Entry] = deque()
        self._left: int | None = None
        self._young: list[Entry] = []

    def start(self) -> None:
        """Begin, unless it has; in a forked process begin again."""
        with self._lock:
            self.dormant = False
            if self._thread is None and not self._closed:
                try:
                    self._thread = start("read-ahead", self._run)
                except Busy as error:
                    _log.warning("files are not read ahead (%s); pages read what they need themselves", error)

    def after_fork(self) -> None:
        """In a child process: no thread of ours runs here. `start` begins anew."""
        closed, self.dormant = self._closed, self._thread is not None and not self._closed
        self._reset()
        self._closed = closed

    def add(self, entries: Iterable[Entry]) -> None:
        """These files are new."""
        if self._thread is not None:
            self._queue.extend(entries)
            self._wake.set()

    def left(self) -> int | None:
        """How many files are still unread; ``None`` while nobody has looked yet."""
        return None if self._left is None else self._left + len(self._queue)

    def close(self) -> None:
        """Stop, and wait for the file that is being read for a few seconds at most."""
        with self._lock:
            self._closed = True
            self._wake.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)

    def _run(self) -> None:
        try:
            # Whoever waited for the server to start comes first.
            self._wake.wait(_HEAD_START)
            self._read(self._unread(self._entries()), "read ahead")
            pruned = -math.inf
            while not self._closed:
                if monotonic() - pruned > _PRUNE_EVERY:
                    self._vanished()
                    pruned = monotonic()
                self._wake.wait(_SETTLING if self._young else _PRUNE_EVERY)
                self._wake.clear()
                fresh, self._young = self._young, []
                while self._queue:
                    fresh.append(self._queue.pop())
                self._read(self._unread(fresh), "read")
        except Exception:
            # Pages read for themselves what this thread did not; but nobody would see why it stopped.
            _log.exception("reading ahead stopped; pages read what they need themselves")
            self._left = 0

    def _unread(self, entries: Iterable[Entry]) -> list[tuple[int, Entry]]:
        """Those whose facts are not known, newest last; a `stat` of each, in small portions."""
        unread: list[tuple[int, Entry]] = []
        entries = iter(entries)
        while batch := list(islice(entries, _BATCH)):
            keys = {key: entry for entry in batch if (key := self._look(entry)) is not None}
            known = self._reader.known(keys)
            unread += [(key.mtime_ns, entry) for key, entry in keys.items() if key not in known]
            if self._closed:
                return []
            time.sleep(0.001)
        unread.sort()
        return unread

    def _read(self, unread: list[tuple[int, Entry]], verb: str) -> None:
        total, began = len(unread), monotonic()
        said = began
        self._left = total
        if total > 1:
            _log.info("%d new files will be %s in the background", total, verb)
        while unread and not self._closed:
            entry = unread.pop()[1]
            started = monotonic()
            self._read_one(entry)
            self._left = len(unread)
            now = monotonic()
            if now - said > _SAY_EVERY:
                said = now
                _log.info("%d of %d new files read", total - len(unread), total)
            # Who serves pages comes first: never more than half of the time, never long at a stretch.
            time.sleep(min(0.005, now - started))
        if total > 1 and not self._closed:
            _log.info("%d new files read in %.1f s", total, monotonic() - began)

    def _read_one(self, entry: Entry) -> None:
        key = self._look(entry)
        if key is None or key in self._reader.known([key]):
            return
        try:
            if not self._reader.read(key, entry[1]).settled:
                self._young.append(entry)  # what was read now may not hold, and was not remembered
        except (OSError, Unavailable) as error:
            # The page that lists it says more, should anybody ask.
            _log.debug("%a could not be read ahead: %s", entry[1], error)
