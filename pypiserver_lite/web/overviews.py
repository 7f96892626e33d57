"""What an operator sees at a glance, of one index: the same facts for the page and as JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, TypeVar

from ..errors import PypiServerLiteError

if TYPE_CHECKING:
    from ..records import Event
    from ..site import Site, Storage
    from ..upstream.health import Health
    from ..upstream.room import Usage

Known = TypeVar("Known")
NEWEST = 10
"""Changes that are shown."""
DAYS = 30
MOST = 8
"""Projects among those that are downloaded most."""
_BELIEVED = 60.0  # seconds for which what was counted on a disk is believed


@dataclass(frozen=True, slots=True, kw_only=True)
class AtAGlance:
    """An index, and at the root the server."""

    index: str
    storage: Storage | None
    """Of its own folders; ``None`` if it has none, or nobody can say."""
    read: tuple[int, int]
    """How many files are read, of how many."""
    events: Sequence[Event]
    """The newest changes."""
    per_day: Sequence[tuple[date, int]]
    """Downloads of the last `DAYS`."""
    most: Sequence[tuple[str, int]]
    """Projects that were downloaded most in them."""
    upstreams: Sequence[Health]
    traffic: Mapping[str, object] | None
    """Since the server started; ``None`` if no upstream is asked."""
    cache: Usage | None
    uptime: float
    faults: Sequence[str]
    """What cannot be said now, each in a sentence."""

    @property
    def downloads(self) -> int:
        """Of all these days."""
        return sum(count for _, count in self.per_day)

    @property
    def hits(self) -> float | None:
        """Which part of the bytes of upstreams' files came from what was here; ``None`` if there were none."""
        if self.traffic is None:
            return None
        cached, received = int(str(self.traffic["cached"])), int(str(self.traffic["received"]))
        return cached / (cached + received) if cached + received else None

    def as_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "index": self.index,
            "storage": None if self.storage is None else asdict(self.storage),
            "read": {"done": self.read[0], "total": self.read[1]},
            "events": [event.as_json() for event in self.events],
            "downloads": [{"day": day.isoformat(), "count": count} for day, count in self.per_day],
            "most": [{"project": name, "count": count} for name, count in self.most],
            "upstreams": [asdict(one) for one in self.upstreams],
            "traffic": self.traffic,
            "hits": self.hits,
            "cache": None
            if self.cache is None
            else {"limit": self.cache.limit, "size": self.cache.size, "entries": self.cache.entries},
            "uptime": int(self.uptime),
            "faults": list(self.faults),
        }


class Glances:
    """Looks at one index; what is costly to count is counted once a minute. Safe for threads."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._cache: tuple[float, Usage | None] | None = None

    def look(self, index: str | None) -> AtAGlance:
        """How the index is; `index` limits what is on record to it, ``None`` to nothing. Never raises."""
        site, faults = self._site, list[str]()

        def asked(question: Callable[[], Known], otherwise: Known) -> Known:
            try:
                return question()
            except PypiServerLiteError as error:
                if str(error) not in faults:
                    faults.append(str(error))
                return otherwise

        records = site.records
        return AtAGlance(
            index=site.name,
            storage=asked(site.storage, None),
            read=site.reading.progress(),
            events=asked(lambda: records.trail.find(index=index, limit=NEWEST), []),
            per_day=asked(lambda: records.counts.per_day(index, days=DAYS), []),
            most=asked(lambda: records.counts.most(index, MOST, DAYS), []),
            upstreams=site.health(),
            traffic=site.traffic(),
            cache=asked(self._cache_use, None),
            uptime=site.uptime(),
            faults=faults,
        )

    def _cache_use(self) -> Usage | None:
        known, now = self._cache, time.monotonic()
        if known is None or now - known[0] > _BELIEVED:
            known = self._cache = now, self._site.cache_use()
        return known[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A day in the chart of downloads."""

    x: float
    y: float
    height: float
    day: date
    count: int


def bars(per_day: Sequence[tuple[date, int]], width: float, height: float) -> Sequence[Bar]:
    """The days as bars in a box, the tallest of which fills it."""
    tallest = max((count for _, count in per_day), default=0)
    step = width / max(1, len(per_day))
    found = []
    for at, (day, count) in enumerate(per_day):
        tall = 0.0 if not tallest else height * count / tallest
        tall = max(tall, 1.0) if count else 0.0  # a day with few downloads is not one without any
        found.append(Bar(x=round(at * step, 2), y=round(height - tall, 2), height=round(tall, 2), day=day, count=count))
    return found


def moment_of(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as a time; ``None`` for what is none."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return None
