"""What long answers cost the default server while they are on their way."""

from __future__ import annotations

import http.client
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

from pypiserver_lite.servers import Options
from pypiserver_lite.servers.waitress import Service

_PIECE, _PIECES = 64 * 1024, 256


def _stream(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Length", str(_PIECE * _PIECES))])
    for _ in range(_PIECES):
        yield b"x" * _PIECE


def test_a_stream_is_not_kept_in_memory_once_it_is_sent() -> None:
    service = Service(Options(host="127.0.0.1", port=0, threads=2))
    server = threading.Thread(target=service.run, args=(_stream,))
    server.start()
    tracemalloc.start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        connection.request("GET", "/")
        answer = connection.getresponse()
        size = sum(map(len, iter(lambda: answer.read(2**18), b"")))
        peak = tracemalloc.get_traced_memory()[1]
        connection.close()
    finally:
        tracemalloc.stop()
        service.stop()
        server.join(30)
    assert size == _PIECE * _PIECES
    assert peak < 8 * 2**20
