"""Core metadata of an upstream's files: announced where it can be had, and had where it is announced."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import builders
import faulty_upstream as faulty
import pytest
from packaging.utils import NormalizedName
from remotes import (  # noqa: F401 - fixtures
    FOO,
    MODES,
    SDIST,
    Clock,
    Make,
    data_of,
    maker,
    read,
    settle,
    source_clock,
    source_maker,
    upstream_server,
)

from pypiserver_lite.errors import Late, Missing, Unavailable
from pypiserver_lite.upstream import hops
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.core_metadata import TAIL, RangedFile
from pypiserver_lite.upstream.source import Remote


def big_wheel(folder: Path, version: str = "1.0") -> Path:
    return builders.make_wheel(folder, "foo", version, "Requires-Dist: bar", payload=data_of(400_000))


def test_a_wheel_of_which_no_part_comes_in_time_is_fetched_for_who_asks_again(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = big_wheel(tmp_path)
    path = server.add("foo", wheel.name, wheel.read_bytes())
    remote = make(page=2.0)
    remote.project(FOO)
    server.stored[path].delay = 3.0
    with hops.carrying(None, 1.0), pytest.raises(Late):
        remote.open(FOO, wheel.name, ".metadata")
    metadata = builders.metadata("foo", "1.0", "Requires-Dist: bar")
    assert read(remote.open(FOO, wheel.name, ".metadata")) == metadata
    assert [request.headers.get("range") for request in server.requests if request.path == path][2:] == [None]


@pytest.mark.parametrize("mode", MODES)
def test_announced_metadata_is_passed_on(make: Make, server: faulty.FaultyUpstream, mode: str, tmp_path: Path) -> None:
    wheel = big_wheel(tmp_path)
    metadata = builders.metadata("foo", "1.0", "Requires-Dist: bar")
    path = server.add("foo", wheel.name, wheel.read_bytes(), metadata=metadata)
    remote = make(mode)
    for _ in range(2):
        assert read(remote.open(FOO, wheel.name, ".metadata")) == metadata
    assert server.count(path) == 0
    assert server.count(path + ".metadata") == (1 if mode == "cache" else 2)


def test_metadata_the_upstream_lacks_is_announced_and_read_from_the_wheels_end(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = big_wheel(tmp_path)
    metadata = builders.metadata("foo", "1.0", "Requires-Dist: bar")
    path = server.add("foo", wheel.name, wheel.read_bytes())
    remote = make()
    project = remote.project(FOO)
    assert project is not None
    assert project.files[0].core_metadata == {}
    assert read(remote.open(FOO, wheel.name, ".metadata")) == metadata
    assert remote.traffic.snapshot().received < 200_000
    assert [request.headers["range"] for request in server.requests if request.path == path]
    assert server.count(path + ".metadata") == 0
    server.requests.clear()
    assert read(remote.open(FOO, wheel.name, ".metadata")) == metadata
    assert read(make().open(FOO, wheel.name, ".metadata")) == metadata
    assert server.requests == []


def test_metadata_of_a_small_wheel_are_made_from_all_of_it(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = builders.make_wheel(tmp_path, "foo", "1.0")
    path = server.add("foo", wheel.name, wheel.read_bytes())
    server.stored[path].ranges = False
    remote = make()
    assert read(remote.open(FOO, wheel.name, ".metadata")).startswith(b"Metadata-Version: 2.1\nName: foo\n")
    assert settle(remote, wheel.name).path.read_bytes() == wheel.read_bytes()


def test_metadata_are_read_from_the_end_of_a_wheel_whose_size_the_page_does_not_state(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = big_wheel(tmp_path)
    path = server.add("foo", wheel.name, wheel.read_bytes(), size=False)
    server.fault(path, lambda handler: handler.answer(405, b"") if handler.command == "HEAD" else as_stored(handler))
    remote = make()
    assert read(remote.open(FOO, wheel.name, ".metadata")).startswith(b"Metadata-Version: 2.1\nName: foo\n")
    assert remote.traffic.snapshot().received < 200_000


@pytest.mark.parametrize("size", [True, False])
def test_metadata_of_large_wheels_are_not_announced_where_the_upstream_sends_no_parts(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path, size: bool
) -> None:
    wheels = [big_wheel(tmp_path), big_wheel(tmp_path, "2.0")]
    paths = [server.add("foo", wheel.name, wheel.read_bytes(), size=size) for wheel in wheels]
    for path in paths:
        server.stored[path].ranges = False
    clock = Clock()
    remote = maker(server, tmp_path, clock)(ttl=0)
    assert [file.core_metadata for file in _files(remote)] == [None, None]
    with pytest.raises(Missing):
        remote.open(FOO, wheels[0].name, ".metadata")
    assert [request.headers.get("range") for request in server.requests if request.path in paths] == ["bytes=1-1"]
    for path in paths:
        server.stored[path].ranges = True
    clock.ahead = 4000.0  # it is asked again
    assert [file.core_metadata for file in _files(remote)] == [{}, {}]


def test_whether_an_upstream_sends_parts_is_asked_once_and_known_when_it_is_down(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = big_wheel(tmp_path)
    paths = [server.add(name, wheel.name.replace("foo", name), wheel.read_bytes()) for name in ("foo", "bar", "egg")]
    server.fault(paths[0], faulty.status(500), times=1)
    clock = Clock()
    remote = maker(server, tmp_path, clock)(ttl=0)
    for _ in range(2):
        assert [file.core_metadata for file in _files(remote)] == [None]  # nobody knows
    clock.ahead = 100.0  # it is asked again
    assert [file.core_metadata for file in _files(remote)] == [{}]
    for name in ("bar", "egg"):
        project = remote.project(NormalizedName(name))
        assert project is not None and project.files[0].core_metadata == {}
    assert [server.count(path) for path in paths] == [2, 0, 0]
    server.fault("*", faulty.reset())
    assert [file.core_metadata for file in _files(make(ttl=0))] == [{}]


def test_a_server_of_files_that_is_silent_holds_no_page_up_for_long(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = big_wheel(tmp_path)
    path = server.add("foo", wheel.name, wheel.read_bytes())
    server.fault(path, faulty.hang(60.0))
    before = time.monotonic()
    assert [file.core_metadata for file in _files(make(page=60.0))] == [None]
    assert time.monotonic() - before < 15


def test_who_asks_for_metadata_that_need_a_whole_slow_wheel_hears_so_in_time_and_then_gets_the_wheel(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = big_wheel(tmp_path)
    path = server.add("foo", wheel.name, wheel.read_bytes())
    remote = make(page=20.0)
    assert [file.core_metadata for file in _files(remote)] == [{}]
    server.stored[path].ranges = False  # as behind a balancer whose servers differ
    arrive = threading.Event()

    def slowly(handler: faulty.Handler) -> None:
        data = server.stored[path].body
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[:1000])
        arrive.wait(60)
        handler.wfile.write(data[1000:])

    with hops.carrying(None, 2.0), pytest.raises(Late):
        server.fault(path, slowly)
        remote.open(FOO, wheel.name, ".metadata")
    assert [file.core_metadata for file in _files(remote)] == [None]
    arrive.set()
    assert read(remote.open(FOO, wheel.name)) == wheel.read_bytes()


def test_the_end_of_a_wheel_that_trickles_is_not_waited_for(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = big_wheel(tmp_path)
    path = server.add("foo", wheel.name, wheel.read_bytes())
    remote = make(page=3.0)
    assert [file.core_metadata for file in _files(remote)] == [{}]
    server.stored[path].speed = 2000
    before = time.monotonic()
    with hops.carrying(None, 40.0), pytest.raises(Late):
        remote.open(FOO, wheel.name, ".metadata")
    assert time.monotonic() - before < 20
    assert all("range" in request.headers for request in server.requests if request.path == path)


def as_stored(handler: faulty.Handler) -> None:
    """The answer without a fault."""
    handler.store(handler.server.stored[handler.path], {name.lower(): text for name, text in handler.headers.items()})


@pytest.mark.parametrize("trouble", ["missing", "wrong"])
def test_metadata_that_is_announced_and_not_there_is_made(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path, trouble: str
) -> None:
    wheel = big_wheel(tmp_path)
    metadata = builders.metadata("foo", "1.0", "Requires-Dist: bar")
    path = server.add("foo", wheel.name, wheel.read_bytes(), metadata=metadata)
    server.stored[path + ".metadata"] = faulty.Stored(b"other")
    if trouble == "missing":
        del server.stored[path + ".metadata"]
    assert read(make().open(FOO, wheel.name, ".metadata")) == metadata
    proxy = make("proxy", ttl=0)
    with pytest.raises(Missing):
        proxy.open(FOO, wheel.name, ".metadata")
    assert [file.core_metadata for file in _files(proxy)] == [None]  # so that a client takes the wheel
    server.stored["/simple/foo/"].etag = '"another"'
    assert [file.core_metadata for file in _files(proxy)] == [None]


def test_a_wheel_is_not_read_here_and_there_without_end() -> None:
    asked: list[tuple[int, int]] = []

    def fetch(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return bytes(stop - start)

    size = 2**30
    file = RangedFile(size, fetch)
    assert file.read(0) == b""
    file.seek(-10, os.SEEK_END)
    assert len(file.read()) == 10
    assert asked == [(size - TAIL, size)]  # the end in one piece
    with pytest.raises(Unavailable):
        for at in range(0, size, 2**20):
            file.seek(at)
            file.read(1)
    assert len(asked) <= 12
    greedy = RangedFile(size, fetch)
    with pytest.raises(Unavailable):
        greedy.read(9 * 2**20)
    assert sum(stop - start for start, stop in asked) <= 8 * 2**20


def test_metadata_that_cannot_be_had_is_announced_no_more(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = big_wheel(tmp_path)
    broken = "foo-2.0-py3-none-any.whl"
    server.add("foo", wheel.name, wheel.read_bytes())
    server.add("foo", broken, b"this is no wheel" * 100)
    remote = make()
    assert [file.core_metadata for file in _files(remote)] == [{}, {}]
    with pytest.raises(Missing):
        remote.open(FOO, broken, ".metadata")
    for source in (remote, make(), make(ttl=0)):
        assert [file.core_metadata for file in _files(source)] == [{}, None]


def test_an_upstream_that_fails_takes_no_announcement_back(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = big_wheel(tmp_path)
    path = server.add("foo", wheel.name, wheel.read_bytes())
    remote = make()
    assert [file.core_metadata for file in _files(remote)] == [{}]
    server.fault(path, faulty.status(500))
    with pytest.raises(Unavailable):
        remote.open(FOO, wheel.name, ".metadata")
    server.heal()
    assert [file.core_metadata for file in _files(remote)] == [{}]
    assert read(remote.open(FOO, wheel.name, ".metadata")).startswith(b"Metadata-Version")


def test_nothing_is_announced_that_is_not_sure(make: Make, server: faulty.FaultyUpstream, tmp_path: Path) -> None:
    wheel = big_wheel(tmp_path)
    server.add("foo", wheel.name, wheel.read_bytes())
    server.add("foo", SDIST, b"abc")
    assert [file.core_metadata for file in _files(make("proxy"))] == [None, None]
    announced = {file.filename: file.core_metadata for file in _files(make())}
    assert announced == {wheel.name: {}, SDIST: None}
    other = big_wheel(tmp_path, "2.0")
    server.add("foo", other.name, other.read_bytes(), metadata=b"Metadata-Version: 2.1\n")
    announced = {file.filename: file.core_metadata for file in _files(make(ttl=0))}
    assert announced[wheel.name] is None  # the upstream announces what it can read
    assert announced[other.name]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("says", [("bar", "1.0"), ("foo", "9.0"), ("", "1.0"), ("foo", "")])
def test_metadata_of_another_project_or_version_is_not_passed_on(
    make: Make, server: faulty.FaultyUpstream, mode: str, says: tuple[str, str], tmp_path: Path
) -> None:
    wheel = big_wheel(tmp_path)
    server.add("foo", wheel.name, wheel.read_bytes(), metadata=builders.metadata(*says, "Requires-Dist: evil"))
    with pytest.raises((Missing, Unavailable)):  # the page's digest is of that one, so what the wheel says is not it
        make(mode).open(FOO, wheel.name, ".metadata")


def test_no_project_reaches_the_kept_files_and_metadata_of_another(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = big_wheel(tmp_path)
    metadata = builders.metadata("foo", "1.0", "Requires-Dist: bar")
    evil = builders.metadata("evil", "1.0", "Requires-Dist: backdoor")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    server.add("foo", wheel.name, wheel.read_bytes(), metadata=metadata)
    server.add("evil", "evil-1.0-py3-none-any.whl", b"", hashes={"sha256": digest}, metadata=evil, size=False)
    server.add("evil", "evil-2.0-py3-none-any.whl", b"four", hashes={"sha256": digest})
    remote, name = make(), NormalizedName("evil")
    read(remote.open(FOO, wheel.name))
    kept = settle(remote, wheel.name)
    assert read(remote.open(name, "evil-1.0-py3-none-any.whl", ".metadata")) == evil
    for filename in ("evil-1.0-py3-none-any.whl", "evil-2.0-py3-none-any.whl"):
        with pytest.raises(Unavailable):
            read(remote.open(name, filename))
    assert read(remote.open(FOO, wheel.name, ".metadata")) == metadata
    assert settle(remote, wheel.name) == kept
    assert read(kept) == wheel.read_bytes()


def test_two_upstreams_that_list_one_file_keep_it_apart(tmp_path: Path) -> None:
    wheel = big_wheel(tmp_path)
    cache = Cache(tmp_path / "cache")
    with faulty.upstream() as one, faulty.upstream() as other:
        one.add("foo", wheel.name, wheel.read_bytes(), metadata=builders.metadata("foo", "1.0", "Requires-Dist: evil"))
        other.add("foo", wheel.name, wheel.read_bytes())
        assert b"evil" in read(Remote(Upstream(one.url), mode="cache", cache=cache).open(FOO, wheel.name, ".metadata"))
        good = Remote(Upstream(other.url), mode="cache", cache=cache).open(FOO, wheel.name, ".metadata")
        assert b"evil" not in read(good)


def _files(remote: Remote) -> Any:
    project = remote.project(FOO)
    assert project is not None
    return project.files
