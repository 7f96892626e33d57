"""An upstream as a source, passed through and kept: with real sockets, and every fault an upstream can have."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import builders
import faulty_upstream as faulty
import pytest
from packaging.utils import NormalizedName

from pypiserver_lite.errors import Busy, ConfigError, Late, Loop, Missing, NoSpace, Unavailable
from pypiserver_lite.kept import Turnstile
from pypiserver_lite.model import Content, LocalFile, Stream
from pypiserver_lite.upstream import hops, turns
from pypiserver_lite.upstream.arriving import Following
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.growing import Followed, Growing
from pypiserver_lite.upstream.ranged import TAIL, RangedFile
from pypiserver_lite.upstream.rate import Rate
from pypiserver_lite.upstream.source import Remote

FOO = NormalizedName("foo")
PAGE = "/simple/foo/"
SDIST = "foo-1.0.tar.gz"
MODES = ("proxy", "cache")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def server() -> Iterator[faulty.FaultyUpstream]:
    with faulty.upstream() as server:
        yield server


class Clock:
    """The time, and `ahead` more seconds."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(server: faulty.FaultyUpstream, tmp_path: Path, clock: Clock) -> Callable[..., Remote]:
    """A source over the upstream; one made later is like the same one after a restart."""

    def make(
        mode: Any = "cache", *, rate: int | None = None, size: int | None = None, page: float = 0.8, **times: Any
    ) -> Remote:
        upstream = Upstream(server.url, connect=1.0, read=page / 2, page=page, pause=0.0, rate=Rate(rate))
        cache = Cache(tmp_path / "cache", size, clock=clock) if mode == "cache" else None
        return Remote(upstream, mode=mode, cache=cache, clock=clock, **times)

    return make


Make = Callable[..., Remote]


def data_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def read(content: Content | None, start: int = 0, stop: int | None = None) -> bytes:
    if isinstance(content, LocalFile):
        return content.path.read_bytes()[start:stop]
    assert isinstance(content, Stream)
    return b"".join(content.read(start, stop))


def settle(remote: Remote, filename: str) -> LocalFile:
    """The file from the cache, where it is a moment after its last byte."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        content = remote.open(FOO, filename)
        if isinstance(content, LocalFile):
            return content
        time.sleep(0.01)
    raise AssertionError("it is not kept")


def downloading() -> bool:
    """Whether a download is under way in this process."""
    return any(thread.name == "pypiserver-lite-download" for thread in threading.enumerate())


def quiet() -> None:
    """Wait until no download is under way."""
    while downloading():
        time.sleep(0.005)


# --- pages


def many(server: faulty.FaultyUpstream, *names: str, length: int = 40) -> None:
    """A page for each name, of 26,000 files of so many characters."""
    for name in names:
        found = [f"{name}-{number:0{length}}.zip" for number in range(26_000)]
        server.page(name, [{"filename": filename, "url": filename, "size": 3} for filename in found])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a turn at large pages."""
    monkeypatch.setattr(turns, "_large", Turnstile(1))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("mode", MODES)
def test_of_pages_too_large_to_be_kept_one_is_in_memory(make: Make, server: faulty.FaultyUpstream, mode: str) -> None:
    many(server, "foo", "bar")
    server.add("small", "small-1.0.zip", b"abc")
    remote = make(mode, page=30.0, patience=30.0, memory=2**20, ttl=0 if mode == "cache" else 600)
    small = remote.project(NormalizedName("small"))
    for first, second in (("foo", "bar"), ("bar", "foo")):
        held = remote.project(NormalizedName(first))
        assert held is not None and len(held.files) == 26_000
        with pytest.raises(Busy):
            remote.project(NormalizedName(second))
        assert remote.project(NormalizedName("small")) is small  # neither does it wait, nor had it to go
        del held
        many(server, first, length=41)
        changed = remote.project(NormalizedName(first))  # its older state on disk has its turn already
        assert mode == "proxy" or (changed and len(changed.files[0].filename) == len(f"{first}-.zip") + 41)
        many(server, first)
        del changed
    content = remote.open(FOO, "foo-" + "0" * 40 + ".zip")
    assert remote.project(NormalizedName("bar")) is not None  # who reads a file does not hold its page
    assert content is not None


@pytest.mark.usefixtures("impatient")
def test_long_pages_are_read_one_at_a_time(make: Make, server: faulty.FaultyUpstream) -> None:
    many(server, "foo", length=200)
    server.add("small", "small-1.0.zip", b"abc")
    remote = make("proxy", page=30.0)
    with turns._large.inside():
        with pytest.raises(Busy):
            remote.project(FOO)
        assert remote.traffic.snapshot().received < 8 * 2**20 < 26_000 * 400
        assert remote.project(NormalizedName("small")) is not None
    assert remote.stale(NormalizedName("small")) is None
    assert remote.project(FOO) is not None


@pytest.mark.usefixtures("impatient")
def test_pages_that_come_in_at_once_take_bounded_memory_together(make: Make, server: faulty.FaultyUpstream) -> None:
    body, go_on = b"x" * 3 * 2**20, threading.Event()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body) + 1}\r\n\r\n".encode()

    def fault(handler: faulty.Handler) -> None:
        handler.wfile.write(head)
        handler.wfile.write(body)
        go_on.wait(60)
        handler.wfile.write(b"x")

    for number in range(20):
        server.fault(f"/simple/n{number}/", fault)
    many(server, "foo", length=60)  # a megabyte or more
    server.add("small", "small-1.0.zip", b"abc")
    remote = make("proxy", page=60.0)
    for _ in range(2):  # what the first ones took is given back
        go_on.clear()
        with turns._large.inside(), ThreadPoolExecutor(20) as askers:
            asked = [askers.submit(remote.project, NormalizedName(f"n{number}")) for number in range(20)]
            deadline = time.monotonic() + 40
            while sum(one.done() for one in asked) < 10 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert remote.project(NormalizedName("small")) is not None
            go_on.set()
            errors = [one.exception(60) for one in asked]
        # 32 MB for pages of three: not more than ten came in, but some.
        assert 10 <= sum(isinstance(error, Busy) for error in errors) < 20
    assert remote.project(FOO) is not None


def test_nobody_waits_for_the_turn_of_a_large_page_longer_than_the_request_has_left(
    make: Make, server: faulty.FaultyUpstream
) -> None:
    many(server, "foo")
    remote = make("proxy", page=30.0)
    before = time.monotonic()
    with turns._large.inside(), hops.carrying(None, 2.0), pytest.raises(Unavailable):
        remote.project(FOO)
    assert time.monotonic() - before < 7


@pytest.mark.parametrize("mode", MODES)
def test_a_page_keeps_everything_the_upstream_knows(make: Make, server: faulty.FaultyUpstream, mode: str) -> None:
    server.add(
        "foo",
        SDIST,
        b"abc",
        metadata=b"Metadata-Version: 2.2\n",
        yanked="broken",
        requires_python=">=3.8",
        upload_time="2024-01-02T03:04:05.678Z",
        gpg_sig=True,
    )
    project = make(mode).project(FOO)
    assert project is not None
    (file,) = project.files
    assert (file.filename, file.version, file.size, file.yanked) == (SDIST, "1.0", 3, "broken")
    assert file.hashes == {"sha256": hashlib.sha256(b"abc").hexdigest()}
    assert file.requires_python == ">=3.8"
    assert file.core_metadata == {"sha256": hashlib.sha256(b"Metadata-Version: 2.2\n").hexdigest()}
    assert file.has_signature is True
    assert file.uploaded is not None
    assert make(mode).names() == ()
    assert tuple(make(mode).filenames()) == ()


def test_html_with_relative_links_a_base_and_old_attributes_is_understood(
    make: Make, server: faulty.FaultyUpstream
) -> None:
    digest = hashlib.sha256(b"abc").hexdigest()
    server.stored["/elsewhere/" + SDIST] = faulty.Stored(b"abc")
    server.stored["/elsewhere/foo-2.0.tar.gz"] = faulty.Stored(b"no hash")
    server.stored[PAGE] = faulty.Stored(
        f"<!doctype html><title>Links for foo</title><base href='/elsewhere/'><a href='{SDIST}#sha256={digest}'"
        f" data-dist-info-metadata='true'>{SDIST}</a><a href='foo-2.0.tar.gz'>foo-2.0.tar.gz</a>".encode(),
        "text/html; charset=utf-8",
    )
    for mode in MODES:
        remote = make(mode)
        assert read(remote.open(FOO, SDIST)) == b"abc"
        content = remote.open(FOO, "foo-2.0.tar.gz")
        assert isinstance(content, Stream)
        assert content.size == 7
        assert read(content) == b"no hash"


def test_only_a_clean_404_means_not_here(make: Make, server: faulty.FaultyUpstream) -> None:
    remote = make()
    assert remote.project(FOO) is None
    assert remote.open(FOO, SDIST) is None
    assert server.count(PAGE) == 1  # and is remembered
    assert make(absent_ttl=0).project(FOO) is None
    for code in (400, 401, 403, 410, 451, 500):
        server.fault(PAGE, faulty.status(code))
        with pytest.raises(Unavailable):
            make().project(FOO)


def test_a_project_that_appears_is_seen_when_the_negative_answer_is_old(
    make: Make, server: faulty.FaultyUpstream, clock: Clock
) -> None:
    remote = make(absent_ttl=60.0)
    assert remote.project(FOO) is None
    server.add("foo", SDIST, b"abc")
    clock.ahead = 50.0
    assert remote.project(FOO) is None
    clock.ahead = 61.0
    assert remote.project(FOO) is not None


def test_strangers_cannot_fill_the_memory_with_names(make: Make, server: faulty.FaultyUpstream) -> None:
    server.add("foo", SDIST, b"abc")
    remote = make("proxy", memory=30_000)
    kept = remote.project(FOO)
    for number in range(40):
        server.add(f"p{number}", f"p{number}-1.0.tar.gz", b"x")
        remote.project(NormalizedName(f"p{number}"))
        assert remote.project(FOO) is kept  # what is of use stays
    assert server.count(PAGE) == 1
    server.requests.clear()
    remote.project(NormalizedName("p39"))
    remote.project(NormalizedName("p0"))
    assert server.paths() == ["/simple/p0/"]


@pytest.mark.parametrize("mode", MODES)
def test_a_fresh_page_is_a_lookup_and_an_old_one_is_confirmed(
    make: Make, server: faulty.FaultyUpstream, mode: str, clock: Clock
) -> None:
    server.add("foo", SDIST, b"abc")
    remote = make(mode, ttl=600.0)
    first = remote.project(FOO)
    for clock.ahead in range(0, 590, 10):
        assert remote.project(FOO) is first
    assert server.count(PAGE) == 1
    clock.ahead = 601.0
    assert remote.project(FOO) is first  # 304
    assert [request.headers.get("if-none-match") for request in server.requests] == [
        None,
        server.stored[PAGE].etag,
    ]
    assert remote.traffic.snapshot().saved > 0
    server.stored[PAGE].etag = '"another"'
    clock.ahead = 1202.0
    assert remote.project(FOO) is first  # other bytes, or another tag, but the same facts
    server.add("foo", "foo-2.0.tar.gz", b"abc")
    clock.ahead = 1803.0
    changed = remote.project(FOO)
    assert changed is not None
    assert changed.versions == ("1.0", "2.0")
    assert server.count(PAGE) == 4


def test_last_modified_confirms_too(make: Make, server: faulty.FaultyUpstream) -> None:
    server.add("foo", SDIST, b"abc")
    server.stored[PAGE].etag = None
    server.stored[PAGE].modified = "Sat, 21 Nov 2026 10:00:00 GMT"
    remote = make(ttl=0)
    assert remote.project(FOO) is remote.project(FOO)
    assert server.requests[-1].headers["if-modified-since"] == "Sat, 21 Nov 2026 10:00:00 GMT"


def test_however_many_ask_at_once_the_upstream_is_asked_once(make: Make, server: faulty.FaultyUpstream) -> None:
    server.add("foo", SDIST, b"abc")
    server.stored[PAGE].delay = 0.2
    remote = make()
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(remote.project(FOO))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.count(PAGE) == 1
    assert len(found) == 12
    assert all(project is found[0] for project in found)


def test_those_who_wait_are_told_of_the_failure_too(make: Make, server: faulty.FaultyUpstream) -> None:
    server.fault(PAGE, faulty.hang())
    remote = make()
    errors: list[type[Exception]] = []

    def ask() -> None:
        try:
            remote.project(FOO)
        except Exception as error:
            errors.append(type(error))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [Late] * 5


PAGE_FAULTS: dict[str, faulty.Fault] = {
    "server error": faulty.status(500),
    "asks for a pause": faulty.status(429),
    "silence": faulty.hang(),
    "slow": faulty.drip(b"{" * 500, 0.02),
    "no HTTP": faulty.garbage(),
    "hung up": faulty.reset(),
    "truncated": faulty.truncate(b"{" * 5000, 2000),
    "chunks without end": faulty.cut_chunks([b"{"]),
    "redirects in circles": faulty.redirect(PAGE),
    "redirect inside": faulty.redirect("http://169.254.169.254/"),
    "log-in page": faulty.page(b"<html><title>Welcome to our WLAN</title><a href='/go'>Log in</a>", "text/html"),
    "empty": faulty.page(b"", "text/html"),
    "no JSON": faulty.page(b"{nonsense"),
    "version 2": faulty.page(b'{"meta": {"api-version": "2.0"}, "name": "foo", "files": []}'),
    "other shape": faulty.page(b'{"meta": {"api-version": "1.0"}, "name": "foo", "files": {}}'),
    "other type": faulty.page(b"x", "application/octet-stream"),
    "other project": faulty.page(b'{"meta": {"api-version": "1.0"}, "name": "bar", "files": []}'),
}


@pytest.mark.parametrize("fault", PAGE_FAULTS.values(), ids=PAGE_FAULTS)
def test_what_is_known_is_served_whatever_the_upstream_does(
    make: Make, server: faulty.FaultyUpstream, fault: faulty.Fault, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    server.add("foo", SDIST, b"abc")
    remote = make(ttl=600.0, retry=10.0, patience=0.5)
    known = remote.project(FOO)
    assert remote.stale(FOO) is None
    read(remote.open(FOO, SDIST))
    settle(remote, SDIST)
    server.fault(PAGE, fault)
    clock.ahead = 700.0
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert remote.project(FOO) is known
        asked = server.count(PAGE)
        clock.ahead = 705.0
        assert remote.project(FOO) is known  # now it is known not to answer
        assert isinstance(remote.open(FOO, SDIST), LocalFile)
    assert server.count(PAGE) == asked
    age = remote.stale(FOO)
    assert age is not None
    assert 705 <= age < 720
    assert len(caplog.records) == 1
    with pytest.raises(Unavailable):  # nobody knows this one
        server.fault("/simple/new/", fault)
        remote.project(NormalizedName("new"))
    server.heal()
    clock.ahead = 720.0
    assert remote.project(FOO) is known
    assert remote.stale(FOO) is None


def test_a_page_stamped_in_the_future_is_asked_about(make: Make, server: faulty.FaultyUpstream, clock: Clock) -> None:
    server.add("foo", SDIST, b"abc")
    clock.ahead = 10_000.0
    known = make().project(FOO)
    clock.ahead = 0.0  # it was set back; or another machine's was wrong
    remote = make()
    assert remote.project(FOO) == known
    assert server.count(PAGE) == 2
    assert make().project(FOO) == known  # and now its age is known
    assert server.count(PAGE) == 2
    clock.ahead = -10_000.0
    remote.project(FOO)
    assert server.count(PAGE) == 3
    clock.ahead = -20_000.0
    server.fault(PAGE, faulty.status(500))
    for source in (remote, make()):
        assert source.project(FOO) == known
        assert source.stale(FOO) is not None
    assert server.count(PAGE) == 5


def test_a_clock_that_is_set_back_lets_nobody_be_absent_or_silent_for_longer(
    make: Make, server: faulty.FaultyUpstream, clock: Clock
) -> None:
    clock.ahead = 10_000.0
    remote = make(ttl=0)
    bar = NormalizedName("bar")
    server.add("bar", "bar-1.0.tar.gz", b"abc")
    assert remote.project(bar) is not None
    assert remote.project(FOO) is None
    server.fault("/simple/bar/", faulty.status(500))
    assert remote.project(bar) is not None
    server.heal()
    server.add("foo", SDIST, b"abc")
    clock.ahead = 0.0
    assert remote.project(FOO) is not None
    assert remote.project(bar) is not None
    assert remote.stale(bar) is None


def test_who_does_not_wait_for_an_answer_gets_what_is_known_and_the_question_goes_on(
    make: Make, server: faulty.FaultyUpstream, clock: Clock
) -> None:
    server.add("foo", SDIST, b"abc")
    known = make().project(FOO)
    remote = make(ttl=60, patience=0.1)
    clock.ahead = 120.0
    answered = threading.Event()

    def slowly(handler: faulty.Handler) -> None:
        answered.wait(0.35)
        handler.store(server.stored[PAGE], {})

    server.add("foo", "foo-2.0.tar.gz", b"abc")
    server.fault(PAGE, slowly)
    passed = "pypiserver-lite-0123456789abcdef"
    with hops.carrying(f"1.1 {passed}"):
        assert remote.project(FOO) == known
    assert remote.stale(FOO) is not None
    answered.set()
    deadline = time.monotonic() + 5
    while remote.stale(FOO) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    changed = remote.project(FOO)
    assert changed is not None
    assert changed.versions == ("1.0", "2.0")
    assert server.count(PAGE) == 2  # nobody had to ask again
    assert passed in server.requests[-1].headers["via"]


def test_an_upstream_that_is_gone_is_not_missed_also_after_a_restart(tmp_path: Path) -> None:
    wheel = builders.make_wheel(tmp_path / "w", "foo", "1.0")
    with faulty.upstream() as server:
        server.add("foo", wheel.name, wheel.read_bytes())
        remote = Remote(Upstream(server.url), mode="cache", cache=Cache(tmp_path / "c"), ttl=0)
        before = remote.project(FOO)
        read(remote.open(FOO, wheel.name))
        settle(remote, wheel.name)
        read(remote.open(FOO, wheel.name, ".metadata"))
    for source in (remote, Remote(Upstream(server.url), mode="cache", cache=Cache(tmp_path / "c"), ttl=0)):
        assert source.project(FOO) == before
        assert source.stale(FOO) is not None
        assert read(source.open(FOO, wheel.name)) == wheel.read_bytes()
        assert read(source.open(FOO, wheel.name, ".metadata")).startswith(b"Metadata-Version")
        began = time.monotonic()
        with pytest.raises(Unavailable):
            source.project(NormalizedName("new"))
        assert time.monotonic() - began < 0.5


def test_a_restart_asks_nothing_about_fresh_pages_and_confirms_old_ones(
    make: Make, server: faulty.FaultyUpstream
) -> None:
    server.add("foo", SDIST, b"abc")
    before = make().project(FOO)
    assert make().project(FOO) == before
    assert server.count(PAGE) == 1
    assert make(ttl=0).project(FOO) == before
    assert server.requests[-1].headers["if-none-match"] == server.stored[PAGE].etag


def test_what_another_process_learned_is_used(make: Make, server: faulty.FaultyUpstream, clock: Clock) -> None:
    server.add("foo", SDIST, b"abc")
    ours, theirs = make(), make()
    ours.project(FOO)
    clock.ahead = 601.0
    server.add("foo", "foo-2.0.tar.gz", b"abc")
    theirs.project(FOO)
    project = ours.project(FOO)
    assert project is not None
    assert project.versions == ("1.0", "2.0")
    assert server.count(PAGE) == 2


def test_a_project_the_upstream_gave_up_is_gone(make: Make, server: faulty.FaultyUpstream) -> None:
    server.add("foo", SDIST, b"abc")
    remote = make(ttl=0)
    assert remote.project(FOO) is not None
    del server.stored[PAGE]
    assert remote.project(FOO) is None
    assert make().project(FOO) is None


def test_a_kept_page_that_was_damaged_is_fetched_again(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    server.add("foo", SDIST, b"abc")
    before = make().project(FOO)
    for path in (tmp_path / "cache" / "pages").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-5])
    assert make().project(FOO) == before
    assert server.count(PAGE) == 2


def test_thousands_of_files_come_quickly(make: Make, server: faulty.FaultyUpstream) -> None:
    digest = hashlib.sha256(b"").hexdigest()
    server.page(
        "foo",
        [
            {
                "filename": f"foo-{number}.0-py3-none-any.whl",
                "url": f"../../files/foo-{number}.0-py3-none-any.whl",
                "hashes": {"sha256": digest},
                "size": number,
            }
            for number in range(5000)
        ],
    )
    remote = make()
    remote.upstream._page = 10.0
    before = time.perf_counter()
    project = remote.project(FOO)
    assert time.perf_counter() - before < 3.0
    assert project is not None
    assert len(project.files) == 5000


# --- files


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


def test_a_file_for_which_the_disk_has_no_room_is_passed_through(server: faulty.FaultyUpstream, tmp_path: Path) -> None:
    path = server.add("foo", SDIST, b"abc")
    cache = Cache(tmp_path / "cache", free=lambda folder: 64 * 2**20 + 2)
    remote = Remote(Upstream(server.url), mode="cache", cache=cache)
    for _ in range(2):
        assert read(remote.open(FOO, SDIST)) == b"abc"
    assert server.count(path) == 2


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


@pytest.mark.parametrize("mode", MODES)
def test_page_and_file_share_the_time_until_the_first_byte(
    server: faulty.FaultyUpstream, mode: Any, tmp_path: Path
) -> None:
    data = data_of(2000)
    path = server.add("foo", SDIST, data, size=False)  # so that a proxy asks for it too

    def fetch(seconds: float) -> bytes:
        remote = Remote(Upstream(server.url, pause=0.0), mode=mode, cache=Cache(tmp_path / "cache"))
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
    assert server.count(path) == asked + 1


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
    path = server.add("foo", SDIST, b"abc" * 100, hashes={}, size=False)
    remote = make()
    assert read(remote.open(FOO, SDIST)) == b"abc" * 100
    settle(remote, SDIST)
    assert server.count(path) == 1


def test_a_file_without_digest_and_length_is_passed_on_and_not_kept(make: Make, server: faulty.FaultyUpstream) -> None:
    path = server.add("foo", SDIST, b"abc" * 100, hashes={}, size=False)
    server.fault(path, lambda handler: handler.chunks([b"abc" * 50, b"abc" * 50]))
    remote = make()
    for times in (1, 2):
        assert read(remote.open(FOO, SDIST)) == b"abc" * 100
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


def test_the_cache_may_vanish_in_the_middle_of_a_download(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    data = data_of(1_000_000)
    path = server.add("foo", SDIST, data)
    server.stored[path].speed = 4e6
    remote = make()
    content = remote.open(FOO, SDIST)
    assert isinstance(content, Stream)
    pieces = iter(content.read(0, None))
    got = next(pieces)
    shutil.rmtree(tmp_path / "cache")
    got += b"".join(pieces)
    assert got == data
    quiet()
    assert read(remote.open(FOO, SDIST)) == data
    settle(remote, SDIST)


def test_a_cache_that_cannot_be_written_passes_files_through(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_bytes(b"in the way")
    server.add("foo", SDIST, b"abc" * 1000)
    remote = make()
    for _ in range(2):
        assert read(remote.open(FOO, SDIST)) == b"abc" * 1000


def test_a_restart_with_less_room_keeps_less(make: Make, server: faulty.FaultyUpstream) -> None:
    server.add("foo", SDIST, data_of(200_000))
    remote = make(size=1_000_000)
    read(remote.open(FOO, SDIST))
    kept = settle(remote, SDIST).path
    quiet()
    make(size=100_000)
    deadline = time.monotonic() + 10
    while kept.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_file_larger_than_the_cache_is_passed_through(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    data = data_of(200_000)
    server.add("foo", SDIST, data)
    remote = make(size=1000)
    assert read(remote.open(FOO, SDIST)) == data
    assert isinstance(remote.open(FOO, SDIST), Stream)
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_an_endless_file_ends_at_the_bound_of_the_cache(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    path = server.add("foo", SDIST, b"", hashes={}, size=False)
    sent = [0]

    def endless(handler: faulty.Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sent[0] < 100_000_000:
            handler.wfile.write(b"10000\r\n" + bytes(2**16) + b"\r\n")
            sent[0] += 2**16

    server.fault(path, endless)
    remote = make(size=3_000_000)
    with pytest.raises(NoSpace):
        read(remote.open(FOO, SDIST))
    assert sent[0] < 50_000_000
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []
    assert [entry for entry in (tmp_path / "cache" / "files").rglob("*") if entry.is_file()] == []


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
    following = Following(followed, size, ended.set)
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


# --- core metadata (D1-D4)


def big_wheel(folder: Path, version: str = "1.0") -> Path:
    return builders.make_wheel(folder, "foo", version, "Requires-Dist: bar", payload=data_of(400_000))


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


@pytest.mark.parametrize("obstacle", ["no ranges", "small", "no size"])
def test_metadata_is_made_from_the_whole_wheel_where_it_must_be(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path, obstacle: str
) -> None:
    wheel = builders.make_wheel(tmp_path, "foo", "1.0") if obstacle == "small" else big_wheel(tmp_path)
    path = server.add("foo", wheel.name, wheel.read_bytes(), size=obstacle != "no size")
    server.stored[path].ranges = obstacle != "no ranges"
    remote = make()
    assert read(remote.open(FOO, wheel.name, ".metadata")).startswith(b"Metadata-Version: 2.1\nName: foo\n")
    assert settle(remote, wheel.name).path.read_bytes() == wheel.read_bytes()


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
    server.fault(path, faulty.status(500))
    remote = make()
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


# --- odds and ends


def test_a_cache_needs_a_folder(server: faulty.FaultyUpstream) -> None:
    with pytest.raises(ConfigError):
        Remote(Upstream(server.url), mode="cache")


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


@pytest.mark.skipif(not hasattr(os, "statvfs") or os.name != "posix", reason="needs a device that is always full")
def test_a_full_disk_breaks_the_download_and_nothing_else(
    make: Make, server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")
    data = data_of(3_000_000)
    server.add("foo", SDIST, data)
    remote = make()
    remote.project(FOO)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(NoSpace):
            read(remote.open(FOO, SDIST))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []
    assert read(remote.open(FOO, SDIST)) == data
