"""Finding out where a host is, and connecting to it: with dead name servers, broken IPv6 and machines that are down."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import faulty_upstream as faulty
import pytest
from packaging.utils import NormalizedName

from pypiserver_lite.errors import ConfigError, Late, Unavailable
from pypiserver_lite.upstream.addresses import Forbidden
from pypiserver_lite.upstream.client import FetchedPage, Upstream
from pypiserver_lite.upstream.hosts import Address, Hosts, Unreachable, spelled_out

FOO = NormalizedName("foo")
ELSEWHERE = "192.0.2.1"  # private, and nowhere (RFC 5737)


@pytest.fixture
def server() -> Iterator[faulty.FaultyUpstream]:
    with faulty.upstream() as server:
        server.add("foo", "foo-1.0.tar.gz", b"x" * 1000)
        yield server


class Resolver:
    """Knows the addresses of hosts, says nothing of any below ``dead.test`` until it is over, and counts."""

    def __init__(self, **known: str) -> None:
        self.known = {name: known[name].split() for name in known}
        self.asked: list[str] = []
        self.over = threading.Event()
        self.seconds = 0.0
        self.now = 0.0
        self.hosts = Hosts(self, lambda: self.now)

    def __call__(self, host: str) -> Sequence[Address]:
        """As the system does, in so many `seconds`."""
        self.asked.append(host)
        if host.endswith(".dead.test"):
            self.over.wait(60)
        time.sleep(self.seconds)
        name = host.partition(".")[0]
        if name not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [entry for address in self.known[name] for entry in spelled_out(address)]


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver(up="127.0.0.1")
    yield made
    made.over.set()


def client(server: faulty.FaultyUpstream, resolver: Resolver, host: str = "up.test", **options: object) -> Upstream:
    settings: dict[str, object] = {"connect": 20.0, "read": 20.0, "page": 20.0, "pause": 0.0}
    url = f"http://{host}:{server.port}/simple/"
    return Upstream(url, resolver=resolver.hosts, **(settings | options))  # type: ignore[arg-type]  # a table of options


def test_every_address_of_a_host_is_tried(server: faulty.FaultyUpstream, resolver: Resolver) -> None:
    resolver.known["up"] = [*(f"127.0.0.{number}" for number in range(2, 10)), "127.0.0.1"]
    assert isinstance(client(server, resolver).page(FOO), FetchedPage)


def test_the_families_of_addresses_take_turns(server: faulty.FaultyUpstream, resolver: Resolver) -> None:
    resolver.known["up"] = ["::1"] * 50 + ["127.0.0.2", "127.0.0.1"]
    assert isinstance(client(server, resolver).page(FOO), FetchedPage)


@pytest.mark.skipif(sys.platform != "linux", reason="whose queue of a listener can be full")
def test_addresses_that_swallow_everything_cost_a_moment(server: faulty.FaultyUpstream, resolver: Resolver) -> None:
    resolver.known["up"] = ["127.0.0.2"] * 8 + ["127.0.0.1"]
    with contextlib.ExitStack() as held:
        held.enter_context(socket.create_server(("127.0.0.2", server.port), backlog=0))
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", server.port))
        before = time.monotonic()
        assert isinstance(client(server, resolver).page(FOO), FetchedPage)
        assert time.monotonic() - before < 12
        resolver.known["up"].pop()
        with pytest.raises(Late):
            client(server, Resolver(up="127.0.0.2 127.0.0.2"), connect=0.5, page=0.8).page(FOO)


def test_a_look_up_may_take_the_time_of_the_call(server: faulty.FaultyUpstream, resolver: Resolver) -> None:
    """As with a first name server that is dead: 5 seconds for each."""
    resolver.seconds = 1.5
    assert isinstance(client(server, resolver, connect=0.5).page(FOO), FetchedPage)


def test_a_look_up_that_comes_too_late_serves_the_next(server: faulty.FaultyUpstream, resolver: Resolver) -> None:
    resolver.seconds = 1.5
    with pytest.raises(Late):
        client(server, resolver, page=0.3).page(FOO)
    assert isinstance(client(server, resolver).page(FOO), FetchedPage)
    assert resolver.asked == ["up.test"]


def test_all_who_ask_share_one_look_up_and_remember_it_for_a_while(
    server: faulty.FaultyUpstream, resolver: Resolver
) -> None:
    resolver.seconds = 0.5
    with ThreadPoolExecutor(10) as pool:
        pages = pool.map(lambda _: client(server, resolver).page(FOO), range(10))
        assert all(isinstance(page, FetchedPage) for page in pages)
    assert resolver.asked == ["up.test"]
    resolver.now = 29.0
    client(server, resolver).page(FOO)
    assert resolver.asked == ["up.test"]
    resolver.now = 31.0
    client(server, resolver).page(FOO)
    assert resolver.asked == ["up.test"] * 2


def test_a_look_up_that_never_ends_is_begun_anew_after_a_while(
    server: faulty.FaultyUpstream, resolver: Resolver
) -> None:
    upstream = client(server, resolver, "up.dead.test", page=0.3)
    for resolver.now, asked in ((0.0, 1), (59.0, 1), (61.0, 2), (62.0, 2)):
        with pytest.raises(Late):
            upstream.page(FOO)
        assert len(resolver.asked) == asked


def test_an_address_where_nobody_is_any_more_is_not_remembered(
    server: faulty.FaultyUpstream, resolver: Resolver
) -> None:
    resolver.known["up"] = ["127.0.0.2"]
    with pytest.raises(Unreachable):
        client(server, resolver).page(FOO)
    resolver.known["up"] = ["127.0.0.1"]
    assert isinstance(client(server, resolver).page(FOO), FetchedPage)


def test_what_is_spelled_as_an_address_is_looked_up_by_nobody(
    server: faulty.FaultyUpstream, resolver: Resolver
) -> None:
    for host in ("127.0.0.1", "127.1", "2130706433"):
        assert isinstance(client(server, resolver, host).page(FOO), FetchedPage)
    assert resolver.asked == []


def test_names_that_nobody_answers_for_take_the_threads_of_no_other_upstream(
    server: faulty.FaultyUpstream, resolver: Resolver
) -> None:
    evil = client(server, resolver, "127.0.0.1", read=0.3)
    known = client(server, resolver)

    def knock(number: int) -> None:
        host = f"x{number}.dead.test"
        with pytest.raises(Unavailable):
            evil.open(f"http://{host}/f", named=frozenset({(host, 80)}))

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(knock, range(40)))
    assert len(resolver.asked) == 8
    resolver.known["files"] = ["127.0.0.1"]
    address, named = f"http://files.test:{server.port}/files/foo-1.0.tar.gz", frozenset({("files.test", server.port)})
    for upstream in (evil, known):  # by address, and by a name that is looked up now
        assert isinstance(upstream.page(FOO), FetchedPage)
    assert known.small(address, limit=1000, named=named) == b"x" * 1000
    with pytest.raises(Late):
        evil.open("http://more.test/f", named=frozenset({("more.test", 80)}))
    resolver.now = 61.0  # nobody hopes for those any more
    assert evil.small(address, limit=1000, named=named) == b"x" * 1000


def led_to(upstream: Upstream, address: str, host: str = "inside.test") -> None:
    """That the upstream leads there is in order: nobody is there. Raises Forbidden if it is not."""
    with pytest.raises((Late, Unreachable)):
        upstream.open(f"http://{address}/f", named=frozenset({(host, 80)}))


def test_an_upstream_on_this_machine_may_lead_into_its_private_network(
    server: faulty.FaultyUpstream, resolver: Resolver
) -> None:
    """It is a tunnel there, or the index itself with its files beside it."""
    resolver.known |= {"inside": [ELSEWHERE], "meta": ["169.254.169.254"]}
    upstream = client(server, resolver, connect=0.2)
    led_to(upstream, "inside.test")
    with pytest.raises(Forbidden):
        led_to(upstream, "meta.test", "meta.test")


@pytest.mark.parametrize("named", ["inside.test", "inside.test:80"])
def test_a_host_that_the_operator_names_may_be_private(
    server: faulty.FaultyUpstream, resolver: Resolver, named: str
) -> None:
    resolver.known |= {"up": ["93.184.216.34"], "inside": [ELSEWHERE], "here": ["127.0.0.1"]}
    with pytest.raises(Forbidden, match="--fallback-host"):
        led_to(client(server, resolver, connect=0.2), "inside.test")
    led_to(client(server, resolver, connect=0.2, hosts=(named,)), "inside.test")
    resolver.known["inside"] = ["127.0.0.1"]  # which its name does not say
    with pytest.raises(Forbidden):
        led_to(client(server, resolver, connect=0.2, hosts=(named,)), "inside.test")


def test_an_upstream_that_moved_inwards_is_not_followed_and_its_operator_is_told_what_helps(
    server: faulty.FaultyUpstream, resolver: Resolver
) -> None:
    resolver.known["up"] = [ELSEWHERE]
    upstream = client(server, resolver, connect=0.2)
    with pytest.raises(Unavailable):
        upstream.page(FOO)
    resolver.known["up"] = ["127.0.0.1"]
    resolver.now += 3600
    with pytest.raises(Forbidden, match=r"own host up\.test .* is at a loopback one now.* restart .* --fallback-host"):
        upstream.page(FOO)
    assert client(server, resolver).page(FOO)  # as after a restart


def test_an_address_of_ipv6_is_named_as_urls_spell_it(server: faulty.FaultyUpstream, resolver: Resolver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    server.fault("/f", faulty.redirect(f"http://[::1]:{port}/f"))
    for host in (f"[::1]:{port}", "[::1]", "::1"):
        with pytest.raises(Unreachable):
            client(server, resolver, hosts=(host,)).open(f"{server.base}f".replace("127.0.0.1", "up.test"))
    for host in (f"[::1]:{port - 1}", "[::2]"):
        with pytest.raises(Forbidden):
            client(server, resolver, hosts=(host,)).open(f"{server.base}f".replace("127.0.0.1", "up.test"))
    for host in ("::1:38879", "[::1", "user@here", "here:x", "http://here"):
        with pytest.raises(ConfigError, match="HOST:PORT"):
            client(server, resolver, hosts=(host,))
