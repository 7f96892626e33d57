"""Where a connection to an upstream may lead.

An upstream's pages name the hosts its files lie on, so a hostile or broken
one could make this server knock on doors inside its own network. Names prove
nothing (they can be spelled oddly, or resolve to something else a moment
later), so the *resolved* address is judged, and exactly that one is connected
to; host name, TLS server name and certificate check stay those of the URL.

The rule: public addresses are fine. Addresses of this machine or of a private
network are fine if the upstream's own host is of that same kind; private ones
also if it is on this machine (a tunnel to such a network), or if the operator
named the host. Link-local addresses (where clouds keep their secrets),
multicast and unspecified ones never are. Through a proxy names are the proxy's
to resolve; then the rule holds for what is spelled as an address.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from ..config.indexes import FLAGS
from ..errors import Unavailable
from .hosts import HOSTS, Address, Hosts, spelled_out

Realm = Literal["public", "private", "loopback"]
_PORTS = {"http": 80, "https": 443}
_ZERO = ipaddress.ip_network("0.0.0.0/8")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Forbidden(Unavailable):
    """The upstream led to an address that this server does not visit."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a URL (RFC 6454); what credentials are bound to."""

    scheme: str
    host: str
    port: int

    @property
    def label(self) -> str:
        """Host and, unless it is the usual one, port: what messages call it."""
        return self.host if _PORTS[self.scheme] == self.port else f"{self.host}:{self.port}"


def origin_of(url: str) -> Origin:
    """The origin of an http(s) URL. Raises Forbidden for any other URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Forbidden("the upstream led to something that is no address") from error
    if parts.scheme not in _PORTS or not host or re.search(r"[\s\x00-\x20\x7f\\]", url):
        raise Forbidden("the upstream led to something that is no http or https address")
    return Origin(parts.scheme, _plain(host), port or _PORTS[parts.scheme])


def realm_of(address: str) -> Realm | None:
    """What an IP address is, seen through mappings into IPv6; ``None``: nothing to be visited, ever."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return realm_of(str(inner))
        if ip.is_site_local or ip.teredo is not None:
            return None
    elif ip in _ZERO:
        return None
    if ip.is_loopback:
        return "loopback"
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return None
    return "public" if ip.is_global else "private"


class Reach:
    """Lets connections through to the addresses that one upstream may lead to.

    `named` are hosts and ports (0: any) that the operator named in `setting` for it. `hosts` finds addresses.
    """

    def __init__(
        self,
        own: Origin,
        named: frozenset[tuple[str, int]] = frozenset(),
        setting: str = FLAGS.called("hosts"),
        hosts: Hosts = HOSTS,
    ) -> None:
        self.hosts = hosts
        self._own, self._named, self._setting = own, named, setting
        self._realms: frozenset[Realm] | None = None

    def is_named(self, host: str, port: int) -> bool:
        """Whether the operator named a host."""
        return (host, port) in self._named or (host, 0) in self._named

    def connect(self, host: str, port: int, timeout: float, left: float, options: Any) -> socket.socket:
        """A connected socket: `timeout` seconds are for the connection, and `left` for finding out where to, too.

        Raises Forbidden, Unreachable, Late, Busy.
        """
        until = time.monotonic() + left
        name = _plain(host)
        found = self.hosts.find(host, left, None if name == self._own.host else self)
        realms = self._allowed(name, port, found, max(until - time.monotonic(), 0.1))
        allowed = [entry for entry in found if realm_of(str(entry[4][0])) in realms]
        if not allowed:
            raise self._forbidden(host, found)
        return self.hosts.connect(host, port, allowed, min(timeout, max(until - time.monotonic(), 0.1)), options)

    def check_name(self, host: str, port: int) -> None:
        """Raises Forbidden for a host that a proxy must not be asked for: which addresses names have, it decides."""
        allowed = _beside(_spelled(self._own.host)) | self._by_name(host, port)
        if not _spelled(host) <= allowed:
            raise self._forbidden(host)

    def _forbidden(self, host: str, found: Sequence[Address] = ()) -> Forbidden:
        moved = _visited(realm_of(str(entry[4][0])) for entry in found) if _plain(host) == self._own.host else ()
        if moved:
            return Forbidden(
                f"the upstream's own host {host} was at addresses of another kind when this server first asked for it, "
                f"and is at a {min(moved)} one now; if that is meant, restart this server (or, for a private one, see "
                f"{self._setting})"
            )
        return Forbidden(f"the upstream led to {host}, which this server does not visit (see {self._setting})")

    def _by_name(self, host: str, port: int) -> frozenset[Realm]:
        """Where a host may be because the operator named it: on this machine only if that is what the name says."""
        return _visited({"private", *_spelled(host)}) if self.is_named(host, port) else frozenset()

    def _allowed(self, host: str, port: int, found: Sequence[Address], left: float) -> frozenset[Realm]:
        """Decided by where the upstream's own host was first seen, so that its name cannot turn inwards later."""
        by_name = self._by_name(host, port)
        if self._realms is None:
            try:
                own = found if host == self._own.host else self.hosts.find(self._own.host, left)
            except Unavailable:
                return by_name | {"public"}
            self._realms = _beside(realm_of(str(entry[4][0])) for entry in own)
        return self._realms | by_name


def _plain(host: str) -> str:
    return host.lower().rstrip(".")


def _visited(realms: Iterable[Realm | None]) -> frozenset[Realm]:
    return frozenset(realm for realm in realms if realm is not None)


def _beside(own: Iterable[Realm | None]) -> frozenset[Realm]:
    """Where an upstream may lead that is in these realms itself: from this machine also to its private network."""
    found = _visited({"public", *own})
    return found | {"private"} if "loopback" in found else found


def _spelled(host: str) -> set[Realm | None]:
    """What a host is without anybody being asked for its addresses; nothing of other names."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return {"loopback"}
    return {realm_of(str(entry[4][0])) for entry in spelled_out(host)}
