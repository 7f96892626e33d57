"""How waitress, mended, sends answers: connections that live on, exact lengths, files without a worker."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.validate import validator

import pytest
from running import MIB, PAGE, Running, Start, read_all, read_head

from pypiserver_lite.servers.mends import Channel, head_of, remembered_head


@pytest.mark.parametrize(
    "asked",
    [
        *("GET /unchanged", "GET /empty", "GET /stream", "GET /page", "GET /file"),
        *("POST /", "HEAD /page", "HEAD /stream", "HEAD /file"),
    ],
)
def test_the_connection_lives_on(start: Start, asked: str) -> None:
    method, path = asked.split()
    running = start()
    client = running.client()
    client.connect()
    mine = client.sock
    for _ in range(3):
        client.request(method, path, body=b"abc" if method == "POST" else None)
        answer = client.getresponse()
        body = answer.read()
        assert answer.getheader("Connection") is None
        assert bool(body) == (method != "HEAD" and path not in ("/unchanged", "/empty"))
        if path in ("/page", "/file"):
            length = len(PAGE) if path == "/page" else 32 * MIB
            assert answer.getheader("Content-Length") == str(length)
        assert client.sock is mine
    client.close()


def test_pipelined_requests_are_answered_in_order(shared: Running) -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    get = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /page HTTP/1.0\r\n\r\n"
    answers = shared.raw(get + post + get + post + last)
    assert answers.count(b" 200 OK\r\n") == 5 and answers.endswith(PAGE)
    paths = [json.loads(part.partition(b"\r\n\r\n")[2])["body"] for part in answers.split(b"HTTP/1.1 ")[1:-1]]
    assert paths == ["0", "3", "0"]


@pytest.mark.parametrize("wait", [0.0, 0.002])
@pytest.mark.parametrize(("path", "length"), [(b"/page", len(PAGE)), (b"/empty", 0)])
def test_bytes_that_come_before_their_turn_are_taken_up_after_it(
    start: Start, path: bytes, length: int, wait: float
) -> None:
    running = start(threads=4)
    asked = b"GET " + path + b" HTTP/1.1\r\nHost: here\r\n\r\n"

    def talk() -> None:
        with running.connect() as connection:
            connection.sendall(asked)
            for _ in range(100):
                # Half of the next request is there while this one is being answered.
                connection.sendall(asked[:20])
                time.sleep(wait)
                read_head(connection)
                left = length
                while left:
                    left -= len(connection.recv(left))
                connection.sendall(asked[20:])

    with ThreadPoolExecutor(8) as clients:
        for done in [clients.submit(talk) for _ in range(8)]:
            done.result(60)


def test_a_list_of_what_the_connection_should_do_is_understood(shared: Running) -> None:
    answer = shared.raw(b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Close\r\n\r\n")  # until it closes
    assert answer.endswith(PAGE) and b"Connection: close\r\n" in answer


def test_headers_that_clients_make_long_are_not_kept() -> None:
    before = remembered_head.cache_info().currsize
    for length in (10, 100_000):
        assert head_of("301 Moved", (("Location", "x" * length),), None).count(b"x") == length
    assert remembered_head.cache_info().currsize == before + 1


def test_http_1_0_keeps_the_connection_only_when_asked(shared: Running) -> None:
    assert b"Connection: close" in shared.raw(b"GET /page HTTP/1.0\r\n\r\n")
    with shared.connect() as connection:
        connection.sendall(b"HEAD /page HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        assert b"Connection: Keep-Alive" in read_head(connection)
        connection.sendall(b"GET /empty HTTP/1.0\r\n\r\n")
        assert b"Connection: close" in read_all(connection)


def test_an_error_of_the_application_is_a_short_500_and_service_goes_on(shared: Running) -> None:
    for _ in range(3):
        status, text = shared.get("/broken")
        assert status == 500 and b"secret" not in text
    assert shared.get()[0] == 200


def test_what_write_has_sent_and_what_follows_are_one_body(shared: Running) -> None:
    client = shared.client()
    for _ in range(2):  # the connection is in order afterwards
        client.request("GET", "/written")
        assert client.getresponse().read() == b"onetwo"
    client.close()


def test_an_answer_begins_once_unless_an_error_excuses_it(shared: Running) -> None:
    assert shared.get("/twice")[0] == 500
    answer = shared.raw(b"GET /twice?excused HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 503 Not Now\r\n") and answer.endswith(b"\r\n\r\nnot now")
    assert b"X-First" not in answer


def test_applications_are_called_as_pep_3333_says() -> None:
    """Whatever the standard library's checker finds wrong, an AssertionError of its own, would be a 500."""
    complaints: list[str] = []

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            body = environ["wsgi.input"].read(1000)
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        except AssertionError as error:
            complaints.append(str(error))
            raise
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    running = Running(validator(application))
    try:
        client = running.client()
        for method, body in (("GET", None), ("POST", b"twelve bytes"), ("HEAD", None), ("GET", None)):
            client.request(method, "/a%20b//c?d=e", body=body, headers={"X-Some": "thing"})
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (200, body or b""), complaints
        client.close()
    finally:
        running.stop()


@pytest.mark.parametrize("asked", ["/torn", "/too_late", "/short"])
def test_an_answer_torn_in_the_middle_never_looks_whole(shared: Running, asked: str) -> None:
    client = shared.client()
    client.request("GET", asked)
    with pytest.raises(http.client.IncompleteRead):
        client.getresponse().read()
    client.close()


def test_a_stream_that_takes_long_is_not_taken_for_a_silent_client(start: Start) -> None:
    running = start(idle_timeout=2)
    with running.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(b"GET /hurried HTTP/1.0\r\n\r\n")
        body = read_head(connection)
        while body.count(b"trickle") < 25:
            body += connection.recv(4096)
        time.sleep(1.5)  # shorter than the time-out, long enough for a look at who is silent
        body += read_all(connection)
    assert len(body.partition(b"\r\n\r\n")[2]) == 25 * 8 + 2000 * 16384


def test_a_stream_reaches_a_slow_client_whole_and_in_order(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Channel.handle_write

    def late(self: Channel) -> None:
        time.sleep(0.01)  # so that a worker finds room on the connection while older bytes wait for the loop
        now(self)

    monkeypatch.setattr(Channel, "handle_write", late)
    running = start(threads=1)
    with running.connect() as connection:
        connection.sendall(b"GET /numbered HTTP/1.0\r\n\r\n")
        read_head(connection)
        body = b""
        for _ in range(300):
            time.sleep(0.001)
            body += connection.recv(40_000)
        body += read_all(connection)
    assert body == b"".join(b"%07d\n" % number * 5000 for number in range(400))


def test_a_range_of_a_file_is_exactly_that(start: Start) -> None:
    running = start()
    assert running.app.big is not None
    whole = running.app.big.read_bytes()
    assert running.get("/file?start=1000&length=70000") == (200, whole[1000:71000])
    assert running.get("/file?start=5&length=1") == (200, whole[5:6])
    assert running.get("/file") == (200, whole)


def test_a_file_is_sent_without_a_worker(start: Start) -> None:
    running = start(threads=1)
    stalled = [running.connect() for _ in range(5)]
    for connection in stalled:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(b"GET /file HTTP/1.0\r\n\r\n")
    for connection in stalled:
        read_head(connection)
    began = time.monotonic()
    assert running.get()[0] == 200
    assert time.monotonic() - began < 1
    assert len(read_all(stalled[0])) == 32 * MIB
    for connection in stalled:
        connection.close()


def test_a_file_shorter_than_promised_is_cut_visibly(start: Start) -> None:
    running = start()
    client = running.client()
    client.request("GET", "/file?start=33554400&length=100")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        client.getresponse().read()
    client.close()
    assert running.get()[0] == 200
