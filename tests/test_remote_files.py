"""Files of an upstream, passed through and kept: with real sockets, and every fault an upstream can have."""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import pytest
from packaging.utils import NormalizedName
from remotes import (  # noqa: F401 - fixtures
    FOO,
    GZIP,
    MODES,
    PAGE,
    SDIST,
    Make,
    data_of,
    downloading,
    quiet,
    read,
    settle,
    source_clock,
    source_maker,
    upstream_server,
)

from pypiserver_lite.errors import Busy, Late, Loop, Missing, Unavailable
from pypiserver_lite.kept import Turnstile
from pypiserver_lite.model import LocalFile, Stream
from pypiserver_lite.upstream import hops
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.source import Remote


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
@pytest.mark.parametrize("size_known", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_an_sdist_that_is_said_to_be_packed_is_taken_as_it_comes_if_its_digest_is_known(  # Apache's AddEncoding
    make: Make, server: faulty.FaultyUpstream, mode: str, size_known: bool, coding: str
) -> None:
    data = data_of(300_000)
    path = server.add("foo", SDIST, data, size=size_known)
    server.stored[path].extra["Content-Encoding"] = coding
    remote = make(mode)
    assert read(remote.open(FOO, SDIST), 200_000, 200_010) == data[200_000:200_010]
    assert read(remote.open(FOO, SDIST)) == data
    other = server.add("foo", "foo-2.0.tar.gz", data, hashes={})
    server.stored[other].extra["Content-Encoding"] = coding
    wrong = server.add("foo", "foo-3.0.tar.gz", data)
    server.stored[wrong].extra["Content-Encoding"] = coding
    server.stored[wrong].body = data_of(300_000, 2)
    wheel = server.add("foo", "foo-4.0-py3-none-any.whl", data)  # of which no coding makes the very file
    server.stored[wheel].extra["Content-Encoding"] = coding
    for filename in ("foo-2.0.tar.gz", "foo-3.0.tar.gz", "foo-4.0-py3-none-any.whl"):
        with pytest.raises(Unavailable):
            read(make(mode, ttl=0).open(FOO, filename))


def test_what_of_a_growing_file_is_here_comes_soon_and_the_rest_where_the_upstream_sends_parts(
    make: Make, server: faulty.FaultyUpstream
) -> None:
    data = data_of(300_000)
    path = server.add("foo", SDIST, data)
    arrive = threading.Event()
    server.stored[path].ranges = False

    def slowly(handler: faulty.Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[:100_000])
        arrive.wait(60)
        handler.wfile.write(data[100_000:])

    server.fault(path, slowly)
    remote = make(page=60.0)
    content = remote.open(FOO, SDIST)
    assert isinstance(content, Stream) and content.soon is not None
    assert not content.soon(1000)
    assert next(iter(content.read(0, None)))
    assert content.soon(1000)
    assert not content.soon(200_000)
    arrive.set()
    assert settle(remote, SDIST)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size_known", [True, False])
def test_a_file_comes_byte_for_byte_and_its_parts_too(
    make: Make, server: faulty.FaultyUpstream, mode: str, size_known: bool
) -> None:
    data = data_of(300_000)
    path = server.add("foo", SDIST, data, size=size_known)
    for ranges in (True, False):
        server.stored[path].ranges = ranges
        remote = make(mode)
        content = remote.open(FOO, SDIST)
        if not isinstance(content, LocalFile):
            assert isinstance(content, Stream)
            assert content.size == len(data)
            assert content.tag
        for start, stop in ((0, 10), (1000, 2000), (299_999, 300_000), (290_000, None), (5, 300_000), (0, None)):
            assert read(content, start, stop) == data[start:stop]
        if mode == "cache":
            settle(remote, SDIST)


@pytest.mark.parametrize("body", [b"<html><body>Please log in</body></html>", b"", b"\x1f", b"\x1f\x8b"])
@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_archive_is_neither_kept_nor_served_as_one_where_no_digest_tells(
    make: Make, server: faulty.FaultyUpstream, mode: str, body: bytes
) -> None:
    data = data_of(300_000)
    path = server.add("foo", SDIST, data, hashes={}, size=False)
    remote = make(mode, page=20.0)
    server.fault(path, faulty.page(body, "application/octet-stream"))
    with pytest.raises(Unavailable, match="sent "):
        read(remote.open(FOO, SDIST))
    server.heal()
    assert read(remote.open(FOO, SDIST)) == data
    if mode == "cache":
        assert settle(remote, SDIST).path.read_bytes() == data


def test_a_small_part_is_passed_on_and_fetches_nothing_else(make: Make, server: faulty.FaultyUpstream) -> None:
    data = data_of(500_000)
    path = server.add("foo", SDIST, data)
    remote = make()
    assert read(remote.open(FOO, SDIST), 499_000, 500_000) == data[499_000:]
    assert [request.headers.get("range") for request in server.requests if request.path == path] == [
        "bytes=499000-499999"
    ]


def test_an_unknown_file_is_missing_and_asks_nobody(make: Make, server: faulty.FaultyUpstream) -> None:
    server.add("foo", SDIST, b"abc")
    server.stored["/files/secret"] = faulty.Stored(b"x")
    for mode in MODES:
        for filename in ("secret", "../secret", "foo-9.tar.gz", ""):
            with pytest.raises(Missing):
                make(mode).open(FOO, filename)
        with pytest.raises(Missing):
            make(mode).open(FOO, SDIST, ".metadata")
        with pytest.raises(Missing):
            make(mode).open(FOO, SDIST, ".asc")
        with pytest.raises(Missing):
            make(mode).open(FOO, SDIST, ".provenance")
    assert set(server.paths()) == {PAGE}


def test_a_signature_is_passed_on(make: Make, server: faulty.FaultyUpstream) -> None:
    path = server.add("foo", SDIST, b"abc", gpg_sig=True)
    server.stored[path + ".asc"] = faulty.Stored(b"-----BEGIN")
    for mode in MODES:
        assert read(make(mode).open(FOO, SDIST, ".asc")) == b"-----BEGIN"


def test_many_askers_of_one_large_file_are_fed_from_one_download(make: Make, server: faulty.FaultyUpstream) -> None:
    data = data_of(30_000_000)
    path = server.add("foo", SDIST, data)
    server.stored[path].speed = 60e6
    remote = make()
    digests: list[str] = []
    firsts: list[bool] = []

    def fetch(delay: float) -> None:
        time.sleep(delay)
        content = remote.open(FOO, SDIST)
        if isinstance(content, LocalFile):
            digests.append(hashlib.sha256(content.path.read_bytes()).hexdigest())
            return
        assert isinstance(content, Stream)
        digest = hashlib.sha256()
        for number, piece in enumerate(content.read(0, None)):
            if number == 0:
                firsts.append(downloading())
            digest.update(piece)
        digests.append(digest.hexdigest())

    threads = [threading.Thread(target=fetch, args=(number * 0.03,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [hashlib.sha256(data).hexdigest()] * 8
    assert server.count(path) == 1
    assert firsts[0]  # the first byte does not wait for the last
    assert settle(remote, SDIST).path.stat().st_size == len(data)
    tally = remote.traffic.snapshot()
    assert tally.received < len(data) + 10_000
    assert tally.cached >= 7 * len(data)


def test_parts_of_a_file_under_way_are_served_from_it(make: Make, server: faulty.FaultyUpstream) -> None:
    data = data_of(1_000_000)
    path = server.add("foo", SDIST, data)
    server.stored[path].speed = 3e6
    content = make().open(FOO, SDIST)
    assert isinstance(content, Stream)
    whole = iter(content.read(0, None))
    first = next(whole)
    assert read(content, 600_000, 600_010) == data[600_000:600_010]
    assert read(content, 900_000, None) == data[900_000:]
    assert first + b"".join(whole) == data
    assert server.count(path) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("what", ["other bytes", "other length", "chunked and cut", "chunked, other bytes", "too long"])
def test_a_wrong_file_is_never_whole_and_never_kept(
    make: Make, server: faulty.FaultyUpstream, mode: str, what: str, tmp_path: Path
) -> None:
    data = data_of(200_000)
    path = server.add("foo", SDIST, data, size=what != "chunked, other bytes")
    wrong = data[:-1] + b"!"
    server.fault(
        path,
        {
            "other bytes": faulty.page(wrong),
            "other length": faulty.page(data[:-1]),
            "chunked and cut": faulty.cut_chunks([data[:90_000]]),
            "chunked, other bytes": lambda handler: handler.chunks([wrong[:150_000], wrong[150_000:]]),
            "too long": lambda handler: handler.chunks([data, b"more"]),
        }[what],
    )
    remote = make(mode)
    got = b""
    with pytest.raises(Unavailable):
        content = remote.open(FOO, SDIST)
        assert isinstance(content, Stream)
        for piece in content.read(0, None):
            got += piece
    assert len(got) < len(data)
    assert data.startswith(got)
    assert [entry for entry in (tmp_path / "cache" / "files").rglob("*") if entry.is_file()] == []
    assert list((tmp_path / "cache" / "tmp").glob("*")) == []
    server.heal()
    assert read(remote.open(FOO, SDIST)) == data


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faulty.status(500), Unavailable),
        (faulty.status(404), Missing),
        (faulty.status(508), Loop),
        (faulty.hang(), Late),
        (faulty.redirect("http://10.0.0.1/"), Unavailable),
        (faulty.reset(), Unavailable),
        (faulty.page(b"zz", **{"Content-Encoding": "gzip"}), Unavailable),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_refusal_is_an_answer_and_not_a_broken_connection(
    make: Make, server: faulty.FaultyUpstream, mode: str, fault: faulty.Fault, error: type[Exception]
) -> None:
    path = server.add("foo", SDIST, b"abc")
    server.fault(path, fault)
    content = make(mode).open(FOO, SDIST)
    assert isinstance(content, Stream)
    with pytest.raises(error):
        content.read(0, None)  # before the first byte


@pytest.mark.parametrize("length", ["-5", "0x10", "", "five", "9" * 30])
@pytest.mark.parametrize("mode", MODES)
def test_a_length_that_is_none_is_refused(make: Make, server: faulty.FaultyUpstream, mode: str, length: str) -> None:
    path = server.add("foo", SDIST, b"data", hashes={}, size=False)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()
    server.fault(path, lambda handler: handler.raw(head))
    remote = make(mode)
    with pytest.raises(Unavailable, match="Content-Length"):
        read(remote.open(FOO, SDIST))


@pytest.mark.parametrize("mode", MODES)
def test_halves_are_joined_only_if_something_tells_that_they_belong_together(
    make: Make, server: faulty.FaultyUpstream, mode: str, tmp_path: Path
) -> None:
    data, other = data_of(400_000), data_of(400_000, seed=2)
    path = server.add("foo", SDIST, data, hashes={})

    def breaks(handler: faulty.Handler) -> None:
        etag = server.stored[path].etag
        fields = {"ETag": etag} if etag else {}
        faulty.truncate(data, 250_000, "x/y", Accept_Ranges="bytes", **fields)(handler)
        server.stored[path].body = other  # replaced meanwhile, by one of the same length
        server.stored[path].etag = etag and '"other"'

    for etag in (None, '"one"'):  # nothing says that it is another one, or the upstream does
        server.stored[path] = faulty.Stored(data, etag=etag)
        server.fault(path, breaks, times=1)
        with pytest.raises(Unavailable):
            read(make(mode).open(FOO, SDIST))
        assert not [entry for entry in (tmp_path / "cache" / "files").rglob("*") if entry.is_file()]
    server.stored[path] = faulty.Stored(data, etag='"one"')
    server.fault(path, faulty.truncate(data, 250_000, "x/y", ETag='"one"', Accept_Ranges="bytes"), times=1)
    assert read(make(mode).open(FOO, SDIST)) == data


@pytest.mark.parametrize("mode", MODES)
def test_a_broken_download_goes_on_where_it_broke(make: Make, server: faulty.FaultyUpstream, mode: str) -> None:
    data = data_of(400_000)
    path = server.add("foo", SDIST, data)
    etag = server.stored[path].etag or ""
    server.fault(path, faulty.truncate(data, 250_000, "x/y", ETag=etag, Accept_Ranges="bytes"), times=1)
    remote = make(mode)
    assert read(remote.open(FOO, SDIST)) == data
    later = server.requests[-1].headers
    assert later["range"].startswith("bytes=")
    assert later["if-range"] == etag
    start = int(later["range"].removeprefix("bytes=").rstrip("-"))
    assert 0 < start <= 250_000
    if mode == "cache":
        settle(remote, SDIST)


@pytest.mark.parametrize(("at", "asked"), [(0, None), (250_000, "bytes=250000-")])
@pytest.mark.parametrize("mode", MODES)
def test_a_stalled_download_is_given_up_and_goes_on_where_it_stalled(
    make: Make, server: faulty.FaultyUpstream, mode: str, at: int, asked: str | None
) -> None:
    data = data_of(400_000)
    path = server.add("foo", SDIST, data)
    server.fault(path, faulty.stall(data, at, 30, ETag=server.stored[path].etag or ""), times=1)
    remote = make(mode)
    before = time.monotonic()
    assert read(remote.open(FOO, SDIST)) == data
    assert time.monotonic() - before < 15
    assert server.requests[-1].headers.get("range") == asked
    if mode == "cache":
        settle(remote, SDIST)


@pytest.mark.parametrize(("piece", "tries"), [(1000, 5), (50_000, None)])
@pytest.mark.parametrize("mode", MODES)
def test_a_download_that_hardly_gets_on_is_given_up(
    make: Make, server: faulty.FaultyUpstream, mode: str, piece: int, tries: int | None
) -> None:
    data = data_of(400_000)
    path = server.add("foo", SDIST, data)

    def fault(handler: faulty.Handler) -> None:
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        part = f"206 P\r\nContent-Range: bytes {start}-{len(data) - 1}/{len(data)}" if start else "200 OK"
        head = f"HTTP/1.1 {part}\r\nContent-Length: {len(data) - start}\r\n\r\n"
        handler.raw(head.encode() + data[start : start + piece])

    server.fault(path, fault)
    remote = make(mode)
    if tries is None:
        assert read(remote.open(FOO, SDIST)) == data
        return
    with pytest.raises(Unavailable, match="have brought 5000 bytes"):
        read(remote.open(FOO, SDIST))
    assert server.count(path) == tries


@pytest.mark.parametrize("header", [True, False])
def test_a_file_that_is_looked_through_on_its_way_is_there_for_who_asks_again(
    make: Make, server: faulty.FaultyUpstream, header: bool
) -> None:
    """A proxy that looks for viruses lets nothing go before it has seen all."""
    data = data_of(300_000)
    path = server.add("foo", SDIST, data)
    let_go = threading.Event()

    def scanned(handler: faulty.Handler) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data)
        if header:
            handler.wfile.write(head)
        let_go.wait(60)
        handler.wfile.write(data if header else head + data)

    server.fault(path, scanned)
    remote = make(page=10.0)
    for _ in range(2):
        with hops.carrying(None, 0.5), pytest.raises(Late):
            read(remote.open(FOO, SDIST))
    threading.Timer(6.0, let_go.set).start()  # later than a file has if nobody is patient
    assert read(remote.open(FOO, SDIST)) == data
    settle(remote, SDIST)
    assert server.count(path) == 1


@pytest.mark.parametrize("mode", MODES)
def test_page_and_file_share_the_time_until_the_first_byte(
    server: faulty.FaultyUpstream, mode: Any, tmp_path: Path
) -> None:
    data = data_of(2000)
    path = server.add("foo", SDIST, data, size=False)  # so that a proxy asks for it too

    def fetch(seconds: float) -> bytes:
        # Each has a cache of its own, for what came too late for one is there for the next.
        remote = Remote(Upstream(server.url, pause=0.0), mode=mode, cache=Cache(tmp_path / secrets.token_hex(4)))
        with hops.carrying(None, seconds):
            return read(remote.open(FOO, SDIST))

    server.stored["/simple/foo/"].delay = server.stored[path].delay = 0.5
    with pytest.raises(Late):
        fetch(0.8)
    server.stored["/simple/foo/"].delay = server.stored[path].delay = 0
    before = time.monotonic()
    server.fault(path, faulty.stall(data, 0, 30))
    with pytest.raises(Late):
        fetch(0.5)
    assert time.monotonic() - before < 3  # neither ten for each try, nor pauses between tries that come too late
    server.heal()
    asked = server.count(path)
    server.stored[path].speed = 1000  # what has begun has time
    assert fetch(1.5) == data
    assert server.count(path) == asked + (2 if mode == "proxy" else 1)  # a proxy asks for the size first


@pytest.mark.parametrize("mode", MODES)
def test_a_file_whose_size_nobody_states_comes_whoever_refuses_head_and_anew_when_it_is_another(
    server: faulty.FaultyUpstream, mode: Any, tmp_path: Path
) -> None:
    remote = Remote(Upstream(server.url, pause=0.0), mode=mode, cache=Cache(tmp_path / "cache"), ttl=0)
    for data in (data_of(2000), data_of(3000)[::-1]):
        path = server.add("foo", SDIST, data, size=False)
        stored = server.stored[path]

        def answer(handler: faulty.Handler, stored: faulty.Stored = stored) -> None:
            if handler.command == "HEAD":  # as an address that was signed for GET
                handler.answer(403, b"no")
            else:
                handler.store(stored, {name.lower(): value for name, value in handler.headers.items()})

        server.fault(path, answer)
        assert read(remote.open(FOO, SDIST)) == data


@pytest.mark.parametrize("mode", MODES)
def test_a_broken_download_begins_again_where_there_are_no_ranges(
    make: Make, server: faulty.FaultyUpstream, mode: str
) -> None:
    data = data_of(400_000)
    path = server.add("foo", SDIST, data)
    server.stored[path].ranges = False
    server.fault(path, faulty.truncate(data, 250_000), times=2)
    assert read(make(mode).open(FOO, SDIST)) == data
    assert server.count(path) == 3


@pytest.mark.parametrize("mode", MODES)
def test_two_halves_of_different_files_are_never_joined(make: Make, server: faulty.FaultyUpstream, mode: str) -> None:
    old, new = data_of(400_000, 1), data_of(400_000, 2)
    path = server.add("foo", SDIST, new, hashes={})
    server.fault(path, faulty.truncate(old, 250_000, "x/y", ETag='"old"', Accept_Ranges="bytes"), times=1)
    with pytest.raises(Unavailable):
        read(make(mode).open(FOO, SDIST))


def test_a_file_without_digest_is_kept_by_its_length(make: Make, server: faulty.FaultyUpstream) -> None:
    path = server.add("foo", SDIST, GZIP + b"abc" * 100, hashes={}, size=False)
    remote = make()
    assert read(remote.open(FOO, SDIST)) == GZIP + b"abc" * 100
    settle(remote, SDIST)
    assert server.count(path) == 1


def test_a_file_without_digest_and_length_is_passed_on_and_not_kept(make: Make, server: faulty.FaultyUpstream) -> None:
    path = server.add("foo", SDIST, GZIP + b"abc" * 100, hashes={}, size=False)
    server.fault(path, lambda handler: handler.chunks([GZIP + b"abc" * 50, b"abc" * 50]))
    remote = make()
    for times in (1, 2):
        assert read(remote.open(FOO, SDIST)) == GZIP + b"abc" * 100
        quiet()
        assert server.paths().count(path) == times


def test_a_weak_digest_is_checked_but_names_nothing(make: Make, server: faulty.FaultyUpstream, tmp_path: Path) -> None:
    md5 = hashlib.md5(b"abc").hexdigest()
    server.add("foo", SDIST, b"abc", hashes={"md5": md5})
    remote = make()
    assert read(remote.open(FOO, SDIST)) == b"abc"
    settle(remote, SDIST)
    path = server.add("foo", SDIST, b"abd", hashes={"md5": md5})
    server.stored["/elsewhere"] = server.stored[path]
    server.add("foo", SDIST, b"abd", hashes={"md5": md5}, url="../../elsewhere")
    with pytest.raises(Unavailable):
        read(make(ttl=0).open(FOO, SDIST))  # the same digest at another address is another file
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(Unavailable):
        read(make().open(FOO, SDIST))


def test_the_rate_holds_over_several_downloads(make: Make, server: faulty.FaultyUpstream) -> None:
    for number in range(3):
        server.add("foo", f"foo-{number}.tar.gz", data_of(100_000, number))
    remote = make(rate=400_000)
    remote.project(FOO)
    began = time.monotonic()
    contents = [remote.open(FOO, f"foo-{number}.tar.gz") for number in range(3)]
    threads = [threading.Thread(target=read, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began > 0.55


def test_beyond_the_cap_files_are_busy_and_a_kept_one_is_not(server: faulty.FaultyUpstream, tmp_path: Path) -> None:
    server.add("foo", SDIST, b"abc")
    slow = server.add("foo", "foo-2.0.tar.gz", b"slow")
    server.add("foo", "foo-3.0.tar.gz", b"other")
    server.stored[slow].delay = 0.3
    remote = Remote(Upstream(server.url, calls=1, room=0), mode="cache", cache=Cache(tmp_path / "cache"))
    read(remote.open(FOO, SDIST))
    settle(remote, SDIST)
    thread = threading.Thread(target=lambda: read(remote.open(FOO, "foo-2.0.tar.gz")))
    thread.start()
    time.sleep(0.1)
    with pytest.raises(Busy):
        read(remote.open(FOO, "foo-3.0.tar.gz"))
    assert read(remote.open(FOO, SDIST)) == b"abc"
    thread.join()


def test_where_too_many_wait_what_is_known_is_served_and_what_is_not_is_busy(
    server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    server.add("foo", SDIST, b"abc")
    server.add("foo", "foo-2.0.tar.gz", b"new", gpg_sig=True)
    turnstile = Turnstile(1)
    remote = Remote(Upstream(server.url), mode="cache", cache=Cache(tmp_path / "c"), turnstile=turnstile, ttl=0)
    known = remote.project(FOO)
    read(remote.open(FOO, SDIST))
    settle(remote, SDIST)
    server.requests.clear()
    with turnstile.inside():
        assert remote.project(FOO) is known
        assert read(remote.open(FOO, SDIST)) == b"abc"
        new = remote.open(FOO, "foo-2.0.tar.gz")
        with pytest.raises(Busy):
            read(new)
        with pytest.raises(Busy):
            remote.open(FOO, "foo-2.0.tar.gz", ".asc")
        with pytest.raises(Busy):
            remote.project(NormalizedName("new"))
    assert server.requests == []
    assert read(new) == b"new"


def test_secrets_stay_out_of_the_log_and_the_cache(
    server: faulty.FaultyUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.add("foo", SDIST, b"abc")
    url = server.url.replace("http://", "http://ann:s3cret@")
    with caplog.at_level(logging.DEBUG):
        remote = Remote(Upstream(url), mode="cache", cache=Cache(tmp_path / "c"), ttl=0)
        read(remote.open(FOO, SDIST))
        settle(remote, SDIST)
        server.fault("*", faulty.status(401))
        remote.project(FOO)
        with pytest.raises(Unavailable) as caught:
            remote.project(NormalizedName("bar"))
    assert server.requests[0].headers["authorization"].startswith("Basic ")
    said = caplog.text + str(caught.value) + repr(remote)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file())
    names = "".join(str(path) for path in (tmp_path / "c").rglob("*"))
    basic = server.requests[0].headers["authorization"].split()[1]
    for secret in ("s3cret", basic):
        assert secret not in said + names
        assert secret.encode() not in kept
