"""Sources over a faulty upstream, and what is read from them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import pytest
from packaging.utils import NormalizedName

from pypiserver_lite.model import Content, LocalFile, Stream
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.rate import Rate
from pypiserver_lite.upstream.source import Remote

FOO = NormalizedName("foo")
PAGE = "/simple/foo/"
SDIST = "foo-1.0.tar.gz"
GZIP = b"\x1f\x8b"
"""How an sdist begins."""
MODES = ("proxy", "cache")


class Clock:
    """The time, and `ahead` more seconds."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


Make = Callable[..., Remote]


def maker(server: faulty.FaultyUpstream, folder: Path, clock: Clock) -> Make:
    """What makes a source over the upstream with its cache in `folder`; one made later is like one after a restart."""

    def make(
        mode: Any = "cache", *, rate: int | None = None, size: int | None = None, page: float = 0.8, **times: Any
    ) -> Remote:
        upstream = Upstream(server.url, connect=1.0, read=page / 2, page=page, pause=0.0, rate=Rate(rate))
        cache = Cache(folder / "cache", size, clock=clock) if mode == "cache" else None
        return Remote(upstream, mode=mode, cache=cache, clock=clock, **times)

    return make


@pytest.fixture(name="server")
def upstream_server() -> Iterator[faulty.FaultyUpstream]:
    """An upstream without anything."""
    with faulty.upstream() as server:
        yield server


@pytest.fixture(name="server")
def server_of_foo() -> Iterator[faulty.FaultyUpstream]:
    """An upstream that has `SDIST`, of a thousand bytes."""
    with faulty.upstream() as server:
        server.add("foo", SDIST, b"x" * 1000)
        yield server


def client(server: faulty.FaultyUpstream, **options: object) -> Upstream:
    """What asks that upstream, and has little patience."""
    config: dict[str, object] = {"connect": 2.0, "read": 0.4, "page": 0.8, "pause": 0.0}
    return Upstream(server.url, **(config | options))  # type: ignore[arg-type]  # a table of options


@pytest.fixture(name="clock")
def source_clock() -> Clock:
    """What the sources of a test go by."""
    return Clock()


@pytest.fixture(name="make")
def source_maker(server: faulty.FaultyUpstream, tmp_path: Path, clock: Clock) -> Make:
    """Makes sources over that upstream with one cache."""
    return maker(server, tmp_path, clock)


def data_of(size: int, seed: int = 1) -> bytes:
    """Bytes that begin as an sdist does, look random, and are the same each time."""
    return (GZIP + random.Random(seed).randbytes(size))[:size]


def read(content: Content | None, start: int = 0, stop: int | None = None) -> bytes:
    """The half-open range of what a source gave."""
    if isinstance(content, LocalFile):
        return content.path.read_bytes()[start:stop]
    assert isinstance(content, Stream)
    return b"".join(content.read(start, stop))


def settle(remote: Remote, filename: str) -> LocalFile:
    """The file from the cache, where it is a moment after its last byte."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        content = remote.open(FOO, filename)
        if isinstance(content, LocalFile):
            return content
        time.sleep(0.01)
    raise AssertionError("it is not kept")


def downloading() -> bool:
    """Whether a download is under way in this process."""
    return any(thread.name == "pypiserver-lite-download" for thread in threading.enumerate())


def quiet() -> None:
    """Wait until no download is under way."""
    while downloading():
        time.sleep(0.005)
