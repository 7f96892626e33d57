"""What waitress does by itself here, as a WSGI layer for the other servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from .proxies import TrustedProxies

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

LINGER_SECONDS = 300
LINGER_BYTES = 8 * 1024**3
"""How long and how much a refused client may go on sending: 5 GB with a wrong password get their 401."""
_PIECE = 256 * 1024
_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def wrap(application: WSGIApplication, proxies: TrustedProxies) -> WSGIApplication:
    """`application` behind `proxies`, whose refusals reach clients that are still sending.

    These servers close the connection when the application leaves a body
    unread, and the client, still sending, loses the answer. So the rest of a
    refused body is read and thrown away first, within bounds; that of a GET too.
    """

    def wrapped(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        proxies.translate(environ)
        reading = environ["REQUEST_METHOD"] in ("GET", "HEAD")
        if reading and environ.get("CONTENT_LENGTH", "") in ("", "0") and "HTTP_TRANSFER_ENCODING" not in environ:
            return application(environ, start_response)
        unread = False
        body = environ["wsgi.input"] = _Body(environ["wsgi.input"])

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None, /
        ) -> Callable[[bytes], object]:
            nonlocal unread
            unread = reading or status.startswith(("4", "5"))
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        answer = application(environ, start)
        # Who waits for "100 Continue" has not sent anything, and reading would ask for it.
        if unread and not environ.get("HTTP_EXPECT"):
            _discard(body)
        if body.broken:
            # What is left of it must not be read as the next request. Gunicorn offers no other way to say so.
            close = getattr(getattr(start_response, "__self__", None), "force_close", None)
            if close is not None:
                close()
        return answer

    return wrapped


class _Body:
    """A request's body whose failures are all OSErrors: for malformed chunks gunicorn has errors of its own."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self.broken = False

    def read(self, *size: int) -> bytes:
        """Up to `size` bytes, or all. Raises OSError."""
        try:
            data: bytes = self._body.read(*size)  # granian takes no -1
        except Exception as error:
            self.broken = True
            raise OSError("the request body is malformed, or broke off") from error
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


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
