"""Which server runs the application, and how.

``run`` is all that others need. A server is imported when it is chosen, so
those of the extras need not be installed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

from ..errors import ConfigError
from .options import Options, Serving, connections
from .proxies import TrustedProxies

__all__ = ["SERVERS", "Options", "Serving", "check", "run"]

SERVERS = {
    "waitress": "pip install waitress",
    "granian": "pip install granian, or this project with its extra 'fast'",
    "gunicorn": "pip install gunicorn",
}
"""Every server there is code for, and how to get it."""


def check(server: str, options: Options) -> None:
    """Raise ConfigError if a server is unknown, not installed, or cannot run with these options, as far as can be seen.

    Whether the address is free is seen when it is listened to.
    """
    if server not in SERVERS:
        raise ConfigError(f"--server: {server[:50]!r} is none of {', '.join(SERVERS)}")
    if find_spec(server) is None:
        raise ConfigError(f"--server: {server} is not installed; {SERVERS[server]}")
    if bool(options.tls_cert) != bool(options.tls_key):
        raise ConfigError("--tls-cert and --tls-key belong together; give both")
    if server == "waitress" and options.workers > 1:
        raise ConfigError("--workers: waitress runs in one process; choose --server granian or gunicorn for several")
    if server == "waitress" and options.tls_cert:
        raise ConfigError("--tls-cert: waitress does not speak TLS; choose --server granian, or put a proxy in front")
    for path, flag in ((options.tls_cert, "--tls-cert"), (options.tls_key, "--tls-key")):
        if path is not None and not path.is_file():
            raise ConfigError(f"{flag}: there is no such file")
    TrustedProxies(options.trusted_proxy)


def run(server: str, serving: Serving) -> None:
    """Serve until SIGTERM or SIGINT, finish what is under way, and return.

    Where SIGHUP or SIGINT is ignored as by `nohup` or a shell's ``&``, it
    stays so. Raises ConfigError when the server is unknown, not installed, or
    cannot run with these options.
    """
    check(server, serving.options)
    options = replace(serving.options, connection_limit=connections(serving.options.connection_limit))
    with _ignoring(() if serving.hangup else ("SIGHUP",)) as ignore_again:

        def ready(host: str, port: int) -> None:
            ignore_again()
            serving.ready(host, port)

        import_module(f".{server}", __name__).run(replace(serving, options=options, ready=ready))


@contextmanager
def _ignoring(names: Iterable[str]) -> Iterator[Callable[[], None]]:
    """Of SIGINT and the signals of these names, block those that are ignored, for processes that are started from here.

    Servers have handlers for them, there and here; what this yields undoes it here.
    """
    numbers = [getattr(signal, name) for name in ("SIGINT", *names) if hasattr(signal, name)]
    ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def again() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ignored)
    try:
        yield again
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
