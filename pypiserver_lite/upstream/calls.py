"""Requests under way: how long each may take, and the connections they go through.

A time limit on each read does not bound a whole: an upstream that sends a
byte now and then keeps within it for ever, in the middle of a header or of
TLS's handshake too. So a call has one for everything, and is cut when it is over.
"""

from __future__ import annotations

import heapq
import http.client
import io
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from ..errors import Late, Unavailable
from ..kept import start
from .addresses import Gate, Unreachable, connected, resolve
from .rate import Rate
from .ways import Proxy, Ways


class Call:
    """One request, from now on, with its redirects and second tries; as a block, it is over at the end.

    After `seconds` its connection is cut by another thread and `late` is true.
    """

    def __init__(self, seconds: float) -> None:
        self.started = time.monotonic()
        self.late = False
        self._deadline = self.started + seconds
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._limited = True
        _deadlines.add(self._deadline, self)

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self.unlimit()

    def left(self) -> float:
        """Seconds until its time is up. Raises Late when it is."""
        left = self._deadline - time.monotonic()
        if left <= 0 and self._limited:
            raise Late("the upstream did not answer in time")
        return left

    def unlimit(self) -> None:
        """From now on it may take any time."""
        with self._lock:
            self._limited = False
            self._drop()

    def use(self, connection: Any) -> None:
        """Go through this connection from now on."""
        with self._lock:
            self._drop()
            # A handle of our own: TLS takes the connection's, and after the end it may be another call's.
            self._handle = socket.socket(fileno=socket.dup(connection.fileno()))
            if self.late:
                self._cut()

    def overdue(self) -> None:
        """The time is up: end it, unless it is over."""
        with self._lock:
            if self._limited:
                self.late = True
                self._cut()

    def _cut(self) -> None:
        try:
            if self._handle is not None:
                self._handle.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed already

    def _drop(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


class _Deadlines:
    """Ends calls when their time is up, with one thread: starting one for each takes as long as asking."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Call]] = []
        self._numbers = itertools.count()
        self._process = 0

    def add(self, deadline: float, call: Call) -> None:
        """Call `overdue` then, on the monotonic clock."""
        entry = (deadline, next(self._numbers), call)
        with self._changed:
            if self._process != os.getpid():  # a fork leaves threads behind
                self._waiting.clear()
                start("deadlines", self._watch)
                self._process = os.getpid()
            heapq.heappush(self._waiting, entry)
            if self._waiting[0] is entry:
                self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                left = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if left is None or left > 0:
                    self._changed.wait(left)
                    continue
                call = heapq.heappop(self._waiting)[2]
            call.overdue()
            del call  # or it would be held until the next one's time is up


_deadlines = _Deadlines()


class _Current(threading.local):
    call: Call | None = None


current = _Current()
"""The call that this thread is making."""


_line_rate = Rate(10_000)
_LINES, _SHORT = 100, 512  # lines that are paid for together; fewer bytes than this for each, or they cost nothing


class _Reader(io.BufferedReader):
    """What comes through a connection, for one answer; ends when its call's time is up.

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
        if self._call is not None and self._call.late:
            raise TimeoutError
        return super().readline(size)

    def read1(self, size: int = -1, /) -> bytes:
        """Some bytes, counted."""
        data = super().read1(size)
        self._bytes += len(data)
        return data


class _Response(http.client.HTTPResponse):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.fp = _Reader(self.fp.detach(), current.call)


Dial = Callable[[str, int, float, Any], socket.socket]
"""A socket connected to host and port within so many seconds, with these options. Raises Unavailable, Late."""


def adapter(gate: Gate, ways: Ways, proxy: Proxy | None, connections: int) -> requests.adapters.HTTPAdapter:
    """What `requests` goes through a proxy with, or else through the gate; `connections` to one server are kept idle.

    Each is timed by the `current` call. Names and ports that a proxy is asked for are the caller's to check, and it
    says ``proxies`` when it sends. A session would add redirects, cookies and the environment, so there is none.
    """
    dial: Dial = gate.connect if proxy is None else _to_proxy(proxy)

    class Timed(HTTPConnection):
        response_class = _Response

        def _new_conn(self) -> socket.socket:
            call = current.call
            timeout = float(self.timeout or 10.0)
            assert self.port is not None
            made = dial(self._dns_host, self.port, min(timeout, call.left()) if call else timeout, self.socket_options)
            if call is not None:
                call.use(made)
            return made

        def getresponse(self) -> Any:
            if current.call is not None and self.sock is not None:
                current.call.use(self.sock)  # which may be one from before
            return super().getresponse()

    class Secure(Timed, HTTPSConnection):
        def connect(self) -> None:
            self.ssl_context = ways.context()
            super().connect()

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Timed

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **_: Any) -> None:
            made: urllib3.PoolManager
            if proxy is None:
                made = urllib3.PoolManager(connections, maxsize=maxsize)
            else:
                headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
                made = urllib3.ProxyManager(
                    proxy.url, connections, proxy_headers=headers, proxy_ssl_context=ways.context(), maxsize=maxsize
                )
            made.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
            self.poolmanager = made

        def get_connection_with_tls_context(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> Any:
            return self.poolmanager.connection_from_url(request.url)

        def cert_verify(self, *_: Any) -> None:
            """Each connection does, in a context of its own."""

    return Adapter(8, connections, max_retries=urllib3.Retry(False))


def _to_proxy(proxy: Proxy) -> Dial:
    def dial(host: str, port: int, timeout: float, options: Any) -> socket.socket:
        deadline = time.monotonic() + timeout
        try:
            found = resolve(host, port, timeout)
            return connected(host, found, max(deadline - time.monotonic(), 0.1), options)
        except Late as error:
            raise Late(f"the proxy that {proxy.setting} names does not answer") from error
        except Unavailable as error:
            raise Unreachable(f"the proxy that {proxy.setting} names cannot be reached") from error

    return dial
