"""What waits to be sent on a connection without costing a thread or a copy: files and ready pages."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from waitress.buffers import ReadOnlyFileBasedBuffer

COPY_BYTES = 256 * 1024
# Some file systems cannot; reading always works.
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.EOPNOTSUPP, errno.EOVERFLOW)


class FileBody(ReadOnlyFileBasedBuffer):  # type: ignore[misc] # waitress ships no types
    """``wsgi.file_wrapper``: a file, from where it is seeked to, for as many bytes as Content-Length says.

    Waitress's own takes a file that is shorter than promised for the whole
    thing and shortens the promise. This one breaks the connection, so that
    the client sees that something is missing.
    """

    def __init__(self, file: Any, block_size: int = 32768, *, wanted: Callable[[], bool] = lambda: True) -> None:
        super().__init__(file, block_size)
        self._wanted = wanted
        self._offset = 0
        self._sendfile = hasattr(os, "sendfile")

    def prepare(self, size: int | None = None) -> int:
        """Get ready to send `size` bytes, or all that is left; 0 if the answer has no body."""
        if not self._wanted() or not hasattr(self, "seek"):
            return 0
        rest: int = super().prepare(None)
        self.remain = rest if size is None else size
        self._offset = self.file.tell()
        try:
            self.file.fileno()
        except (AttributeError, OSError):
            self._sendfile = False
        return self.remain

    def __next__(self) -> bytes:
        """The next block, for middleware that iterates; nothing where the answer has no body (HEAD, 304)."""
        if not self._wanted():
            raise StopIteration
        block: bytes = super().__next__()
        return block

    def send_to(self, connection: socket.socket, most: int) -> int:
        """Send up to `most` bytes; how many went out, 0 if the connection takes none now. Raises OSError."""
        try:
            sent = self._by_kernel(connection, min(most, self.remain)) if self._sendfile else None
            if sent is None:
                sent = self._by_copy(connection, min(most, self.remain))
        except BlockingIOError:
            return 0
        self._offset += sent
        self.remain -= sent
        return sent

    def _by_kernel(self, connection: socket.socket, most: int) -> int | None:
        try:
            sent = os.sendfile(connection.fileno(), self.file.fileno(), self._offset, most)
        except OSError as error:
            if error.errno not in _NO_SENDFILE:
                raise
            self._sendfile = False
            return None
        return sent or self._too_short()

    def _by_copy(self, connection: socket.socket, most: int) -> int:
        self.file.seek(self._offset)
        data = self.file.read(min(most, COPY_BYTES))
        return connection.send(data) if data else self._too_short()

    def _too_short(self) -> NoReturn:
        raise OSError(errno.EIO, "a file became shorter while it was being sent")


class ReadyBody(ReadOnlyFileBasedBuffer):  # type: ignore[misc] # waitress ships no types
    """Bytes that are there already: sent from where they are, never copied, whoever else is sent them."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self.remain = len(data)

    def send_to(self, connection: socket.socket, most: int) -> int:
        """Send up to `most` bytes; how many went out, 0 if the connection takes none now. Raises OSError."""
        try:
            sent = connection.send(self._view[: min(most, self.remain)])
        except BlockingIOError:
            return 0
        self._view = self._view[sent:]
        self.remain -= sent
        return sent

    def close(self) -> None:
        """Let go of the bytes."""
        self._view.release()
        self.remain = 0
