"""Forms of the upload API as bytes, and whole distributions to put into them."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import builders
import live

BOUNDARY = "b0undary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
OPEN: dict[str, Any] = {"passwords": ".", "authenticate": "."}
"""Flags of a server on which anyone may upload."""


def text(name: str, value: str | bytes) -> bytes:
    """A text part."""
    return _part(f'name="{name}"', value)


def file(name: str, value: str | bytes, filename: str) -> bytes:
    """A file part."""
    return _part(f'name="{name}"; filename="{filename}"', value)


def _part(disposition: str, value: str | bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
    return head + (value.encode() if isinstance(value, str) else value) + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def upload(data: bytes, filename: str, *more: bytes) -> bytes:
    """The form of an upload; `more` are further parts."""
    return text(":action", "file_upload") + b"".join(more) + file("content", data, filename) + END


def action(name: str, /, **fields: str) -> bytes:
    """The form of another action."""
    return text(":action", name) + b"".join(text(key, value) for key, value in fields.items()) + END


def post(server: live.Server, body: bytes, path: str = "/", **headers: str) -> live.Answer:
    """Send a form."""
    return live.ask(server, path, "POST", body, Content_Type=TYPE, **headers)


@functools.cache
def wheel(name: str = "ours", version: str = "1.0", payload: bytes = b"") -> bytes:
    """A wheel's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        return builders.make_wheel(Path(folder), name, version, payload=payload).read_bytes()


@functools.cache
def sdist(name: str = "ours", version: str = "1.0") -> bytes:
    """A source distribution's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        return builders.make_sdist(Path(folder), name, version).read_bytes()


def files(folder: Path) -> Mapping[str, bytes]:
    """Everything that lies in a folder, dot-names too, but what the server keeps there itself."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".pypiserver-lite"}
