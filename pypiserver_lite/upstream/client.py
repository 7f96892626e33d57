"""Asking an upstream index: pages, files and parts of files.

Nothing an upstream sends is believed before it is whole, of the right kind
and within bounds. Nothing of our clients is passed on but the names of the
servers a request has gone through. Credentials go to the upstream's own
origin and to nobody else.
"""

from __future__ import annotations

import enum
import http.client
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urljoin

import requests
import urllib3
from packaging.utils import NormalizedName

from ..errors import ConfigError, Late, Loop, Missing, Unavailable
from ..kept import Turnstile
from ..simple.parse import PAGE_LIMIT
from . import hops
from .addresses import Forbidden, Gate, Origin, Unreachable, origin_of
from .bodies import Body, closing, field, joined, number, unzipped
from .calls import Call, adapter, current
from .credentials import basic, read_netrc, split_credentials
from .rate import Rate, Traffic
from .ways import Proxy, Ways

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"  # PEP 691

Named = Callable[[], frozenset[tuple[str, int]]]
"""Hosts and ports that a page of the upstream names."""

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_HOPS = 5
_AGAIN = {502, 503, 504}
_ATTEMPTS = 2
_PAUSE = 0.1
_SLOWEST = 500  # bytes a second; nobody is served by waiting for fewer


class Unchanged(enum.Enum):
    """The upstream's answer that a page is still the same."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A whole page as it came, unpacked."""

    body: bytes
    content_type: str
    url: str
    """Where it came from in the end; what its links are relative to. Holds no credentials."""
    etag: str | None = None
    modified: str | None = None


def no_others() -> frozenset[tuple[str, int]]:
    """No host but the upstream's own."""
    return frozenset()


class _Answer(NamedTuple):
    response: urllib3.BaseHTTPResponse
    url: str
    """Where it came from in the end."""
    call: Call

    @property
    def coding(self) -> str:
        coding: str = self.response.headers.get("Content-Encoding", "").strip().lower()
        return "" if coding == "identity" else coding


class Upstream:
    """One upstream index at `url`, the parent of its project pages.

    `calls` requests may be under way at once and `room` more wait up to two
    seconds; both together should stay well below the server's threads.
    `connect` seconds are for a connection; `read` for the first bytes of a
    file, and then for it to go on; `page` for a whole page or another small
    thing, with all it takes. `hosts` names further hosts (``HOST`` or
    ``HOST:PORT``) that its redirects may lead to. After a connection failed,
    nothing tries again for `pause` seconds.

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
        ways: Ways | None = None,
        hosts: tuple[str, ...] = (),
        rate: Rate | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self.url, from_url = split_credentials(url, "--fallback-url")
        try:
            self.origin = origin_of(self.url)
        except Forbidden as error:
            raise ConfigError("--fallback-url: an address that begins with http:// or https:// is needed") from error
        credentials = from_url or (read_netrc(netrc, self.origin.host) if netrc else None)
        self._authorization = basic(*credentials) if credentials else None
        self.rate = rate or Rate()
        self.traffic = traffic or Traffic()
        self._connect, self._read, self._page, self._pause = connect, read, page, pause
        self._turnstile = Turnstile(calls, room, 2.0)
        self._hosts = frozenset(_authority(host) for host in hosts)
        self._down: dict[Origin, tuple[int, float, Unavailable | None]] = {}
        self._heard = 0.0
        self._gate = Gate(self.origin)
        self._ways = ways or Ways()
        self._adapters = {
            proxy: adapter(self._gate, self._ways, proxy, calls) for proxy in (None, *self._ways.proxies.values())
        }

    def __repr__(self) -> str:
        return f"Upstream({self.url!r})"

    def close(self) -> None:
        """Close idle connections, and log what came through them."""
        for out in self._adapters.values():
            out.close()
        self.traffic.summarize()

    def page(
        self,
        name: NormalizedName,
        *,
        etag: str | None = None,
        modified: str | None = None,
        on_size: Callable[[int], object] | None = None,
    ) -> Page | Unchanged | None:
        """The page of a project, UNCHANGED if it is still the one of these validators, ``None`` if there is none.

        `on_size` is told how many bytes of it will be held, before they are.
        Raises what that does, Unavailable, Late, Busy, Loop.
        """
        headers = {"Accept": ACCEPT, "Accept-Encoding": "gzip"}
        headers |= {"If-None-Match": etag} if etag else {}
        headers |= {"If-Modified-Since": modified} if modified else {}
        with self._asked("GET", f"{self.url}{name}/", headers, no_others, self._page) as answer:
            response = answer.response
            if response.status == 404:
                return None
            if response.status == 304 and (etag or modified):
                return UNCHANGED
            if response.status != 200:
                raise self._refusal(response.status, answer.url)
            pieces = self._pieces(answer)
            if answer.coding in ("gzip", "x-gzip"):
                pieces = unzipped(pieces)
            elif answer.coding:
                raise Unavailable("the upstream packed its page in a way we did not ask for")
            return Page(
                body=joined(pieces, PAGE_LIMIT, on_size),
                content_type=response.headers.get("Content-Type", "")[:200],
                url=answer.url,
                etag=field(response.headers.get("ETag")),
                modified=field(response.headers.get("Last-Modified")),
            )

    def small(self, url: str, *, named: Named, limit: int) -> bytes | None:
        """The bytes at an address that a page names, `limit` at most; ``None`` if there are none (404, 410).

        Raises Unavailable, Late, Busy, Loop.
        """
        with self._asked("GET", url, {"Accept-Encoding": "identity"}, named, self._page) as answer:
            if answer.response.status in (404, 410):
                return None
            self._check_file(answer)
            return joined(self._pieces(answer), limit)

    def size(self, url: str, *, named: Named) -> int | None:
        """The size of a file in bytes, if the upstream says so without sending it. Raises as `open` does."""
        with self._asked("HEAD", url, {"Accept-Encoding": "identity"}, named, self._read) as answer:
            if answer.response.status in (405, 501):
                return None
            self._check_file(answer)
            return number(answer.response.headers.get("Content-Length"))

    def open(
        self, url: str, *, named: Named, start: int = 0, stop: int | None = None, if_range: str | None = None
    ) -> Body:
        """A file, or the half-open range of it, as it comes. The caller closes it.

        An upstream that knows no ranges sends everything: look at `Body.start`.
        Raises Missing if the file is not there, Unavailable, Late, Busy, Loop.
        """
        headers = {"Accept-Encoding": "identity"}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if if_range:
            headers["If-Range"] = if_range
        with ExitStack() as held:
            answer = held.enter_context(self._asked("GET", url, headers, named, self._read, begun=start > 0))
            self._check_file(answer)
            body = Body(answer.response, self._pieces(answer, whole=False), start)
            body.holds(held.pop_all())
            return body

    def _check_file(self, answer: _Answer) -> None:
        if answer.response.status in (404, 410):
            raise Missing("the upstream lists this file, but does not have it")
        if answer.response.status not in (200, 206):
            raise self._refusal(answer.response.status, answer.url)
        if answer.coding:
            raise Unavailable("the upstream packed a file that must come as it is")

    def _refusal(self, status: int, url: str) -> Unavailable:
        whose = _whose(self.origin, self._ways.proxy_for(origin_of(url)))
        if status == 508:
            return Loop(f"{whose} says that two indexes point at each other")
        if status in (401, 403):
            return Unavailable(f"{whose} lets us in only with other credentials (status {status})")
        if status == 504:
            return Late(f"{whose} waits for somebody else (status 504)")
        return Unavailable(f"{whose} answered with status {status}")

    # --- one request, its redirects and its second try

    @contextmanager
    def _asked(
        self, method: str, url: str, headers: Mapping[str, str], named: Named, seconds: float, *, begun: bool = False
    ) -> Iterator[_Answer]:
        """An answer for the length of a block, unless all this takes longer than `seconds`.

        Nor longer than the request in hand has left, unless its answer has `begun`.
        """
        with Call(seconds if begun else min(seconds, hops.left())) as call, self._turnstile.inside():
            response, at = self._send(method, url, headers, named, call)
            with closing(response):
                # Without a proper one, an answer that broke off would look whole.
                number(response.headers.get("Content-Length"))
                yield _Answer(response, at, call)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], named: Named, call: Call
    ) -> tuple[urllib3.BaseHTTPResponse, str]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response, at = self._follow(method, url, headers, named, call)
            except Unreachable:
                if attempt == _ATTEMPTS:
                    raise
            else:
                if response.status not in _AGAIN or attempt == _ATTEMPTS:
                    return response, at
                response.close()
            if call.late:
                break
            time.sleep(_PAUSE)
        raise Late(f"{_whose(self.origin, self._ways.proxy_for(self.origin))} did not answer in time")

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], named: Named, call: Call
    ) -> tuple[urllib3.BaseHTTPResponse, str]:
        for _ in range(_MOST_HOPS + 1):
            origin = origin_of(url)
            response = self._once(method, url, origin, headers, call)
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
        authority = (after.host, after.port)
        if authority not in self._hosts and (after.host, 0) not in self._hosts and authority not in named():
            raise Forbidden(
                f"the upstream redirects to {after.label}, which none of its pages names (see --fallback-host)"
            )

    def _once(
        self, method: str, url: str, origin: Origin, headers: Mapping[str, str], call: Call
    ) -> urllib3.BaseHTTPResponse:
        self._check_down(origin)
        fields = {"User-Agent": "pypiserver-lite", "Via": hops.via(), **headers}
        if self._authorization and origin == self.origin:
            fields["Authorization"] = self._authorization
        proxy = self._ways.proxy_for(origin)
        if proxy is not None:
            self._gate.check_name(origin.host)
        current.call = call
        try:
            # Credentials in an address that an upstream names are not sent.
            request = requests.Request(method, url, headers=fields, auth=lambda prepared: prepared).prepare()
            self.traffic.requested()
            through = {origin.scheme: proxy.url} if proxy else None
            timeout = (self._connect, self._read)
            answer = self._adapters[proxy].send(request, stream=True, timeout=timeout, proxies=through)
            response: urllib3.BaseHTTPResponse = answer.raw  # `requests` would read all of it, and unpack it
        except Forbidden:
            raise
        except (Unavailable, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raised = _meaning(error, origin, proxy, call)
            silent = isinstance(raised, Late) and self._heard < call.started
            # One connection that broke may be an idle one that had just been closed.
            if silent or isinstance(error, Unreachable):
                self._mark_down(origin, raised)
            raise raised from error
        finally:
            current.call = None
        if proxy is not None and response.status == 407:
            response.close()
            raise _refused(origin, proxy, 407)
        self._down.pop(origin, None)
        self._heard = time.monotonic()
        return response

    # --- an upstream that is down is not asked again by every client

    def _check_down(self, origin: Origin) -> None:
        _, until, error = self._down.get(origin, (0, 0.0, None))
        if error is not None and time.monotonic() < until:
            raise Late(str(error)) if isinstance(error, Late) else Unavailable(str(error))

    def _mark_down(self, origin: Origin, error: Unavailable) -> None:
        if len(self._down) > 100:
            self._down.clear()
        failures = self._down.get(origin, (0, 0.0, None))[0] + 1
        # A refused connection may be a restart: the second try decides.
        until = time.monotonic() + self._pause if failures >= _ATTEMPTS or isinstance(error, Late) else 0.0
        self._down[origin] = failures, until, error.with_traceback(None)

    # --- bodies

    def _pieces(self, answer: _Answer, *, whole: bool = True) -> Iterator[bytes]:
        """The body as it comes, counted; unless the `whole`, its first bytes come within the call's time.

        Raises Unavailable unless it ends where it should.
        """
        whose = _whose(self.origin, self._ways.proxy_for(origin_of(answer.url)))
        response, late = answer.response, Late(f"{whose} did not answer in time")
        waited, came = 0.0, 0
        try:
            while True:
                before = time.monotonic()
                data = response.read1(self.rate.piece, decode_content=False)
                # Not what passes outside: a client may be slow, and a rate may be kept.
                waited += time.monotonic() - before
                if not data or answer.call.late:  # what came before a cut may still be read
                    break
                if not whole:
                    answer.call.unlimit()
                self.traffic.received(len(data))
                came += len(data)
                if waited > self._read:
                    if came < waited * _SLOWEST:
                        raise Late(f"{whose} sends too slowly")
                    waited, came = 0.0, 0
                yield data
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            if answer.call.late or isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError)):
                raise late from error
            raise Unavailable(f"{whose} broke off in the middle of an answer") from error
        if answer.call.late:  # a body without a length ends like this too when it is cut
            raise late
        if response.length_remaining:
            raise Unavailable(f"{whose} broke off in the middle of an answer")


def _meaning(error: BaseException, origin: Origin, proxy: Proxy | None, call: Call) -> Unavailable:
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, requests.RequestException):
        error = error.args[0] if error.args and isinstance(error.args[0], Exception) else ValueError()
    whose = _whose(origin, proxy)
    if isinstance(error, urllib3.exceptions.ProxyError) and proxy:
        error, whose = error.original_error, f"the proxy that {proxy.setting} names"
    if call.late or isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError)):
        return Late(f"{whose} did not answer in time")
    refused = re.search(r"Tunnel connection failed: ([0-9]{3})", str(error))
    if refused and proxy:
        return _refused(origin, proxy, int(refused[1]))
    if isinstance(error, urllib3.exceptions.SSLError):
        if any(isinstance(reason, ssl.SSLCertVerificationError) for reason in error.args):
            return Unavailable(f"the certificate of {whose} cannot be trusted (see --fallback-ca)")
        return Unavailable(f"{whose} speaks no TLS that is understood here")
    if isinstance(error, (OSError, http.client.HTTPException, urllib3.exceptions.ProtocolError)):
        return Unreachable(f"{whose} broke the connection")
    return Unavailable(f"{whose} gave no proper answer")


def _whose(origin: Origin, proxy: Proxy | None) -> str:
    """Who may be at fault: through a proxy, one does not see which of the two it was."""
    return f"the upstream {origin.label}" + (f" through the proxy that {proxy.setting} names" if proxy else "")


def _refused(origin: Origin, proxy: Proxy, status: int) -> Unavailable:
    if status == 407:
        return Unavailable(f"the proxy that {proxy.setting} names wants other credentials (status 407)")
    meaning = f"the proxy that {proxy.setting} names does not let us through to {origin.label} (status {status})"
    return Late(meaning) if status == 504 else Unavailable(meaning)


def _authority(host: str) -> tuple[str, int]:
    if "/" in host:
        raise ConfigError(f"--fallback-host: {host[:80]!r} is neither HOST nor HOST:PORT")
    name, _, port = host.rpartition(":")
    return (name.lower(), int(port)) if name and port.isdigit() else (host.lower(), 0)
