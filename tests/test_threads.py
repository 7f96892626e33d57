"""A machine that has no thread left says so, and nobody waits for work that never began."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import builders
import faulty_upstream as faulty
import pytest
from packaging.utils import NormalizedName
from running import Running
from source_contract import read
from wsgi_client import Client

from pypiserver_lite import make_app
from pypiserver_lite.errors import Busy
from pypiserver_lite.kept import Flights
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.hosts import Hosts
from pypiserver_lite.upstream.source import Remote


@contextmanager
def no_threads() -> Iterator[None]:
    """No thread can be started: none has room for so large a stack."""
    before = threading.stack_size(2**46)
    try:
        yield
    finally:
        threading.stack_size(before)


def refused(work: Callable[[], object]) -> None:
    with no_threads(), pytest.raises(Busy, match="no thread left"):
        work()


def test_a_flight_that_never_left_is_waited_for_by_nobody() -> None:
    flights: Flights[str, int] = Flights()
    refused(lambda: flights.do_behind("key", lambda: 1, 60))
    assert flights.do_behind("key", lambda: 2, 60) == 2


def test_look_ups_that_never_began_leave_room_for_others() -> None:
    hosts = Hosts()
    for _ in range(100):
        refused(lambda: hosts.find("localhost", 1, hosts))
    assert hosts.find("localhost", 20, hosts)


def test_a_download_that_never_began_leaves_nothing_and_may_be_tried_again(tmp_path: Path) -> None:
    foo = NormalizedName("foo")
    wheel = builders.make_wheel(tmp_path / "theirs", "foo")
    with faulty.upstream() as server:
        server.add("foo", wheel.name, wheel.read_bytes())
        upstream = Upstream(server.url, calls=1, room=0)
        remote = Remote(upstream, mode="cache", cache=Cache(tmp_path / "cache"))
        assert remote.project(foo) is not None
        for _ in range(3):
            upstream.page(foo)  # over a connection that is kept
            refused(lambda: read(remote.open(foo, wheel.name)))
            assert list((tmp_path / "cache" / "tmp").iterdir()) == []
        assert read(remote.open(foo, wheel.name)) == wheel.read_bytes()
        remote.close()


def test_an_index_without_threads_of_its_own_serves_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    builders.make_wheel(tmp_path / "packages")
    with no_threads():
        app = make_app(tmp_path / "packages", disable_fallback=True, cache_dir=tmp_path / "cache")
        client = Client(app)
        client.get("/simple/ours/")
        client.get("/search?q=ours", status=503)
    client.get("/search?q=ours")
    app.close()
    assert len([line for line in caplog.messages if "not read ahead" in line]) == 1


def until(what: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.01)


def _workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("waitress-")]


def test_the_default_server_starts_threads_when_they_are_needed_and_goes_on_with_those_it_has(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    before = len(_workers())
    running = start(threads=40)
    for _ in range(20):
        assert running.get("/unchanged")[0] == 304
    assert len(_workers()) - before < 10
    with ThreadPoolExecutor(45) as pool:
        waiting = [pool.submit(running.get, "/wait") for _ in range(2)]
        until(lambda: len(_workers()) - before >= 2)
        assert running.get("/unchanged")[0] == 304
        with no_threads():
            queued = [running.connect() for _ in range(5)]
            for connection in queued:
                connection.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            until(lambda: "no thread left" in caplog.text)
        waiting += [pool.submit(running.get, "/wait") for _ in range(38)]
        until(lambda: len(_workers()) - before == 40)
        running.app.go_on.set()
        assert {answer.result() for answer in waiting} == {(200, b"done")}
    for connection in queued:
        with connection:
            assert connection.makefile("rb").read().endswith(b"done")
    assert len([line for line in caplog.messages if "no thread left" in line]) == 1
