"""Whoever waits for an upstream, a digest or a slow reader leaves threads for everybody else."""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import builders
import faulty_upstream as faulty
import folders
import forms
import live
import pytest

from pypiserver_lite import disk

AT_ONCE = 2.0
"""Seconds that tell an answer from waiting for a thread, also on a busy machine: what is waited for takes ten."""
OURS = ("/simple/ours/", "/health", "/packages/ours-1.0-py3-none-any.whl", "/simple/")


@pytest.fixture
def server() -> Iterator[faulty.FaultyUpstream]:
    with faulty.upstream() as server:
        yield server


@pytest.fixture
def folder(packages: Path) -> Path:
    builders.make_wheel(packages, "ours")
    return packages


def ours_answer(server: live.Server) -> None:
    """What lies here is answered at once, one after the other and several at a time."""
    for path in OURS:
        began = time.monotonic()
        assert live.ask(server, path).status == 200
        assert time.monotonic() - began < AT_ONCE, path
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status for answer in pool.map(lambda path: live.ask(server, path), OURS * 4)} == {200}
    assert time.monotonic() - began < AT_ONCE


@contextmanager
def readers(server: live.Server, path: str, count: int, take: int = 0) -> Iterator[list[socket.socket]]:
    """So many clients that ask for `path` and read `take` bytes of the answer at most."""
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(20)
            connection.connect((server.host, server.port))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            sockets.append(connection)
        for connection in sockets:
            if take:
                connection.recv(take)
        yield sockets


def status_of(connection: socket.socket) -> int:
    """The status of the answer that has begun; 0 if none has."""
    connection.settimeout(0.05)
    try:
        match = re.match(rb"HTTP/1\.1 ([0-9]{3})", connection.recv(200, socket.MSG_PEEK))
    except TimeoutError:
        return 0
    return int(match[1]) if match else 0


def all_status(askers: list[socket.socket]) -> set[int]:
    return {status_of(asker) for asker in askers}


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["proxy", "cache"])
def test_many_askers_of_one_slow_name_hold_up_nobody_else(
    mode: str, server: faulty.FaultyUpstream, folder: Path
) -> None:
    server.fault("/simple/slow/", faulty.hang(10))
    with live.serve(packages=[folder], fallback_url=server.url, fallback_mode=mode, threads=64) as ours:
        live.ask(ours, "/simple/ours/")
        with readers(ours, "/simple/slow/", 70) as askers:
            until(lambda: server.count("/simple/slow/") > 0)
            ours_answer(ours)
            statuses = [status_of(asker) for asker in askers]
            assert statuses.count(0) == 32  # half of the threads wait
            assert statuses.count(503) == 38
            assert b"\r\nRetry-After: 1\r\n" in askers[statuses.index(503)].recv(1000)
            assert server.count("/simple/slow/") == 1
        live.kill(ours)


def test_as_many_slow_readers_of_a_passed_file_as_there_are_threads_hold_up_nobody_else(
    server: faulty.FaultyUpstream, folder: Path
) -> None:
    path = server.add("big", "big-1.0.tar.gz", os.urandom(24_000_000))
    server.stored[path].speed = 2e6
    server.add("new", "new-1.0.tar.gz", b"new")
    with live.serve(packages=[folder], fallback_url=server.url, fallback_mode="proxy", threads=64) as ours:
        live.ask(ours, "/simple/ours/")
        assert live.ask(ours, "/simple/big/").status == 200
        with readers(ours, "/packages/big-1.0.tar.gz", 64) as askers:
            until(lambda: server.count(path) == 30)  # half of the threads, but for two that are left to pages
            ours_answer(ours)
            assert live.ask(ours, "/simple/new/").status == 200
            statuses = [status_of(asker) for asker in askers]
            assert statuses.count(503) >= 34
        live.kill(ours)


@pytest.mark.parametrize("whole", [True, False])  # at the time of asking
def test_readers_of_a_file_on_its_way_keep_no_thread_however_many_and_slow_they_are(
    whole: bool, server: faulty.FaultyUpstream, folder: Path
) -> None:
    data = os.urandom(24_000_000)
    path = server.add("big", "big-1.0.tar.gz", data)
    server.stored[path].speed = 40e6 if whole else 1e5
    server.add("new", "new-1.0.tar.gz", b"new")
    big = "/packages/big-1.0.tar.gz"
    # Of eight threads, four wait at most.
    with (
        live.serve(packages=[folder], fallback_url=server.url, fallback_mode="cache", threads=8) as ours,
        ExitStack() as stack,
    ):
        live.ask(ours, "/simple/ours/")
        assert live.ask(ours, "/simple/big/").status == 200
        askers = stack.enter_context(readers(ours, big, 1))
        until(lambda: all_status(askers) == {200})
        askers += stack.enter_context(readers(ours, big, 20))
        until(lambda: all_status(askers) == {200})
        if whole:
            until(lambda: live.ask(ours, big, "HEAD").headers.get("last-modified") is not None)
        ours_answer(ours)
        assert live.ask(ours, "/simple/new/").status == 200
        assert live.ask(ours, "/packages/new-1.0.tar.gz").body == b"new"
        assert server.count(path) == 1
        live.kill(ours)


def test_those_who_ask_for_the_end_of_a_file_on_its_way_keep_no_thread_and_get_it(
    server: faulty.FaultyUpstream, folder: Path
) -> None:
    data = os.urandom(1_500_000)
    path = server.add("big", "big-1.0.tar.gz", data)
    server.stored[path].speed = 2e5
    server.add("new", "new-1.0.tar.gz", b"new")
    with (
        live.serve(packages=[folder], fallback_url=server.url, fallback_mode="cache", threads=8) as ours,
        ExitStack() as stack,
    ):
        live.ask(ours, "/simple/ours/")
        assert live.ask(ours, "/simple/big/").status == 200
        first = stack.enter_context(readers(ours, "/packages/big-1.0.tar.gz", 1))
        until(lambda: all_status(first) == {200})
        ends = [stack.enter_context(live.connect(ours)) for _ in range(20)]
        for end in ends:
            asked = "GET /packages/big-1.0.tar.gz HTTP/1.1\r\nHost: x\r\nRange: bytes=1400000-\r\n\r\n"
            end.sendall(asked.encode())
        assert live.ask(ours, "/simple/new/").status == 200
        assert live.ask(ours, "/packages/new-1.0.tar.gz").body == b"new"
        assert server.count(path) == 1
        for end in ends:
            answer = http.client.HTTPResponse(end)
            answer.begin()
            assert (answer.status, answer.read()) == (206, data[1_400_000:])
        live.kill(ours)


def test_many_askers_of_a_file_whose_digest_is_not_known_hold_up_nobody_else(folder: Path) -> None:
    with live.serve(packages=[folder]) as ours:
        assert live.ask(ours, "/simple/ours/").status == 200
        with (folder / "huge-1.0.tar.gz").open("wb") as file:
            file.truncate(4 * 2**30)
        with readers(ours, "/simple/huge/", 18) as askers:
            until(lambda: any(status_of(asker) == 503 for asker in askers))
            ours_answer(ours)
            statuses = [status_of(asker) for asker in askers]
            assert statuses.count(503) == 14  # a quarter of the threads waits
        live.kill(ours)


def test_new_files_that_are_read_in_a_moment_are_nobodys_trouble(packages: Path) -> None:
    for number in range(30):
        builders.make_wheel(packages, f"new{number}", payload=bytes(1_000_000))
    with live.serve(packages=[packages], threads=8) as ours, ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda number: live.ask(ours, f"/simple/new{number}/"), range(30)))
    assert {answer.status for answer in answers} == {200}


@pytest.mark.parametrize("mode", ["proxy", "cache"])
def test_as_many_as_four_uv_ask_for_at_once_are_answered(
    mode: str, server: faulty.FaultyUpstream, packages: Path
) -> None:
    for number in range(50):
        server.add(f"new{number}", f"new{number}-1.0.tar.gz", b"new")
        server.stored[f"/simple/new{number}/"].delay = 2.0
    with (
        live.serve(packages=[packages], fallback_url=server.url, fallback_mode=mode) as ours,
        ThreadPoolExecutor(200) as pool,
    ):
        answers = list(pool.map(lambda number: live.ask(ours, f"/simple/new{number % 50}/"), range(200)))
    assert [answer.status for answer in answers] == [200] * 200


def test_slow_readers_of_a_file_that_became_whole_get_all_of_it(server: faulty.FaultyUpstream, folder: Path) -> None:
    data = os.urandom(40_000_000)
    path = server.add("big", "big-1.0.tar.gz", data)
    server.stored[path].speed = 40e6
    with live.serve(packages=[folder], fallback_url=server.url, fallback_mode="cache", threads=4) as ours:
        assert live.ask(ours, "/simple/big/").status == 200
        with readers(ours, "/packages/big-1.0.tar.gz", 2) as askers:
            until(lambda: server.count(path) > 0)
            until(lambda: live.ask(ours, "/packages/big-1.0.tar.gz", "HEAD").headers.get("last-modified") is not None)
            for asker in askers:
                head, _, body = asker.recv(65536).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                parts = [body]
                while sum(map(len, parts)) < len(data):
                    parts.append(asker.recv(2**20))
                    assert parts[-1]
                assert b"".join(parts) == data
                asker.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")  # and the connection goes on
                assert asker.recv(100).startswith(b"HTTP/1.1 200 ")
            assert live.ask(ours, "/packages/big-1.0.tar.gz").body == data
        assert server.count(path) == 1
        assert "Traceback" not in ours.log()


def test_readers_of_a_file_that_comes_slowly_leave_connections_to_others(
    server: faulty.FaultyUpstream, folder: Path
) -> None:
    data = os.urandom(1_000_000)
    server.fault(server.add("big", "big-1.0.tar.gz", data), faulty.stall(data, 2_000, 60))
    big, options = "/packages/big-1.0.tar.gz", {"connection_limit": 40, "threads": 8}
    with (
        live.serve(packages=[folder], fallback_url=server.url, fallback_mode="cache", **options) as ours,  # type: ignore[arg-type]
        readers(ours, big, 1) as askers,
    ):
        until(lambda: all_status(askers) == {200})
        with readers(ours, big, 60):
            answers = [live.ask(ours, "/simple/ours/").status for _ in range(5)]
            assert answers == [200] * 5
        live.kill(ours)


def test_readers_of_a_file_that_stalls_are_patient_and_cost_nothing(
    server: faulty.FaultyUpstream, folder: Path
) -> None:
    data = os.urandom(1_000_000)
    path = server.add("big", "big-1.0.tar.gz", data)
    server.fault(path, faulty.stall(data, 500_000, 6.0), times=1)
    settings = {"fallback_url": server.url, "fallback_mode": "cache", "idle_timeout": 2}
    with live.serve(packages=[folder], **settings) as ours, ThreadPoolExecutor(4) as pool:  # type: ignore[arg-type]
        before = _cpu(ours)
        answers = list(pool.map(lambda _: live.ask(ours, "/packages/big-1.0.tar.gz"), range(4)))
        assert [answer.body == data for answer in answers] == [True] * 4
        assert _cpu(ours) - before < 1.0  # a loop that never sleeps takes six, or what the machine has to give
        assert server.count(path) == 2


@pytest.mark.parametrize("dies", [True, False])
def test_readers_of_what_another_server_fetches_into_the_same_cache_keep_no_thread(
    server: faulty.FaultyUpstream, folder: Path, tmp_path: Path, dies: bool
) -> None:
    data = os.urandom(30_000_000)
    path = server.add("big", "big-1.0.tar.gz", data)
    server.stored[path].speed = 6e6
    server.add("new", "new-1.0.tar.gz", b"new")
    big = "/packages/big-1.0.tar.gz"
    settings = {"fallback_url": server.url, "fallback_mode": "cache", "cache_dir": tmp_path / "cache", "threads": 4}
    with (
        live.serve(packages=[folder], **settings) as first,  # type: ignore[arg-type]
        live.serve(packages=[folder], **settings) as second,  # type: ignore[arg-type]
        readers(first, big, 1),
    ):
        until(lambda: server.count(path) == 1)
        with readers(second, big, 2) as askers:
            until(lambda: all_status(askers) == {200})
            until(lambda: live.ask(second, "/simple/new/").status == 200)
            if dies:
                live.kill(first)
            for asker in askers:
                asker.settimeout(20)
                parts = [asker.recv(2**16).partition(b"\r\n\r\n")[2]]
                left = len(data) - len(parts[0])
                while left and parts[-1]:
                    parts.append(asker.recv(2**20))
                    left -= len(parts[-1])
                assert b"".join(parts) == data
        assert server.count(path) == (2 if dies else 1)
        live.kill(first)


def _cpu(server: live.Server) -> float:
    """Seconds that a server has computed."""
    assert server.process is not None
    user, system = Path(f"/proc/{server.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("mode", ["proxy", "cache"])
def test_readers_of_a_file_that_is_wrong_see_it_break_and_the_log_says_why_in_one_line(
    mode: str, server: faulty.FaultyUpstream, folder: Path
) -> None:
    data = os.urandom(1_000_000)
    path = server.add("big", "big-1.0.tar.gz", data, hashes={"sha256": "0" * 64})
    server.stored[path].speed = 1e6
    url = server.url.replace("//", "//user:s3cret@")
    with live.serve(packages=[folder], fallback_url=url, fallback_mode=mode) as ours:
        answer = live.raw(ours, b"GET /packages/big-1.0.tar.gz HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert data.startswith(body)
        assert 0 < len(body) < len(data)
        until(lambda: live.sha256(data) in ours.log())
        said = [line for line in ours.log().splitlines() if "big-1.0.tar.gz" in line]
        assert len(said) == 1
        assert all(part in said[0] for part in (live.sha256(data), "0" * 64, f"127.0.0.1:{server.port}"))
        assert "Traceback" not in ours.log()
        assert "s3cret" not in ours.log()


def test_readers_that_go_away_make_way(server: faulty.FaultyUpstream, folder: Path) -> None:
    path = server.add("big", "big-1.0.tar.gz", os.urandom(3_000_000))
    server.stored[path].speed = 1e6
    with live.serve(packages=[folder], fallback_url=server.url, fallback_mode="cache", threads=4) as ours:
        for _ in range(3):
            with readers(ours, "/packages/big-1.0.tar.gz", 4, take=100):
                pass
        until(lambda: live.ask(ours, "/packages/big-1.0.tar.gz").status == 200)
        server.add("new", "new-1.0.tar.gz", b"new")
        until(lambda: live.ask(ours, "/packages/new-1.0.tar.gz").body == b"new")
        assert server.count(path) == 1


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Somebody else's lock on a folder, as of a backup that runs under ``flock``, or of a disk that takes its time."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        if disk.try_lock(handle) is not True:
            pytest.skip("this system has no locks on folders")
        yield
    finally:
        os.close(handle)


@folders.posix
@pytest.mark.parametrize("at", ["the folder", "the record of names"])
def test_uploads_that_wait_for_a_folder_or_its_disk_hold_up_nobody_else(folder: Path, at: str) -> None:
    names = [f"new{number}-1.0-py3-none-any.whl" for number in range(16)]
    with live.serve(packages=[folder], threads=8, **forms.OPEN) as server, ThreadPoolExecutor(16) as pool:
        with held(folder if at == "the folder" else folder / ".pypiserver-lite"):
            bodies = [forms.upload(forms.wheel(name.partition("-")[0]), name) for name in names]
            uploads = [pool.submit(forms.post, server, body) for body in bodies]
            what = ".pypiserver-lite-*.tmp" if at == "the folder" else "new*.whl"
            folders.wait_for(lambda: len(list(folder.glob(what))) >= 4)
            ours_answer(server)
            assert live.ask(server, "/simple/nobodys/").status == 404
            assert not any(upload.done() for upload in uploads)
        assert [upload.result().status for upload in uploads] == [200] * 16
        recorded = (folder / ".pypiserver-lite" / "names").read_text().splitlines()
        assert {name.partition("-")[0] for name in names} < set(recorded)
