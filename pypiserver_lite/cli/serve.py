"""``run``: the server, from the command line to its end."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import observe, servers, site
from ..config import load
from ..config.server import OTHER_SERVERS
from ..config.settings import Config
from ..config.told import told
from ..site import VERSION
from ..web import Front, PypiServerLite, application
from ..web.browsers import is_loopback
from .remarks import remarks

_RUN = """Serve folders of wheels and sdists as a Python package index.

  pypiserver-lite run ./packages
  pip install --index-url http://127.0.0.1:8080/simple/ PROJECT

  pypiserver-lite run --host 0.0.0.0 -P htpasswd.txt ./packages     for others too, who publish with a password
  pypiserver-lite run --fallback-mode cache ./packages              keep what comes from PyPI

Uploads need a password file (-P FILE); downloads are open unless -a says otherwise."""

_RUN_END = "Every option is an environment variable too: --cache-control is PYPISERVER_LITE_CACHE_CONTROL."


def run(argv: Sequence[str]) -> int:
    """``run``: serve until told to stop."""
    config = _read(argv)
    with told(config):
        return _serve(config, argv)


def _serve(config: Config, argv: Sequence[str]) -> int:
    observe.set_up(config.server)
    for remark in remarks(config):
        observe.log.warning("%s", remark)
    with _there_to_stay():
        app = application(config, functools.partial(_read, argv))
    app.bound()
    again = Again(argv, app.config if isinstance(app, Front) else config)
    terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # as after nohup

    def hangup(front: Front) -> bool:
        if terminal and not _has_terminal():  # closed, which SIGHUP meant before anything else
            os.kill(os.getpid(), signal.SIGTERM)
            return False
        read = front.hangup()
        again.config = front.config
        return read

    try:
        servers.run(
            server(config),
            servers.Serving(
                make_app=lambda: app,
                make_again=again,
                options=options(config),
                ready=lambda host, port: _announce(config, host, port),
                hangup=functools.partial(hangup, app) if isinstance(app, Front) else None,
            ),
        )
    finally:
        app.close()
    return 0


def _read(argv: Sequence[str], file: Path | None = None) -> Config:
    """The settings of a command line over those of `file`, or else of the file that is found. Raises ConfigError."""
    parser = load.make_parser("pypiserver-lite run", _RUN, _RUN_END)
    parser.usage = "%(prog)s [OPTIONS] [PACKAGES ...]"
    parser.add_argument("--version", action="version", version=VERSION)
    return load.load(parser, argv, os.environ, file)


def _has_terminal() -> bool:
    """Whether this process was started in a terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY))
    except OSError:
        return False
    return True


@dataclass
class Again:
    """Makes the application in a process that a server starts anew, with a log of its own."""

    argv: Sequence[str]
    config: Config
    """The settings in force: they stand in for their file while it cannot be used, or there is none."""

    def __call__(self) -> PypiServerLite | Front:
        """The application. Raises ConfigError."""
        observe.set_up(self.config.server)
        app = application(self.config, functools.partial(_read, self.argv), anew=True)
        app.bound()
        return app


@contextlib.contextmanager
def _there_to_stay() -> Iterator[None]:
    """Keep the collector of cycles from what is made meanwhile; a hundred thousand files are many objects."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def server(config: Config) -> str:
    """The server that runs."""
    return "waitress" if config.server.server in OTHER_SERVERS else config.server.server


def options(config: Config) -> servers.Options:
    """What the server is told of these settings."""
    return servers.Options(
        host=config.server.host,
        port=config.server.port,
        threads=site.threads(config),
        workers=config.server.workers,
        connection_limit=config.server.connection_limit,
        idle_timeout=config.server.idle_timeout,
        max_header=config.server.max_header,
        max_body=site.largest_upload(config),
        grace=config.server.grace,
        trusted_proxy=config.server.trusted_proxy,
        tls_cert=config.server.tls_cert,
        tls_key=config.server.tls_key,
    )


def _announce(config: Config, host: str, port: int) -> None:
    if config.server.quiet:
        return
    folders = ", ".join([*map(str, config.index.packages), *(f"/{name}/" for name in config.indexes)])
    shown = f"[{host}]" if ":" in host else host
    note = " (this machine only; --host 0.0.0.0 lets others in)" if is_loopback(host) else ""
    scheme = "https" if config.server.tls_cert else "http"
    by = f", as {config.file} says" if config.file else ""
    try:
        print(f"pypiserver-lite {VERSION} serves {folders} on {scheme}://{shown}:{port}/{note}{by}", flush=True)
    except OSError as error:
        observe.log.warning("what is said on standard output cannot be written: %s", error.strerror)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or the end would fail at the same text
        os.close(nowhere)
