"""Asking an upstream index: pages, files and parts of files.

Nothing an upstream sends is believed before it is whole, of the right kind
and within bounds. Nothing of our clients is passed on but the names of the
servers a request has gone through. Credentials go to the upstream's own
origin and to nobody else.
"""

from __future__ import annotations

import enum
import http.client
import http.cookiejar
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urljoin

import requests
import urllib3
from packaging.utils import NormalizedName

from ..errors import ConfigError, Late, Loop, Missing, Unavailable
from ..kept import Turnstile
from . import hops
from .addresses import Call, Forbidden, Gate, Origin, Unreachable, adapter, calls, origin_of
from .bodies import Body, closing, field, joined, number, unzipped
from .credentials import basic, read_netrc, split_credentials
from .parse import PAGE_LIMIT
from .rate import Rate, Traffic

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"  # PEP 691

Named = Callable[[], frozenset[tuple[str, int]]]
"""Hosts and ports that a page of the upstream names."""

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_HOPS = 5
_AGAIN = {502, 503, 504}
_ATTEMPTS = 2
_PAUSE = 0.1
_STALL_TIME, _STALL_BYTES = 60.0, 60 * 500  # below 500 bytes a second for a minute, nobody is served by waiting on

_log = logging.getLogger(__name__)


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


class Upstream:
    """One upstream index at `url`, the parent of its project pages.

    `calls` requests may be under way at once and `room` more wait up to two
    seconds; both together should stay well below the server's threads.
    `connect`, `read` and `page` are seconds: for a connection, for the next
    bytes, for a whole page. `authorities` is a file of the certificate
    authorities to trust instead of the usual ones. `hosts` names further
    hosts (``HOST`` or ``HOST:PORT``) that its redirects may lead to.
    After a connection failed, nothing tries again for `pause` seconds.

    Safe to share between threads. Raises ConfigError for what cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: tuple[str, str] | None = None,
        netrc: Path | None = None,
        calls: int = 32,
        room: int = 8,
        connect: float = 5.0,
        read: float = 20.0,
        page: float = 30.0,
        pause: float = 5.0,
        authorities: Path | None = None,
        hosts: tuple[str, ...] = (),
        rate: Rate | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self.url, from_url = split_credentials(url)
        try:
            self.origin = origin_of(self.url)
        except Forbidden as error:
            raise ConfigError("--fallback-url: an address that begins with http:// or https:// is needed") from error
        credentials = credentials or from_url or (read_netrc(netrc, self.origin.host) if netrc else None)
        self._authorization = basic(*credentials) if credentials else None
        self.rate = rate or Rate()
        self.traffic = traffic or Traffic()
        self._connect, self._read, self._page, self._pause = connect, read, page, pause
        self._turnstile = Turnstile(calls, room, 2.0)
        self._hosts = frozenset(_authority(host) for host in hosts)
        self._verify = True if authorities is None else _trusted(authorities)
        self._down: dict[Origin, tuple[int, float, Unavailable | None]] = {}
        self._heard = 0.0
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.clear()
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        gate = adapter(Gate(self.origin), calls)
        self._session.mount("http://", gate)
        self._session.mount("https://", gate)

    def __repr__(self) -> str:
        return f"Upstream({self.url!r})"

    @staticmethod
    def is_loop(via: str | None) -> bool:
        """Whether a request that came with this ``Via`` field has passed through this server before."""
        return hops.is_loop(via)

    def close(self) -> None:
        """Close idle connections, and log what came through them."""
        self._session.close()
        self.traffic.summarize()

    def page(
        self, name: NormalizedName, *, etag: str | None = None, modified: str | None = None
    ) -> Page | Unchanged | None:
        """The page of a project, UNCHANGED if it is still the one of these validators, ``None`` if there is none.

        Raises Unavailable, Late, Busy, Loop.
        """
        headers = {"Accept": ACCEPT, "Accept-Encoding": "gzip"}
        headers |= {"If-None-Match": etag} if etag else {}
        headers |= {"If-Modified-Since": modified} if modified else {}
        with self._turnstile.inside():
            call = Call()
            call.limit(self._page)
            try:
                response, url = self._send("GET", f"{self.url}{name}/", headers, no_others, call)
                with closing(response):
                    return self._page_of(response, url, call, conditional=bool(etag or modified))
            finally:
                call.unlimit()

    def _page_of(
        self, response: requests.Response, url: str, call: Call, *, conditional: bool
    ) -> Page | Unchanged | None:
        if response.status_code == 404:
            return None
        if response.status_code == 304 and conditional:
            return UNCHANGED
        if response.status_code != 200:
            raise self._refusal(response.status_code)
        coding = response.headers.get("Content-Encoding", "").strip().lower()
        pieces = self._pieces(response, call)
        if coding in ("gzip", "x-gzip"):
            pieces = unzipped(pieces)
        elif coding not in ("", "identity"):
            raise Unavailable("the upstream packed its page in a way we did not ask for")
        body = joined(pieces, PAGE_LIMIT)
        return Page(
            body=body,
            content_type=response.headers.get("Content-Type", "")[:200],
            url=url,
            etag=field(response.headers.get("ETag")),
            modified=field(response.headers.get("Last-Modified")),
        )

    def small(self, url: str, *, named: Named, limit: int) -> bytes | None:
        """The bytes at an address that a page names, `limit` at most; ``None`` if there are none (404, 410).

        Raises Unavailable, Late, Busy, Loop.
        """
        with self._turnstile.inside():
            call = Call()
            call.limit(self._page)
            try:
                response, _ = self._send("GET", url, {"Accept-Encoding": "identity"}, named, call)
                with closing(response):
                    if response.status_code in (404, 410):
                        return None
                    self._check_file(response)
                    return joined(self._pieces(response, call), limit)
            finally:
                call.unlimit()

    def size(self, url: str, *, named: Named) -> int | None:
        """The size of a file in bytes, if the upstream says so without sending it. Raises as `open` does."""
        with self._turnstile.inside():
            call = Call()
            call.limit(self._read)
            try:
                response, _ = self._send("HEAD", url, {"Accept-Encoding": "identity"}, named, call)
                with closing(response):
                    if response.status_code in (404, 410):
                        raise Missing("the upstream lists this file, but does not have it")
                    if response.status_code in (405, 501):
                        return None
                    self._check_file(response)
                    return number(response.headers.get("Content-Length"))
            finally:
                call.unlimit()

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
        self._turnstile.enter()
        call = Call()
        try:
            call.limit(self._connect + self._read)
            response, _ = self._send("GET", url, headers, named, call)
            call.unlimit()
        except BaseException:
            call.unlimit()
            self._turnstile.leave()
            raise
        body = Body(response, self._pieces(response, call), self._turnstile)
        try:
            if response.status_code in (404, 410):
                raise Missing("the upstream lists this file, but does not have it")
            self._check_file(response)
            body.place(start)
        except BaseException:
            body.close()
            raise
        return body

    def _check_file(self, response: requests.Response) -> None:
        if response.status_code not in (200, 206):
            raise self._refusal(response.status_code)
        if response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
            raise Unavailable("the upstream packed a file that must come as it is")

    def _refusal(self, status: int) -> Unavailable:
        host = self.origin.label
        if status == 508:
            return Loop(f"the upstream {host} says that two indexes point at each other")
        if status in (401, 403, 407):
            return Unavailable(f"the upstream {host} lets us in only with other credentials (status {status})")
        if status == 504:
            return Late(f"the upstream {host} waits for somebody else (status 504)")
        return Unavailable(f"the upstream {host} answered with status {status}")

    # --- one request, its redirects and its second try

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], named: Named, call: Call
    ) -> tuple[requests.Response, str]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response, at = self._follow(method, url, headers, named, call)
            except Unreachable:
                if attempt == _ATTEMPTS:
                    raise
            else:
                if response.status_code not in _AGAIN or attempt == _ATTEMPTS:
                    return response, at
                response.close()
            if call.late:
                break
            time.sleep(_PAUSE)
        raise Late(f"the upstream {self.origin.label} did not answer in time")

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], named: Named, call: Call
    ) -> tuple[requests.Response, str]:
        for _ in range(_MOST_HOPS + 1):
            origin = origin_of(url)
            response = self._once(method, url, origin, headers, call)
            if response.status_code not in _REDIRECTS:
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

    def _once(self, method: str, url: str, origin: Origin, headers: Mapping[str, str], call: Call) -> requests.Response:
        self._check_down(origin)
        fields = {"User-Agent": "pypiserver-lite", "Via": hops.via(), **headers}
        if self._authorization and origin == self.origin:
            fields["Authorization"] = self._authorization
        calls.current = call
        try:
            request = requests.Request(method, url, headers=fields).prepare()
            self.traffic.requested()
            response = self._session.send(
                request,
                stream=True,
                allow_redirects=False,
                timeout=(self._connect, self._read),
                verify=self._verify,
            )
        except Forbidden:
            raise
        except (Unavailable, requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raised = self._meaning(error, origin, call)
            silent = isinstance(raised, Late) and self._heard < call.started
            # One connection that broke may be an idle one that had just been closed.
            if silent or isinstance(error, Unreachable):
                self._mark_down(origin, raised)
            raise raised from error
        finally:
            calls.current = None
        self._down.pop(origin, None)
        self._heard = time.monotonic()
        return response

    def _meaning(self, error: BaseException, origin: Origin, call: Call) -> Unavailable:
        if isinstance(error, Unavailable):
            return error
        if call.late or isinstance(error, (requests.Timeout, TimeoutError, urllib3.exceptions.TimeoutError)):
            return Late(f"the upstream {origin.label} did not answer in time")
        if isinstance(error, requests.exceptions.SSLError):
            return Unavailable(f"the certificate of the upstream {origin.label} cannot be trusted (see --fallback-ca)")
        if isinstance(error, requests.ConnectionError):
            return Unreachable(f"the upstream {origin.label} broke the connection")
        return Unavailable(f"the upstream {origin.label} gave no proper answer")

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

    def _pieces(self, response: requests.Response, call: Call) -> Iterator[bytes]:
        """The body as it comes, counted. Raises Unavailable unless it ends where it should."""
        raw: urllib3.HTTPResponse = response.raw
        window, came = time.monotonic(), 0
        try:
            while data := raw.read1(self.rate.piece, decode_content=False):
                self.traffic.received(len(data))
                came += len(data)
                if time.monotonic() - window > _STALL_TIME:
                    if came < _STALL_BYTES:
                        raise Late(f"the upstream {self.origin.label} sends too slowly")
                    window, came = time.monotonic(), 0
                yield data
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            if call.late or isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError)):
                raise Late(f"the upstream {self.origin.label} did not answer in time") from error
            raise Unavailable(f"the upstream {self.origin.label} broke off in the middle of an answer") from error
        if raw.length_remaining:
            raise Unavailable(f"the upstream {self.origin.label} broke off in the middle of an answer")
        if call.late:  # a body without a length ends like this too when it is cut
            raise Late(f"the upstream {self.origin.label} did not answer in time")


def _trusted(authorities: Path) -> str:
    """The file, once it was tried: else every request would fail, and no start. Raises ConfigError."""
    try:
        ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise ConfigError(f"--fallback-ca {authorities}: {error.strerror or 'no certificates in PEM form'}") from error
    return str(authorities)


def _authority(host: str) -> tuple[str, int]:
    if "/" in host:
        raise ConfigError(f"--fallback-host: {host[:80]!r} is neither HOST nor HOST:PORT")
    name, _, port = host.rpartition(":")
    return (name.lower(), int(port)) if name and port.isdigit() else (host.lower(), 0)
