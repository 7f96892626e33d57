"""Several addresses of one upstream: who is asked when one is down, and whom of them one believes."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import live
import pytest
from builders import make_wheel, metadata
from filed import served
from packaging.utils import NormalizedName
from remotes import FOO, MODES, PAGE, SDIST, Clock, data_of, quiet, read
from wsgi_client import Client

from pypiserver_lite.errors import Late, Missing, Unavailable
from pypiserver_lite.model import Side, Stream
from pypiserver_lite.upstream import hops
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.source import Remote

DATA = data_of(300_000)
OTHER = data_of(300_000, seed=2)
WHEEL = "foo-1.0-py3-none-any.whl"

DOWN: dict[str, faulty.Fault] = {
    "broken": faulty.status(500),
    "overloaded": faulty.status(503),
    "silent": faulty.hang(30),
    "cut": faulty.reset(),
    "without end": faulty.truncate(b"x" * 1000, 100),
}

NONSENSE: dict[str, faulty.Fault] = {
    "log-in page": faulty.page(b"<html><title>Sign in</title><a href='/go'>Go</a></html>", "text/html"),
    "other JSON": faulty.page(b'{"error": "quota exceeded"}', "application/json"),
    "no files": faulty.page(b"{}"),
    "other project": faulty.page(b'{"meta": {"api-version": "1.0"}, "name": "bar", "files": []}'),
    "text": faulty.page(b"down for maintenance", "text/plain"),
}

Make = Callable[..., Remote]


class Pair:
    """Two servers that have the same, and a source over both."""

    def __init__(self, folder: Path, first: faulty.FaultyUpstream, second: faulty.FaultyUpstream) -> None:
        self.first, self.second = first, second
        self.folder, self.clock = folder, Clock()
        wheel = make_wheel(folder / "made", "foo", "1.0")
        for server in (first, second):
            server.add("foo", SDIST, DATA, gpg_sig=True)
            server.add("foo", WHEEL, wheel.read_bytes(), metadata=metadata("foo", "1.0"), gpg_sig=True)
            for name in (SDIST, WHEEL):
                server.stored[f"/files/{name}.asc"] = faulty.Stored(b"signed")
        # What lies elsewhere is found by the page alone.
        self.move(second, "mirrored")

    def move(self, server: faulty.FaultyUpstream, folder: str) -> None:
        """Have the files of a server lie in another folder there."""
        for path in [path for path in server.stored if path.startswith("/files/")]:
            server.stored[path.replace("/files/", f"/{folder}/")] = server.stored.pop(path)
        page = server.stored[PAGE]
        page.body = page.body.replace(b"/files/", f"/{folder}/".encode())

    def source(self, mode: Any, *, page: float = 2.0, pause: float = 0.0, **times: Any) -> Remote:
        """A source over both, as after a restart."""
        clients = [
            Upstream(server.url, connect=1.0, read=page / 2, page=page, pause=pause)
            for server in (self.first, self.second)
        ]
        cache = Cache(self.folder / "cache", clock=self.clock) if mode == "cache" else None
        return Remote(*clients, mode=mode, cache=cache, clock=self.clock, **times)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two addresses of one upstream."""
    with faulty.upstream() as first, faulty.upstream() as second:
        yield Pair(tmp_path, first, second)
        quiet()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", DOWN)
def test_when_the_first_is_down_all_comes_from_the_second_and_then_from_the_first_again(
    fault: str, mode: str, pair: Pair
) -> None:
    source = pair.source(mode, ttl=0)
    pair.first.fault("*", DOWN[fault])
    project = source.project(FOO)
    assert project is not None and {file.mirror for file in project.files} == {pair.second.url}
    assert read(source.open(FOO, SDIST)) == DATA
    assert read(source.open(FOO, WHEEL, ".metadata")) == metadata("foo", "1.0")
    assert read(source.open(FOO, WHEEL, ".asc")) == b"signed"
    quiet()
    pair.first.heal()
    pair.second.fault("*", faulty.status(500))
    project = source.project(FOO)
    assert project is not None and {file.mirror for file in project.files} == {""}
    assert read(source.open(FOO, WHEEL)) == pair.first.stored[f"/files/{WHEEL}"].body


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", NONSENSE)
def test_one_that_answers_with_something_else_than_a_page_is_down(fault: str, mode: str, pair: Pair) -> None:
    source = pair.source(mode, ttl=0)
    pair.first.fault(PAGE, NONSENSE[fault])
    project = source.project(FOO)
    assert project is not None and {file.mirror for file in project.files} == {pair.second.url}
    assert source.health("theirs").addresses[0].failures > 0
    pair.second.fault(PAGE, faulty.status(500))
    source.project(FOO)
    assert source.stale(FOO) is not None
    pair.first.heal()
    pair.clock.ahead = 100.0
    project = source.project(FOO)
    assert project is not None and {file.mirror for file in project.files} == {""}


@pytest.mark.parametrize("mode", MODES)
def test_one_that_refuses_connections_is_down(mode: str, pair: Pair) -> None:
    with faulty.upstream() as gone:
        pass
    clients = [Upstream(url, page=2.0) for url in (gone.url, pair.second.url)]
    cache = Cache(pair.folder / "c") if mode == "cache" else None
    source = Remote(*clients, mode=mode, cache=cache)  # type: ignore[arg-type]
    assert read(source.open(FOO, SDIST)) == DATA
    health = source.health("theirs")
    assert [one.open for one in health.addresses] == [True, False]
    assert (health.open, health.failures) == (False, 0)
    assert health.address == f"127.0.0.1:{gone.port}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", DOWN)
@pytest.mark.parametrize(("filename", "side"), [(SDIST, ""), (WHEEL, ".metadata"), (SDIST, ".asc")])
def test_what_the_first_lists_comes_from_the_second_when_it_cannot_give_it(
    filename: str, side: Side, fault: str, mode: str, pair: Pair
) -> None:
    source = pair.source(mode)
    source.project(FOO)
    path = f"/files/{filename}{side}"
    cut = faulty.truncate(pair.first.stored[path].body, 2)
    pair.first.fault(path, cut if fault == "without end" else DOWN[fault])
    whole = read(source.open(FOO, filename, side))
    assert whole == pair.second.stored[f"/mirrored/{filename}{side}"].body
    quiet()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", [faulty.status(404), NONSENSE["log-in page"]], ids=["missing", "log-in page"])
@pytest.mark.parametrize(("filename", "side"), [(SDIST, ""), (WHEEL, ".metadata")])
def test_what_the_first_does_not_have_after_all_comes_from_the_second(
    filename: str, side: Side, fault: faulty.Fault, mode: str, pair: Pair
) -> None:
    source = pair.source(mode)
    source.project(FOO)
    path = f"/files/{filename}{side}"
    pair.first.fault(path, fault)
    assert read(source.open(FOO, filename, side)) == pair.second.stored[f"/mirrored/{filename}{side}"].body
    assert pair.first.count(path) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sized", [True, False])
def test_who_gave_other_bytes_for_a_file_is_asked_for_it_last(sized: bool, mode: str, pair: Pair) -> None:
    other = OTHER if sized else b"<html>blocked</html>"
    for server in () if sized else (pair.first, pair.second):
        page = server.stored[PAGE]
        page.body = re.sub(rb'"size": [0-9]+(, )?', b"", page.body)
    source = pair.source(mode)
    source.project(FOO)
    pair.first.fault(f"/files/{SDIST}", faulty.page(other, "application/octet-stream"))
    with pytest.raises(Unavailable):
        read(source.open(FOO, SDIST))
    quiet()
    asked = pair.first.count(f"/files/{SDIST}")
    assert read(source.open(FOO, SDIST)) == DATA
    assert pair.first.count(f"/files/{SDIST}") == asked
    # Where the others fail it is asked all the same.
    source = pair.source("proxy")
    source.project(FOO)
    with pytest.raises(Unavailable):
        read(source.open(FOO, SDIST))
    pair.first.heal()
    pair.second.fault("*", faulty.status(500))
    assert read(source.open(FOO, SDIST)) == DATA


@pytest.mark.parametrize("mode", MODES)
def test_where_nobody_gives_the_right_file_each_is_asked_once_for_it(mode: str, pair: Pair) -> None:
    source = pair.source(mode)
    source.project(FOO)
    for server, folder in ((pair.first, "files"), (pair.second, "mirrored")):
        server.fault(f"/{folder}/{SDIST}", NONSENSE["log-in page"])
    for number in (1, 2):
        with pytest.raises(Unavailable, match="its page states 300000"):
            read(source.open(FOO, SDIST))
        quiet()
        assert [pair.first.count(f"/files/{SDIST}"), pair.second.count(f"/mirrored/{SDIST}")] == [number, number]


@pytest.mark.parametrize("mode", MODES)
def test_a_download_that_breaks_off_goes_on_from_the_second(mode: str, pair: Pair) -> None:
    source = pair.source(mode)
    source.project(FOO)
    pair.first.fault(f"/files/{SDIST}", faulty.truncate(DATA, 100_000))
    assert read(source.open(FOO, SDIST)) == DATA
    (rest,) = [request for request in pair.second.requests if SDIST in request.path]
    assert rest.headers["range"] == "bytes=100000-"


@pytest.mark.parametrize("mode", MODES)
def test_another_file_of_the_same_name_is_not_taken_from_the_second(
    mode: str, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.second.add("foo", SDIST, OTHER)
    source = pair.source(mode)
    source.project(FOO)
    pair.first.fault(f"/files/{SDIST}", faulty.status(500))
    for _ in range(3):
        with pytest.raises(Unavailable, match="status 500"):
            read(source.open(FOO, SDIST))
    assert not [path for path in pair.second.paths() if SDIST in path]
    assert caplog.text.count(f"states another digest of {SDIST}") == 1


@pytest.mark.parametrize("mode", MODES)
def test_bytes_of_the_second_that_are_not_those_promised_are_never_whole(mode: str, pair: Pair) -> None:
    pair.second.stored[f"/mirrored/{SDIST}"].body = OTHER
    source = pair.source(mode)
    source.project(FOO)
    pair.first.fault(f"/files/{SDIST}", faulty.status(500))
    with pytest.raises(Unavailable):
        read(source.open(FOO, SDIST))
    quiet()
    pair.first.heal()
    assert read(source.open(FOO, SDIST)) == DATA


@pytest.mark.parametrize("mode", MODES)
def test_a_known_digest_stays_when_another_address_states_another(
    mode: str, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.second.add("foo", SDIST, OTHER)
    pair.second.add("foo", "foo-2.0.tar.gz", b"new")
    source = pair.source(mode, ttl=0)
    source.project(FOO)
    pair.first.fault(PAGE, faulty.status(500))
    right = hashlib.sha256(DATA).hexdigest()
    for _ in range(3):
        project = source.project(FOO)
        assert project is not None
        assert project.by_filename[SDIST].hashes["sha256"] == right
        assert project.by_filename["foo-2.0.tar.gz"].mirror == pair.second.url
    assert caplog.text.count(f"states another digest of {SDIST}") == 1
    assert read(source.open(FOO, SDIST)) == DATA  # of the first, which says so
    # What is on disk may not say anything else either.
    again = pair.source(mode, ttl=0) if mode == "cache" else source
    project = again.project(FOO)
    assert project is not None and project.by_filename[SDIST].hashes["sha256"] == right
    # The first may change what it says itself.
    pair.first.heal()
    pair.first.add("foo", SDIST, OTHER)
    project = again.project(FOO)
    assert project is not None and project.by_filename[SDIST].hashes["sha256"] != right


@pytest.mark.parametrize("mode", MODES)
def test_no_address_takes_a_digest_back_that_another_stated(mode: str, pair: Pair) -> None:
    pair.second.add("foo", SDIST, OTHER, hashes={})
    source = pair.source(mode, ttl=0)
    source.project(FOO)
    pair.first.fault("*", faulty.status(500))
    project = source.project(FOO)
    assert project is not None
    assert project.by_filename[SDIST].hashes["sha256"] == hashlib.sha256(DATA).hexdigest()
    assert project.by_filename[WHEEL].mirror == pair.second.url
    with pytest.raises(Unavailable):
        read(source.open(FOO, SDIST))


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_no_further_address_changes_what_is_known_of_core_metadata(mode: str, silent: bool, pair: Pair) -> None:
    page = pair.first.stored[PAGE]
    page.body = re.sub(rb'"core-metadata": {[^}]*}', b'"core-metadata": false', page.body) if silent else page.body
    wheel = pair.second.stored[f"/mirrored/{WHEEL}"].body
    pair.second.add("foo", WHEEL, wheel, metadata=metadata("foo", "1.0", "Requires-Dist: evil"))
    source = pair.source(mode, ttl=0)
    source.project(FOO)
    pair.first.fault("*", faulty.status(500))
    for _ in range(2):
        project = source.project(FOO)
        assert project is not None and project.by_filename[WHEEL].mirror == pair.second.url
        try:
            assert b"evil" not in read(
                source.open(FOO, WHEEL, ".metadata")
            )  # made of the wheel, or no longer announced
        except Missing:
            assert mode == "proxy" or silent
    pair.first.heal()
    assert source.project(FOO) is not None


def test_metadata_without_a_digest_comes_from_the_address_that_announces_it(pair: Pair) -> None:
    page = pair.first.stored[PAGE]
    page.body = re.sub(rb'"core-metadata": {[^}]*}', b'"core-metadata": true', page.body)
    source = pair.source("proxy")
    source.project(FOO)
    pair.first.fault(f"/files/{WHEEL}.metadata", faulty.status(500))
    with pytest.raises(Unavailable):
        read(source.open(FOO, WHEEL, ".metadata"))
    pair.first.heal()
    assert read(source.open(FOO, WHEEL, ".metadata")) == metadata("foo", "1.0")


@pytest.mark.parametrize("mode", MODES)
def test_mirrors_that_announce_no_metadata_are_one_as_good_as_the_other(mode: str, pair: Pair) -> None:
    for server in (pair.first, pair.second):
        page = server.stored[PAGE]
        page.body = re.sub(rb'"core-metadata": {[^}]*}', b'"core-metadata": false', page.body)
    source = pair.source(mode, ttl=0)
    before = source.project(FOO)
    pair.first.fault("*", faulty.status(500))
    after = source.project(FOO)
    assert before is not None and after is not None
    announced = {file.filename for file in before.files if file.core_metadata is not None}
    assert {file.filename for file in after.files if file.core_metadata is not None} == announced
    assert bool(announced) == (mode == "cache")  # by us, who can look into the wheel
    assert source.is_silent(FOO)
    if mode == "cache":
        kept = pair.source(mode).project(FOO)
        assert kept is not None and kept.files[0].mirror == pair.second.url


@pytest.mark.parametrize("mode", MODES)
def test_that_a_further_address_has_no_such_project_says_nothing(mode: str, pair: Pair) -> None:
    source = pair.source(mode, ttl=0)
    pair.first.fault("*", faulty.status(500))
    with pytest.raises(Unavailable, match="status 500"):
        source.project(NormalizedName("bar"))
    pair.first.heal()
    assert source.project(NormalizedName("bar")) is None
    assert source.project(FOO) is not None
    pair.first.fault("*", faulty.status(500))
    del pair.second.stored[PAGE]
    assert source.project(FOO) is not None
    assert source.stale(FOO) is not None


@pytest.mark.parametrize("mode", MODES)
def test_the_first_alone_says_what_it_does_not_have(mode: str, pair: Pair) -> None:
    del pair.first.stored[PAGE]
    assert pair.source(mode).project(FOO) is None
    assert pair.second.requests == []


def test_a_page_of_a_mirror_survives_a_restart_and_not_the_mirrors_end(pair: Pair) -> None:
    pair.first.fault("*", faulty.status(500))
    pair.source("cache").project(FOO)
    project = pair.source("cache").project(FOO)
    assert project is not None and {file.mirror for file in project.files} == {pair.second.url}
    assert pair.second.count(PAGE) == 1
    alone = Remote(Upstream(pair.first.url, pause=0.0), mode="cache", cache=Cache(pair.folder / "cache"))
    with pytest.raises(Unavailable):
        alone.project(FOO)


def test_a_page_that_is_still_the_same_is_confirmed_by_the_address_it_is_from(pair: Pair) -> None:
    source = pair.source("cache", ttl=0)
    pair.second.stored[PAGE].etag = pair.first.stored[PAGE].etag  # which means nothing, for both chose it
    first = source.project(FOO)
    assert source.project(FOO) is first
    pair.first.fault("*", faulty.status(500))
    second = source.project(FOO)
    assert second is not None and second.files[0].mirror == pair.second.url
    assert source.project(FOO) is second
    asked = [request.headers.get("if-none-match") for request in pair.second.requests]
    assert asked == [None, pair.first.stored[PAGE].etag]


def test_all_addresses_together_take_no_longer_than_a_page_may(pair: Pair) -> None:
    for server in (pair.first, pair.second):
        server.fault("*", faulty.hang(30))
    source = pair.source("proxy", page=2.0)
    before = time.monotonic()
    with pytest.raises(Late):
        source.project(FOO)
    assert time.monotonic() - before < 4.5


def test_one_that_is_down_costs_time_once(pair: Pair) -> None:
    source = pair.source("proxy", page=3.0, pause=60.0, ttl=0)
    pair.first.fault("*", faulty.hang(30))
    source.project(FOO)
    before = time.monotonic()
    for _ in range(10):
        source.project(FOO)
        read(source.open(FOO, SDIST))
    assert time.monotonic() - before < 5
    assert len(pair.first.requests) == 1


@pytest.mark.parametrize("what", ["pages", "files"])
def test_nobody_waits_for_one_that_stays_silent_until_it_answers_again(what: str, pair: Pair) -> None:
    names = [NormalizedName(f"new{number}") for number in range(20)]
    for name in names:
        pair.second.add(name, f"{name}-1.0.tar.gz", b"x")
    source = pair.source("proxy", page=10.0, pause=0.2, ttl=1000)
    first = source.upstream.clients[0]
    source.project(FOO)
    pair.first.fault("*", faulty.hang(60))
    pair.first.requests.clear()
    address = f"{pair.first.base}files/{WHEEL}" if what == "files" else f"{pair.first.url}{names[0]}/"
    first.circuit.failed(Late("it was silent"), address, sure=True)
    time.sleep(0.3)
    before = time.monotonic()
    for name in names:
        if what == "pages":
            assert source.project(name) is not None
        else:
            assert read(source.open(FOO, WHEEL)).startswith(b"PK")
        time.sleep(0.05)
    assert time.monotonic() - before < 8
    assert 1 <= len(pair.first.requests) < 6  # it was asked now and then, by one at a time
    pair.first.heal()
    deadline = time.monotonic() + 30
    while first.circuit.open and time.monotonic() < deadline:
        time.sleep(0.1)
        read(source.open(FOO, WHEEL))
    assert not first.circuit.open


def test_a_change_of_address_is_one_line_of_the_log(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    source = pair.source("proxy", ttl=0)
    pair.first.fault("*", faulty.status(500))
    for _ in range(3):
        source.project(FOO)
    pair.first.heal()
    for _ in range(3):
        source.project(FOO)
    first, second = (f"127.0.0.1:{server.port}" for server in (pair.first, pair.second))
    assert [record.getMessage() for record in caplog.records] == [
        f"the upstream {first} answered with status 500; {second} is asked instead",
        f"the upstream {first} answers again",
    ]


def test_a_host_that_one_address_names_is_not_visited_for_another(pair: Pair) -> None:
    with faulty.upstream() as storage:
        storage.add("foo", SDIST, DATA)
        url = f"{storage.base}files/{SDIST}"
        pair.second.add("foo", SDIST, OTHER)
        pair.second.add("foo", "foo-2.0.tar.gz", b"new", url=url)
        source = pair.source("proxy", ttl=0)
        source.project(FOO)
        pair.first.fault(PAGE, faulty.status(500))
        pair.first.fault(f"/files/{SDIST}", faulty.redirect(url))
        project = source.project(FOO)
        assert project is not None and {file.mirror for file in project.files} == {"", pair.second.url}
        with pytest.raises(Unavailable, match="none of its pages names"):
            read(source.open(FOO, SDIST))
        assert storage.requests == []


def test_the_second_has_time_to_go_on_with_a_file_when_that_of_the_request_is_up(pair: Pair) -> None:
    source = pair.source("proxy", page=10.0)
    source.project(FOO)
    pair.first.fault(f"/files/{SDIST}", faulty.truncate(DATA, 100_000))
    with hops.carrying(None, seconds=2.0):
        content = source.open(FOO, SDIST)
        assert isinstance(content, Stream)
        pieces = iter(content.read(0, None))
        first = next(pieces)
        time.sleep(2.1)
        assert first + b"".join(pieces) == DATA


def test_credentials_are_those_of_each_address(pair: Pair) -> None:
    pair.first.fault("*", faulty.status(500))
    urls = [server.url.replace("//", f"//{who}:s3cret@") for who, server in (("a", pair.first), ("b", pair.second))]
    source = Remote(*map(Upstream, urls), mode="proxy")
    assert read(source.open(FOO, SDIST)) == DATA
    assert len({request.headers["authorization"] for request in pair.first.requests}) == 1
    assert len({request.headers["authorization"] for request in pair.second.requests}) == 1
    every = {request.headers["authorization"] for request in pair.first.requests + pair.second.requests}
    assert len(every) == 2
    assert "s3cret" not in repr(source)


@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_no_address_has_is_missing(mode: str, pair: Pair) -> None:
    source = pair.source(mode)
    source.project(FOO)
    for server, folder in ((pair.first, "files"), (pair.second, "mirrored")):
        del server.stored[f"/{folder}/{SDIST}"]
    with pytest.raises(Missing):
        read(source.open(FOO, SDIST))


def test_pip_installs_while_the_first_address_is_gone(pair: Pair, shell: live.Shell) -> None:
    with faulty.upstream() as gone:
        pass
    text = f'upstreams = ["theirs"]\n[upstream.theirs]\nurl = "{gone.url}"\nmirrors = ["{pair.second.url}"]\n'
    with served(pair.folder, text) as app, live.in_thread(app) as server:
        target = pair.folder / "target"
        shell.pip("install", "--target", target, "--index-url", server.simple, "--only-binary", ":all:", "foo").good()
        assert live.installed(target) == {"foo": "1.0"}


def test_the_file_names_them(pair: Pair) -> None:
    text = (
        f'upstreams = ["theirs"]\n[upstream.theirs]\nurl = "{pair.first.url}"\n'
        f'mirrors = ["{pair.second.url}"]\nmode = "proxy"\n'
    )
    pair.first.fault("*", faulty.status(502))
    with served(pair.folder, text) as app:
        client = Client(app)
        assert client.get(f"/packages/foo/{SDIST}").body == DATA
        (health,) = client.get("/health", Accept="application/json").json["upstreams"]
        assert [one["address"] for one in health["addresses"]] == [
            f"127.0.0.1:{server.port}" for server in (pair.first, pair.second)
        ]
        assert [one["failures"] > 0 for one in health["addresses"]] == [True, False]
