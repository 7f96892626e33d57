"""What many, slow, greedy and parting clients do to a running server: nothing to the others."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import os
import re
import signal
import socket
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import builders
import forms
import live
import pytest
import requests
from logins import basic
from running import Zeros

MIB = 2**20


def keeps_serving(server: live.Server, path: str = "/simple/ours/", count: int = 40) -> bool:
    """Whether a normal client has its page, again and again; one that hangs fails by `live.ask`'s own patience."""
    return all(live.ask(server, path).status == 200 for _ in range(count))


def head(body: bytes | int, path: str = "/", **fields: str) -> bytes:
    """The head of a POST with this body, or one of this length."""
    length = body if isinstance(body, int) else len(body)
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {forms.TYPE}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in fields.items()), "", ""]).encode()


def answer_on(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()


@pytest.fixture
def big(packages: Path) -> bytes:
    """A wheel too large for any buffer between two sockets, and a small one, to be served."""
    builders.make_wheel(packages, "ours")
    return builders.make_wheel(packages, "big", payload=os.urandom(30 * MIB)).read_bytes()


BIG = "/packages/big-1.0-py3-none-any.whl"


def test_fifty_slow_clients_keep_nobody_waiting(packages: Path, big: bytes) -> None:
    wheel = forms.wheel("slow", "1.0", bytes(MIB))
    body = forms.upload(wheel, "slow-1.0-py3-none-any.whl")
    with live.serve(packages=[packages], threads=4, **forms.OPEN) as server, ExitStack() as stack:
        readers, senders, starters = (
            [stack.enter_context(live.connect(server)) for _ in range(count)] for count in (17, 17, 16)
        )
        for connection in readers:
            connection.sendall(f"GET {BIG} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        for connection in senders:
            connection.sendall(head(body) + body[: len(body) // 2])
        for connection in starters:
            connection.sendall(b"GET /simple/ HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert keeps_serving(server)
        quick = forms.upload(forms.wheel("quick"), "quick-1.0-py3-none-any.whl")
        assert forms.post(server, quick).status == 200
        # And the slow ones get theirs too, in the end.
        senders[0].sendall(body[len(body) // 2 :])
        assert answer_on(senders[0])[0] == 200
        starters[0].sendall(b"yes\r\n\r\n")
        assert answer_on(starters[0])[0] == 200
        assert answer_on(readers[0]) == (200, big)
        assert keeps_serving(server)


def test_silent_connections_do_not_use_up_the_places(packages: Path, big: bytes) -> None:
    with live.serve(packages=[packages], connection_limit=30, **forms.OPEN) as server, ExitStack() as stack:
        for _ in range(3):
            for _ in range(40):
                stack.enter_context(live.connect(server))
            assert keeps_serving(server, count=10)
        # What is under way does not give way to the silent.
        reader, sender = (stack.enter_context(live.connect(server)) for _ in range(2))
        reader.sendall(f"GET {BIG} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        body = forms.upload(forms.wheel("other"), "other-1.0-py3-none-any.whl")
        sender.sendall(head(body) + body[:100])
        for _ in range(60):
            stack.enter_context(live.connect(server))
        assert keeps_serving(server, count=10)
        sender.sendall(body[100:])
        assert answer_on(sender)[0] == 200
        assert answer_on(reader) == (200, big)


def test_clients_that_stop_half_way_are_let_go(packages: Path, big: bytes) -> None:
    with live.serve(packages=[packages], idle_timeout=1, **forms.OPEN) as server, ExitStack() as stack:
        silent, starter, sender, reader = (stack.enter_context(live.connect(server)) for _ in range(4))
        starter.sendall(b"GET / HTTP/1.1\r\nHost")
        sender.sendall(head(1000) + b"--")
        reader.sendall(f"GET {BIG} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(4)
        assert silent.recv(1) == b""
        assert starter.recv(1) == sender.recv(1) == b""
        # Cut visibly: fewer bytes than were announced.
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            answer_on(reader)
        assert builders.listed(packages) and not [name for name in builders.listed(packages) if name.startswith(".")]


@pytest.fixture
def closed(packages: Path, tmp_path: Path) -> Iterator[live.Server]:
    """A server on which only `ann` may do anything."""
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    with live.serve(packages=[packages], passwords=passwords, authenticate="update,download,list") as server:
        yield server


LOGINS: list[tuple[str, str] | None] = [None, ("ann", "wrong")]


@pytest.mark.parametrize("login", LOGINS, ids=["no password", "wrong password"])
def test_a_refused_upload_of_100_mb_receives_its_401(  # A7
    closed: live.Server, packages: Path, login: tuple[str, str] | None
) -> None:
    fields = {"Authorization": basic(*login)} if login else {}
    size = 100 * MIB
    for chunked in (False, True):
        client = http.client.HTTPConnection(closed.host, closed.port, timeout=20)
        length = {} if chunked else {"Content-Length": str(size)}
        client.request("POST", "/", Zeros(size), {**fields, **length}, encode_chunked=chunked)
        answer = client.getresponse()
        assert answer.status == 401
        assert answer.getheader("WWW-Authenticate", "").startswith("Basic realm=")
        assert b"\n" in answer.read()
        client.close()
    for data in (bytes(size), iter([bytes(MIB)] * 100)):
        with requests.post(closed.url, data, auth=login, timeout=20) as said:
            assert said.status_code == 401
    assert builders.listed(packages) == []


@pytest.mark.clients
def test_twine_shows_the_401_of_a_refused_upload_of_100_mb(
    closed: live.Server, packages: Path, shell: live.Shell, tmp_path: Path
) -> None:  # A7, R4
    wheel = builders.make_wheel(tmp_path, "large", payload=bytes(100 * MIB))
    url = ("--repository-url", closed.url, "--disable-progress-bar", "--non-interactive")
    said = shell.python("-m", "twine", "upload", *url, "-u", "ann", "-p", "wrong", wheel).bad()
    assert "401" in said and "wrong user name or password" in said
    assert builders.listed(packages) == []


def test_a_body_above_the_limit_is_413_before_the_rest_is_read(packages: Path, tmp_path: Path) -> None:
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="right")
    ann = {"Authorization": basic("ann", "right")}
    with live.serve(packages=[packages], passwords=passwords, max_upload="1MB") as server:
        with live.connect(server) as connection:
            connection.sendall(head(2 * MIB, **ann) + b"--")
            status, text = answer_on(connection)  # we have sent two bytes, and wait
        assert status == 413 and b"1000000 bytes" in text
        # Without a length it shows when that much has come.
        with live.connect(server) as connection:
            chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
            connection.sendall(head(0, **ann).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + chunk * 16)
            assert answer_on(connection)[0] == 413
        # The whole is sent all the same: the answer still arrives.
        with requests.post(server.url, bytes(20 * MIB), auth=("ann", "right"), timeout=20) as said:
            assert said.status_code == 413
        fitting = forms.upload(forms.wheel(), "ours-1.0-py3-none-any.whl")
        assert forms.post(server, fitting, **ann).status == 200
        assert builders.listed(packages) == ["ours-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("path", ["/simple/ours/", "/RPC2", "/packages/x", "/nothing/here"])
@pytest.mark.parametrize("chunked", [False, True])
def test_nobody_fills_the_disk_where_no_upload_is_taken(closed: live.Server, path: str, chunked: bool) -> None:
    spooled = MIB
    for method in ("GET", "POST", "PUT"):
        with live.connect(closed) as connection:
            request = head(2**40, path).replace(b"POST", method.encode())
            if chunked:
                request = request.replace(b"Content-Length: %d" % 2**40, b"Transfer-Encoding: chunked")
                request += b"%x\r\n" % 2**40
            connection.sendall(request + bytes(spooled))
            status, _ = answer_on(connection)  # though the body has not ended
            assert status in (401, 404, 405, 411, 413)


def peak(server: live.Server) -> int:
    """The most memory the server ever had, in bytes."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+([0-9]+) kB", status)[1]) * 1024  # type: ignore[index] # it is always there


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_an_upload_of_half_a_gigabyte_costs_no_memory(packages: Path, tmp_path: Path) -> None:  # T11
    size = 512 * MIB
    path = builders.make_wheel(tmp_path, "large")
    with zipfile.ZipFile(path, "a") as archive, archive.open("large/zeros.bin", "w", force_zip64=True) as member:
        piece = bytes(4 * MIB)
        for _ in range(size // len(piece)):
            member.write(piece)
    start, _, end = forms.upload(b"CONTENT", path.name).partition(b"CONTENT")

    def body() -> Iterator[bytes]:
        yield start
        with path.open("rb") as file:
            while data := file.read(MIB):
                yield data
        yield end

    length = len(start) + path.stat().st_size + len(end)
    with live.serve(packages=[packages], **forms.OPEN) as server:
        before = peak(server)
        client = http.client.HTTPConnection(server.host, server.port, timeout=60)
        client.request("POST", "/", body(), {"Content-Type": forms.TYPE, "Content-Length": str(length)})
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (200, b"stored\n")
        assert (packages / path.name).stat().st_size == path.stat().st_size > size
        client.request("GET", f"/packages/{path.name}", headers={"Range": "bytes=-4"})
        assert client.getresponse().read() == path.read_bytes()[-4:]
        client.close()
        assert peak(server) - before < 30 * MIB


def zip_bomb() -> tuple[str, bytes]:
    """A wheel whose METADATA is 400 MB of spaces."""
    target = io.BytesIO()
    info = "bomb-1.0.dist-info"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\n")
        with archive.open(f"{info}/METADATA", "w") as member:
            member.write(builders.metadata("bomb", "1.0"))
            for _ in range(100):
                member.write(b" " * (4 * MIB))
    return "bomb-1.0-py3-none-any.whl", target.getvalue()


def many_members() -> tuple[str, bytes]:
    """A wheel of 60,000 members, none of which is what is looked for."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for number in range(60_000):
            archive.writestr(f"{number}-1.0.dist-info/x", b"")
    return "bomb-1.0-py3-none-any.whl", target.getvalue()


def gzip_bomb() -> tuple[str, bytes]:
    """An sdist whose first member is 400 MB of zeros, and whose PKG-INFO follows it."""
    target = io.BytesIO()
    with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=1, mtime=0) as packed:
        entry = tarfile.TarInfo("bomb-1.0/zeros")
        entry.size = 400 * MIB
        packed.write(entry.tobuf())
        for _ in range(100):
            packed.write(bytes(4 * MIB))
        text = builders.metadata("bomb", "1.0")
        entry = tarfile.TarInfo("bomb-1.0/PKG-INFO")
        entry.size = len(text)
        packed.write(entry.tobuf() + text + bytes(2048 - len(text)))
    return "bomb-1.0.tar.gz", target.getvalue()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_archives_made_to_explode_are_refused_at_little_cost(packages: Path) -> None:
    bombs = [make() for make in (zip_bomb, many_members, gzip_bomb)]
    assert all(len(data) < 10 * MIB for _, data in bombs)
    with live.serve(packages=[packages], **forms.OPEN) as server:
        assert forms.post(server, forms.upload(forms.wheel(), "ours-1.0-py3-none-any.whl")).status == 200
        for filename, data in bombs:
            before = peak(server)
            answer = forms.post(server, forms.upload(data, filename))
            assert answer.status == 400, filename
            assert peak(server) - before < 10 * MIB
        assert keeps_serving(server, count=5)


def test_a_stop_finishes_uploads_and_downloads_and_accepts_nothing_new(packages: Path, big: bytes) -> None:
    body = forms.upload(forms.wheel("late", "1.0", bytes(MIB)), "late-1.0-py3-none-any.whl")
    with live.serve(packages=[packages], grace=20, **forms.OPEN) as server, ExitStack() as stack:
        sender, reader, idle = (stack.enter_context(live.connect(server)) for _ in range(3))
        sender.sendall(head(body) + body[:1000])
        reader.sendall(f"GET {BIG} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert reader.recv(1, socket.MSG_PEEK)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            live.connect(server)
        assert server.process.poll() is None
        sender.sendall(body[1000:])
        assert answer_on(sender) == (200, b"stored\n")
        assert answer_on(reader) == (200, big)
        assert server.process.wait(5) == 0
    assert (packages / "late-1.0-py3-none-any.whl").read_bytes() == forms.wheel("late", "1.0", bytes(MIB))


def test_an_upload_cut_by_a_stop_leaves_nothing(packages: Path) -> None:
    body = forms.upload(forms.wheel("late", "1.0", bytes(MIB)), "late-1.0-py3-none-any.whl")
    with live.serve(packages=[packages], grace=0, **forms.OPEN) as server, live.connect(server) as sender:
        sender.sendall(head(body) + body[:-10])
        assert keeps_serving(server, "/simple/", 1)
        live.stop(server)
        with contextlib.suppress(ConnectionResetError):
            assert sender.recv(100) == b""
    assert builders.listed(packages) == []
