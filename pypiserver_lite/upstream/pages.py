"""Pages of an upstream that were asked for, kept in memory within a bound and on disk across restarts."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import zlib
from collections.abc import Iterable

from packaging.utils import NormalizedName

from ..cache import Cache
from ..errors import Unavailable
from ..model import Project
from ..simple import parse_project
from .client import PAGE_LIMIT, Page

_FILE_WEIGHT, _PAGE_WEIGHT = 1000, 2000  # bytes of memory, measured on pages of the public index


class Known:
    """A project as the upstream last described it, and how current that is."""

    __slots__ = (
        "checked",
        "etag",
        "failing",
        "fresh_until",
        "modified",
        "project",
        "retry_at",
        "silent",
        "size",
        "used",
    )

    def __init__(self, project: Project, page: Page, checked: float) -> None:
        self.project = project
        self.etag = page.etag
        self.modified = page.modified
        self.size = len(page.body)
        self.checked = checked
        """Seconds since 1970 when the upstream last confirmed it."""
        self.fresh_until = 0.0
        """On the monotonic clock, as the next two."""
        self.retry_at = 0.0
        self.used = 0.0
        self.failing = False
        self.silent = False
        """Whether the upstream's page announces no core metadata at all."""

    @property
    def weight(self) -> int:
        """Bytes in memory, nearly."""
        return _PAGE_WEIGHT + _FILE_WEIGHT * len(self.project.files)


class Pages:
    """What is known, by name. Looking up takes no lock; beyond `limit` bytes what was used longest ago is dropped."""

    def __init__(self, limit: int) -> None:
        self.known: dict[NormalizedName, Known] = {}
        self._limit = limit
        self._weight = 0
        self._lock = threading.Lock()

    def add(self, name: NormalizedName, page: Known) -> None:
        """Keep a page, replacing the one of that name."""
        with self._lock:
            before = self.known.get(name)
            self.known[name] = page
            self._weight += page.weight - (before.weight if before else 0)
            if self._weight > self._limit:
                for other, old in sorted(self.known.items(), key=lambda item: item[1].used):
                    if self._weight <= self._limit * 9 // 10 or other == name:
                        break
                    del self.known[other]
                    self._weight -= old.weight

    def drop(self, name: NormalizedName) -> None:
        """Forget a page."""
        with self._lock:
            before = self.known.pop(name, None)
            self._weight -= before.weight if before else 0


class Absences:
    """Names that the upstream did not have a moment ago; at most `limit` of them, for anybody can ask for any name."""

    def __init__(self, limit: int) -> None:
        self.until: dict[NormalizedName, float] = {}
        """Name → until when that is believed, on the monotonic clock."""
        self._limit = limit
        self._lock = threading.Lock()

    def add(self, name: NormalizedName, until: float) -> None:
        """Believe for a while that there is no such project."""
        with self._lock:
            self.until.pop(name, None)
            if len(self.until) >= self._limit:
                del self.until[next(iter(self.until))]
            self.until[name] = until

    def drop(self, name: NormalizedName) -> None:
        """The project is there after all."""
        with self._lock:
            self.until.pop(name, None)


class Archive:
    """Pages on disk as they came, so that a restart without the upstream serves them."""

    def __init__(self, cache: Cache, upstream: str) -> None:
        self._cache = cache
        self._upstream = upstream

    def _key(self, name: NormalizedName, what: str = "page") -> str:
        return hashlib.sha256(f"{what}\0{self._upstream}\0{name}".encode()).hexdigest()

    def save(self, name: NormalizedName, page: Page) -> None:
        """Keep a page."""
        head = {"url": page.url, "type": page.content_type, "etag": page.etag, "modified": page.modified}
        record = json.dumps(head).encode() + b"\n" + zlib.compress(page.body, 1)
        self._cache.put("pages", self._key(name), record)

    def load(self, name: NormalizedName, newer_than: float) -> tuple[Project, Page, float] | None:
        """The project, its page and when it was confirmed, if that is later than `newer_than`."""
        stamp = self._cache.stamp("pages", self._key(name))
        if stamp is None or stamp <= newer_than:
            return None
        record = self._cache.get("pages", self._key(name))
        if record is None:
            return None
        try:
            head, _, packed = record.partition(b"\n")
            fields = json.loads(head)
            body = zlib.decompressobj().decompress(packed, PAGE_LIMIT)
            page = Page(
                body=body,
                content_type=fields["type"],
                url=fields["url"],
                etag=fields["etag"],
                modified=fields["modified"],
            )
            return parse_project(body, page.content_type, page.url, name), page, min(stamp, time.time())
        except (ValueError, KeyError, TypeError, zlib.error, Unavailable):
            self._cache.drop("pages", self._key(name))  # of another version of ours
            return None

    def renew(self, name: NormalizedName) -> float:
        """The page was confirmed; when, as the disk has it."""
        self._cache.renew("pages", self._key(name))
        return self._cache.stamp("pages", self._key(name)) or time.time()

    def drop(self, name: NormalizedName) -> None:
        """The upstream has this project no more."""
        self._cache.drop("pages", self._key(name))

    def bare(self, name: NormalizedName) -> frozenset[str]:
        """Files whose core metadata could not be had, though the page promises it."""
        record = self._cache.get("pages", self._key(name, "bare"))
        return frozenset(record.decode().split("\n")) if record else frozenset()

    def add_bare(self, name: NormalizedName, filenames: Iterable[str]) -> None:
        """Remember further ones."""
        self._cache.put("pages", self._key(name, "bare"), "\n".join(sorted(self.bare(name) | set(filenames))).encode())
