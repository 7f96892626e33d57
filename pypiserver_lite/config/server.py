"""The settings of the server: one process, whatever indexes it serves. Each is a row, as `settings` has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .rows import row
from .values import (
    Sendfile,
    choice,
    parse_base_url,
    parse_count,
    parse_endpoint,
    parse_hosts,
    parse_path,
    parse_port,
    parse_seconds,
    parse_sendfile,
    parse_size,
    parse_switch,
    parse_text,
    parse_threads,
    parse_words,
)

OTHER_SERVERS = (
    *("auto", "wsgiref", "cherrypy", "cheroot", "paste", "twisted", "tornado", "gevent", "geventsocketio", "eventlet"),
    *("rocket", "bjoern", "meinheld", "fapws3", "diesel", "gae", "flup", "cgi", "aiohttp", "uvloop"),
)
"""Servers that pypiserver or Bottle can run on, and this index has no need of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The process that serves it: address, server, limits, folders of its own, log."""

    config: Path | None = row(
        None,
        parse_path,
        "file of settings, in TOML; flags and variables win over it (default: pypiserver-lite.toml in the working "
        "folder, if there is one)",
        "--config",
        metavar="FILE",
    )
    port: int = row(8080, parse_port, "port to listen on; 0 takes a free one", "-p", "--port")
    host: str = row(
        "127.0.0.1",
        parse_text,
        "address to listen on; 0.0.0.0 lets other machines in",
        *("-i", "-H", "--interface", "--host"),
        note=", this machine only",
    )
    server: str = row(
        "waitress",
        choice("waitress", "granian", "gunicorn", also=OTHER_SERVERS),
        "WSGI server to run on: waitress, or granian or gunicorn if it is installed; for the others that pypiserver "
        "knows, waitress runs",
        "--server",
    )
    server_base_url: str = row(
        "/",
        parse_base_url,
        "address at which clients see this index behind a proxy, https://HOST/PATH/, or the path alone; what is asked "
        "under that path is answered too",
        "--server-base-url",
        metavar="URL",
    )
    backend: str | None = row(
        None,
        choice("auto", "simple-dir", "cached-dir"),
        "pypiserver's, without effect: the folder is always kept indexed",
        "--backend",
    )
    workers: int = row(
        1,
        parse_count,
        "processes, with granian and gunicorn",
        "--workers",
        metavar="N",
        group="limits",
    )
    tls_cert: Path | None = row(
        None,
        parse_path,
        "certificate, to serve https with granian or gunicorn; needs --tls-key",
        "--tls-cert",
        metavar="FILE",
    )
    tls_key: Path | None = row(None, parse_path, "the certificate's key", "--tls-key", metavar="FILE")
    health_endpoint: str = row("/health", parse_endpoint, "where monitoring asks", "--health-endpoint", metavar="PATH")
    threads: int | None = row(
        None,
        parse_threads,
        "requests worked on at once (default: 16, or 512 with --fallback-mode proxy or cache)",
        "--threads",
        metavar="N",
        group="limits",
    )
    connection_limit: int = row(
        1000,
        parse_count,
        "connections open at once; beyond it the longest idle give way, then the slowest",
        "--connection-limit",
        metavar="N",
        group="limits",
    )
    idle_timeout: int = row(
        120,
        parse_count,
        "seconds after which a silent connection is closed",
        "--idle-timeout",
        metavar="SECONDS",
        group="limits",
    )
    grace: int = row(
        10,
        parse_seconds,
        "seconds that requests under way get when the server is told to stop",
        "--grace",
        metavar="SECONDS",
        group="limits",
    )
    max_header: int = row(
        "64KiB",
        parse_size,
        "largest head of a request",
        "--max-header",
        metavar="SIZE",
        group="limits",
    )
    trusted_proxy: tuple[str, ...] = row(
        (),
        parse_words,
        "address or network of a proxy whose X-Forwarded-* are believed; may be repeated (default: nobody's)",
        "--trusted-proxy",
        metavar="ADDRESS",
        group="server",
        repeat=True,
    )
    allow_host: tuple[str, ...] = row(
        (),
        parse_hosts,
        "further name that a server on a loopback address answers to, or '*' for any; may be repeated "
        "(default: names of this machine)",
        "--allow-host",
        metavar="NAME",
        group="server",
        repeat=True,
    )
    sendfile_header: Sendfile | None = row(
        None,
        parse_sendfile,
        "header by which the web server in front is told to send a file itself: X-Sendfile, or "
        "X-Accel-Redirect=/PREFIX:FOLDER for nginx (default: none, files are sent from here)",
        "--sendfile-header",
        metavar="NAME[=PREFIX:FOLDER]",
    )
    cache_dir: Path | None = row(
        None,
        parse_path,
        "where digests, metadata and what comes from the upstream are kept; may be deleted at any time "
        "(default: the user's cache folder)",
        "--cache-dir",
        metavar="DIR",
        group="storage",
    )
    state_dir: Path | None = row(
        None,
        parse_path,
        "where the records are kept: who did what, tokens, owners, downloads; never to be deleted "
        "(default: .pypiserver-lite in the first packages folder)",
        "--state-dir",
        metavar="DIR",
        group="storage",
    )
    audit_log: Path | None = row(
        None,
        parse_path,
        "file that each change and each refusal is added to as well, as a line of JSON",
        "--audit-log",
        metavar="FILE",
        group="log",
    )
    no_download_counts: bool = row(
        False, parse_switch, "do not count downloads", "--no-download-counts", group="storage", switch=True
    )
    cache_size: int = row(
        "10GB",
        parse_size,
        "most bytes of the upstream's files that are kept",
        "--cache-size",
        metavar="SIZE",
        group="upstream",
    )
    verbose: int = row(0, parse_seconds, "say more; twice: everything", "-v", "--verbose", group="log", counted=True)
    quiet: bool = row(False, parse_switch, "say only what went wrong", "-q", "--quiet", group="log", switch=True)
    log_file: Path | None = row(
        None, parse_path, "write the log to this file too", "--log-file", metavar="FILE", group="log"
    )
    log_stream: str = row(
        "stderr",
        choice("stderr", "stdout", "none"),
        "write the log to stderr, stdout or none",
        "--log-stream",
        metavar="STREAM",
        group="log",
    )
    log_frmt: str = row(
        "%(asctime)s|%(name)s|%(levelname)s|%(thread)d|%(message)s",
        parse_text,
        "format of log lines, as Python's logging has it",
        "--log-frmt",
        metavar="FORMAT",
        shown=False,
        group="log",
    )
    log_req_frmt: str = row(
        "%(REQUEST_METHOD)s %(PATH_INFO)s from %(REMOTE_ADDR)s",
        parse_text,
        "format of the line for each request; %%(NAME)s takes WSGI's variables",
        "--log-req-frmt",
        metavar="FORMAT",
        shown=False,
        group="log",
    )
    log_res_frmt: str = row(
        "%(status)s %(REQUEST_METHOD)s %(PATH_INFO)s",
        parse_text,
        "format of the line for each answer; also knows %%(status)s and %%(size)s",
        "--log-res-frmt",
        metavar="FORMAT",
        shown=False,
        group="log",
    )
    log_err_frmt: str = row(
        "%(status)s %(REQUEST_METHOD)s %(PATH_INFO)s: %(error)s",
        parse_text,
        "format of the line for each refusal or failure; also knows %%(error)s",
        "--log-err-frmt",
        metavar="FORMAT",
        shown=False,
        group="log",
    )
