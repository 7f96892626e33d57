"""Pages of an upstream on disk as they came, so that a restart without the upstream serves them."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Container
from dataclasses import asdict, replace

from packaging.utils import NormalizedName

from ..errors import Busy, Unavailable
from ..kept import Kept
from ..model import Project
from ..simple.parse import LARGE_PAGE, PAGE_LIMIT, parse_project
from .cache import Cache
from .client import FetchedPage
from .turns import Turn

_BARE = 2**20  # bytes


class Archive:
    """The pages of `upstream`, which came from one of its `mirrors`, in a `cache`; without one, none is kept."""

    def __init__(self, cache: Cache | None, upstream: str, mirrors: Container[str] = ("",)) -> None:
        self._cache = cache
        self._upstream = upstream
        self._mirrors = mirrors
        self._bare = Kept[bytes](len, most_bytes=_BARE)

    @property
    def keeps(self) -> bool:
        """Whether anything is kept at all."""
        return self._cache is not None

    def _key(self, name: NormalizedName, what: str = "page") -> str:
        return hashlib.sha256(f"{what}\0{self._upstream}\0{name}".encode()).hexdigest()

    def save(self, name: NormalizedName, page: FetchedPage) -> None:
        """Keep a page."""
        if self._cache is not None:
            head = json.dumps({**asdict(page), "body": ""}).encode()
            self._cache.put("pages", self._key(name), head + b"\n" + zlib.compress(page.body, 1))

    def has_since(self, name: NormalizedName, moment: float) -> bool:
        """Whether a page is kept that was confirmed later than `moment`, in seconds since 1970."""
        stamp = self._cache.stamp("pages", self._key(name)) if self._cache is not None else None
        return stamp is not None and stamp > moment

    def load(self, name: NormalizedName, newer_than: float, turn: Turn) -> tuple[Project, FetchedPage, float] | None:
        """The project, its page and when it was confirmed, if that is later than `newer_than`. Raises Busy."""
        key = self._key(name)
        stamp = self._cache.stamp("pages", key) if self._cache is not None else None
        if self._cache is None or stamp is None or stamp <= newer_than:
            return None
        record = self._cache.get("pages", key)
        if record is None:
            return None
        try:
            head, _, packed = record.partition(b"\n")
            unpacker = zlib.decompressobj()
            body = unpacker.decompress(packed, LARGE_PAGE)
            if unpacker.unconsumed_tail:
                turn.take()
                body += unpacker.decompress(unpacker.unconsumed_tail, PAGE_LIMIT - LARGE_PAGE)
            page = FetchedPage(**{**json.loads(head), "body": body})
            if page.mirror not in self._mirrors:
                raise ValueError
            return parsed(name, page, turn, self._upstream), page, stamp
        except Busy:
            raise
        except (ValueError, TypeError, zlib.error, Unavailable):
            self._cache.drop("pages", key)  # of another version of ours, or of other settings
            return None

    def renew(self, name: NormalizedName) -> None:
        """The page was confirmed."""
        if self._cache is not None:
            self._cache.renew("pages", self._key(name))

    def drop(self, name: NormalizedName) -> None:
        """The upstream has this project no more."""
        if self._cache is not None:
            self._cache.drop("pages", self._key(name))

    def bare(self, name: NormalizedName) -> frozenset[str]:
        """Files whose core metadata could not be had, though the page promises it."""
        key = self._key(name, "bare")
        record = self._bare.find(key) if self._cache is None else self._cache.get("pages", key)
        return frozenset(record.decode().split("\n")) if record else frozenset()

    def add_bare(self, name: NormalizedName, filename: str) -> None:
        """Remember a further one."""
        key, record = self._key(name, "bare"), "\n".join(sorted(self.bare(name) | {filename})).encode()
        if self._cache is None:
            self._bare.put(key, record)
        else:
            self._cache.put("pages", key, record)


def parsed(name: NormalizedName, page: FetchedPage, turn: Turn, upstream: str) -> Project:
    """The project that a page of `upstream` describes. Raises Busy, and Unavailable if it is no such page."""
    turn.take_for(page.body)
    project = parse_project(page.body, page.content_type, page.url, name)
    files = tuple(replace(file, mirror=page.mirror) for file in project.files) if page.mirror else project.files
    return replace(project, files=files, origin=upstream)
