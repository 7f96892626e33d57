"""Where a connection to an upstream may lead.

An upstream's pages name the hosts its files lie on, so a hostile or broken
one could make this server knock on doors inside its own network. Names prove
nothing (they can be spelled oddly, or resolve to something else a moment
later), so the *resolved* address is judged, and exactly that one is connected
to; host name, TLS server name and certificate check stay those of the URL.

The rule: public addresses are fine. Addresses of this machine or of a private
network are fine if the upstream's own host is of that same kind. Link-local
addresses (where clouds keep their secrets), multicast and unspecified ones
never are. Through a proxy names are the proxy's to resolve; then the rule
holds for what is spelled as an address.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from ..errors import Late, Unavailable
from ..kept import start

Realm = Literal["public", "private", "loopback"]
_PORTS = {"http": 80, "https": 443}
_ZERO = ipaddress.ip_network("0.0.0.0/8")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_MOST_ADDRESSES = 4
_MOST_LOOKUPS = 16


class Unreachable(Unavailable):
    """No connection to the upstream came about."""


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
    return Origin(parts.scheme, host.lower().rstrip("."), port or _PORTS[parts.scheme])


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


_lookups = threading.BoundedSemaphore(_MOST_LOOKUPS)


def resolve(host: str, port: int, timeout: float) -> list[tuple[Any, ...]]:
    """Every address of a host as `socket.getaddrinfo` has it. Raises Unreachable, or Late after `timeout` seconds.

    The system's resolver knows no time limit, so it is asked from a thread of its own, and no more than a few of these.
    """
    deadline = time.monotonic() + timeout
    if not _lookups.acquire(timeout=timeout):
        raise Late(f"the address of {host} cannot be found out in time")
    answers: queue.SimpleQueue[list[Any] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)
        finally:
            _lookups.release()

    try:
        start("resolve", ask)
    except BaseException:
        _lookups.release()
        raise
    try:
        answer = answers.get(timeout=max(deadline - time.monotonic(), 0.1))
    except queue.Empty:
        raise Late(f"the address of {host} cannot be found out in time") from None
    if not isinstance(answer, list):
        raise Unreachable(f"the upstream's host {host} has no address here") from answer
    return answer


def connected(host: str, found: list[tuple[Any, ...]], timeout: float, options: Any) -> socket.socket:
    """A connection to one of the addresses that `resolve` found, within `timeout` seconds. Raises Unreachable, Late."""
    deadline = time.monotonic() + timeout
    last: OSError | None = None
    share = timeout / min(len(found), _MOST_ADDRESSES)
    for family, kind, protocol, _, address in found[:_MOST_ADDRESSES]:
        connection = socket.socket(family, kind, protocol)
        try:
            for option in options or ():
                connection.setsockopt(*option)
            connection.settimeout(min(share, max(deadline - time.monotonic(), 0.1)))
            connection.connect(address)
            connection.settimeout(timeout)
        except OSError as error:
            connection.close()
            last = error
            continue
        return connection
    if isinstance(last, TimeoutError):
        raise Late(f"the upstream's host {host} does not answer") from last
    raise Unreachable(f"the upstream's host {host} cannot be reached") from last


class Reach:
    """Lets connections through to the addresses that one upstream may lead to."""

    def __init__(self, own: Origin) -> None:
        self._own = own
        self._realms: frozenset[Realm] | None = None

    def connect(self, host: str, port: int, timeout: float, options: Any) -> socket.socket:
        """A connected socket. Raises Forbidden, Unreachable, Late."""
        deadline = time.monotonic() + timeout
        found = resolve(host, port, timeout)
        realms = self._allowed(host, found, max(deadline - time.monotonic(), 0.1))
        allowed = [entry for entry in found if realm_of(str(entry[4][0])) in realms]
        if not allowed:
            raise Forbidden(f"the upstream led to {host}, whose address this server does not visit")
        return connected(host, allowed, max(deadline - time.monotonic(), 0.1), options)

    def check_name(self, host: str) -> None:
        """Raises Forbidden for a host that a proxy must not be asked for: which addresses names have, it decides."""
        own = {realm_of(address) for address in _spelled_out(self._own.host)} - {None}
        if not all(realm_of(address) in own | {"public"} for address in _spelled_out(host)):
            raise Forbidden(f"the upstream led to {host}, which this server does not visit")

    def _allowed(self, host: str, found: list[tuple[Any, ...]], timeout: float) -> frozenset[Realm]:
        """Decided by where the upstream's own host was first seen, so that its name cannot turn inwards later."""
        if self._realms is None:
            try:
                own = found if host.lower().rstrip(".") == self._own.host else resolve(self._own.host, 0, timeout)
            except Unavailable:
                return frozenset({"public"})
            seen = (realm_of(str(entry[4][0])) for entry in own)
            self._realms = frozenset({"public", *(realm for realm in seen if realm is not None)})
        return self._realms


def _spelled_out(host: str) -> list[str]:
    """The addresses that a host is without anybody being asked: oddly spelled ones too, none of other names."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return ["127.0.0.1"]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    return [str(entry[4][0]) for entry in found]
