"""What waitress does by itself here, as a WSGI layer for the other servers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import Busy
from ..kept import Turnstile
from .options import Options
from .proxies import TrustedProxies

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

LINGER_SECONDS = 300
LINGER_BYTES = 8 * 1024**3
"""How long and how much a refused client may go on sending: 5 GB with a wrong password get their 401."""
_PIECE = 64 * 1024
_READING = ("GET", "HEAD")
_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def wrap(application: WSGIApplication, options: Options, whole: int) -> WSGIApplication:
    """`application` behind the proxies that `options` name, whose refusals reach clients that are still sending.

    These servers close the connection when the application leaves a body
    unread, and the client, still sending, loses the answer. So the rest of a
    refused body is read and thrown away first, within bounds; that of a GET too.

    A body that does not come, and a file or a page of more than `whole` bytes
    that is not taken, hold a thread. So `options.in_transit` bodies and files
    may be on their way at once, and as many pages; the server has more threads
    than the application knows of. How long each may take is the server's.
    """
    return _Wrapped(application, options, whole)


class _Wrapped:
    """What `wrap` returns."""

    def __init__(self, application: WSGIApplication, options: Options, whole: int) -> None:
        self._application, self._options, self._whole = application, options, whole
        self._proxies = TrustedProxies(options.trusted_proxy)
        self._places, self._pages = (
            Turnstile(options.in_transit, room=max(1, options.threads // 2), patience=2.0) for _ in range(2)
        )

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        self._proxies.translate(environ)
        coding, length = environ.get("HTTP_TRANSFER_ENCODING"), environ.get("CONTENT_LENGTH")
        if coding is not None:
            if length:  # one of the two may be meant for somebody else (RFC 9112 section 6.1)
                return _refuse(start_response, "400 Bad Request", "send Content-Length or Transfer-Encoding, not both")
            if coding.strip().lower() != "chunked":
                return _refuse(start_response, "501 Not Implemented", "only chunked is known as Transfer-Encoding here")
        if coding is not None or length not in (None, "", "0") or environ["REQUEST_METHOD"] not in _READING:
            return self._in_place(self._with_body, environ, start_response)
        if "/packages/" in environ["PATH_INFO"]:
            return self._in_place(self._application, environ, start_response)
        answer = self._application(environ, start_response)
        if self._is_short(answer):
            return answer
        try:
            self._pages.enter()
        except Busy as error:
            getattr(answer, "close", int)()
            return _busy(start_response, error)
        return _held(environ, answer, self._pages)

    def _in_place(
        self, application: WSGIApplication, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        """The answer of `application`, which has a place until then; a long one until it is closed."""
        try:
            self._places.enter()
        except Busy as error:
            return _busy(start_response, error)
        held = False
        try:
            answer = application(environ, start_response)
            held = not self._is_short(answer)
        finally:
            if not held:
                self._places.leave()
        return _held(environ, answer, self._places) if held else answer

    def _is_short(self, answer: Iterable[bytes]) -> bool:
        return isinstance(answer, list) and sum(map(len, answer)) <= self._whole

    def _with_body(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """The answer to a request that has a body, or may have one."""
        reading, unread = environ["REQUEST_METHOD"] in _READING, False
        body = environ["wsgi.input"] = _Body(environ, self._options)

        def begin(
            status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None, /
        ) -> Callable[[bytes], object]:
            nonlocal unread
            unread = reading or status.startswith(("4", "5"))
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        answer = self._application(environ, begin)
        # Who waits for "100 Continue" has not sent anything, and reading would ask for it.
        if unread and not environ.get("HTTP_EXPECT"):
            _discard(body)
        if body.broken:
            _close(start_response)  # what is left of it must not be read as the next request
        return answer


def _held(environ: dict[str, Any], answer: Iterable[bytes], places: Turnstile) -> Iterable[bytes]:
    """A long answer, in pieces."""
    if isinstance(answer, list):
        answer = (part[at : at + _PIECE] for part in answer for at in range(0, len(part), _PIECE))
    sent: Any = _Held(answer, places)
    if isinstance(answer, environ.get("wsgi.file_wrapper", ())):
        # The server's own, which it sends by itself as long as it has that type.
        answer.close, sent = sent.close, answer
    return sent  # type: ignore[no-any-return]


class _Held:
    """An answer that has a place until it is closed."""

    def __init__(self, answer: Iterable[bytes], places: Turnstile) -> None:
        self._answer = answer
        self._close = getattr(answer, "close", None)
        self._leave: Callable[[], None] | None = places.leave

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._answer)

    def close(self) -> None:
        """Make way, once, and close what the answer comes from."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()
        if self._close is not None:
            self._close()


def _busy(start_response: StartResponse, error: Busy) -> list[bytes]:
    return _refuse(start_response, "503 Service Unavailable", str(error), ("Retry-After", "5"))


def _refuse(start_response: StartResponse, status: str, reason: str, *headers: tuple[str, str]) -> list[bytes]:
    """An answer to a request whose body nobody reads, the last one of its connection."""
    text = f"{reason}\n".encode()
    described = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    # With an error, if there is one, it takes the place of an answer that was begun (PEP 3333); gunicorn adds to it.
    getattr(getattr(start_response, "__self__", None), "headers", []).clear()
    start_response(status, [*described, *headers, ("Connection", "close")], sys.exc_info())
    _close(start_response)
    return [text]


def _close(start_response: StartResponse) -> None:
    """Have gunicorn close the connection after the answer; it offers no other way to say so, and granian does it."""
    close = getattr(getattr(start_response, "__self__", None), "force_close", None)
    if close is not None:
        close()


class _Body:
    """A request's body, whose failures are all OSErrors."""

    def __init__(self, environ: dict[str, Any], options: Options) -> None:
        self._body = environ["wsgi.input"]
        self._connection = environ.get("gunicorn.socket")
        self._most, self._idle = options.least_bytes, options.idle_timeout
        self.broken = False

    def read(self, size: int = -1) -> bytes:
        """All, or up to `size` bytes, fewer only at the end. Raises OSError where they are malformed or late."""
        pieces: list[bytes] = []
        left = size
        while left:
            piece = self._piece(self._most if left < 0 else min(left, self._most))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        if self._connection is not None:
            self._connection.deadline = time.monotonic() + self._idle
        try:
            piece: bytes = self._body.read(size)
        except Exception as error:  # for malformed chunks gunicorn has errors of its own
            self.broken = True
            raise OSError("the request body is malformed, came too slowly, or broke off") from error
        return piece


def _discard(body: _Body) -> None:
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
