"""Requests under way: how long each may take, and the connections they go through.

A time limit on each read does not bound a whole: an upstream that sends a
byte now and then keeps within it for ever, in the middle of a header or of
TLS's handshake too. So a call has one for everything, and each read has what
is left of it.
"""

from __future__ import annotations

import functools
import http.client
import io
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.wait import wait_for_read

from ..errors import Late
from .addresses import Reach
from .hosts import Hosts, Unreachable
from .rate import Rate
from .ways import Proxy, Ways


class Call:
    """One request, from now on, with its redirects and second tries; all this may take so many `seconds`.

    `fair`: that is long enough for a server to be called silent that says nothing. No byte need come for `silence`.
    """

    def __init__(self, seconds: float, *, fair: bool = True, silence: float = math.inf) -> None:
        self.fair, self.silence = fair, silence
        self.started = time.monotonic()
        self._deadline, self._limit = self.started + seconds, math.inf

    @property
    def late(self) -> bool:
        """Whether its time is up."""
        return self.spare() <= 0

    def left(self) -> float:
        """Seconds until its time is up. Raises TimeoutError when it is."""
        left = self.spare()
        if left <= 0:
            raise TimeoutError
        return left

    def spare(self) -> float:
        """Seconds until its time is up, 0 when it is."""
        return max(min(self._deadline, self._limit) - time.monotonic(), 0.0)

    def limit(self, seconds: float) -> None:
        """Until this is called again it may take no longer than so many seconds from now; infinite: no such limit."""
        self._limit = time.monotonic() + seconds

    def unlimit(self, silence: float) -> None:
        """From now on it may take any time, but for a `silence` of so many seconds."""
        self._deadline, self.silence = math.inf, silence


class _Current(threading.local):
    call: Call | None = None


current = _Current()
"""The call that this thread is making."""


_line_rate = Rate(10_000)
_LINES, _SHORT = 100, 512  # lines that are paid for together; fewer bytes than this for each, or they cost nothing


def _in_time(sock: Any, most: float, call: Call | None) -> None:
    """Let the next read from a socket take `most` seconds, and no longer than its call has left."""
    sock.settimeout(most if call is None else min(most, call.silence, call.left()))


class _Raw(io.RawIOBase):
    """What comes through a connection, for one answer. Reading raises TimeoutError when its call's time is up."""

    def __init__(self, raw: io.RawIOBase, sock: Any, call: Call | None) -> None:
        self._raw, self._sock, self._call = raw, sock, call
        self._most = float(sock.gettimeout())

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        """Some bytes."""
        _in_time(self._sock, self._most, self._call)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """As any file does."""
        self._raw.close()
        super().close()


class _Reader(io.BufferedReader):
    """That, by lines, whose number is bounded.

    Each line (of a header, of a trailer, before a chunk) costs some 20 us of a processor, however little comes with
    it. So all calls of this process share a budget of lines with little between them, or an upstream that sends
    chunks of one byte, or ``100 Continue`` without end, would leave no time to anybody else.
    """

    def __init__(self, raw: io.RawIOBase, call: Call | None) -> None:
        super().__init__(raw)
        self._call = call
        self._lines = self._bytes = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        """A line. Raises TimeoutError when the time is up: what had come before that may be read for long."""
        self._lines += 1
        if self._lines == _LINES:
            if self._bytes < _LINES * _SHORT:
                _line_rate.take(_LINES)
            self._lines = self._bytes = 0
        if self._call is not None:
            self._call.left()
        return super().readline(size)

    def read1(self, size: int = -1, /) -> bytes:
        """Some bytes, counted."""
        data = super().read1(size)
        self._bytes += len(data)
        return data


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp = _Reader(_Raw(self.fp.detach(), sock, current.call), current.call)


Dial = Callable[[str, int, float, float, Any], socket.socket]
"""A socket connected to host and port, as `Reach.connect` has it."""


_RESTED = 2.0  # seconds after which a connection may have been forgotten
_PROMPT = 10.0  # seconds; a file's beginning may have more
_SHARE = 4  # part of its time that a request gives such a one


@dataclass(slots=True)
class _Lines:
    """What all connections of an adapter have in common."""

    dial: Dial
    ways: Ways
    idle: float
    """Seconds for which one is kept that is not used."""
    silent_at: float = -math.inf
    """When one of them gave no answer: none that rested since before is used again."""


class _Timed(HTTPConnection):
    """A connection whose every read has what is left of its call's time."""

    response_class = _Response
    call: Call | None = None
    idle_since = math.inf

    def __init__(self, *arguments: Any, lines: _Lines, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._lines = lines

    @property
    def is_connected(self) -> bool:
        """Whether it may be used again, which is asked of an idle one."""
        kept_since = max(time.monotonic() - self._lines.idle, self._lines.silent_at)
        return super().is_connected and self.idle_since > kept_since

    def _new_conn(self) -> socket.socket:
        self.idle_since = math.inf
        self.call = call = current.call
        timeout = float(self.timeout or 10.0)
        assert self.port is not None
        left = call.left() if call else timeout
        made = self._lines.dial(self._dns_host, self.port, timeout, left, self.socket_options)
        try:
            # A tunnel through a proxy, and TLS, have the rest of the call: a proxy may look names up, or log in.
            made.settimeout(call.left() if call else timeout)
        except TimeoutError:
            made.close()
            raise
        return made

    def getresponse(self) -> Any:
        self.call = call = current.call
        rested = time.monotonic() - self.idle_since > _RESTED
        if rested and call is not None and not wait_for_read(self.sock, min(call.left(), _PROMPT) / _SHARE):
            self._lines.silent_at = time.monotonic()
            raise ConnectionAbortedError("a connection that was idle gave no answer")
        return super().getresponse()


class _Secure(_Timed, HTTPSConnection):
    """The same with TLS, also inside TLS with a proxy."""

    def connect(self) -> None:
        self.ssl_context = self._lines.ways.context()
        super().connect()

    def _connect_tls_proxy(self, hostname: str, sock: socket.socket) -> ssl.SSLSocket:
        made = super()._connect_tls_proxy(hostname, sock)
        receive = made.recv

        def receive_in_time(size: int, flags: int = 0) -> bytes:
            _in_time(made, float(made.gettimeout() or 10.0), self.call)
            return receive(size, flags)

        made.recv = receive_in_time  # type: ignore[assignment, method-assign]  # TLS inside it reads as often as it needs
        return made


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Timed

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


class _SecurePool(_PlainPool, urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure


class Adapter(requests.adapters.HTTPAdapter):
    """What `requests` goes through a proxy with, or else within its `reach`; `connections` to one server are kept.

    Firewalls forget a connection that is idle, and let what is sent on it vanish. So one is kept for `idle` seconds
    only, and one that gives no answer after a rest is taken for broken, with all that rest, while there is time to ask
    again.

    Each is timed by the `current` call. Names and ports that a proxy is asked for are the caller's to check, and it
    says ``proxies`` when it sends. A session would add redirects, cookies and the environment, so there is none.
    """

    def __init__(self, reach: Reach, ways: Ways, proxy: Proxy | None, connections: int, idle: float) -> None:
        dial: Dial = reach.connect if proxy is None else functools.partial(_dial_proxy, proxy, reach.hosts)
        self._lines, self._proxy = _Lines(dial, ways, idle), proxy
        super().__init__(8, connections, max_retries=urllib3.Retry(False))

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **_: Any) -> None:
        """Make the pools of connections, each to one server; `requests` calls this once."""
        proxy, made = self._proxy, urllib3.PoolManager(connections, maxsize=maxsize)
        if proxy is not None:
            made = urllib3.ProxyManager(
                proxy.url,
                connections,
                proxy_headers={"Proxy-Authorization": proxy.authorization} if proxy.authorization else {},
                proxy_ssl_context=self._lines.ways.context(),
                maxsize=maxsize,
            )
        pools: Any = {
            "http": functools.partial(_PlainPool, lines=self._lines),
            "https": functools.partial(_SecurePool, lines=self._lines),
        }
        made.pool_classes_by_scheme = pools
        self.poolmanager = made

    def get_connection_with_tls_context(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> Any:
        """The pool for a request: what TLS needs is in each connection."""
        return self.poolmanager.connection_from_url(request.url)

    def cert_verify(self, *_: Any) -> None:
        """Nothing: each connection does, in a context of its own."""


def _dial_proxy(
    proxy: Proxy, hosts: Hosts, host: str, port: int, timeout: float, left: float, options: Any
) -> socket.socket:
    """As `Dial`, to a proxy: it may be anywhere, and errors name its setting."""
    until = time.monotonic() + left
    try:
        found = hosts.find(host, left)
        return hosts.connect(host, port, found, min(timeout, max(until - time.monotonic(), 0.1)), options)
    except Late as error:
        raise Late(f"the proxy that {proxy.setting} names does not answer") from error
    except Unreachable as error:
        raise Unreachable(f"the proxy that {proxy.setting} names cannot be reached") from error
