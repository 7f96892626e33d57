"""What waitress does by itself here, as a WSGI layer for the other servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from .channel import LINGER_BYTES, LINGER_SECONDS
from .proxies import TrustedProxies

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

_PIECE = 256 * 1024
_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def wrap(application: WSGIApplication, proxies: TrustedProxies) -> WSGIApplication:
    """`application` behind `proxies`, whose refusals reach clients that are still sending.

    These servers close the connection when the application leaves a body
    unread, and the client, still sending, loses the answer. So the rest of a
    refused body is read and thrown away first, within bounds.
    """

    def wrapped(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        proxies.translate(environ)
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return application(environ, start_response)
        refused = False

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None, /
        ) -> Callable[[bytes], object]:
            nonlocal refused
            refused = status.startswith(("4", "5"))
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        answer = application(environ, start)
        # Who waits for "100 Continue" has not sent anything, and reading would ask for it.
        if refused and not environ.get("HTTP_EXPECT"):
            _discard(environ["wsgi.input"])
        return answer

    return wrapped


def _discard(body: Any) -> None:
    ends = time.monotonic() + LINGER_SECONDS
    left = LINGER_BYTES
    while left > 0 and time.monotonic() < ends:
        try:
            piece = body.read(_PIECE)
        except OSError:
            return  # The client is gone, or sends nonsense: nobody is left to be told.
        if not piece:
            return
        left -= len(piece)
