"""gunicorn: processes that are watched and started again, each with threads (not on Windows)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication

from ..errors import ConfigError
from .options import Options, listen
from .proxies import TrustedProxies
from .wrapped import wrap

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class _Application(BaseApplication):  # type: ignore[misc] # gunicorn ships no types
    """Our application and settings in gunicorn's terms."""

    def __init__(self, make_app: Callable[[], WSGIApplication], settings: dict[str, Any], proxies: TrustedProxies):
        self._make_app = make_app
        self._settings = settings
        self._proxies = proxies
        super().__init__()

    def load_config(self) -> None:
        """Take our settings only: no file, no flag of gunicorn's."""
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """Make the application; called in each worker, after the fork."""
        return wrap(self._make_app(), self._proxies)


def run(make_app: Callable[[], WSGIApplication], options: Options, ready: Callable[[str, int], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError."""
    for path, flag in ((options.tls_cert, "--tls-cert"), (options.tls_key, "--tls-key")):
        if path is not None and not path.is_file():
            raise ConfigError(f"{flag}: there is no such file")
    proxies = TrustedProxies(options.trusted_proxy)
    sockets = listen(options.host, options.port)
    port = sockets[0].getsockname()[1]
    settings = {
        # From here on they are gunicorn's to close.
        "bind": [f"fd://{sock.detach()}" for sock in sockets],
        "worker_class": "gthread",
        "workers": options.workers,
        "threads": options.threads,
        "worker_connections": options.connection_limit,
        "keepalive": options.idle_timeout,
        "graceful_timeout": max(1, options.grace),
        "limit_request_line": 8190,
        "limit_request_field_size": min(options.max_header, 65536),
        "forwarded_allow_ips": "",
        "forwarder_headers": "",
        "certfile": str(options.tls_cert) if options.tls_cert else None,
        "keyfile": str(options.tls_key) if options.tls_key else None,
        "when_ready": lambda arbiter: ready(options.host, port),
        "proc_name": "pypiserver-lite",
        "loglevel": "warning",
    }
    parent = os.getpid()
    try:
        _Application(make_app, settings, proxies).run()
    except SystemExit as error:
        if os.getpid() != parent:
            raise  # A worker ends here, and must not go on as if it were us.
        if error.code not in (None, 0):
            raise ConfigError("a worker of gunicorn could not start; its last lines above say why") from error
