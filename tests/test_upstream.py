"""The HTTP client: what it believes, where it goes, whom it tells what, and how long it takes."""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faulty_upstream as faulty
import pytest
from packaging.utils import NormalizedName
from remotes import FOO, PAGE, client, server_of_foo  # noqa: F401 - fixtures

from pypiserver_lite import site
from pypiserver_lite.config import load
from pypiserver_lite.errors import Busy, ConfigError, Late, Loop, Missing, Unavailable
from pypiserver_lite.kept import Turnstile
from pypiserver_lite.upstream import default_upstream, hops
from pypiserver_lite.upstream.client import UNCHANGED, FetchedPage, Upstream
from pypiserver_lite.upstream.rate import Rate
from pypiserver_lite.upstream.replies import unzipped


def test_the_default_upstream_is_a_simple_index_over_https() -> None:
    assert re.fullmatch(r"https://[a-z.]+/simple/", default_upstream())


def test_a_page_comes_whole_with_its_validators_and_a_confirmation_costs_no_body(server: faulty.FaultyUpstream) -> None:
    upstream = client(server)
    page = upstream.page(FOO)
    assert isinstance(page, FetchedPage)
    assert json.loads(page.body)["name"] == "foo"
    assert page.url == server.url + "foo/"
    assert upstream.page(FOO, etag=page.etag) is UNCHANGED
    assert upstream.page(NormalizedName("bar")) is None


def test_connections_are_used_again(server: faulty.FaultyUpstream) -> None:
    upstream = client(server)
    for name in ("foo", "foo", "none", "foo"):
        upstream.page(NormalizedName(name))
    for _ in range(3):
        body = upstream.open(server.base + "files/foo-1.0.tar.gz")
        assert b"".join(body.pieces(0)) == b"x" * 1000
        body.close()
    assert server.connections == 1


def test_a_connection_that_was_idle_for_long_is_not_used_again(server: faulty.FaultyUpstream) -> None:
    upstream = client(server, idle=0.2)
    upstream.page(FOO)
    time.sleep(0.3)
    upstream.page(FOO)
    assert server.connections == 2


def test_idle_connections_that_were_forgotten_on_the_way_harm_nobody(server: faulty.FaultyUpstream) -> None:
    upstream = client(server, read=10.0, page=10.0, pause=60.0)
    together = threading.Barrier(2)

    def answer_together(handler: faulty.Handler) -> None:
        together.wait(30)
        handler.store(server.stored[PAGE], {})

    server.fault(PAGE, answer_together, times=2)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(upstream.page, [FOO, FOO]))
    assert server.connections == 2
    time.sleep(2.1)  # only a connection that had a rest is doubted
    server.forget()
    assert isinstance(upstream.page(FOO), FetchedPage)
    before = len(server.requests)
    assert isinstance(upstream.page(FOO), FetchedPage)
    body = upstream.open(server.base + "files/foo-1.0.tar.gz")
    assert b"".join(body.pieces(0)) == b"x" * 1000
    assert len(server.requests) == before + 2
    assert server.connections == 3  # nobody tried the other one


def test_files_leave_two_calls_to_pages(server: faulty.FaultyUpstream) -> None:
    upstream = client(server, calls=32, room=0)
    bodies = []
    with pytest.raises(Busy):
        while True:
            bodies.append(upstream.open(server.base + "files/foo-1.0.tar.gz"))
    assert len(bodies) == 30
    assert isinstance(upstream.page(FOO), FetchedPage)
    for body in bodies:
        body.close()


def test_pages_are_asked_for_in_every_form_and_packed(server: faulty.FaultyUpstream) -> None:
    server.stored[PAGE].gzip = True
    page = client(server).page(FOO)
    assert isinstance(page, FetchedPage)
    assert json.loads(page.body)["name"] == "foo"
    headers = server.requests[0].headers
    assert headers["accept"].startswith("application/vnd.pypi.simple.v1+json, ")
    assert "text/html;q=0.01" in headers["accept"]
    assert headers["accept-encoding"] == "gzip"


FAULTS = {
    "server error": faulty.status(500),
    "bad gateway": faulty.status(503),
    "forbidden": faulty.status(403),
    "created": faulty.status(201),
    "unasked 304": faulty.status(304, b""),
    "unasked part": faulty.status(206),
    "no HTTP": faulty.garbage(),
    "hung up": faulty.reset(),
    "truncated": faulty.truncate(b"{" + b" " * 5000 + b"}", 2000),
    "chunks without end": faulty.cut_chunks([b"{" * 50]),
    "gzip cut": faulty.page(gzip.compress(b"{}" * 5000)[:-10], **{"Content-Encoding": "gzip"}),
    "gzip and more": faulty.page(gzip.compress(b"{}") + b"more", **{"Content-Encoding": "gzip"}),
    "gzip and half of another": faulty.page(
        gzip.compress(b"{}") + gzip.compress(b" " * 500)[:-9], **{"Content-Encoding": "gzip"}
    ),
    "gzip without end": faulty.page(gzip.compress(b"{}") + gzip.compress(b"") * 1000, **{"Content-Encoding": "gzip"}),
    "no gzip": faulty.page(b"{}", **{"Content-Encoding": "gzip"}),
    "unasked coding": faulty.page(b"{}", **{"Content-Encoding": "br"}),
    "bomb": faulty.bomb(65 * 2**20),
    "redirects in circles": faulty.redirect(PAGE),
    "redirect to nowhere": faulty.redirect("http://[nonsense/"),
    "redirect to a file of this machine": faulty.redirect("file:///etc/passwd"),
    "redirect to another host": faulty.redirect("http://localhost:1/simple/foo/"),
    "redirect to another port": faulty.redirect("http://127.0.0.1:1/simple/foo/"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_page_is_whole_or_an_error(server: faulty.FaultyUpstream, fault: faulty.Fault) -> None:
    server.fault(PAGE, fault)
    with pytest.raises(Unavailable) as caught:
        client(server, read=5.0, page=10.0).page(FOO)
    assert not isinstance(caught.value, Late)


def test_a_file_is_not_taken_packed(server: faulty.FaultyUpstream) -> None:
    server.fault("/f", faulty.page(gzip.compress(b"x"), **{"Content-Encoding": "gzip"}))
    with pytest.raises(Unavailable):
        client(server).open(server.base + "f")


@pytest.mark.parametrize(
    "fault",
    [faulty.hang(), faulty.drip(b"{" * 500, 0.02), faulty.drip_header(0.05), faulty.status(504)],
    ids=["silence", "a byte now and then", "a field now and then", "its own upstream is late"],
)
def test_a_page_has_a_deadline_whatever_the_upstream_does(server: faulty.FaultyUpstream, fault: faulty.Fault) -> None:
    server.fault(PAGE, fault)
    before = time.monotonic()
    with pytest.raises(Late):
        client(server).page(FOO)
    assert time.monotonic() - before < 2.5


@pytest.mark.parametrize(
    ("head", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["chunks of one byte", "trailers", "100 Continue"],
)
def test_an_upstream_of_many_small_pieces_takes_little_of_the_processor(
    server: faulty.FaultyUpstream, head: bytes, again: bytes
) -> None:
    def fault(handler: faulty.Handler) -> None:
        handler.wfile.write(head)
        while True:
            handler.wfile.write(again * 5000)

    server.fault(PAGE, fault)
    began = time.thread_time()
    with pytest.raises(Late):
        client(server, page=4.0).page(FOO)
    assert time.thread_time() - began < 1.5  # 3 and more if it is read as fast as it comes


def test_a_connection_that_is_used_again_has_a_deadline_too(server: faulty.FaultyUpstream) -> None:
    upstream = client(server, read=5.0)
    upstream.page(FOO)
    server.fault(PAGE, faulty.drip_header(0.1))
    before = time.monotonic()
    with pytest.raises(Late):
        upstream.page(FOO)
    assert time.monotonic() - before < 5
    assert server.connections == 1


def test_a_slow_upstream_is_given_up_and_not_a_slow_reader(server: faulty.FaultyUpstream) -> None:
    server.fault("/drip", faulty.drip(b"x" * 500, 0.05))
    upstream = client(server, read=0.3, rate=Rate(5000))
    with pytest.raises(Late):
        b"".join(upstream.open(server.base + "drip").pieces(0))
    body, pieces = upstream.open(server.base + "files/foo-1.0.tar.gz"), []
    for piece in body.pieces(0):
        pieces.append(piece)
        time.sleep(2.2 if len(pieces) == 1 else 0)  # so long for 1,000 bytes would be too slow for an upstream
    assert b"".join(pieces) == b"x" * 1000
    assert len(pieces) == 2


def test_an_upstream_that_is_down_is_not_asked_again_at_once() -> None:
    with faulty.upstream() as server:
        upstream = client(server, pause=1.0)
    with pytest.raises(Unavailable, match="cannot be reached"):
        upstream.page(FOO)
    before = time.monotonic()
    for _ in range(20):
        with pytest.raises(Unavailable, match="cannot be reached"):
            upstream.page(FOO)
    assert time.monotonic() - before < 0.8  # twenty second tries alone would take two seconds
    with faulty.upstream(server.port) as again:
        again.add("foo", "foo-1.0.tar.gz", b"x")
        time.sleep(1.0)
        assert isinstance(upstream.page(FOO), FetchedPage)


def test_a_hiccup_is_tried_again_once(server: faulty.FaultyUpstream) -> None:
    for fault in (faulty.status(503), faulty.reset()):
        server.requests.clear()
        server.fault(PAGE, fault, times=1)
        assert isinstance(client(server).page(FOO), FetchedPage)
        assert server.count(PAGE) == 2


def test_beyond_the_cap_the_answer_is_busy_and_comes_at_once(server: faulty.FaultyUpstream) -> None:
    server.stored[PAGE].delay = 0.3
    upstream = client(server, calls=2, room=0, page=5.0, read=5.0)
    outcomes: list[str] = []

    def ask() -> None:
        before = time.monotonic()
        try:
            upstream.page(FOO)
            outcomes.append("page")
        except Busy:
            outcomes.append("busy" if time.monotonic() - before < 0.2 else "late")

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["busy"] * 4 + ["page"] * 2
    assert isinstance(upstream.page(FOO), FetchedPage)


def test_who_has_room_waits_for_a_turn_in_the_time_of_the_request(server: faulty.FaultyUpstream) -> None:
    server.stored[PAGE].delay = server.stored["/files/foo-1.0.tar.gz"].delay = 2.5
    upstream = client(server, calls=1, room=3, page=60.0, read=60.0)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(upstream.page, FOO) for _ in range(2)]
        opened = pool.submit(lambda: upstream.open(server.base + "files/foo-1.0.tar.gz").close())
        assert all(isinstance(page.result(), FetchedPage) for page in asked)
        opened.result()
    body = upstream.open(server.base + "files/foo-1.0.tar.gz")
    with hops.carrying(None, 0.2), pytest.raises(Busy):
        upstream.page(FOO)
    body.close()


def test_a_body_that_is_given_up_frees_its_place(server: faulty.FaultyUpstream) -> None:
    upstream = client(server, calls=1, room=0)
    for _ in range(3):
        body = upstream.open(server.base + "files/foo-1.0.tar.gz")
        del body
    with pytest.raises(Missing):
        upstream.open(server.base + "files/none")
    assert isinstance(upstream.page(FOO), FetchedPage)


def test_a_seat_is_given_to_those_who_wait_a_moment() -> None:
    turnstile = Turnstile(1, 1, 1.0)
    turnstile.enter()
    threading.Timer(0.05, turnstile.leave).start()
    with turnstile.inside():
        pass


def test_credentials_go_to_the_upstream_alone(server: faulty.FaultyUpstream, tmp_path: Path) -> None:
    server.password = "Basic " + base64.b64encode("ann:s3cr&t ü".encode()).decode()
    netrc = tmp_path / "netrc"
    netrc.write_text("default login d password d\nmachine 127.0.0.1 login ann password 0ther\n")
    by_url = Upstream(server.url.replace("http://", "http://ann:s3cr%26t%20%C3%BC@"))
    assert isinstance(by_url.page(FOO), FetchedPage)
    assert "s3cr" not in repr(by_url) + by_url.url
    with pytest.raises(Unavailable, match="credentials") as caught:
        client(server, netrc=netrc).page(FOO)
    assert "0ther" not in str(caught.value)
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [server.password, "Basic " + base64.b64encode(b"ann:0ther").decode()]
    with faulty.upstream() as other:
        other.stored["/f"] = faulty.Stored(b"x")
        by_url.small(other.base + "f", limit=9)
        server.fault("/f", faulty.redirect(other.base + "f"))
        by_url.small(server.base + "f", named=frozenset({("127.0.0.1", other.port)}), limit=9)
        server.fault("/f", faulty.redirect(other.base.replace("//", "//eve:own@") + "f"))
        by_url.small(server.base + "f", named=frozenset({("127.0.0.1", other.port)}), limit=9)
        assert [request.headers.get("authorization") for request in other.requests] == [None, None, None]


def test_netrc_speaks_for_named_hosts_only(server: faulty.FaultyUpstream, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login d password d\n")
    client(server, netrc=netrc).page(FOO)
    assert "authorization" not in server.requests[0].headers
    with pytest.raises(ConfigError, match="--netrc"):
        client(server, netrc=tmp_path / "none")
    netrc.write_text("machine h login s3cret passwd\nnonsense s3cret")
    with pytest.raises(ConfigError) as caught:
        client(server, netrc=netrc)
    assert "s3cret" not in str(caught.value)


def test_nothing_of_the_environment_or_of_earlier_answers_goes_up(
    server: faulty.FaultyUpstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    server.stored[PAGE].extra["Set-Cookie"] = "a=b"
    config = {"packages": tmp_path, "fallback_url": server.url, "fallback_mode": "proxy", "cache_ttl": 0}
    server.stored[PAGE].etag = None
    with site.online(load.from_settings(config)) as index:
        for _ in range(2):
            index.project(FOO)
    allowed = {"host", "user-agent", "via", "accept", "accept-encoding"}
    assert set(server.requests[1].headers) == allowed


def test_a_request_that_comes_back_is_recognised(server: faulty.FaultyUpstream) -> None:
    upstream = client(server)
    upstream.page(FOO)
    via = server.requests[0].headers["via"]
    assert via == f"1.1 {hops.OWN}"
    assert hops.is_loop(via)
    assert hops.is_loop(f"1.0 fred, {via}, 1.1 nginx")
    assert not hops.is_loop(None)
    assert not hops.is_loop("1.1 varnish, 1.1 pypiserver-lite-0123456789abcdef")


def test_a_circle_of_two_is_recognised_since_names_are_carried_on(server: faulty.FaultyUpstream) -> None:
    other = "pypiserver-lite-0123456789abcdef"
    with hops.carrying(f"1.1 {other}, 1.1 secret-proxy.corp"):
        client(server).page(FOO)
    assert server.requests[0].headers["via"] == f"1.1 {other}, 1.1 {hops.OWN}"
    with pytest.raises(Loop), hops.carrying(f"1.1 {other}, 1.1 {hops.OWN}"):
        pass
    many = ", ".join(f"1.1 pypiserver-lite-{number:016x}" for number in range(5))
    assert hops.is_loop(many)
    server.fault(PAGE, faulty.status(508))
    with pytest.raises(Loop):
        client(server).page(FOO)


def test_parts_of_files_are_those_asked_for(server: faulty.FaultyUpstream) -> None:
    data = bytes(range(250)) * 4
    server.stored["/f"] = faulty.Stored(data, etag='"1"')
    upstream = client(server)
    body = upstream.open(server.base + "f", start=10, stop=20)
    assert (b"".join(body.pieces(10)), body.start, body.size, body.validator) == (data[10:20], 10, 1000, '"1"')
    assert server.requests[-1].headers["range"] == "bytes=10-19"
    assert server.requests[-1].headers["accept-encoding"] == "identity"
    server.stored["/f"].ranges = False
    body = upstream.open(server.base + "f", start=10, stop=20)
    assert (body.start, body.size) == (0, 1000)
    body.close()


def test_another_part_than_the_one_asked_for_is_refused(server: faulty.FaultyUpstream) -> None:
    for field in ("bytes 11-20/1000", "bytes 10-30/1000", "nonsense", ""):
        fields = {"Content-Range": field} if field else {}
        server.fault("/f", lambda handler, fields=fields: handler.answer(206, b"0123456789", fields))  # type: ignore[misc]
        with pytest.raises(Unavailable):
            client(server).open(server.base + "f", start=10, stop=20)


def test_side_files_are_bounded(server: faulty.FaultyUpstream) -> None:
    server.stored["/f"] = faulty.Stored(bytes(2000))
    upstream = client(server)
    assert upstream.small(server.base + "f", limit=2000) == bytes(2000)
    assert upstream.small(server.base + "g", limit=2000) is None
    with pytest.raises(Unavailable):
        upstream.small(server.base + "f", limit=1999)


def test_a_page_may_be_packed_in_several_members(server: faulty.FaultyUpstream) -> None:  # RFC 1952 section 2.2
    body = server.stored[PAGE].body
    for cut, more in ((len(body) // 2, b""), (0, b""), (len(body), gzip.compress(b"") * 900)):
        packed = gzip.compress(body[:cut]) + gzip.compress(body[cut:]) + more
        server.fault(PAGE, faulty.page(packed, **{"Content-Encoding": "gzip"}))
        page = client(server).page(FOO)
        assert isinstance(page, FetchedPage) and page.body == body


def test_members_are_unpacked_wherever_their_pieces_end() -> None:
    packed = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two")
    for size in range(1, len(packed) + 1):
        pieces = (packed[at : at + size] for at in range(0, len(packed), size))
        assert b"".join(unzipped(pieces)) == b"onetwo"


def test_a_bomb_is_never_unpacked_at_once() -> None:
    pieces = unzipped(iter([gzip.compress(bytes(20 * 2**20))]))
    assert max(len(piece) for piece in pieces) <= 2**20


def test_a_host_without_address_is_unreachable() -> None:
    upstream = Upstream("http://nowhere.invalid/simple/", connect=3.0)
    with pytest.raises(Unavailable):
        upstream.page(FOO)
    assert socket.getdefaulttimeout() is None
