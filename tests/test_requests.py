"""How waitress, mended, reads requests: one message, one meaning, and an answer before a body nobody wants."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from running import CHUNKED, MIB, PAGE, POST, Running, Start, Zeros, pieces, read_all, read_head

from pypiserver_lite.servers.mends import Workers

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: here\r\n\r\n"


MALFORMED = {
    "both lengths": (400, POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "length twice": (400, POST + b"Content-Length: 0\r\nContent-Length: 39\r\n\r\n"),
    "same length twice": (400, POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "length list": (400, POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    "coding twice": (400, CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding list": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "empty coding": (400, POST + b"Transfer-Encoding:\r\n\r\n"),
    "odd coding": (400, POST + b"Transfer-Encoding: xchunked\r\n\r\n"),
    "identity": (400, POST + b"Transfer-Encoding: identity\r\nConnection: keep-alive\r\n\r\n"),
    "coding in 1.0": (400, b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding in 1.2": (400, b"POST / HTTP/1.2\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "plus": (400, POST + b"Content-Length: +3\r\n\r\nabc"),
    "minus": (400, POST + b"Content-Length: -3\r\n\r\nabc"),
    "inner space": (400, POST + b"Content-Length: 1 0\r\n\r\nabc"),
    "underscore in number": (400, POST + b"Content-Length: 1_0\r\n\r\nabc"),
    "underscore in name": (400, POST + b"Content_Length: 10\r\n\r\nabc"),
    "hexadecimal": (400, POST + b"Content-Length: 0x3\r\n\r\nabc"),
    "empty length": (400, POST + b"Content-Length:\r\n\r\nabc"),
    "other digits": (400, POST + b"Content-Length: \xb2\r\n\r\nabc"),
    "endless number": (400, POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabc"),
    "space before colon": (400, POST + b"Content-Length : 3\r\n\r\nabc"),
    "folded": (400, POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    "bare newline": (400, b"GET / HTTP/1.1\nHost: here\r\nContent-Length: 3\n\r\n\r\n"),
    "bare return": (400, b"GET / HTTP/1.1\r\nHost: here\rX: y\r\n\r\n"),
    "null": (400, b"GET / HTTP/1.1\r\nHost: here\r\nX: a\x00b\r\n\r\n"),
    "no colon": (400, b"GET / HTTP/1.1\r\nHost: here\r\nnonsense\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "odd host": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "no version": (400, b"GET /\r\n\r\n"),
    "odd version": (400, b"GET / HTTP/11\r\n\r\n"),
    "two spaces": (400, b"GET  / HTTP/1.1\r\nHost: here\r\n\r\n"),
    "small method": (400, b"get / HTTP/1.1\r\nHost: here\r\n\r\n"),
    "no slash": (400, b"GET index HTTP/1.1\r\nHost: here\r\n\r\n"),
    "broken address": (400, b"GET http://[/ HTTP/1.1\r\nHost: here\r\n\r\n"),
    "raw bytes": (400, b"GET /\xff HTTP/1.1\r\nHost: here\r\n\r\n"),
    "https": (400, b"\x16\x03\x01\x02\x00\x01\x00"),
    "http2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "endless address": (431, b"GET /" + b"a" * 70000),
    "large header": (431, b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"a" * 70000 + b"\r\n\r\n"),
    "endless header": (431, b"GET / HTTP/1.1\r\nHost: here\r\n" + b"X: aaaaaaa\r\n" * 7000),
    "chunk size": (400, CHUNKED + b"xyz\r\n"),
    "signed chunk": (400, CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk newline": (400, CHUNKED + b"3\nabc\r\n0\r\n\r\n"),
    "newline after an extension": (400, CHUNKED + b"3;a\n\r\nabc\r\n0\r\n\r\n"),
    "many lines": (400, b"GET / HTTP/1.1\r\nHost: here\r\n" + b"a:\r\n" * 16000 + b"\r\n"),
    "double newline": (400, CHUNKED + b"3\n\r\nabc\r\n0\r\n\r\n"),
    "chunk overrun": (400, CHUNKED + b"3\r\nabcde\r\n0\r\n\r\n"),
    "endless chunk line": (400, CHUNKED + b"0" * 9000),
    "endless trailer": (400, CHUNKED + b"0\r\n" + b"a: b\r\n" * 3000),
    "request for a trailer": (400, CHUNKED + b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
    "null in a trailer": (400, CHUNKED + b"0\r\na: \0\r\n\r\n"),
    "odd host in the address": (400, b"GET http://me@there/ HTTP/1.1\r\nHost: here\r\n\r\n"),
    "row of spaces": (400, b"GET / HTTP/1.1\r\nHost: here\r\nX:" + b" " * 60000 + b"x\r\n\r\n"),
    "address that is slow to read": (400, b"GET http://" + b"1" * 60000 + b" x HTTP/1.1\r\nHost: here\r\n\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_an_ambiguous_or_oversized_request_is_refused_and_what_follows_is_never_read_as_one(
    shared: Running, case: str
) -> None:
    status, data = MALFORMED[case]
    with shared.connect() as connection:
        connection.sendall(data + (b"" if case == "https" or "endless" in case else SMUGGLED))
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
        except ConnectionResetError:
            assert status == 431  # who is still sending a header when the connection closes may not hear why
            return
        text = answer.read()
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            rest = connection.recv(10)
    assert answer.status == status, text
    assert answer.getheader("Content-Type") == "text/plain; charset=utf-8"
    assert (answer.getheader("Connection") or "").startswith("close")
    assert answer.getheader("Server") == "pypiserver-lite"
    assert len(text) < 200 and b"Traceback" not in text and b"<" not in text
    assert rest == b""


def test_a_header_full_of_spaces_is_read_in_linear_time(shared: Running) -> None:
    began = time.monotonic()
    with shared.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nX:" + b" " * 60000 + b"\x00\r\n\r\n")
        assert b" 400 " in read_head(connection)
    assert shared.get()[0] == 200
    assert time.monotonic() - began < 2


def test_ordinary_oddities_are_understood(shared: Running) -> None:
    def said(data: bytes) -> dict[str, str]:
        with shared.connect() as connection:
            connection.sendall(data)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 200
            result: dict[str, str] = json.loads(answer.read())
            return result

    first = said(b"\r\n\r\nGET /a%20b?c=%64 HTTP/1.1\r\nhost: here\r\nx-a: 1\r\nX-A:2\r\nX_A: 3\r\n\r\n")
    assert (first["PATH_INFO"], first["QUERY_STRING"], first["HTTP_X_A"]) == ("/a b", "c=%64", "1, 2")
    assert said(b"GET http://here/x?y HTTP/1.1\r\nHost: here\r\n\r\n")["PATH_INFO"] == "/x"
    assert said(b"GET http://there:99/x HTTP/1.1\r\nHost: here\r\n\r\n")["HTTP_HOST"] == "there:99"
    assert said(b"GET http://here HTTP/1.1\r\nHost: here\r\n\r\n")["PATH_INFO"] == "/"
    assert said(b"GET //x HTTP/1.1\r\nHost: here\r\n\r\n")["PATH_INFO"] == "/x"
    assert said(b"GET /y HTTP/1.0\r\n\r\n")["PATH_INFO"] == "/y"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_200_mb_with_a_wrong_password_gets_its_401(start: Start, chunked: bool) -> None:
    running = start()
    client = running.client()
    fields = {"Authorization": "wrong"} | ({} if chunked else {"Content-Length": str(200 * MIB)})
    client.request("POST", "/", body=pieces(200 * MIB), headers=fields, encode_chunked=chunked)
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (401, b"no\n")
    assert answer.getheader("WWW-Authenticate")
    client.request("GET", "/page")
    assert client.getresponse().read() == PAGE
    client.close()
    assert running.app.early == 1 and running.app.bodies == []
    assert running.get()[0] == 200


def test_a_refused_multipart_upload_of_requests_gets_its_401(start: Start) -> None:
    running = start()
    url = f"http://127.0.0.1:{running.port}/"
    files = {"content": ("ours-1.0.whl", os.urandom(30 * MIB))}
    answer = requests.post(
        url, data={":action": "file_upload"}, files=files, headers={"Authorization": "wrong"}, timeout=20
    )
    assert (answer.status_code, answer.text) == (401, "no\n")
    answer = requests.post(url, data={":action": "file_upload"}, files=files, timeout=20)
    assert answer.status_code == 200
    assert len(running.app.bodies[0]) > 30 * MIB


def test_a_body_nobody_wants_is_read_to_its_end_however_early_it_is_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_task = Workers.add_task

    def add_and_wait(workers: Workers, task: Any) -> None:  # as on a busy machine: it is done before the loop goes on
        add_task(workers, task)
        time.sleep(0.1)

    monkeypatch.setattr(Workers, "add_task", add_and_wait)
    with start().connect() as connection:
        connection.sendall(POST + b"Content-Length: 9\r\nAuthorization: wrong\r\n\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 401 ")
        assert connection.recv(3) == b"no\n"
        connection.sendall(b"nobody's\nGET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")


def test_a_piece_of_a_body_that_looks_like_the_begin_of_tls_is_a_piece_of_the_body(shared: Running) -> None:
    with shared.connect() as connection:
        connection.sendall(POST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"\x16\x03\x01 a body")
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")


def test_a_body_in_chunks_may_end_anywhere_between_two_pieces(shared: Running) -> None:
    for at in range(1, 12):
        sent = CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
        with shared.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(sent[:-at])
            time.sleep(0.02)
            connection.sendall(sent[-at:])
            assert read_head(connection).startswith(b"HTTP/1.1 200 "), at


def test_those_who_wait_for_100_continue_hear_it_once_and_then_their_answer(start: Start) -> None:
    running, stop = start(), threading.Event()

    def keep_busy() -> None:
        client = running.client()
        while not stop.is_set():
            client.request("GET", "/page")
            client.getresponse().read()
        client.close()

    def upload(turns: int) -> None:
        for _ in range(turns):
            with running.connect() as connection:
                connection.sendall(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
                assert read_head(connection) == b"HTTP/1.1 100 Continue\r\n\r\n"
                connection.sendall(b"abc")
                assert read_head(connection).startswith(b"HTTP/1.1 200 ")

    busy = [threading.Thread(target=keep_busy) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(upload, [150] * 4))
    finally:
        stop.set()
        for thread in busy:
            thread.join()


def test_who_hangs_up_instead_of_waiting_for_100_continue_leaves_no_trace(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    running = start()
    for _ in range(200):
        with running.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert running.get("/page") == (200, PAGE)
    assert not caplog.records


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_refusal_reaches_who_sends_all_of_a_body_first(start: Start, version: bytes) -> None:
    """As nginx does, which speaks HTTP/1.0 unless it is told otherwise."""
    running = start()
    body = bytes(20 * MIB)
    for _ in range(5):
        with running.connect() as connection:
            head = (
                b"POST / HTTP/%s\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\nAuthorization: wrong\r\n\r\n"
            )
            connection.sendall(head % (version, len(body)) + body)
            assert read_all(connection).partition(b" ")[2].startswith(b"401 ")


@pytest.mark.parametrize("asked", [b"Content-Length: 25000000", b"Transfer-Encoding: chunked"])
def test_a_refused_head_has_no_body(shared: Running, asked: bytes) -> None:
    with shared.connect() as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\nAuthorization: wrong\r\n" + asked + b"\r\n\r\n")
        assert read_head(connection).startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 413 "))
        connection.sendall(b"0\r\n\r\n" if asked.endswith(b"chunked") else bytes(25_000_000))
        connection.sendall(b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 204 ")


def test_blank_lines_before_a_request_cost_next_to_nothing(shared: Running) -> None:
    began = time.process_time()
    with shared.connect() as connection:
        connection.sendall(b"\r\n" * 8_000_000)
        connection.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")
    assert time.process_time() - began < 4  # a request of each took ten times as long


def test_what_a_client_sent_before_it_stopped_sending_is_answered(start: Start) -> None:
    running = start()
    running.app.go_on.clear()
    with running.connect() as connection:
        # The answer is late, so that the end has come before the second body is taken up.
        connection.sendall(POST + b"Content-Length: 3\r\nAuthorization: slow\r\n\r\nabc")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        running.app.go_on.set()
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")


def test_a_refusal_comes_instead_of_100_continue(shared: Running) -> None:
    with shared.connect() as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\nAuthorization: wrong\r\n\r\n"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 401 ")


def test_an_accepted_body_is_asked_for_with_100_continue(shared: Running) -> None:
    with shared.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert read_head(connection) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")
    assert shared.app.bodies[-1] == b"abc"


def test_expect_on_a_request_without_a_body_does_not_hang(shared: Running) -> None:
    assert shared.get("/", Expect="100-continue")[0] == 200


def test_deciding_may_take_long_and_keeps_nobody_waiting(start: Start) -> None:
    running = start()
    for more in (b"", b"Expect: 100-continue\r\n"):
        running.app.go_on.clear()
        with running.connect() as connection:
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nAuthorization: slow\r\n"
            connection.sendall(head + more + b"\r\n" + (b"" if more else b"abc"))
            assert running.get("/page") == (200, PAGE)
            running.app.go_on.set()
            if more:
                assert read_head(connection) == b"HTTP/1.1 100 Continue\r\n\r\n"
                connection.sendall(b"abc")
            assert read_head(connection).startswith(b"HTTP/1.1 200 ")
    assert running.app.bodies[-2:] == [b"abc", b"abc"]


def test_an_error_while_deciding_is_a_500_and_stores_nothing(shared: Running) -> None:
    client = shared.client()
    client.request("POST", "/", body=b"x" * 100_000, headers={"Authorization": "crash"})
    answer = client.getresponse()
    assert answer.status == 500 and b"error of the application" not in answer.read()
    client.close()


def test_chunked_bodies_arrive_whole_however_they_are_cut(shared: Running) -> None:
    body = os.urandom(2 * MIB)
    client = shared.client()
    cuts = [1, 2, 17, 8192, 65536, 1_000_000, len(body)]
    parts = [body[a:b] for a, b in zip([0, *cuts], cuts, strict=False)]
    client.request("POST", "/", body=iter(parts), encode_chunked=True)
    answer = client.getresponse()
    said = json.loads(answer.read())
    assert shared.app.bodies[-1] == body
    assert said["CONTENT_LENGTH"] == str(len(body)) and "HTTP_TRANSFER_ENCODING" not in said
    client.request("GET", "/")
    assert client.getresponse().status == 200
    client.close()
    with shared.connect() as connection:
        for byte in POST + b"Transfer-Encoding: Chunked\r\n\r\n3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nT: x\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert read_head(connection).startswith(b"HTTP/1.1 200 ")
    assert shared.app.bodies[-1] == b"abcd"


@pytest.mark.parametrize("password", ["right", "wrong"])
def test_a_body_in_chunks_of_a_byte_is_cut(shared: Running, password: str) -> None:
    """Each costs the loop what a kilobyte costs, so that a few clients would be all that it has time for."""
    before = len(shared.app.bodies)
    with shared.connect() as connection, pytest.raises(OSError):
        connection.sendall(CHUNKED.replace(b"\r\n\r\n", f"\r\nAuthorization: {password}\r\n\r\n".encode()))
        for _ in range(1000):
            connection.sendall(b"1\r\nx\r\n" * 1000)
        pytest.fail("all of it was taken")
    assert len(shared.app.bodies) == before


@pytest.mark.parametrize("password", ["right", "wrong"])
def test_a_body_in_chunks_of_some_hundred_bytes_is_taken(shared: Running, password: str) -> None:
    with shared.connect() as connection:
        connection.sendall(CHUNKED.replace(b"\r\n\r\n", f"\r\nAuthorization: {password}\r\n\r\n".encode()))
        connection.sendall((b"100\r\n" + bytes(256) + b"\r\n") * 20_000 + b"0\r\n\r\n")
        assert read_head(connection).startswith(b"HTTP/1.1 200 " if password == "right" else b"HTTP/1.1 401 ")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_gets_its_413(shared: Running, chunked: bool) -> None:
    client = shared.client()
    fields = {} if chunked else {"Content-Length": str(100 * MIB)}
    before = len(shared.app.bodies)
    client.request("POST", "/", body=pieces(100 * MIB), headers=fields, encode_chunked=chunked)
    answer = client.getresponse()
    assert answer.status == 413 and b"larger than the 20971520 bytes" in answer.read()
    client.close()
    assert len(shared.app.bodies) == before


def test_a_body_of_just_the_limit_is_accepted(shared: Running) -> None:
    client = shared.client()
    client.request("POST", "/", body=Zeros(20 * MIB), headers={"Content-Length": str(20 * MIB)})
    assert client.getresponse().status == 200
    client.close()
