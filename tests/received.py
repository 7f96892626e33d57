"""Forms of uploads as clients send them, received without a server."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import make_sdist, make_wheel

from pypiserver_lite import upload
from pypiserver_lite.errors import Invalid
from pypiserver_lite.upload import Received

BOUNDARY = "b0undary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"

Part = tuple[str, "str | bytes"] | tuple[str, "str | bytes", str]
"""A text part, or a file part with its file name."""


def encode(parts: Sequence[Part], boundary: str = BOUNDARY) -> bytes:
    """The parts as a body of the type `TYPE`, or with another boundary."""
    body = bytearray()
    for name, value, *filename in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        if filename:
            head += f'; filename="{filename[0]}"'
        data = value.encode() if isinstance(value, str) else value
        body += f"--{boundary}\r\n{head}\r\n\r\n".encode() + data + b"\r\n"
    return bytes(body) + f"--{boundary}--\r\n".encode()


class Pieces(io.RawIOBase):
    """A body that comes in pieces of `size` bytes and tells how much of it was read."""

    def __init__(self, data: bytes, size: int = 2**30) -> None:
        self.stream, self.size, self.taken = io.BytesIO(data), size, 0

    def read(self, size: int = -1, /) -> bytes:
        """One piece, or less."""
        data = self.stream.read(min(size, self.size))
        self.taken += len(data)
        return data


@functools.cache
def wheel_bytes(name: str = "ours", version: str = "1.0", inside: bytes | None = None) -> bytes:
    """A wheel, with this core metadata if any are given."""
    with tempfile.TemporaryDirectory() as folder:
        return make_wheel(Path(folder), name, version, core_metadata=inside).read_bytes()


@functools.cache
def sdist_bytes(name: str = "ours", version: str = "1.0", inside: bytes | None = None) -> bytes:
    """An sdist, with this core metadata if any are given."""
    with tempfile.TemporaryDirectory() as folder:
        return make_sdist(Path(folder), name, version, core_metadata=inside).read_bytes()


WHEEL = "ours-1.0-py3-none-any.whl"


def form(*more: Part, content: bytes | None = None, filename: str = WHEEL, **changed: str | None) -> list[Part]:
    """A whole upload form as clients send it; a `changed` field of None is left out."""
    fields: dict[str, str | None] = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": "ours",
        "version": "1.0",
        "filetype": "bdist_wheel" if filename.endswith(".whl") else "sdist",
        "pyversion": "py3",
    }
    fields |= {":action" if key == "action" else key: value for key, value in changed.items()}
    data = content if content is not None else wheel_bytes() if filename.endswith(".whl") else sdist_bytes()
    parts: list[Part] = [(key, value) for key, value in fields.items() if value is not None]
    return [*parts, ("content", data, filename), *more]


def send(
    folder: Path,
    body: bytes | Sequence[Part],
    content_type: str | None = TYPE,
    *,
    limit: int | None = None,
    piece: int = 2**30,
    length: bool = True,
) -> Received:
    """Receive a form, or a body of these bytes, that comes in pieces of that size."""
    data = body if isinstance(body, bytes) else encode(body)
    stream = Pieces(data, piece)
    return upload.receive(stream, content_type, len(data) if length else None, stage=lambda: folder, limit=limit)


def taken(folder: Path, parts: Sequence[Part]) -> Received:
    """Receive a form that is taken."""
    received = send(folder, parts)
    assert received.upload is not None
    assert os.listdir(folder) == [received.upload.staged.name]
    return received


def discard(received: Received) -> None:
    """Remove the staged file, if there is one."""
    if received.upload is not None:
        received.upload.staged.unlink()


def refused(folder: Path, body: bytes | Sequence[Part], content_type: str | None = TYPE, **more: Any) -> str:
    """Receive a form that is refused without a trace; why."""
    with pytest.raises(Invalid) as caught:
        send(folder, body, content_type, **more)
    assert os.listdir(folder) == []
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400 and str(folder) not in text
    return text


MD5, SHA256 = hashlib.md5(wheel_bytes()).hexdigest(), hashlib.sha256(wheel_bytes()).hexdigest()
BLAKE2 = hashlib.blake2b(wheel_bytes(), digest_size=32).hexdigest()
DIGESTS = {"md5_digest": MD5, "sha256_digest": SHA256, "blake2_256_digest": BLAKE2}
