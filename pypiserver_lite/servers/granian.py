"""granian: a server in Rust with processes and TLS, there with HTTP/2 (the extra ``fast``)."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, NamedTuple

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server import Server

from ..errors import ConfigError
from ..kept import start
from .hangup import NUMBER, Hangup, join
from .options import Options, Serving, listen
from .wrapped import wrap

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

LEAST_IDLE = 15
"""Seconds: a request that is worked on counts as silent, and what waits for an upstream's page may take twelve."""
_STREAMS = 16
"""Requests of one HTTP/2 connection at once: each may have a header and an answer in memory."""
_WHOLE_BYTES = 256 * 1024
"""Granian copies what it sends, for each reader."""

_logger = logging.getLogger(__name__)


def load(make_app: Callable[[], WSGIApplication], options: Options, port: int) -> WSGIApplication:
    """The application that `make_app` makes; called in each worker process."""
    hangup, parent = Hangup(), os.getppid()
    start("parent", _end_without, parent)
    if sys.platform == "linux":
        start("connections", _end_slow, options, port)
    application = make_app()
    join(application, parent)
    if hasattr(application, "hangup"):
        hangup.calls(application.hangup)
    if hasattr(application, "close"):
        # What waits to be written is, as the worker ends; granian has no hook for that, but its processes do.
        Finalize(None, application.close, exitpriority=0)
    return wrap(application, options, _WHOLE_BYTES)


def _end_without(parent: int) -> None:
    """End this worker when the process that started it is gone, killed as by a lack of memory: it holds the port."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _end_slow(options: Options, port: int) -> None:
    """End connections to `port` that are silent for an idle time-out, or on which too little came or went meanwhile.

    Granian has a time for heads only, and nothing of it can be reached from
    Python but the descriptors and what the system knows of each.
    """
    idle = max(LEAST_IDLE, options.idle_timeout)
    known: dict[int, tuple[float, int]] = {}
    while True:
        time.sleep(max(1.0, options.idle_timeout / 8))
        before, known = known, {}
        try:
            for connection in _connections(port):
                with connection:
                    key, state = os.fstat(connection.fileno()).st_ino, _State.of(connection)
                    since, count = before.get(key, (time.monotonic(), state.size))
                    if not state.waiting or state.size - count >= options.least_bytes:
                        since, count = time.monotonic(), state.size
                    known[key] = since, count
                    if time.monotonic() - since >= idle or state.silent >= idle:
                        with contextlib.suppress(OSError):
                            connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # not one descriptor is left, which is what it takes to look
            known = before | known


class _State(NamedTuple):
    """What the system knows of a connection."""

    size: int
    """Bytes that came from the other side, and that it took."""
    waiting: bool
    """Whether a request or an answer is on its way, or is being worked on: from here they look the same."""
    silent: float
    """Seconds since anything came or went."""

    @classmethod
    def of(cls, connection: socket.socket) -> _State:
        """The state of a connection, from the kernel's ``tcp_info``."""
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 148)
        unacknowledged, sent, received = (struct.unpack_from("=I", info, at)[0] for at in (24, 44, 52))
        (unsent,), counts = struct.unpack_from("=I", info, 144), struct.unpack_from("=QQ", info, 120)
        return cls(sum(counts), received < sent or unacknowledged + unsent > 0, min(sent, received) / 1000)


def _connections(port: int) -> Iterator[socket.socket]:
    """Sockets of this process, as further descriptors, that clients have connected to `port`."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile, or no socket
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            found = socket.fromfd(int(name), socket.AF_INET, socket.SOCK_STREAM)
            try:
                if found.getsockname()[1:2] == (port,) and found.getpeername():
                    yield found
            finally:
                found.close()


def _tell_when_reachable(server: Any, tell: Callable[[], None]) -> None:
    """Make `server` call `tell` once its first worker accepts connections; granian has no hook for that moment."""
    begin = server.startup

    def startup(*args: Any, **more: Any) -> None:
        begin(*args, **more)
        while not server.main_loop_interrupt.wait(0.05):
            try:
                socket.create_connection((server.bind_addr, server.bind_port), timeout=1).close()
            except OSError:
                continue
            tell()
            return

    server.startup = startup


def _end_surely(server: Any) -> None:
    """Have `server` tell its workers each second to end: one that misses it would serve on until it is killed."""
    end = server.shutdown

    def tell(workers: list[Any]) -> None:
        while True:
            time.sleep(1)
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.inner.pid, signal.SIGTERM)

    def shutdown(*args: Any, **more: Any) -> None:
        start("ending", tell, list(server.wrks))
        end(*args, **more)

    server.shutdown = shutdown


def _hang_up(server: Any, hangup: Callable[[], bool]) -> None:
    """Have SIGHUP do `hangup` here and then in each worker, instead of other workers, which would drop connections."""

    def everywhere() -> None:
        if hangup():
            for worker in list(server.wrks):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.inner.pid, NUMBER)

    here = Hangup()
    server.signal_handler_reload = here.note
    here.calls(everywhere)


def run(serving: Serving) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError."""
    options = serving.options
    if serving.make_again is None:
        raise ConfigError("--server: granian needs a function that makes the application in another process")
    # Granian binds in every worker and shares ports silently; only this notices another program on ours.
    probe = listen(options.host, options.port)
    port, address = probe[0].getsockname()[1], probe[0].getsockname()[0]
    if len(probe) > 1:
        _logger.warning("--host: of the addresses of %s granian listens on %s alone", options.host, address)
    for sock in probe:
        sock.close()
    try:
        server: Any = Server(
            "pypiserver_lite",
            address=address,
            port=port,
            interface=Interfaces.WSGI,
            workers=options.workers,
            blocking_threads=options.all_threads,
            backpressure=options.connection_limit,
            # Nobody speaks HTTP/2 without TLS but who knows beforehand that it is spoken.
            http=HTTPModes.auto if options.tls_cert else HTTPModes.http1,
            http2_settings=HTTP2Settings(max_headers_size=options.max_header, max_concurrent_streams=_STREAMS),
            http1_settings=HTTP1Settings(header_read_timeout=30_000, max_buffer_size=max(8192, options.max_header)),
            websockets=False,
            log_enabled=False,
            ssl_cert=options.tls_cert,
            ssl_key=options.tls_key,
            ssl_protocol_min=SSLProtocols.tls12,
            workers_kill_timeout=max(1, options.grace),
            respawn_failed_workers=True,  # but for one that ends within five seconds of taking another's place
        )
    except OSError as error:
        reason = "--tls-cert, --tls-key: the certificate or its key cannot be used"
        raise ConfigError(f"{reason if options.tls_cert else '--server: granian cannot start'}: {error}") from error
    # Of granian itself, not of its workers, into our log: that one has ended, or keeps ending.
    supervision = logging.getLogger("_granian")
    supervision.handlers.clear()
    supervision.propagate = True
    supervision.setLevel(logging.ERROR)
    _tell_when_reachable(server, lambda: serving.ready(options.host, port))
    _end_surely(server)
    if serving.hangup is not None:
        _hang_up(server, serving.hangup)
    started = time.monotonic()
    try:
        server.serve(target_loader=functools.partial(load, serving.make_again, options, port), wrap_loader=False)
    except SystemExit as error:
        _logger.error("granian ended by itself after %d s: a worker failed", time.monotonic() - started)
        raise ConfigError("a worker of granian failed; its last lines above say why") from error
