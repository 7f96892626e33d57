"""One connection on waitress: reading, asking, answering, closing.

What differs from waitress's own channel:

- one request at a time, owned either by the I/O loop (while it is read) or by
  one worker (while `requests` is not empty); bytes beyond it are held back;
- the application may refuse a request before its body is read (see
  `service`), and a refusal reaches a client that is still sending: the rest
  is read and thrown away for a while before the connection is closed;
- a worker sends at once what the connection takes, and the loop only what is left;
- files leave by ``sendfile``, a bounded piece per turn of the loop;
- times are monotonic.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from waitress.channel import ClientDisconnected, HTTPChannel

from .bodies import FileBody, ReadyBody
from .parser import Answer, Request, plain
from .task import AnswerTask, RequestTask

HEAD_BYTES = 64 * 1024
"""Read at once while a header is awaited. A body is read in larger pieces, `adj.recv_bytes`."""
TURN_BYTES = 2 * 1024 * 1024
"""Sent at most for one connection before the others get their turn."""
PART_BYTES = 512 * 1024
"""What is written goes into buffers of about this size, each of which is freed once it is sent. What a slow client
leaves beyond it goes to a file."""
HEADER_SECONDS = 30
"""For a whole header, from its first byte."""
LINGER_SECONDS = 300
LINGER_SILENCE = 10
LINGER_BYTES = 8 * 1024**3
"""How long, how silently and how much a refused client may go on sending: 5 GB with a wrong password get their 401."""

_scrap = bytearray(256 * 1024)


class Channel(HTTPChannel):  # type: ignore[misc] # waitress ships no types
    """A connection; made by `Listener`, run by its loop."""

    request: Request | None
    requests: list[Request]
    current_outbuf_count: int
    total_outbufs_len: int

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:
        super().__init__(server, sock, addr, adj, map=map)
        self.last_activity = time.monotonic()
        self.request_began = 0.0
        self.lingering = False
        self._linger_ends = 0.0
        self._linger_bytes = 0
        self._held = b""
        self._unread = False
        self.unwanted = False
        """Whether bytes came while none were wanted, so that the loop does not look for any until it is woken."""

    @property
    def patient(self) -> bool:
        """Whether a worker is at it, and the client waits for the answer without a word."""
        return bool(self.requests) and not self.unwanted

    @property
    def idle(self) -> bool:
        """Nothing has been asked, and nothing is still to be sent."""
        request = self.request
        quiet = not self.requests and (request is None or not request.started)
        return quiet and not self.total_outbufs_len and not self.lingering

    def overdue(self, now: float) -> bool:
        """Whether this connection has had all the time it gets."""
        silent = now - self.last_activity
        limit: int = self.adj.channel_timeout
        if self.lingering:
            return silent > LINGER_SILENCE or now > self._linger_ends
        if self.requests and not self.total_outbufs_len:
            return False
        request = self.request
        if request is not None and request.started and not request.headers_finished and not self.requests:
            return now - self.request_began > min(HEADER_SECONDS, limit)
        return silent > limit

    def expire(self) -> None:
        """Close an overdue connection, with a word where a request has begun."""
        request = self.request
        if request is None or not request.started or self.requests or self.lingering or self.total_outbufs_len:
            self.handle_close()
            return
        request.error = plain(408, "the request did not arrive in time")
        request.completed = True
        self._hand_over(request)

    # On the I/O loop

    def readable(self) -> bool:
        """Whether more bytes are wanted."""
        wanted = self.lingering or bool(super().readable())
        if wanted:
            self.unwanted = False
        return wanted

    def handle_read(self) -> None:
        """Read once."""
        if self.lingering:
            self._discard()
            return
        in_body = self.request is not None and self.request.headers_finished
        try:
            data = self.recv(self.adj.recv_bytes if in_body else HEAD_BYTES)
        except OSError:
            self.handle_close()
            return
        if data:
            self.last_activity = time.monotonic()
            self.received(data)

    def received(self, data: bytes) -> bool:
        """Feed the request under way; a complete one, or one the application is to be asked about, goes to a worker."""
        if self.will_close or self.close_when_flushed:
            return False
        request = self._feed(data)
        if request is not None:
            self._hand_over(request)
        return True

    def handle_write(self) -> None:
        """Send what waits, then close if that was the last."""
        if self.socket is None:
            return
        if not self.requests:
            self._flush_exception(self._flush_some)
        elif self.total_outbufs_len:
            self._flush_exception(self._flush_some_if_lockable)
        if self.will_close:
            self.handle_close()
        elif self.close_when_flushed and not self.total_outbufs_len and self.socket is not None:
            self._finish()

    def handle_close(self) -> None:
        """Close at once, and forget what was half received."""
        super().handle_close()
        if not self.requests and self.request is not None:
            self.request.close()
            self.request = None

    def _finish(self) -> None:
        self.close_when_flushed = False
        if not self._unread:
            self.handle_close()
            return
        # Closing now would reset the connection, and the client would lose the answer before reading it.
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()
            return
        self.lingering = True
        self.last_activity = time.monotonic()
        self._linger_ends = self.last_activity + LINGER_SECONDS
        self._linger_bytes = LINGER_BYTES

    def _discard(self) -> None:
        try:
            count = self.socket.recv_into(_scrap)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        self._linger_bytes -= count
        if not count or self._linger_bytes < 0:
            self.handle_close()
        self.last_activity = time.monotonic()

    def _flush_some(self, do_close: bool = True) -> bool:
        """Send what the connection takes, within one turn. Whether anything went out."""
        sent = 0
        while sent < TURN_BYTES:
            first = self.outbufs[0]
            length = first.__len__()
            if not length:
                if len(self.outbufs) == 1:
                    break
                self.outbufs.pop(0).close()
                continue
            if isinstance(first, (FileBody, ReadyBody)):
                count = first.send_to(self.socket, TURN_BYTES - sent)
            else:
                count = self.send(first.get(self.sendbuf_len), do_close=do_close)
                if count:
                    first.skip(count, True)
            if not count:
                break
            sent += count
            self.total_outbufs_len -= count
        if sent:
            self.last_activity = time.monotonic()
        return bool(sent)

    # Wherever the request is owned

    def _feed(self, data: bytes) -> Request | None:
        """The request, once there is something to do about it."""
        request = self.request
        if request is None:
            request = self.request = Request(
                self.adj.max_request_header_size, self.server.max_body, self.adj.url_scheme
            )
        if not request.started:
            self.request_began = time.monotonic()
        in_header = not request.headers_finished
        rest = request.feed(data)
        if in_header and request.headers_finished and not request.completed:
            if self.server.asks or request.expects_continue:
                self._held = rest
                return request
            rest = request.feed(rest)
        if not request.completed:
            return None
        self._held = rest
        self._unread = bool(rest) or (request.error is not None)
        return request

    def _hand_over(self, request: Request) -> None:
        self.requests = [request]
        self.server.add_task(self)

    # On a worker

    def write_soon(self, data: Any) -> int:
        """Have bytes sent, at once where the connection takes them; wait while very many are waiting already."""
        whole = len(data)
        if isinstance(data, bytes):
            sent = self._send_at_once(data)
            if sent == whole:
                return whole
            data = data[sent:]
        # A buffer keeps what it has sent until it is full: of a stream that would be sixteen megabytes a client. One
        # that has gone over to a file, for a slow client, costs no memory, and another would cost a descriptor.
        if self.current_outbuf_count >= PART_BYTES and not self.outbufs[-1].overflowed:
            self.current_outbuf_count = self.adj.outbuf_high_watermark
        super().write_soon(data)
        if self.total_outbufs_len or self.will_close:
            self._wake_loop()
        return whole

    def _send_at_once(self, data: bytes) -> int:
        """How many bytes went out, none if others wait already; what is wrong with the connection shows later."""
        with self.outbuf_lock:
            if self.total_outbufs_len or not self.connected or self.will_close:
                return 0
            try:
                sent = int(self.socket.send(data))
            except OSError:
                return 0
            self.last_activity = time.monotonic()
            return sent

    def _flush_outbufs_below_high_watermark(self) -> None:
        if self.total_outbufs_len > self.adj.outbuf_high_watermark:
            self.server.loop.touch(self)
        super()._flush_outbufs_below_high_watermark()

    def _wake_loop(self) -> None:
        self.server.loop.touch(self)
        self.server.pull_trigger()

    def service(self) -> None:
        """Go on with the request: ask the application whether its body is wanted, or answer it.

        An application with a method ``refuse_early(environ)`` is asked as
        soon as the header of a request with a body is there. It gets the
        environ that it will later be called with, still without a body, and
        returns None or a status, header fields and a body.
        """
        request = self.requests[0]
        try:
            if request.completed:
                self._answer(request)
            else:
                self._ask(request)
        finally:
            self.last_activity = time.monotonic()
            # Otherwise all is sent, and the loop is looking for the next request already.
            if self.total_outbufs_len or self.will_close or self.close_when_flushed or self.unwanted:
                self._wake_loop()

    def _ask(self, request: Request) -> None:
        task = RequestTask(self, request)
        refusal = None
        if self.server.asks:
            try:
                refusal = self.server.asks(task.environ())
            except Exception:
                self.logger.exception("Exception while deciding on %s", ascii(request.path)[:200])
                request.error = plain(500, "the server met an unexpected error")
        if refusal is not None:
            status, headers, body = refusal
            request.error = Answer(status, tuple(headers), body)
        if request.error is not None:
            self._unread = True
            request.completed = True
            self._answer(request)
            return
        held, self._held = self._held, b""
        rest = request.feed(held)
        if request.completed:
            self._held, self._unread = rest, bool(rest) or request.error is not None
            self._answer(request)
            return
        if request.expects_continue:
            self._send_continue()
        self._hand_back()

    def _send_continue(self) -> None:
        line = b"HTTP/1.1 100 Continue\r\n\r\n"
        with self.outbuf_lock:
            self.outbufs[-1].append(line)
            self.total_outbufs_len += len(line)
            self._flush_exception(self._flush_some, do_close=False)

    def _answer(self, request: Request) -> None:
        task = AnswerTask(self, request) if request.error is not None else RequestTask(self, request)
        try:
            if self.connected:
                task.service()
            else:
                task.close_on_finish = True
        except ClientDisconnected:
            task.close_on_finish = True
        except (Exception, SystemExit):
            self.logger.exception("Exception while serving %s", ascii(request.path)[:200])
            self._apologise(task, request)
        request.close()
        self.request = None
        if task.close_on_finish or self.server.draining:
            self._unread = self._unread or bool(self._held)
            self._held = b""
            self.close_when_flushed = True
            self.requests = []
            return
        self._go_on()

    def _apologise(self, task: Any, request: Request) -> None:
        task.close_on_finish = True
        if task.wrote_header:
            return
        request.error = plain(500, "the server met an unexpected error")
        try:
            AnswerTask(self, request).service()
        except ClientDisconnected:
            self.logger.debug("client gone before it could be told of an error")

    def _go_on(self) -> None:
        """Take up what came after the request just answered."""
        if self.current_outbuf_count > 0:
            # The next answer starts a buffer of its own, so that this one's is freed.
            self.current_outbuf_count = self.adj.outbuf_high_watermark
        following = None
        if self._held:
            self._flush_outbufs_below_high_watermark()
            held, self._held = self._held, b""
            following = self._feed(held)
        if following is not None and self.connected:
            self._hand_over(following)
        else:
            self._hand_back()

    def _hand_back(self) -> None:
        """Let the loop read on."""
        request = self.request
        self.requests = []
        if not self.connected and request is not None:
            request.close()
