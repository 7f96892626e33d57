"""One request to an upstream, with its redirects and its second try: where it may lead, and who hears of whom.

Nothing of our clients is passed on but the names of the servers a request has
gone through. Credentials go to the upstream's own origin and to nobody else.
"""

from __future__ import annotations

import http.client
import math
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import requests
import urllib3

from ..config.indexes import FLAGS, Spelling
from ..config.values import masked
from ..errors import Busy, ConfigError, Late, Unavailable
from ..kept import Kept, Turnstile
from . import hops
from .addresses import Forbidden, Origin, Reach, origin_of
from .calls import Adapter, Call, current
from .credentials import basic, read_netrc, split_credentials
from .health import QUICK, Circuit
from .hosts import HOSTS, Hosts, Unreachable
from .rate import Rate, Traffic
from .replies import Reply, number
from .ways import Proxy, Ways

Named = frozenset[tuple[str, int]]
"""Hosts and ports that a page of the upstream names."""

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_HOPS = 5
_AGAIN = {502, 503, 504}
_PAUSE = 0.1  # seconds
_FAIR = 3.0  # seconds; with less, it is the request in hand that is late
_CIRCUITS = 2**16  # bytes


class Exchange:
    """Requests to the upstream index at `url`, and to where it leads.

    `calls` requests may be under way at once and `room` more wait for their
    turn in the time that they have; both together should stay well below the
    server's threads.
    `connect` seconds are for TCP's part of a connection; `read` for the first
    bytes of a file with all that goes before, and then for it to go on; `page`
    for a whole page or another small thing, with all it takes. `hosts` names
    further hosts (``HOST`` or ``HOST:PORT``) that its redirects may lead to,
    also inside a private network; `resolver` finds addresses. A server that fails is
    left alone for `pause` seconds, as `health.Circuit` has it. A connection
    that is not used for `idle` seconds is not used again. `credentials` go
    before those that the URL has, and these before those of `netrc`; messages
    call all this by its `spelling`.

    Safe to share between threads. Raises ConfigError for what cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        netrc: Path | None = None,
        calls: int = 32,
        room: int = 8,
        connect: float = 5.0,
        read: float = 10.0,
        page: float = 11.0,
        pause: float = 5.0,
        idle: float = 20.0,
        ways: Ways | None = None,
        hosts: tuple[str, ...] = (),
        credentials: tuple[str, str] | None = None,
        spelling: Spelling = FLAGS,
        rate: Rate | None = None,
        traffic: Traffic | None = None,
        resolver: Hosts = HOSTS,
    ) -> None:
        self.url, from_url = split_credentials(url, spelling.placed("url"))
        try:
            self.origin = origin_of(self.url)
        except Forbidden as error:
            raise ConfigError(
                f"{spelling.placed('url')}: an address that begins with http:// or https:// is needed"
            ) from error
        self._spelling = spelling
        credentials = credentials or from_url
        if credentials is None and netrc is not None:
            credentials = read_netrc(netrc, self.origin.host, spelling.placed("netrc"))
        self._authorization = basic(*credentials) if credentials else None
        self.traffic = traffic or Traffic()
        self._rate = rate or Rate()
        self._connect, self._read, self._page, self._pause = connect, read, page, pause
        patience = max(page, read)
        self._turnstile = Turnstile(calls, room, patience)
        # Files leave two calls to pages where there are many: they go on to come when nobody waits for them any more.
        self._lasting = Turnstile(calls - min(2, calls // 16), room, patience)
        self._patient = Turnstile(max(1, calls // 2))
        named = frozenset(_authority(host, spelling.placed("hosts")) for host in hosts)
        self._reach = Reach(self.origin, named, spelling.called("hosts"), resolver)
        self._ways = ways or Ways()
        try:
            self._ways.proxy_for(self.origin)
        except Unavailable as error:
            raise ConfigError(str(error)) from error
        through = (None, *self._ways.proxies.values())
        self._adapters = {proxy: Adapter(self._reach, self._ways, proxy, calls, idle) for proxy in through}
        # Every client would wait for one that is down.
        self.circuit = Circuit(pause)
        """Of its own server; others have theirs."""
        self._circuits = Kept[Circuit](lambda circuit: 0, most_bytes=_CIRCUITS)  # by origin
        self._heard = 0.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def close(self) -> None:
        """Close idle connections, and log what came through them."""
        for out in self._adapters.values():
            out.close()
        self.traffic.summarize()

    @contextmanager
    def _asked(
        self, method: str, url: str, headers: Mapping[str, str], named: Named, seconds: float, *, begun: bool = False
    ) -> Iterator[Reply]:
        """An answer for the length of a block, unless all this, to a file's first bytes, takes longer than `seconds`.

        Nor longer than the request in hand has left, unless its answer has
        `begun`. Raises Unavailable, Late, Busy, Loop.
        """
        until = time.monotonic() + min(seconds, math.inf if begun else hops.left())
        with self._turnstile.inside(until - time.monotonic()):
            left = until - time.monotonic()
            call = Call(left, fair=left > 0.9 * min(seconds, _FAIR), silence=max(seconds, self._read))
            response, at = self._send(partial(self._once, method, headers, call), url, named, call)
            whose = self._ways.whose(self.origin)
            with Reply(response, at, whose, call, self._read, self._rate, self.traffic) as reply:
                # Without a proper one, an answer that broke off would look whole.
                number(reply.header("Content-Length"))
                yield reply

    @contextmanager
    def _whole(
        self, method: str, url: str, headers: Mapping[str, str], named: Named, seconds: float
    ) -> Iterator[Reply]:
        """As `_asked`, for an answer that is read to its end in the block."""
        with self._asked(method, url, headers, named, seconds) as reply:
            circuit = self._circuit(origin_of(reply.url))
            try:
                yield reply
            except Unavailable as error:
                if isinstance(error, Late) and not reply.call.fair:
                    circuit.let_go(reply.url)
                elif isinstance(error, Late) and circuit.heard_since(reply.call.started):
                    circuit.failed_alone(reply.url)
                elif reply.status in (200, 206) and not isinstance(error, Busy):  # Busy are we
                    circuit.failed(error, reply.url, sure=isinstance(error, Late))
                else:
                    self._answered(reply)
                raise
            self._answered(reply)

    def _answered(self, reply: Reply) -> None:
        """What came is an answer, which that of one that is broken is not."""
        if not _is_broken(reply.status):
            self._circuit(origin_of(reply.url)).succeeded()

    def _circuit(self, origin: Origin) -> Circuit:
        if origin == self.origin:
            return self.circuit
        found = self._circuits.find(origin)
        if found is None:
            found = Circuit(self._pause)
            self._circuits.put(origin, found)
        return found

    def _send(self, ask: _Ask, url: str, named: Named, call: Call) -> tuple[urllib3.BaseHTTPResponse, str]:
        for last in (False, True):
            try:
                response, at = self._follow(ask, url, named)
            except Unreachable:
                if last:
                    raise
            else:
                if last or response.status not in _AGAIN:
                    return response, at
                response.close()
            if call.late:
                break
            time.sleep(_PAUSE)
        raise Late(f"{self._ways.whose(self.origin)} did not answer in time")

    def _follow(self, ask: _Ask, url: str, named: Named) -> tuple[urllib3.BaseHTTPResponse, str]:
        for _ in range(_MOST_HOPS + 1):
            origin = origin_of(url)
            response = ask(url, origin)
            if response.status not in _REDIRECTS:
                return response, url
            response.close()
            try:
                url = urljoin(url, response.headers.get("Location", "").encode("latin-1").decode("utf-8", "replace"))
                url = quote(url.partition("#")[0], safe="%/:=&?~+!$,;'@()*[]")
            except ValueError as error:
                raise Forbidden("the upstream redirects to something that is no address") from error
            self._check_hop(origin, origin_of(url), named)
        raise Unavailable(f"the upstream {self.origin.label} redirects in circles")

    def _check_hop(self, before: Origin, after: Origin, named: Named) -> None:
        if before.scheme == "https" and after.scheme != "https":
            raise Forbidden(f"the upstream redirects to {after.label} without encryption")
        own = self.origin
        if after.host == own.host and (after.port == own.port or (own.port, after.port) == (80, 443)):
            return
        if (after.host, after.port) not in named and not self._reach.is_named(after.host, after.port):
            raise Forbidden(
                f"the upstream redirects to {after.label}, which none of its pages names "
                f"(see {self._spelling.called('hosts')})"
            )

    def _once(
        self, method: str, headers: Mapping[str, str], call: Call, url: str, origin: Origin
    ) -> urllib3.BaseHTTPResponse:
        fields = {"User-Agent": "pypiserver-lite", "Via": hops.via(), **headers}
        if self._authorization and origin == self.origin:
            fields["Authorization"] = self._authorization
        proxy = self._ways.proxy_for(origin)
        if proxy is not None:
            self._reach.check_name(origin.host, origin.port)
        circuit, whose = self._circuit(origin), self._ways.whose(origin)
        call.limit(circuit.enter(call.spare(), url))
        current.call = call
        began = time.monotonic()
        try:
            # Credentials in an address that an upstream names are not sent.
            request = requests.Request(method, url, headers=fields, auth=lambda prepared: prepared).prepare()
            self.traffic.requested()
            through = {origin.scheme: proxy.url} if proxy else None
            answer = self._adapters[proxy].send(
                request, stream=True, timeout=(self._connect, call.silence), proxies=through
            )
            response: urllib3.BaseHTTPResponse = answer.raw  # `requests` would read all of it, and unpack it
        except (Forbidden, Busy):
            circuit.let_go(url)
            raise
        except (Unavailable, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raised = meaning(error, whose, origin, proxy, call, self._spelling)
            silent = isinstance(raised, Late) and self._heard < call.started
            # A refused connection may be a restart, and one that broke may be an idle one that had just been closed, or
            # was forgotten on the way: the second try decides.
            refused = isinstance(error, Unreachable) and circuit.failures > 0
            if isinstance(raised, Late) and not call.fair:
                circuit.let_go(url)
            elif isinstance(raised, Late) and circuit.heard_since(call.started):
                circuit.failed_alone(url)
            else:
                circuit.failed(raised, url, sure=silent or refused)
            raise raised from error
        finally:
            current.call = None
        if proxy is not None and response.status == 407:
            response.close()
            circuit.let_go(url)
            raise _refused(origin, proxy, 407)
        self._heard = time.monotonic()
        call.limit(math.inf)
        took = self._heard - began
        if not _is_broken(response.status):
            circuit.began(took)
            if response.status in _REDIRECTS:
                circuit.succeeded()
        elif took < QUICK:
            circuit.failed_quickly(url)
        else:
            kind = Late if response.status == 504 else Unavailable
            circuit.failed(kind(f"{whose} answered with status {response.status}"), url, sure=False)
        return response


_Ask = Callable[[str, Origin], urllib3.BaseHTTPResponse]


def meaning(
    error: BaseException, whose: str, origin: Origin, proxy: Proxy | None, call: Call, spelling: Spelling = FLAGS
) -> Unavailable:
    """What an error of a library says of `whose` server, in our words."""
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, requests.RequestException):
        error = error.args[0] if error.args and isinstance(error.args[0], Exception) else ValueError()
    if isinstance(error, urllib3.exceptions.ProxyError) and proxy:
        error, whose = error.original_error, f"the proxy that {proxy.setting} names"
    if call.late or isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError)):
        return Late(f"{whose} did not answer in time")
    refused = re.search(r"Tunnel connection failed: ([0-9]{3})", str(error))
    if refused and proxy:
        return _refused(origin, proxy, int(refused[1]))
    if isinstance(error, urllib3.exceptions.SSLError):
        if any(isinstance(reason, ssl.SSLCertVerificationError) for reason in error.args):
            return Unavailable(f"the certificate of {whose} cannot be trusted (see {spelling.called('ca')})")
        return Unavailable(f"{whose} speaks no TLS that is understood here")
    if isinstance(error, (OSError, http.client.HTTPException, urllib3.exceptions.ProtocolError)):
        return Unreachable(f"{whose} broke the connection")
    return Unavailable(f"{whose} gave no proper answer")


def _is_broken(status: int) -> bool:
    return status >= 500 and status != 508  # which says that we ask in circles


def _refused(origin: Origin, proxy: Proxy, status: int) -> Unavailable:
    if status == 407:
        return Unavailable(f"the proxy that {proxy.setting} names wants other credentials (status 407)")
    meaning = f"the proxy that {proxy.setting} names does not let us through to {origin.label} (status {status})"
    return Late(meaning) if status == 504 else Unavailable(meaning)


def _authority(host: str, setting: str) -> tuple[str, int]:
    try:
        bare = host.count(":") > 1 and not host.startswith("[")  # an address of IPv6 alone
        parts = urlsplit(f"//[{host}]" if bare else f"//{host}")
        name, port = parts.hostname, parts.port
    except ValueError:
        name, port = None, None
    if not name or "/" in host or "@" in host:
        raise ConfigError(f"{setting}: {masked(host, 80)} is neither HOST nor HOST:PORT")
    return name, port or 0
