"""What long answers cost the default server while they are on their way."""

from __future__ import annotations

import http.client
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pypiserver_lite.servers import Options
from pypiserver_lite.servers.waitress import Service

_PIECE, _PIECES = 64 * 1024, 256


@contextmanager
def _served(app: Any, **options: Any) -> Iterator[http.client.HTTPConnection]:
    """A connection to a server of `app`, for the length of a block."""
    service = Service(Options(host="127.0.0.1", port=0, threads=2, **options))
    server = threading.Thread(target=service.run, args=(app,))
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()
        service.stop()
        server.join(30)


def _stream(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Length", str(_PIECE * _PIECES))])
    for _ in range(_PIECES):
        yield b"x" * _PIECE


def test_a_stream_is_not_kept_in_memory_once_it_is_sent() -> None:
    tracemalloc.start()
    try:
        with _served(_stream) as connection:
            connection.request("GET", "/")
            answer = connection.getresponse()
            size = sum(map(len, iter(lambda: answer.read(2**18), b"")))
            peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == _PIECE * _PIECES
    assert peak < 8 * 2**20


class _Late:
    """A file whose bytes come a while after the idle time-out, and nobody is told."""

    def __init__(self) -> None:
        self._comes = time.monotonic() + 6

    def ready(self, at: int) -> int:
        return _PIECE - at if time.monotonic() > self._comes else 0

    def read(self, size: int, at: int) -> bytes:
        return b"x" * size

    def watch(self, wake: Callable[[], object]) -> None:
        """Not told."""


def test_who_waited_for_a_file_longer_than_the_idle_timeout_has_time_to_take_it() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[Any]:
        start_response("200 OK", [("Content-Length", str(_PIECE))])
        yield environ["pypiserver_lite.hand_over"](_Late(), 0, _PIECE)

    with _served(app, idle_timeout=3) as connection:
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"x" * _PIECE
