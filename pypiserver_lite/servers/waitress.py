"""The default server: waitress with the mends of `mends`, from its start to its end.

SIGTERM and SIGINT finish what is under way, within a grace period; so does SIGHUP where there is nothing to read again.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments

from .hangup import Hangup
from .mends import IDENT, PART_BYTES, UNSENT_BYTES, Channel, Listener, Workers
from .options import Options, Serving, listen

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_FEW_UNSENT = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)

_READS_ON = 0.2
"""Seconds after a signal in which connections that seem to ask nothing are still read."""

_logger = logging.getLogger(__name__)


class Service:
    """A server that listens from the moment it is made, and serves while `run` runs.

    Raises ConfigError when it cannot listen. `host` and `port` say where it does.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        sockets = listen(options.host, options.port)
        self.host, self.port = options.host, int(sockets[0].getsockname()[1])
        self._map: dict[int, Any] = {}
        self._workers = Workers(options.threads)
        adj = Adjustments(
            threads=options.threads,
            connection_limit=options.connection_limit + 2 * len(sockets),  # which have a trigger besides
            channel_timeout=options.idle_timeout,
            max_request_header_size=options.max_header,
            max_request_body_size=sys.maxsize,
            recv_bytes=64 * 1024,
            outbuf_overflow=PART_BYTES,
            ident=IDENT,
            server_name=options.host,
            log_socket_errors=False,
            clear_untrusted_proxy_headers=False,
        )
        if _FEW_UNSENT is not None:
            adj.socket_options = [*adj.socket_options, (socket.IPPROTO_TCP, _FEW_UNSENT, UNSENT_BYTES)]
        self._listeners = [Listener(sock, options, adj, self._workers, self._map) for sock in sockets]
        self._stops = 0
        self._closed = False
        self._closing = threading.RLock()

    def stop(self) -> None:
        """Finish what is under way, then end `run`; called again: end it at once. Safe in a signal handler."""
        self._stops += 1
        with self._closing:
            for listener in () if self._closed else self._listeners:
                listener.pull_trigger()

    def run(self, application: WSGIApplication) -> None:
        """Serve until stopped, and up to `grace` seconds longer for what is under way then."""
        for listener in self._listeners:
            listener.application = application
            listener.asks = getattr(application, "refuse_early", None)
        self._workers.set_thread_count(1)
        try:
            while not self._stops:
                self._turn(1.0)
            self._drain()
        finally:
            self.close()

    def _turn(self, timeout: float) -> None:
        for listener in self._listeners:
            listener.look_after()
        # `poll`: the limit of `select` is 1024 descriptors, and it fails for all where one was closed meanwhile.
        wasyncore.loop(timeout, use_poll=True, map=self._map, count=1)

    def _drain(self) -> None:
        deadline = time.monotonic() + self._options.grace
        for listener in self._listeners:
            listener.draining = True
            listener.stop_accepting()
        # What was sent before the signal is read before any connection counts as idle.
        quiet = time.monotonic() + min(_READS_ON, self._options.grace)
        while self._stops < 2 and time.monotonic() < deadline:
            self._turn(0.05)
            for channel in self._channels():
                if channel.idle and time.monotonic() > quiet:
                    channel.handle_close()
            if not self._channels():
                return
        cut = len(self._channels())
        if cut:
            _logger.warning("%d connection(s) cut, unfinished at the end of the grace period", cut)

    def _channels(self) -> list[Channel]:
        return [channel for channel in self._map.values() if isinstance(channel, Channel)]

    def close(self) -> None:
        """Close everything at once; what is cut is cut in the middle, never made to look whole."""
        for channel in self._channels():
            channel.handle_close()
        self._workers.shutdown(cancel_pending=True, timeout=1)
        with self._closing:
            self._closed = True
            for listener in self._listeners:
                listener.close()


@contextlib.contextmanager
def _signals(service: Service, hangup: Callable[[], bool] | None) -> Iterator[None]:
    """SIGTERM and SIGINT stop `service`, SIGHUP calls `hangup` or stops it; on leaving they mean what they meant."""

    def handle(number: int, frame: FrameType | None) -> None:
        service.stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, handle) for number in numbers}
    if hangup is not None:
        Hangup().calls(hangup)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def run(serving: Serving) -> None:
    """Serve until SIGTERM or SIGINT, or SIGHUP without `hangup`. Raises ConfigError."""
    service = Service(serving.options)
    with _signals(service, serving.hangup):
        try:
            application = serving.make_app()
        except BaseException:
            service.close()
            raise
        serving.ready(service.host, service.port)
        service.run(application)
