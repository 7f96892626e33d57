"""What every server is told, and the sockets it listens on."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

BACKLOG = 1024
SPARE_FILES = 128
"""Descriptors that are no connection's: databases, folders, upstreams, the log."""
LEAST_RATE = 500
"""Bytes a second, over the idle time-out, that a client must send or take."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to serve. Times in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: int = 8080
    threads: int = 16
    """That run the application, in each process. Only streams from an upstream and hashing keep one for long."""
    workers: int = 1
    """Processes; waitress has one."""
    connection_limit: int = 1000
    idle_timeout: int = 90
    """For a connection without a request, a body that does not come on, an answer that is not taken."""
    max_header: int = 64 * 1024
    max_body: int | None = None
    """The longest body; None: any."""
    grace: int = 10
    """For what is under way when the server is told to stop."""
    trusted_proxy: tuple[str, ...] = ()
    """Addresses, networks or ``*`` whose X-Forwarded-* header lines count."""
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def in_transit(self) -> int:
        """How many bodies and files, and how many large pages, may be on their way at once where each holds a thread.

        That is so with granian and gunicorn.
        """
        return max(1, self.connection_limit // 4)

    @property
    def all_threads(self) -> int:
        """The threads of a process where that is so."""
        return self.threads + 2 * self.in_transit

    @property
    def least_bytes(self) -> int:
        """What must come, or be taken, within an idle time-out."""
        return LEAST_RATE * self.idle_timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a server serves, and whom it tells of it."""

    make_app: Callable[[], WSGIApplication]
    """Called by waitress once, and by gunicorn in each of its processes."""
    make_again: Callable[[], WSGIApplication] | None = None
    """Called by granian, pickled, in each of its processes."""
    options: Options
    ready: Callable[[str, int], None]
    """Called with host and port, the actual one, once connections are accepted."""
    hangup: Callable[[], bool] | None = None
    """What SIGHUP does in this process: it has the settings read again, and says whether they can be used.

    Then the same is done in each of the other processes, by the `hangup` of their application. Without it SIGHUP is the
    server's own: waitress ends.
    """


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address `host` stands for, all on one port.

    ``::`` is IPv6 and IPv4. Port 0 takes a free one. Raises ConfigError with
    the flag to change.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"--host: {host[:80]!r} is no address of this machine") from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            chosen = (address[0], port, *address[2:])
            try:
                sockets.append(_open(family, kind, protocol, chosen))
            except OSError as error:
                # "localhost" may name an address family that is switched off.
                if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                raise ConfigError(_reason(error, host, port)) from error
            port = sockets[0].getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _open(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            # Elsewhere this would let two servers share a port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port: {port} on {host} is taken by another program; stop it or choose another port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"--port: this user may not listen on port {port}; ports from 1024 up are open to everyone"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return f"--host: {host[:80]!r} is no address of this machine"
    return f"--host, --port: cannot listen on {host[:80]!r}, port {port}: {error.strerror}"


def connections(wanted: int) -> int:
    """How many connections there may be of those `wanted`, after raising the limit of open files where it is too low.

    Each may need a second descriptor, for the file it is sent or the body it spools.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return wanted
    needed = 2 * wanted + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    possible = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    except (OSError, ValueError):
        possible = soft
    allowed = max(1, (possible - SPARE_FILES) // 2)
    if allowed < wanted:
        _logger.warning(
            "--connection-limit: %d at most, as the limit of open files is %d (ulimit -n)", allowed, possible
        )
    return min(wanted, allowed)
