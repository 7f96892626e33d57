"""Where an upstream may lead: by address, by redirect, and however it is spelled."""

from __future__ import annotations

import faulty_upstream as faulty
import pytest
from packaging.utils import NormalizedName
from remotes import client, server_of_foo  # noqa: F401 - fixtures

from pypiserver_lite.errors import ConfigError, Unavailable
from pypiserver_lite.upstream.addresses import Forbidden, Reach, origin_of, realm_of
from pypiserver_lite.upstream.client import FetchedPage, Upstream


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("93.184.216.34", "public"),
        ("2606:4700::1111", "public"),
        ("10.1.2.3", "private"),
        ("192.168.0.1", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.0.0.1", "private"),
        ("::ffff:169.254.169.254", None),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b::a9fe:a9fe", None),
        ("2002:7f00:1::", "loopback"),
        ("2001:0:1::1", None),
        ("169.254.169.254", None),
        ("fe80::1%eth0", None),
        ("fec0::1", None),
        ("0.0.0.0", None),
        ("0.1.2.3", None),
        ("::", None),
        ("::7f00:1", None),
        ("224.0.0.1", None),
        ("255.255.255.255", None),
        ("240.0.0.1", None),
        ("ff02::1", None),
    ],
)
def test_an_address_is_judged_by_where_it_leads(address: str, kind: str | None) -> None:
    assert realm_of(address) == kind


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "::1", "::ffff:127.0.0.1"]
)
def test_a_public_upstream_leads_to_no_loopback_however_it_is_spelled(host: str) -> None:
    with faulty.upstream() as server, pytest.raises(Unavailable) as caught:
        Reach(origin_of("http://93.184.216.34/simple/")).connect(host, server.port, 1.0, 1.0, ())
    assert isinstance(caught.value, Forbidden) or host == "::1"  # where there is no IPv6 at all
    assert server.connections == 0


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "0.0.0.0", "224.0.0.1"])
def test_a_loopback_upstream_leads_to_nothing_that_is_never_visited(server: faulty.FaultyUpstream, host: str) -> None:
    upstream = client(server)
    with pytest.raises(Forbidden):
        upstream.open(f"http://{host}:{server.port}/secret")


def test_a_redirect_goes_where_the_upstream_or_its_pages_lead(server: faulty.FaultyUpstream) -> None:
    with faulty.upstream() as other:
        other.stored["/f"] = faulty.Stored(b"there")
        server.fault("/f", faulty.redirect(other.base + "f"))
        upstream = client(server)
        with pytest.raises(Forbidden):
            upstream.open(server.base + "f")
        assert other.requests == []
        body = upstream.open(server.base + "f", named=frozenset({("127.0.0.1", other.port)}))
        assert b"".join(body.pieces(0)) == b"there"
        allowed = client(server, hosts=(f"127.0.0.1:{other.port}",))
        assert allowed.small(server.base + "f", limit=10) == b"there"


def test_a_redirect_to_a_forbidden_address_is_not_followed_even_if_its_host_is_named(
    server: faulty.FaultyUpstream,
) -> None:
    server.fault("/f", faulty.redirect("http://169.254.169.254/latest/"))
    with pytest.raises(Forbidden):
        client(server).open(server.base + "f", named=frozenset({("169.254.169.254", 80)}))


def test_a_redirect_on_the_own_host_is_followed(server: faulty.FaultyUpstream) -> None:
    server.fault("/simple/Foo/", faulty.redirect("../foo/"))
    page = client(server).page(NormalizedName("Foo"))
    assert isinstance(page, FetchedPage)
    assert page.url == server.url + "foo/"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "http:///x", "http://a b/", "https://h:99999/"])
def test_only_http_addresses_are_addresses(url: str) -> None:
    with pytest.raises(Forbidden):
        origin_of(url)
    with pytest.raises(ConfigError):
        Upstream(url)
