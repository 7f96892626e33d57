"""Pages of an upstream as a source has them: with real sockets, and every fault an upstream can have."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import builders
import faulty_upstream as faulty
import pytest
from packaging.utils import NormalizedName
from remotes import (  # noqa: F401 - fixtures
    FOO,
    GZIP,
    MODES,
    PAGE,
    SDIST,
    Clock,
    Make,
    read,
    settle,
    source_clock,
    source_maker,
    upstream_server,
)

from pypiserver_lite.errors import Busy, Late, Missing, Unavailable
from pypiserver_lite.kept import Turnstile
from pypiserver_lite.model import LocalFile, Stream
from pypiserver_lite.upstream import hops, turns
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.source import Remote


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
    seat = turns.Seat()
    with pytest.raises(Busy):
        remote.project(FOO)
    assert remote.traffic.snapshot().received < 8 * 2**20 < 26_000 * 400
    assert remote.project(NormalizedName("small")) is not None
    del seat
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
        seat = turns.Seat()
        with ThreadPoolExecutor(20) as askers:
            asked = [askers.submit(remote.project, NormalizedName(f"n{number}")) for number in range(20)]
            deadline = time.monotonic() + 40
            while sum(one.done() for one in asked) < 10 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert remote.project(NormalizedName("small")) is not None
            go_on.set()
            errors = [one.exception(60) for one in asked]
        del seat
        # 32 MB for pages of three: not more than ten came in, but some.
        assert 10 <= sum(isinstance(error, Busy) for error in errors) < 20
    assert remote.project(FOO) is not None


def test_nobody_waits_for_the_turn_of_a_large_page_longer_than_the_request_has_left(
    make: Make, server: faulty.FaultyUpstream
) -> None:
    many(server, "foo")
    remote = make("proxy", page=30.0)
    before = time.monotonic()
    seat = turns.Seat()
    with hops.carrying(None, 2.0), pytest.raises(Unavailable):
        remote.project(FOO)
    assert time.monotonic() - before < 7
    del seat


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
    server.stored["/elsewhere/foo-2.0.tar.gz"] = faulty.Stored(b"\x1f\x8bnone!")
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
        assert read(content) == b"\x1f\x8bnone!"


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


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_an_upstream_that_refuses_one_project_has_its_time_for_the_others(
    status: int, make: Make, server: faulty.FaultyUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    server.add("foo", SDIST, b"abc")
    remote = make(ttl=0, page=20.0, patience=20.0)
    remote.project(FOO)
    server.fault("/simple/refused/", faulty.status(status))
    with pytest.raises(Unavailable):
        remote.project(NormalizedName("refused"))
    server.add("foo", "foo-2.0.tar.gz", b"abc")
    server.stored[PAGE].delay = 0.8
    changed = remote.project(FOO)
    assert changed is not None
    assert changed.versions == ("1.0", "2.0")
    assert remote.stale(FOO) is None
    assert caplog.messages == []
    server.fault(PAGE, faulty.status(status))
    for _ in range(3):
        assert remote.project(FOO) is changed
    assert len(caplog.messages) == 1 and "known of foo" in caplog.messages[0]


@pytest.mark.parametrize(("fault", "pause"), [(faulty.hang(10), 0.0), (faulty.reset(), 0.0), (faulty.status(500), 1.0)])
def test_an_outage_is_told_of_when_it_begins_and_when_it_ends(
    fault: faulty.Fault, pause: float, tmp_path: Path, server: faulty.FaultyUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    server.add("foo", SDIST, b"abc")
    upstream = Upstream(server.url, read=0.5, page=1.0, pause=pause)
    remote = Remote(upstream, mode="cache", cache=Cache(tmp_path / "c"), ttl=0)
    server.fault("*", fault)
    for name in map(NormalizedName, ("a", "b", "c", "d")):
        with pytest.raises(Unavailable):
            remote.project(name)
    assert [line.endswith("until it recovers)") for line in caplog.messages] == [True]
    server.heal()
    deadline = time.monotonic() + 30
    while len(caplog.messages) < 2 and time.monotonic() < deadline:
        with contextlib.suppress(Unavailable):
            remote.project(FOO)
        time.sleep(0.1)
    assert "answers again" in caplog.messages[-1]


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
    remote = make(page=10.0)
    before = time.perf_counter()
    project = remote.project(FOO)
    assert time.perf_counter() - before < 3.0
    assert project is not None
    assert len(project.files) == 5000


@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_another_server_lists_is_looked_for_upstream_once_before_it_is_missing(
    make: Make, server: faulty.FaultyUpstream, mode: str, clock: Clock
) -> None:
    server.add("foo", SDIST, GZIP)
    remote = make(mode)
    assert remote.project(FOO) is not None
    server.add("foo", "foo-2.0.tar.gz", GZIP + b"2")
    with pytest.raises(Missing):
        remote.open(FOO, "foo-2.0.tar.gz")  # what the upstream said a moment ago is believed
    clock.ahead += 2
    assert read(remote.open(FOO, "foo-2.0.tar.gz")) == GZIP + b"2"
    assert server.count(PAGE) == 2
    for _ in range(20):
        with pytest.raises(Missing):
            remote.open(FOO, "foo-3.0.tar.gz")
    clock.ahead += 2
    with pytest.raises(Missing):
        remote.open(FOO, "foo-3.0.tar.gz")
    assert server.count(PAGE) == 2
    server.fault(PAGE, faulty.status(500))
    clock.ahead += 2
    with pytest.raises(Missing):
        remote.open(FOO, "foo-3.0.tar.gz")
    assert server.count(PAGE) > 2
    assert read(remote.open(FOO, SDIST)) == GZIP


@pytest.mark.parametrize("mode", MODES)
def test_a_file_of_a_name_that_appears_is_found_although_the_name_was_absent(
    make: Make, server: faulty.FaultyUpstream, mode: str, clock: Clock
) -> None:
    remote, other = make(mode), make(mode)
    assert remote.project(FOO) is None and remote.open(FOO, SDIST) is None
    assert server.count(PAGE) == 1
    server.add("foo", SDIST, GZIP)
    clock.ahead += 2
    assert remote.project(FOO) is None
    assert other.project(FOO) is not None
    assert (remote.project(FOO) is None) == (mode == "proxy")  # another process was told since
    assert read(remote.open(FOO, SDIST)) == GZIP


@pytest.mark.parametrize("gone", [401, 403, 404, 410])
@pytest.mark.parametrize("mode", MODES)
def test_a_file_whose_address_ran_out_is_taken_from_where_the_page_names_it_now(
    make: Make, server: faulty.FaultyUpstream, mode: str, gone: int, clock: Clock
) -> None:
    old = server.add("foo", SDIST, GZIP)
    remote = make(mode)
    assert remote.project(FOO) is not None
    page = server.stored[PAGE]
    body = page.body.replace(b"../.." + old.encode(), b"../../moved" + old.encode())
    server.stored[PAGE] = dataclasses.replace(page, body=body, etag=None)
    server.stored["/moved" + old] = server.stored.pop(old)
    server.fault(old, faulty.status(gone))
    clock.ahead += 2
    assert read(remote.open(FOO, SDIST)) == GZIP
    asked = server.count(PAGE)
    server.fault("/moved" + old, faulty.status(gone))
    if mode == "proxy":
        for _ in range(5):
            with pytest.raises((Missing, Unavailable)):
                read(remote.open(FOO, SDIST))
        assert server.count(PAGE) == asked == 2
