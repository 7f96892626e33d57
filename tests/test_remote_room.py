"""Files of an upstream where cache or disk has little room for them: all are served, and what is kept stays whole."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faulty_upstream as faulty
import pytest
from remotes import (  # noqa: F401 - fixtures
    FOO,
    GZIP,
    SDIST,
    Clock,
    Make,
    data_of,
    maker,
    quiet,
    read,
    settle,
    source_clock,
    source_maker,
    upstream_server,
)

from pypiserver_lite.errors import ConfigError, Late, NoSpace
from pypiserver_lite.model import LocalFile, Stream
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.growing import Opened
from pypiserver_lite.upstream.source import Remote
from pypiserver_lite.upstream.window import Window


def test_a_file_for_which_the_disk_has_no_room_is_passed_through(server: faulty.FaultyUpstream, tmp_path: Path) -> None:
    path = server.add("foo", SDIST, b"abc")
    cache = Cache(tmp_path / "cache", free=lambda folder: 64 * 2**20 + 2)
    remote = Remote(Upstream(server.url), mode="cache", cache=cache)
    for _ in range(2):
        assert read(remote.open(FOO, SDIST)) == b"abc"
    assert server.count(path) == 2


def test_the_cache_may_vanish_in_the_middle_of_a_download(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    data = data_of(1_000_000)
    path = server.add("foo", SDIST, data)
    server.stored[path].speed = 4e6
    remote = make()
    content = remote.open(FOO, SDIST)
    assert isinstance(content, Stream)
    pieces = iter(content.read(0, None))
    got = next(pieces)
    shutil.rmtree(tmp_path / "cache")
    got += b"".join(pieces)
    assert got == data
    quiet()
    assert read(remote.open(FOO, SDIST)) == data
    settle(remote, SDIST)


def test_a_cache_that_cannot_be_written_passes_files_through(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_bytes(b"in the way")
    server.add("foo", SDIST, b"abc" * 1000)
    remote = make()
    for _ in range(2):
        assert read(remote.open(FOO, SDIST)) == b"abc" * 1000


def test_a_restart_with_less_room_keeps_less(make: Make, server: faulty.FaultyUpstream) -> None:
    server.add("foo", SDIST, data_of(200_000))
    remote = make(size=1_000_000)
    read(remote.open(FOO, SDIST))
    kept = settle(remote, SDIST).path
    quiet()
    make(size=100_000)
    deadline = time.monotonic() + 10
    while kept.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("size_known", [True, False])
def test_a_file_larger_than_the_cache_is_passed_through(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path, size_known: bool
) -> None:
    data = data_of(200_000)
    path = server.add("foo", SDIST, data, size=size_known)
    remote = make(size=1000)
    assert read(remote.open(FOO, SDIST)) == data
    assert server.count(path) == 1
    content = remote.open(FOO, SDIST)
    assert isinstance(content, Stream)
    for start, stop in ((190_000, None), (5, 10), (0, None), (0, 200_000)):  # also again
        assert read(content, start, stop) == data[start:stop]
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_of_a_file_that_only_the_upstream_says_to_be_too_large_everybody_who_asks_at_once_gets_all(
    make: Make, server: faulty.FaultyUpstream
) -> None:
    data = data_of(9_000_000)
    path = server.add("foo", SDIST, data, size=False)
    server.stored[path].delay = 0.3
    remote = make(size=1000, page=20.0)
    remote.project(FOO)
    with ThreadPoolExecutor(4) as pool:
        assert [got == data for got in pool.map(lambda _: read(remote.open(FOO, SDIST)), range(4))] == [True] * 4


def test_a_file_of_unstated_size_that_has_no_place_beside_another_on_its_way_is_passed_through(
    make: Make, server: faulty.FaultyUpstream
) -> None:
    data = data_of(200_000)
    paths = [server.add("foo", filename, data, size=False) for filename in (SDIST, "foo-2.0.tar.gz")]
    arrive = threading.Event()

    def slowly(handler: faulty.Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[:100_000])
        arrive.wait(60)
        handler.wfile.write(data[100_000:])

    server.fault(paths[0], slowly)
    remote = make(size=250_000, page=60.0)
    first = remote.open(FOO, SDIST)
    assert read(remote.open(FOO, "foo-2.0.tar.gz")) == data
    arrive.set()
    assert read(first) == data
    assert settle(remote, SDIST)


def test_what_is_kept_does_not_go_for_a_file_that_only_the_upstream_says_to_be_larger_than_the_disk(
    server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    def free(folder: Path) -> int:
        return 104 * 2**20 - sum(path.stat().st_size for path in folder.parent.rglob("*") if path.is_file())

    server.add("foo", SDIST, data_of(15 * 2**20))
    data = data_of(50 * 2**20)
    server.add("foo", "foo-2.0.tar.gz", data, size=False)
    remote = Remote(Upstream(server.url), mode="cache", cache=Cache(tmp_path / "cache", free=free))
    read(remote.open(FOO, SDIST))
    settle(remote, SDIST)
    assert read(remote.open(FOO, "foo-2.0.tar.gz")) == data
    assert isinstance(remote.open(FOO, SDIST), LocalFile)


def test_an_endless_file_ends_at_the_bound_of_the_cache(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    path = server.add("foo", SDIST, b"", hashes={}, size=False)
    sent = [0]

    def endless(handler: faulty.Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n" + GZIP + b"\r\n")
        while sent[0] < 100_000_000:
            handler.wfile.write(b"10000\r\n" + bytes(2**16) + b"\r\n")
            sent[0] += 2**16

    server.fault(path, endless)
    remote = make(size=3_000_000)
    with pytest.raises(NoSpace):
        read(remote.open(FOO, SDIST))
    assert sent[0] < 50_000_000
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []
    assert [entry for entry in (tmp_path / "cache" / "files").rglob("*") if entry.is_file()] == []


def test_a_cache_needs_a_folder(server: faulty.FaultyUpstream) -> None:
    with pytest.raises(ConfigError):
        Remote(Upstream(server.url), mode="cache")


def test_a_disk_that_takes_no_more_in_the_middle_of_a_file_makes_nothing_but_slower(
    server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")
    data, clock = data_of(12_000_000), Clock()
    path = server.add("foo", SDIST, data)
    server.add("foo", "foo-2.0.tar.gz", b"small")
    remote = maker(server, tmp_path, clock)(page=20.0)
    remote.project(FOO)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        content = remote.open(FOO, SDIST)
        assert isinstance(content, Stream)
        reading, got = [iter(content.read(0, None)) for _ in range(2)], [b"", b""]
        while min(map(len, got)) < len(data):  # none is far behind the other
            behind = got.index(min(got, key=len))
            got[behind] += next(reading[behind])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert got == [data, data]
    assert server.count(path) <= 2  # who came after that asked by himself
    quiet()
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []
    for _ in range(2):
        assert read(remote.open(FOO, "foo-2.0.tar.gz")) == b"small"
    assert isinstance(remote.open(FOO, "foo-2.0.tar.gz"), Stream)  # the disk is left alone for a while
    clock.ahead = 61.0
    assert read(remote.open(FOO, SDIST)) == data
    assert settle(remote, SDIST).path.read_bytes() == data


def test_who_waits_for_a_later_part_gets_it_where_the_disk_takes_no_more_and_nobody_else_reads(
    server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")
    data = data_of(30_000_000)
    server.add("foo", SDIST, data)
    remote = maker(server, tmp_path, Clock())(page=60.0)
    remote.project(FOO)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        content = remote.open(FOO, SDIST)
        assert isinstance(content, Stream)
        gone, later = iter(content.read(0, None)), iter(content.read(14_000_000, None))
        assert next(gone)
        began = time.monotonic()
        assert b"".join(later) == data[14_000_000:]
        assert time.monotonic() - began < 40
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_what_nobody_reads_is_not_waited_for_when_the_disk_takes_no_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    window = Window(Opened(os.open(tmp_path / "file", os.O_RDONLY)), 3, patience=0.0)
    assert window.read(9, 0) + window.read(9, 2) == b"abcc"
    with pytest.raises(Late):
        for _ in range(20):
            window.write(bytes(2**20))
    assert window.read(9, 3) == bytes(9)


def test_what_the_disk_does_not_take_is_held_for_the_foremost_reader_and_who_is_near(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    window, at = Window(Opened(os.open(tmp_path / "file", os.O_RDONLY)), 3), 3
    for number in range(20):
        window.write(bytes([number]) * 2**20)
        assert window.read(2**20, at) == bytes([number]) * 2**20
        at += 2**20
    assert window.read(9, at - 2**22) == bytes([16]) * 9
    assert window.read(9, 3) == b""  # what is far behind takes no memory
    assert window.read(9, 0) == b"abc"
