"""What is here at a glance: the catalogue that search looks through, and the newest uploads.

Names are always current. Summaries and times come from what was read from
files; they are gathered in the background when something changed, and a
request waits for them only a moment.
"""

from __future__ import annotations

import copy
import heapq
import threading
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING

from packaging.utils import NormalizedName

from ..dists import project_of
from ..errors import Unavailable
from ..kept import start
from ..model import File
from ..search import Catalogue

if TYPE_CHECKING:
    from ..index import Index
    from ..model import KeptUp, Note

_CANDIDATES = 100  # newest files that are remembered; some may be gone, and many may be of one release
_PATIENCE = 0.05  # seconds a request waits for notes that are being gathered
_SHARE = 10  # gathering takes at most one part in so many of the time


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A release that came lately."""

    name: NormalizedName
    version: str
    uploaded: datetime


@dataclass(frozen=True, slots=True)
class _Gathered:
    state: object = None
    summaries: dict[NormalizedName, str] | None = None
    newest: tuple[tuple[NormalizedName, str], ...] = ()
    """Project and file name of the newest files, the newest first."""


class _Shown:
    """Which files an index shows of those in its folders; without a policy, all."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._files: dict[NormalizedName, Container[str]] = {}

    def has(self, name: NormalizedName, filename: str) -> bool:
        """Whether a file is shown; not if nobody can say."""
        if not self._index.governed:
            return True
        if name not in self._files:
            try:
                project = self._index.local(name)
            except Unavailable:
                project = None
            self._files[name] = frozenset(project.by_filename) if project is not None else ()
        return filename in self._files[name]


class Overview:
    """The catalogue of `index`, and the newest files of its folders; `reading` says what is known of those."""

    def __init__(self, index: Index, reading: KeptUp) -> None:
        self._index, self._reading = index, reading
        self._lock = threading.Lock()
        self._gathered = _Gathered()
        self._thread: threading.Thread | None = None
        self._again = 0.0
        self._made: tuple[object, object, Catalogue] | None = None
        self._all = self
        """Who gathers."""

    def as_seen(self, index: Index) -> Overview:
        """The overview of a part of this index, which gathers nothing by itself: its names say what is told of all."""
        seen = copy.copy(self)
        seen._index, seen._made, seen._all = index, None, self._all
        return seen

    def catalogue(self) -> Catalogue:
        """The very same object while neither names nor summaries changed. Raises Unavailable."""
        names, gathered = self._index.names(), self._all._current()
        made = self._made
        if made is None or made[0] is not names or made[1] is not gathered:
            made = names, gathered, Catalogue(names=names, summaries=gathered.summaries or {})
            self._made = made
        return made[2]

    def newest(self, count: int) -> Sequence[Newcomer]:
        """The releases whose files came last, the newest first; as far as files have been read."""
        found: dict[tuple[str, str], Newcomer] = {}
        for name, filename in self._all._current().newest:
            project = self._index.local(name)  # whoever else may have it, this is about what is here
            file: File | None = project.by_filename.get(filename) if project else None
            if file is None or file.uploaded is None:
                continue
            found.setdefault((name, file.version), Newcomer(name=name, version=file.version, uploaded=file.uploaded))
            if len(found) == count:
                break
        return tuple(found.values())

    def _current(self) -> _Gathered:
        state: object = self._reading.notes_state()
        if self._index.governed:
            state = state, self._index.state()
        if state == self._gathered.state:
            return self._gathered
        with self._lock:
            if (self._thread is None or not self._thread.is_alive()) and time.monotonic() >= self._again:
                self._thread = start("catalogue", self._gather, state)
            thread = self._thread
        if thread is not None:
            thread.join(_PATIENCE)
        return self._gathered

    def _gather(self, state: object) -> None:
        began = time.monotonic()
        shown = _Shown(self._index)
        latest: dict[NormalizedName, Note] = {}
        newest: list[tuple[int, NormalizedName, str]] = []
        for note in self._reading.notes():
            filename = PurePath(note.path).name
            name = project_of(filename)
            if name is None or not shown.has(name, filename):
                continue
            # The summary of the file that came last is what the project says today.
            if note.summary and (name not in latest or note.mtime_ns > latest[name].mtime_ns):
                latest[name] = note
            if len(newest) < _CANDIDATES:
                heapq.heappush(newest, (note.mtime_ns, name, filename))
            elif note.mtime_ns > newest[0][0]:
                heapq.heapreplace(newest, (note.mtime_ns, name, filename))
        newest.sort(reverse=True)
        self._gathered = _Gathered(
            state,
            {name: note.summary for name, note in latest.items()},
            tuple((name, filename) for _, name, filename in newest),
        )
        self._again = time.monotonic() + (time.monotonic() - began) * _SHARE
