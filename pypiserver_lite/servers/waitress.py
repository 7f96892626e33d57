"""The default server: waitress's loop and workers, with our `Channel`.

One thread moves bytes for all connections; workers run the application. A
body is complete before the application is called for it, and a file is sent
without a worker, so slow clients cost a connection each, never a worker.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from ..errors import ConfigError
from .channel import PART_BYTES, Channel
from .loop import Loop
from .options import Options, listen
from .proxies import TrustedProxies

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

IDENT = "pypiserver-lite"
BUSY_SILENCE = 10
"""Seconds of silence after which a half-received body gives way when connections run out."""

_logger = logging.getLogger(__name__)


class Workers(ThreadedTaskDispatcher):  # type: ignore[misc] # waitress ships no types
    """The threads that run the application."""

    def start_new_thread(self, target: Callable[[int], None], thread_no: int) -> None:
        """Start a worker; its name is what a log or a debugger shows."""
        threading.Thread(target=target, name=f"request-{thread_no}", args=(thread_no,), daemon=True).start()

    def add_task(self, task: Any) -> None:
        """Queue without waitress's warning for each request that waits: a short queue is no news."""
        with self.lock:
            self.queue.append(task)
            self.queue_cv.notify()


class Listener(TcpWSGIServer):  # type: ignore[misc] # waitress ships no types
    """One listening socket and what its connections share."""

    channel_class = Channel

    def __init__(self, sock: socket.socket, options: Options, adj: Adjustments, workers: Workers, loop: Loop) -> None:
        self.proxies = TrustedProxies(options.trusted_proxy)
        self.max_body = options.max_body
        self.draining = False
        self.loop = loop
        self._pause_until = 0.0
        self._next_sweep = 0.0
        info = (sock.family, sock.type, sock.proto, sock.getsockname())
        super().__init__(_no_application, loop, True, sock, workers, adj, info, bind_socket=False)
        self._waking = threading.RLock()
        self._ended = False
        if isinstance(self.trigger.trigger, int):
            # A full pipe wakes the loop as well as one more byte would; waiting for room could be for ever.
            os.set_blocking(self.trigger.trigger, False)
        self.asks: Callable[[dict[str, Any]], Any] | None = None

    def set_reuse_addr(self) -> None:
        """`listen` has done what is right for the platform."""

    def serve(self, application: WSGIApplication) -> None:
        """Answer with `application` from now on."""
        self.application = application
        self.asks = getattr(application, "refuse_early", None)

    def fix_addr(self, addr: Any) -> Any:
        """The peer's address, IPv4 as IPv4 also on a socket for both."""
        return (addr[0].removeprefix("::ffff:"), *addr[1:]) if "." in addr[0] else addr

    def readable(self) -> bool:
        """Once a turn: close what is overdue, make room at the limit, and say whether to accept."""
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + 1
            self.maintenance(now)
        if not self.accepting or now < self._pause_until:
            return False
        return not self.full or self.expendable(now) is not None

    @property
    def full(self) -> bool:
        """Whether as many connections are open as may be."""
        limit: int = self.adj.connection_limit
        return len(self.loop) >= limit

    def maintenance(self, now: float) -> None:
        """Close the connections that are overdue."""
        for channel in list(self.active_channels.values()):
            if channel.overdue(now):
                channel.expire()
                self.loop.touch(channel)

    def expendable(self, now: float) -> Channel | None:
        """The connection that is missed least, if any may be closed to let another in."""
        ranked = [(rank, channel) for channel in self.active_channels.values() if (rank := _rank(channel, now))]
        return min(ranked, key=lambda pair: pair[0])[1] if ranked else None

    def make_room(self) -> None:
        """Close the connection that is missed least."""
        channel = self.expendable(time.monotonic())
        if channel is not None:
            channel.handle_close()

    def handle_accept(self) -> None:
        """Take a connection, in place of another if there are too many."""
        if self.full:
            self.make_room()
        try:
            accepted = self.accept()
            if accepted is None:
                return
            connection, address = accepted
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._pause_until = time.monotonic() + 0.2
                self.make_room()
                _logger.warning("no more connections can be opened; raise the limit of open files: %s", error.strerror)
            return
        try:
            self.set_socket_options(connection)
        except OSError:
            # Closed by the peer before we got to it (seen on macOS).
            connection.close()
            return
        self.channel_class(self, connection, self.fix_addr(address), self.adj, map=self.loop)

    def pull_trigger(self) -> None:
        """Wake the loop, from any thread or signal handler, also when it has ended."""
        with self._waking:
            # A worker may outlive the loop, and the descriptor's number may by then be a file of somebody else.
            if not self._ended:
                try:
                    self.trigger.pull_trigger()
                except BlockingIOError:
                    return

    def stop_accepting(self) -> None:
        """Close the listening socket; its connections live on."""
        wasyncore.dispatcher.close(self)

    def end(self) -> None:
        """Close what is left when no connection is."""
        self.stop_accepting()
        with self._waking:
            self._ended = True
            self.trigger.close()


def _rank(channel: Channel, now: float) -> tuple[int, float] | None:
    """Who gives way first: the refused, then whoever has kept us waiting for a request longest, then stuck bodies."""
    if channel.lingering:
        return (0, channel.last_activity)
    if channel.idle:
        return (1, channel.last_activity)
    request = channel.request
    if channel.requests or channel.total_outbufs_len or request is None:
        return None
    if not request.headers_finished:
        return (1, channel.request_began)
    return (2, channel.last_activity) if now - channel.last_activity > BUSY_SILENCE else None


def _no_application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise RuntimeError("the server was started before it had an application")


class Service:
    """A server that listens from the moment it is made, and serves while `run` runs.

    Raises ConfigError when it cannot listen. `host` and `port` say where
    it does.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._sockets = listen(options.host, options.port)
        self.host, self.port = options.host, int(self._sockets[0].getsockname()[1])
        self._loop = Loop()
        self._workers = Workers()
        adj = Adjustments(
            threads=options.threads,
            connection_limit=options.connection_limit,
            channel_timeout=options.idle_timeout,
            max_request_header_size=options.max_header,
            recv_bytes=256 * 1024,
            outbuf_overflow=PART_BYTES,
            ident=IDENT,
            server_name=options.host,
            log_socket_errors=False,
            clear_untrusted_proxy_headers=False,
        )
        self._listeners = [Listener(sock, options, adj, self._workers, self._loop) for sock in self._sockets]
        self._stops = 0

    def stop(self) -> None:
        """Finish what is under way, then end `run`; called again: end it at once. Safe in a signal handler."""
        self._stops += 1
        for listener in self._listeners:
            listener.pull_trigger()

    def run(self, application: WSGIApplication) -> None:
        """Serve until stopped, and up to `grace` seconds longer for what is under way then."""
        self._workers.set_thread_count(self._options.threads)
        for listener in self._listeners:
            listener.serve(application)
        try:
            while not self._stops:
                self._loop.turn(1.0)
            self._drain()
        finally:
            self.close()

    def _drain(self) -> None:
        deadline = time.monotonic() + self._options.grace
        for listener in self._listeners:
            listener.draining = True
            listener.stop_accepting()
        while self._stops < 2 and time.monotonic() < deadline:
            for channel in self._channels():
                if channel.idle:
                    channel.handle_close()
            if not self._channels():
                return
            self._loop.turn(0.1)
            for listener in self._listeners:
                listener.maintenance(time.monotonic())
        cut = len(self._channels())
        if cut:
            _logger.warning("%d connection(s) cut, unfinished at the end of the grace period", cut)

    def _channels(self) -> list[Channel]:
        return [channel for listener in self._listeners for channel in listener.active_channels.values()]

    def close(self) -> None:
        """Close everything at once; what is cut is cut in the middle, never made to look whole."""
        for channel in self._channels():
            channel.handle_close()
        self._workers.shutdown(cancel_pending=True, timeout=1)
        for listener in self._listeners:
            listener.end()
        for sock in self._sockets:
            sock.close()
        self._loop.close()


@contextlib.contextmanager
def _signals(service: Service) -> Iterator[None]:
    """SIGTERM and SIGINT stop `service`; on leaving they mean what they meant before."""

    def handle(number: int, frame: FrameType | None) -> None:
        service.stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _allow_descriptors(connections: int) -> None:
    """Each connection may need a second descriptor, for the file it is sent or the body it spools."""
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return
    wanted = 2 * connections + 128
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    except (OSError, ValueError) as error:
        _logger.warning("the limit of open files stays at %d: %s", soft, error)


def run(make_app: Callable[[], WSGIApplication], options: Options, ready: Callable[[str, int], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError."""
    if options.workers > 1:
        raise ConfigError("--workers: waitress runs in one process; choose --server granian or gunicorn for several")
    if options.tls_cert or options.tls_key:
        raise ConfigError("--tls-cert: waitress does not speak TLS; choose --server granian, or put a proxy in front")
    _allow_descriptors(options.connection_limit)
    service = Service(options)
    with _signals(service):
        try:
            application = make_app()
        except BaseException:
            service.close()
            raise
        ready(service.host, service.port)
        service.run(application)
