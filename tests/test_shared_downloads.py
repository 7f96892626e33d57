"""Downloads into one cache by several processes, some of which are killed."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import pytest
from remotes import FOO, SDIST, Make, data_of, quiet, read, settle, source_clock, source_maker, upstream_server  # noqa: F401 - fixtures

from pypiserver_lite.errors import Unavailable
from pypiserver_lite.model import Stream
from pypiserver_lite.upstream import hops
from pypiserver_lite.upstream.arriving import Following
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.growing import Followed, Growing
from pypiserver_lite.upstream.source import Remote

ROOT = Path(__file__).resolve().parent.parent


_ANOTHER = """
import hashlib, sys, threading
from pathlib import Path
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.model import LocalFile
from pypiserver_lite.upstream.source import Remote
from pypiserver_lite.upstream.client import Upstream
remote = Remote(Upstream(sys.argv[1]), mode="cache", cache=Cache(Path(sys.argv[2])))
remote.project("foo")
print("ready", flush=True)
sys.stdin.readline()
content = remote.open("foo", sys.argv[3])
data = content.path.read_bytes() if isinstance(content, LocalFile) else b"".join(content.read(0, None))
print(hashlib.sha256(data).hexdigest(), flush=True)
for thread in threading.enumerate():
    if thread.name == "pypiserver-lite-download":
        thread.join()
"""


@pytest.mark.parametrize("size", [6, None])
def test_who_follows_another_process_gets_no_byte_that_would_make_an_unchecked_file_whole(
    tmp_path: Path, size: int | None
) -> None:
    key = hashlib.sha256(b"key").hexdigest()
    growing = Cache(tmp_path / "c").begin("files", key, size)
    followed = Cache(tmp_path / "c").begin("files", key, size)
    assert isinstance(growing, Growing)
    assert isinstance(followed, Followed)
    ended = threading.Event()
    following = Following(followed, size, ended.set, lambda stuck: None, exact=True)
    following.start()
    growing.write(b"abc")
    assert following.wait(0) == ((3, False) if size else (2, False))
    growing.write(b"def")  # all of it, but nobody has looked whether it is right
    assert following.wait(3) == (5, False)
    assert not ended.is_set()
    growing.publish()
    assert following.wait(5) == (6, True)
    assert ended.wait(10)


def test_several_processes_share_one_download(server: faulty.FaultyUpstream, tmp_path: Path) -> None:
    data = data_of(3_000_000)
    path = server.add("foo", SDIST, data)
    server.stored[path].speed = 6e6
    command = [sys.executable, "-c", _ANOTHER, server.url, str(tmp_path / "c"), SDIST]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate()[0].strip() for process in processes]
    assert outputs == [hashlib.sha256(data).hexdigest()] * 3
    assert server.count(path) == 1


def test_who_follows_another_process_that_then_passes_the_file_through_does_so_too(
    server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    data = data_of(200_000)
    path = server.add("foo", SDIST, data, size=False)
    answer, follows = threading.Event(), threading.Event()

    class Told(Cache):
        def begin(self, *given: Any, **named: Any) -> Growing | Followed:
            opened = super().begin(*given, **named)
            if isinstance(opened, Followed):
                follows.set()
            return opened

    def late(handler: faulty.Handler) -> None:
        answer.wait(60)
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data)

    first, second = (
        Remote(Upstream(server.url, page=60.0, read=60.0), mode="cache", cache=Told(tmp_path / "c", 1000))
        for _ in range(2)
    )
    second.project(FOO)
    server.fault(path, late, times=1)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(lambda: read(first.open(FOO, SDIST)))
        while server.count(path) == 0:
            time.sleep(0.01)
        other = pool.submit(lambda: read(second.open(FOO, SDIST)))
        followed = follows.wait(30)
        answer.set()
        assert followed
        assert (one.result() == data, other.result() == data) == (True, True)
    assert list((tmp_path / "c" / "tmp").iterdir()) == []


@pytest.mark.parametrize("size", [True, False])
def test_a_process_goes_on_where_another_one_died(server: faulty.FaultyUpstream, tmp_path: Path, size: bool) -> None:
    data = data_of(1_000_000)
    path = server.add("foo", SDIST, data, size=size)
    server.stored[path].speed = 4e5
    command = [sys.executable, "-c", _ANOTHER, server.url, str(tmp_path / "c"), SDIST]
    remote = Remote(Upstream(server.url), mode="cache", cache=Cache(tmp_path / "c"))
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        while server.count(path) == 0:
            time.sleep(0.01)
        with hops.carrying(None, 1.0):
            content = remote.open(FOO, SDIST)
            assert isinstance(content, Stream)
            pieces = iter(content.read(0, None))
            got = next(pieces)
        assert server.count(path) == 1
        time.sleep(1.1)  # the time for the first byte is over; what has begun has more
        process.kill()
        server.stored[path].speed = None
        got += b"".join(pieces)
    assert got == data
    assert server.count(path) == 2
    settle(remote, SDIST)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a process cannot be stopped here")
@pytest.mark.parametrize("exact", [True, False])
def test_a_process_that_is_stopped_in_the_middle_of_a_download_is_not_waited_for_long(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path, exact: bool
) -> None:
    data = data_of(1_000_000)
    path = server.add("foo", SDIST, data, hashes=None if exact else {})
    server.stored[path].speed = 4e5
    command = [sys.executable, "-c", _ANOTHER, server.url, str(tmp_path / "cache"), SDIST]
    remote = make(page=20.0)
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        while not any(entry.stat().st_size > 50_000 for entry in (tmp_path / "cache" / "tmp").iterdir()):
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        try:
            server.stored[path].speed = None
            began = time.monotonic()
            if exact:
                assert read(remote.open(FOO, SDIST)) == data
            else:  # nothing tells that the rest belongs to what was sent already
                with pytest.raises(Unavailable):
                    read(remote.open(FOO, SDIST))
            assert settle(remote, SDIST).path.read_bytes() == data
            assert time.monotonic() - began < 40
        finally:
            process.send_signal(signal.SIGCONT)
        assert process.stdout.readline().strip() == hashlib.sha256(data).hexdigest()
    assert server.count(path) == 2
    assert settle(remote, SDIST).path.read_bytes() == data
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def killed_while_caching(server: faulty.FaultyUpstream, cache: Path, path: str) -> Path:
    """What a process leaves that is killed while it fetches a file."""
    command = [sys.executable, "-c", _ANOTHER, server.url, str(cache), SDIST]
    server.stored[path].speed = 5e5
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        deadline = time.monotonic() + 20
        while not any(entry.stat().st_size > 50_000 for entry in (cache / "tmp").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    server.stored[path].speed = None
    (left,) = (cache / "tmp").iterdir()
    return left


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_after_kill_9_and_a_restart(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path, ranges: bool
) -> None:
    data = data_of(1_000_000)
    path = server.add("foo", SDIST, data)
    left = killed_while_caching(server, tmp_path / "cache", path)
    server.stored[path].ranges = ranges
    size = left.stat().st_size
    remote = make()
    assert read(remote.open(FOO, SDIST)) == data
    assert settle(remote, SDIST).path.read_bytes() == data
    asked = [request.headers.get("range") for request in server.requests if request.path == path]
    assert asked == [None, f"bytes={size}-"]
    quiet()
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_a_half_that_is_wrong_or_cannot_be_gone_on_with_is_in_nobodys_way_for_long(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    data = data_of(1_000_000)
    path = server.add("foo", SDIST, data)
    left = killed_while_caching(server, tmp_path / "cache", path)
    left.write_bytes(bytes(left.stat().st_size))  # as a crash of the machine may tear it
    got = b""
    remote = make()
    with pytest.raises(Unavailable):
        for piece in remote.open(FOO, SDIST).read(0, None):  # type: ignore[union-attr]
            got += piece
    assert len(got) < len(data)
    quiet()
    left.write_bytes(data[:60_000])
    server.fault(path, faulty.status(503), times=2)  # for the moment
    with pytest.raises(Unavailable):
        read(remote.open(FOO, SDIST))
    server.fault(path, faulty.status(416), times=1)
    with contextlib.suppress(Unavailable):
        read(remote.open(FOO, SDIST))
    assert read(remote.open(FOO, SDIST)) == data


def test_without_a_digest_nothing_is_gone_on_with_after_a_restart(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    data = data_of(1_000_000)
    path = server.add("foo", SDIST, data, hashes={})
    left = killed_while_caching(server, tmp_path / "cache", path)
    remote = make()
    assert not left.exists()
    assert read(remote.open(FOO, SDIST)) == data
    assert "range" not in server.requests[-1].headers
