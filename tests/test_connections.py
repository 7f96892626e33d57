"""Connections of waitress, mended: slow clients, the limit, who gives way, and that nobody is forgotten."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from running import LARGE, MIB, PAGE, POST, Start, read_all, read_head

from pypiserver_lite.servers.mends import Task


def test_fifty_slow_clients_disturb_nobody(start: Start) -> None:
    running = start(threads=2)
    slow = [running.connect() for _ in range(60)]
    for number, connection in enumerate(slow):
        if number % 3 == 0:
            connection.sendall(b"GET / HTTP/1.1\r\nHo")
        elif number % 3 == 1:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    for _ in range(20):
        began = time.monotonic()
        assert running.get()[0] == 200
        assert time.monotonic() - began < 1
    for connection in slow:
        connection.close()


@pytest.mark.parametrize("asked", [b"", b"GET /wait HTTP/1.1\r\nHost: here\r\n\r\n"])
def test_urgent_data_ends_the_connection(start: Start, caplog: pytest.LogCaptureFixture, asked: bytes) -> None:
    """The loop would be told of it again and again, and say so each time."""
    running = start()
    with running.connect() as connection:
        connection.sendall(asked)
        connection.send(b"!", socket.MSG_OOB)
        with contextlib.suppress(ConnectionResetError):
            assert read_all(connection) == b""
    assert running.get()[0] == 200 and not caplog.records


def test_a_clock_that_is_set_forward_cuts_nobody(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running, now = start(idle_timeout=30), time.time
    with running.connect() as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: here\r\n\r\nGET / HTTP/1.1\r\nHost: here\r\n")
        read_head(connection)
        monkeypatch.setattr(time, "time", lambda: now() + 10**6)
        time.sleep(2.5)  # whoever is overdue is looked for each second
        connection.sendall(b"\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")


def test_a_clock_that_is_set_back_keeps_nobody(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running, now = start(idle_timeout=2), time.time
    with running.connect() as silent:
        time.sleep(1)
        monkeypatch.setattr(time, "time", lambda: now() - 10**6)
        assert read_all(silent) == b""


def test_what_does_not_come_in_time_is_closed(start: Start) -> None:
    running = start(idle_timeout=1)
    with running.connect() as silent, running.connect() as header, running.connect() as body, running.connect() as drip:
        header.sendall(b"GET / HT")
        body.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        drip.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(8):  # never silent for long, yet never done
            time.sleep(0.1)
            drip.sendall(b"X")
        assert read_all(silent) == b""
        assert read_all(header) == b""
        assert read_all(body) == b""
        assert read_all(drip) == b""


def test_a_client_that_stops_taking_a_stream_frees_its_worker(start: Start) -> None:
    running = start(idle_timeout=1, threads=1)
    with running.connect() as stalled:
        stalled.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        read_head(stalled)
        assert running.get()[0] == 200


def test_at_the_limit_of_connections_those_that_ask_nothing_give_way(start: Start) -> None:
    running = start(connection_limit=20)
    with contextlib.ExitStack() as spare:
        for number in range(50):
            connection = spare.enter_context(running.connect())
            if number % 2:
                connection.sendall(b"GET / HT")
        for _ in range(10):
            assert running.get()[0] == 200


def test_one_connection_at_once_is_enough_to_serve(start: Start) -> None:
    running = start(connection_limit=1)
    for _ in range(3):
        assert running.get("/page") == (200, PAGE)


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    """No file of this process grows beyond a megabyte, that of a stream in TMPDIR neither."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_slow_readers_of_a_large_page_cost_no_disk(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    running = start()
    with _full_disk(), contextlib.ExitStack() as many:
        readers = [many.enter_context(running.connect()) for _ in range(20)]
        for reader in readers:
            reader.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for reader in readers:
            read_head(reader)
        for reader in readers:
            assert read_all(reader) == LARGE
    assert not caplog.records


def test_what_the_disk_has_no_room_for_is_cut_where_it_is_seen(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    running = start()
    with _full_disk():
        with running.connect() as reader:
            reader.sendall(b"GET /numbered HTTP/1.1\r\nHost: x\r\n\r\n")
            read_head(reader)
            deadline = time.monotonic() + 20
            while "TMPDIR" not in caplog.text:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            body = read_all(reader)
        assert not body.endswith(b"0\r\n\r\n")
        numbers = [int(line) for line in re.findall(rb"([0-9]{7})\n", body)]
        assert numbers == sorted(numbers) and set(numbers) == set(range(numbers[-1] + 1))
        assert running.get()[0] == 200
    assert len(caplog.records) == 1


def test_below_the_limit_of_connections_nobody_gives_way(start: Start) -> None:
    running = start(connection_limit=20)
    with contextlib.ExitStack() as many:
        connections = [many.enter_context(running.connect()) for _ in range(15)]
        for _ in range(10):
            assert running.get()[0] == 200
        for connection in connections:
            connection.sendall(b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_head(connection).startswith(b"HTTP/1.1 204 ")


def test_no_answer_on_a_kept_connection_is_late(start: Start) -> None:
    """Files one after the other on connections that live on, as pip asks for them; 20,000 in ``benchmarks``."""
    running = start(threads=4, idle_timeout=60)
    lengths = [100_000, 3_000_000, 700_000, 2_000_000]

    def fetch(seed: int) -> float:
        longest = 0.0
        client = running.client()
        for number in range(100):
            length = lengths[(seed + number) % 4]
            began = time.monotonic()
            client.request("GET", f"/file?length={length}")
            assert len(client.getresponse().read()) == length
            longest = max(longest, time.monotonic() - began)
        client.close()
        return longest

    with ThreadPoolExecutor(4) as clients:
        # A lost wake-up lasts until the time-out.
        assert max(clients.map(fetch, range(4))) < 20


def test_a_worker_that_is_slow_to_hand_back_stalls_nobody(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = Task.finish

    def late(self: Task) -> None:
        finish(self)
        time.sleep(0.02)

    monkeypatch.setattr(Task, "finish", late)
    running = start(idle_timeout=60)
    client = running.client()
    for path in ["/page", "/file?length=2000000", "/empty"] * 5:
        client.request("GET", path)
        client.getresponse().read()
    client.close()


def test_those_who_ask_twice_and_do_not_read_hold_no_worker(start: Start) -> None:
    running = start(threads=4)
    with contextlib.ExitStack() as greedy:
        for _ in range(16):
            connection = greedy.enter_context(running.connect())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(
                b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n" * 50
            )
        for _ in range(20):
            assert running.get("/page") == (200, PAGE)


@pytest.mark.parametrize("piece", [20, 2400])
@pytest.mark.parametrize("kind", ["readers", "bodies", "askers"])
def test_at_the_limit_of_connections_the_slowest_and_those_between_two_requests_give_way(
    start: Start, kind: str, piece: int
) -> None:
    running = start(connection_limit=40, threads=4)
    stop = threading.Event()
    asked = {
        "readers": b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n",
        "bodies": POST + b"Content-Length: 1000000\r\n\r\n",
        "askers": b"GET /empty HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n" % (b"x" * piece),
    }[kind]

    def trickle() -> None:
        while not stop.wait(0.1):
            with contextlib.suppress(OSError), running.connect() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.sendall(asked)
                while not stop.wait(0.2):
                    if kind == "bodies":
                        connection.sendall(b"x" * piece)
                    elif not connection.recv(piece):
                        break
                    elif kind == "askers":
                        connection.sendall(asked)

    clients = [threading.Thread(target=trickle) for _ in range(60)]
    for client in clients:
        client.start()
    time.sleep(1)  # until they have all places; that they have is not what is tested
    try:
        for _ in range(10):
            assert running.get("/page") == (200, PAGE)
    finally:
        stop.set()
        for client in clients:
            client.join()


@pytest.mark.parametrize("asked", [b"GET /file HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n"])
def test_who_moves_too_few_bytes_is_let_go(start: Start, asked: bytes) -> None:
    running = start(idle_timeout=1)
    with running.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(asked + b"Host: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(60):
                time.sleep(0.1)  # never silent for a second, yet never done
                if asked.startswith(b"POST"):
                    connection.sendall(b"x")
                else:
                    connection.recv(10)
            assert len(read_all(connection)) < 32 * MIB - 600
            assert asked.startswith(b"GET"), "its body was waited for"


def test_a_body_that_broke_off_leaves_nothing_on_the_disk(start: Start) -> None:
    def spools() -> int:
        links = [os.readlink(entry) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry)]
        return sum(link.endswith("(deleted)") for link in links)

    running = start()
    before = spools()
    gc.disable()  # nobody comes to collect what refers to itself
    try:
        for _ in range(5):
            with running.connect() as connection:
                connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + bytes(2 * MIB))
                while spools() == before:
                    time.sleep(0.01)
            deadline = time.monotonic() + 20
            while spools() > before and time.monotonic() < deadline:
                time.sleep(0.01)
            assert spools() == before
    finally:
        gc.enable()


def test_a_reset_after_expect_is_nothing_to_tell(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    running = start()
    for _ in range(20):
        with running.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert running.get()[0] == 200
    assert caplog.records == []
