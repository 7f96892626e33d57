"""gunicorn: processes that are watched and started again, each with threads (not on Windows).

Its threads wait for what a client sends and takes, without an end. So here each connection has times of its own:
`HEAD_SECONDS` for the head of a request or the begin of TLS, the idle time-out for each part of a body or an answer.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.gthread import ThreadWorker

from ..errors import ConfigError
from .hangup import NUMBER, Hangup, join
from .options import Options, Serving, listen
from .wrapped import wrap

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

HEAD_SECONDS = 30
CROWDED_HEAD_SECONDS = 2
"""While half of the threads are at work."""
_WHOLE_BYTES = 16 * 1024
"""What the system takes of an answer without waiting for the client, who may be the one that slows it down most."""

_T = TypeVar("_T")


class _Crowd:
    """How many threads are at work."""

    def __init__(self, threads: int) -> None:
        self._threads, self._busy, self._lock = threads, 0, threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._busy += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._busy -= 1

    @property
    def dense(self) -> bool:
        """Whether more than half of them are."""
        return self._busy > self._threads // 2


class _Bounded:
    """A blocking socket that waits no longer than it may. Mixed into the two kinds of sockets."""

    options: Options
    crowd: _Crowd
    deadline = 0.0
    """When that must have come which is read next; gunicorn and `wrapped` set it."""

    def begin(self) -> None:
        """From now on the head of a request, or the begin of TLS, is awaited."""
        most = CROWDED_HEAD_SECONDS if self.crowd.dense else HEAD_SECONDS
        self.deadline = time.monotonic() + min(most, self.options.idle_timeout)

    def _within(self, seconds: float, act: Callable[..., _T], *given: Any) -> _T:
        """What `act` returns. Raises ConnectionResetError where it takes longer; gunicorn logs others as its faults."""
        own: Any = self
        before = own.gettimeout()
        own.settimeout(max(0.001, seconds if before is None else min(seconds, before)))
        try:
            return act(*given)
        except TimeoutError as error:
            raise ConnectionResetError(errno.ECONNRESET, "the client is too slow") from error
        finally:
            if own.fileno() >= 0:
                own.settimeout(before)

    def setblocking(self, flag: bool) -> None:
        """As any socket does; gunicorn asks it of those that are closed, too."""
        own: Any = self
        if own.fileno() >= 0:
            own.settimeout(None if flag else 0.0)

    def recv(self, *given: Any) -> bytes:
        """What has come. Raises OSError."""
        if not self.deadline:
            self.begin()  # TLS, which made this socket a moment ago
        recv: Callable[..., bytes] = super().recv  # type: ignore[misc] # a socket's
        return self._within(self.deadline - time.monotonic(), recv, *given)

    def sendall(self, data: bytes, *given: Any) -> None:
        """Send it all. Raises OSError."""
        sendall: Callable[..., None] = super().sendall  # type: ignore[misc]
        view, most = memoryview(data), self.options.least_bytes
        for at in range(0, len(view), most):
            self._within(self.options.idle_timeout, sendall, view[at : at + most], *given)

    def sendfile(self, *given: Any, **more: Any) -> int:
        """Send a file; the time is for each part that the system takes. Raises OSError."""
        sendfile: Callable[..., int] = super().sendfile  # type: ignore[misc]
        return self._within(self.options.idle_timeout, lambda: sendfile(*given, **more))

    def do_handshake(self, *given: Any) -> None:
        """Begin TLS. Raises OSError."""
        self.begin()
        handshake: Callable[..., None] = super().do_handshake  # type: ignore[misc]
        self._within(self.deadline - time.monotonic(), handshake, *given)


class _Worker(ThreadWorker):  # type: ignore[misc] # gunicorn ships no types
    """Gunicorn's threads, with times for what they wait for."""

    bounded: type[_Bounded]
    """The kind of its connections."""
    hangup: Callable[[], bool] | None = None

    def init_signals(self) -> None:
        """As any worker does; SIGHUP is for what it serves."""
        super().init_signals()
        if self.hangup is not None:
            Hangup().calls(self.hangup)

    def handle(self, conn: Any) -> object:
        """Answer the next request of a connection, in a thread."""
        if not isinstance(conn.sock, _Bounded):
            conn.sock = self.bounded(fileno=conn.sock.detach())  # type: ignore[call-arg] # a socket too
        with self.bounded.crowd:
            conn.sock.begin()
            again: object = super().handle(conn)
            if not again:
                # Gunicorn would wait up to two seconds for the client's part of it, in the thread that accepts others.
                conn.close(graceful=not self.bounded.crowd.dense)
            return again


class _Arbiter(Arbiter):  # type: ignore[misc]
    """Gunicorn's parent of all workers."""

    hangup: Callable[[], bool]
    _hung_up = False

    def handle_hup(self) -> None:
        """Take note of SIGHUP: several are one, and what ends the server goes before them."""
        self._hung_up = True

    def manage_workers(self) -> None:
        """As ever, once all signals that came are handled.

        After SIGHUP, instead of other workers, which would drop connections, the settings are read again, here and in
        each worker; and not in a thread, while which another worker could be forked.
        """
        if self._hung_up:
            self._hung_up = False
            if self.hangup():
                self.kill_workers(NUMBER)
        super().manage_workers()


class _Application(BaseApplication):  # type: ignore[misc]
    """Our application and settings in gunicorn's terms."""

    def __init__(self, serving: Serving, settings: dict[str, Any]):
        self._serving, self._settings = serving, settings
        super().__init__()

    def run(self) -> None:
        """Run until told to stop."""
        if self._serving.hangup is None:
            super().run()
        else:
            arbiter = _Arbiter(self)
            arbiter.hangup = self._serving.hangup
            arbiter.run()

    def load_config(self) -> None:
        """Take our settings only: no file, no flag of gunicorn's."""
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """Make the application; called in each worker, after the fork."""
        application = self._serving.make_app()
        join(application, os.getppid())
        return wrap(application, self._serving.options, _WHOLE_BYTES)


def run(serving: Serving) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError."""
    options, hangup = serving.options, serving.hangup
    sockets = listen(options.host, options.port)
    port = sockets[0].getsockname()[1]
    shared = {"options": options, "crowd": _Crowd(options.all_threads)}
    kinds = {kind: type("Bounded", (_Bounded, kind), shared) for kind in (socket.socket, ssl.SSLSocket)}

    def context(config: object, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        made = make()
        made.sslsocket_class = kinds[ssl.SSLSocket]
        return made

    act = None if hangup is None else staticmethod(hangup)
    settings = {
        # From here on they are gunicorn's to close.
        "bind": [f"fd://{sock.detach()}" for sock in sockets],
        "worker_class": type("Worker", (_Worker,), {"bounded": kinds[socket.socket], "hangup": act}),
        "workers": options.workers,
        "threads": options.all_threads,
        "worker_connections": options.connection_limit,
        "keepalive": options.idle_timeout,
        "graceful_timeout": max(1, options.grace),
        "limit_request_line": 8190,
        "limit_request_field_size": min(options.max_header, 65536),
        "forwarded_allow_ips": "",
        "forwarder_headers": "",
        "certfile": str(options.tls_cert) if options.tls_cert else None,
        "keyfile": str(options.tls_key) if options.tls_key else None,
        "ssl_context": context,
        "when_ready": lambda arbiter: serving.ready(options.host, port),
        "proc_name": "pypiserver-lite",
        "loglevel": "warning",
    }
    parent = os.getpid()
    try:
        _Application(serving, settings).run()
    except SystemExit as error:
        if os.getpid() != parent:
            raise  # A worker ends here, and must not go on as if it were us.
        if error.code not in (None, 0):
            raise ConfigError("a worker of gunicorn could not start; its last lines above say why") from error
