"""How upstreams do, and that one which is down costs nobody time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faulty_upstream as faulty
import pytest
from builders import make_wheel
from filed import asked, served, written
from packaging.utils import NormalizedName
from wsgi_client import Client

from pypiserver_lite import make_app
from pypiserver_lite.errors import Late, Unavailable
from pypiserver_lite.upstream import hops
from pypiserver_lite.upstream.client import FetchedPage, Upstream
from pypiserver_lite.upstream.health import Circuit

FOO, BAR, BAZ, NEW = map(NormalizedName, ("foo", "bar", "baz", "new"))
BROKEN = Unavailable("it is broken")


@pytest.fixture
def server() -> Iterator[faulty.FaultyUpstream]:
    """An upstream with three projects."""
    with faulty.upstream() as server:
        for name in (FOO, BAR, BAZ):
            server.add(name, f"{name}-1.0.tar.gz", b"x" * 100)
        yield server


def upstream(server: faulty.FaultyUpstream, pause: float = 60.0) -> Upstream:
    """A client of it that has patience."""
    return Upstream(server.url, page=20.0, read=20.0, pause=pause)


def ask(client: Upstream, *names: NormalizedName) -> None:
    """Pages of which none comes."""
    for name in names:
        with pytest.raises(Unavailable):
            client.page(name)


def test_after_several_failures_in_a_row_nobody_asks(server: faulty.FaultyUpstream) -> None:
    client = upstream(server)
    server.fault("*", faulty.reset())
    ask(client, FOO, BAR)
    assert not client.circuit.open
    server.heal()
    assert isinstance(client.page(FOO), FetchedPage)
    server.fault("*", faulty.reset())
    ask(client, FOO, BAR, BAZ)
    assert client.circuit.open
    before = len(server.requests)
    with pytest.raises(Unavailable, match="broke the connection"):
        client.page(NEW)
    assert len(server.requests) == before


def test_one_page_or_file_that_is_broken_alone_harms_no_other(server: faulty.FaultyUpstream) -> None:
    client = upstream(server)
    server.fault("/simple/foo/", faulty.status(503))
    ask(client, *[FOO] * 6)
    assert client.circuit.failures >= 6
    assert isinstance(client.page(BAR), FetchedPage)
    assert client.circuit.failures == 0


def test_several_pages_that_are_broken_at_once_harm_no_other(server: faulty.FaultyUpstream) -> None:
    client = upstream(server)
    server.fault("*", faulty.status(500))
    ask(client, FOO, BAR, BAZ)
    assert client.circuit.failures == 3 and client.circuit.failing
    server.heal()
    assert isinstance(client.page(FOO), FetchedPage)
    client.circuit.failed(BROKEN, "a", sure=True)
    server.fault("/simple/bar/", faulty.status(503))
    ask(client, BAR)
    assert not client.circuit.open


@pytest.mark.parametrize(
    "fault", [faulty.reset(), faulty.truncate(b"x" * 100, 10), faulty.after(2.2, faulty.status(500)), faulty.garbage()]
)
def test_whatever_a_server_does_instead_of_answering_is_a_failure(
    fault: faulty.Fault, server: faulty.FaultyUpstream
) -> None:
    client = upstream(server)
    server.fault("*", fault)
    ask(client, FOO, BAR, BAZ)
    assert client.circuit.open


@pytest.mark.parametrize("status", [401, 403, 404, 429, 508])
def test_a_refusal_is_an_answer(status: int, server: faulty.FaultyUpstream) -> None:
    client = upstream(server)
    server.fault("*", faulty.status(status))
    for name in (FOO, BAR, BAZ, NEW):
        if status == 404:
            assert client.page(name) is None
        else:
            ask(client, name)
    assert not client.circuit.open
    assert client.circuit.failures == 0


def test_who_sends_pages_too_slowly_is_left_alone_too(server: faulty.FaultyUpstream) -> None:
    client = Upstream(server.url, page=1.0, read=1.0, pause=60.0)
    server.fault("*", faulty.drip(b"x" * 1000, 0.1))
    ask(client, FOO, BAR)
    before = len(server.requests)
    with pytest.raises(Late):
        client.page(BAZ)
    assert len(server.requests) == before


def test_one_page_that_does_not_come_keeps_nobody_from_others(server: faulty.FaultyUpstream) -> None:
    """A virus scanner has it, or it is made anew each time."""
    client = Upstream(server.url, page=1.0, read=1.0, pause=60.0)
    for fault in (faulty.hang(30), faulty.drip(b"x" * 1000, 0.1)):
        server.fault("/simple/foo/", fault)
        for name in (BAR, BAZ):
            ask(client, FOO)
            before = len(server.requests)
            ask(client, FOO)
            assert len(server.requests) == before
            assert isinstance(client.page(name), FetchedPage)


def test_an_answer_that_has_begun_may_take_its_time_after_another_did_not(server: faulty.FaultyUpstream) -> None:
    client = upstream(server)
    client.circuit.failed(Late("it is silent"), f"{server.url}foo/", sure=True)
    page = server.stored["/simple/bar/"]
    page.speed = len(page.body) / 3
    assert isinstance(client.page(BAR), FetchedPage)


def test_of_a_silent_server_one_asker_hears_a_moment_later_than_the_others(server: faulty.FaultyUpstream) -> None:
    client = upstream(server)
    server.fault("*", faulty.hang(60))
    client.circuit.failed(Late("it is silent"), f"{server.url}foo/", sure=True)
    before = time.monotonic()
    ask(client, BAR, BAZ, FOO, NEW)
    assert time.monotonic() - before < 10
    assert server.paths() == ["/simple/bar/"]


@pytest.mark.parametrize("seconds", [0.0, 0.3])
@pytest.mark.parametrize("fault", [faulty.hang(30), faulty.drip(b"x" * 1000, 0.1)])
def test_a_request_that_has_no_time_left_says_nothing_of_the_upstream(
    fault: faulty.Fault, seconds: float, server: faulty.FaultyUpstream
) -> None:
    client = upstream(server)
    server.fault("/simple/foo/", fault)
    with hops.carrying(None, seconds), pytest.raises(Late):
        client.page(FOO)
    assert isinstance(client.page(BAR), FetchedPage)


def test_one_asker_of_a_page_finds_out_whether_it_answers_again_and_the_others_go_on_with_it(
    server: faulty.FaultyUpstream,
) -> None:
    client = upstream(server, pause=0.2)
    server.fault("*", faulty.reset())
    ask(client, FOO, BAR, BAZ)
    let_go = threading.Event()

    def slowly(handler: faulty.Handler) -> None:
        let_go.wait(30)
        handler.store(server.stored["/simple/foo/"], {})

    server.heal()
    server.fault("/simple/foo/", slowly, times=1)
    server.requests.clear()
    time.sleep(0.3)
    with ThreadPoolExecutor(8) as pool:
        probe = pool.submit(client.page, FOO)
        while not server.requests:
            time.sleep(0.005)
        for refused in [pool.submit(client.page, FOO) for _ in range(5)]:
            with pytest.raises(Unavailable, match="broke the connection"):
                refused.result(20)
        assert server.paths() == ["/simple/foo/"]
        let_go.set()
        assert isinstance(probe.result(20), FetchedPage)
    assert isinstance(client.page(BAR), FetchedPage)


def test_those_who_come_while_one_asks_again_wait_for_what_it_finds() -> None:
    circuit = Circuit(pause=0.01)
    circuit.failed(BROKEN, "a", sure=True)
    time.sleep(0.02)
    circuit.enter(10.0, "a")  # the one
    through = threading.Event()

    def wait() -> None:
        circuit.enter(10.0, "a")
        through.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    circuit.succeeded()
    waiting.join(10)
    assert through.is_set()


def test_nobody_waits_for_one_who_has_asked_for_a_while() -> None:
    circuit = Circuit(pause=0.01)
    circuit.failed(BROKEN, "a", sure=True)
    time.sleep(0.02)
    circuit.enter(10.0, "a")
    before = time.monotonic()
    for _ in range(20):
        with pytest.raises(Unavailable, match="it is broken"):
            circuit.enter(10.0, "a")
    assert time.monotonic() - before < 5


def test_one_who_asks_again_in_vain_leaves_it_open() -> None:
    circuit = Circuit(pause=0.05)
    circuit.failed(BROKEN, "a", sure=True)
    time.sleep(0.06)
    circuit.enter(10.0, "a")
    circuit.failed(BROKEN, "b", sure=False)
    with pytest.raises(Unavailable, match="it is broken"):
        circuit.enter(10.0, "a")


def test_one_who_found_nothing_out_makes_way_for_the_next() -> None:
    circuit = Circuit(pause=0.01)
    circuit.failed(BROKEN, "a", sure=True)
    time.sleep(0.02)
    circuit.enter(10.0, "a")
    circuit.let_go("a")
    circuit.enter(10.0, "a")


def test_silent_pages_keep_nobody_from_finding_out_that_others_come(server: faulty.FaultyUpstream) -> None:
    """They are asked for all the time."""
    client = upstream(server, pause=0.01)
    silent = [f"{server.url}silent{number}/" for number in range(3)]
    for url in silent:
        client.circuit.failed(Late("it is silent"), url, sure=True)
    time.sleep(0.02)
    client.circuit.enter(0.0, silent[0])
    for url in silent[1:]:
        with pytest.raises(Late):
            client.circuit.enter(0.0, url)
    assert isinstance(client.page(FOO), FetchedPage)
    assert not client.circuit.open


def test_few_at_once_try_one_that_is_left_alone() -> None:
    circuit = Circuit(pause=0.01)
    for url in ("a", "b"):
        circuit.failed(BROKEN, url, sure=True)
    time.sleep(0.02)
    for number in range(8):
        circuit.enter(0.0, f"new{number}")
    with pytest.raises(Unavailable, match="it is broken"):
        circuit.enter(0.0, "another")


def test_pages_that_are_late_say_nothing_where_others_came_meanwhile(server: faulty.FaultyUpstream) -> None:
    client = Upstream(server.url, page=3.0, read=3.0, pause=60.0)
    names = [NormalizedName(f"silent{number}") for number in range(3)]
    for name in names:
        server.fault(f"/simple/{name}/", faulty.hang(60))
    with ThreadPoolExecutor(3) as pool:
        silent = [pool.submit(client.page, name) for name in names]
        while len(server.requests) < 3:
            time.sleep(0.005)
        assert isinstance(client.page(FOO), FetchedPage)
        for page in silent:
            with pytest.raises(Late):
                page.result(20)
    assert client.circuit.failures == 3 and not client.circuit.open


def test_a_slow_upstream_has_its_usual_time_after_a_page_that_did_not_come(server: faulty.FaultyUpstream) -> None:
    client = upstream(server)

    def slowly(handler: faulty.Handler) -> None:
        time.sleep(2.5)
        handler.store(server.stored[handler.path], {})

    server.fault("*", slowly)
    assert isinstance(client.page(FOO), FetchedPage)
    client.circuit.failed(Late("it is silent"), f"{server.url}foo/", sure=True)
    assert isinstance(client.page(BAR), FetchedPage)


def test_local_pages_come_while_an_upstream_is_silent_and_unknown_ones_hear_it_at_once(
    server: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "own", "ours", "1.0")
    text = f'packages = ["own"]\nupstreams = ["theirs"]\n[upstream.theirs]\nurl = "{server.url}"\n'
    server.fault("*", faulty.hang(60))
    with asked(tmp_path, text) as client:
        before = time.monotonic()
        client.get("/simple/new/", 504)
        assert time.monotonic() - before < 12.5
        before = time.monotonic()
        for number in range(20):
            client.get(f"/simple/new{number}/", 504)
            client.get("/simple/ours/")
        assert time.monotonic() - before < 5


def test_health_says_how_upstreams_do_to_those_who_may_list(server: faulty.FaultyUpstream, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text("")
    address = server.url.replace("//", "//who:s3cret@")
    upstreams = f'[upstream.theirs]\nurl = "{address}"\n[upstream.sent]\nurl = "{server.url}"\nmode = "redirect"\n'
    text = 'upstreams = ["theirs", "sent"]\n' + upstreams
    with served(tmp_path, text) as app:
        client = Client(app)

        def health() -> dict[str, object]:
            (found,) = client.get("/health", Accept="application/json").json["upstreams"]
            return dict(found)

        quiet = {"name": "theirs", "address": f"127.0.0.1:{server.port}", "failures": 0, "open": False}
        assert health() == {**quiet, "answered": None, "addresses": []}
        client.get("/simple/foo/")
        answered = health()["answered"]
        assert isinstance(answered, float) and abs(time.time() - answered) < 60
        server.fault("*", faulty.status(500))
        for name in ("a", "b", "c"):
            client.get(f"/simple/{name}/", 502)
        # Each is asked for once: there is no second try of a 500.
        assert health() == {**quiet, "answered": answered, "addresses": [], "failures": 3}
        server.fault("*", faulty.reset())
        for name in ("a", "b", "c"):
            client.get(f"/simple/{name}/", 502)
        assert health()["open"] is True
        assert "s3cret" not in json.dumps(client.get("/health", Accept="application/json").json)
    locked = 'passwords = "htpasswd"\nauthenticate = "list,download,update"\n' + text
    app = make_app(config=written(tmp_path, locked))
    assert Client(app).get("/health", Accept="application/json").json == {"status": "ok"}
    app.close()
