"""What people send from our own pages, and programs in its place: short forms, and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import Invalid, TooLarge
from ..upload.body import RequestBody, read_form
from .changes import content_length, request_body

MOST = 64 * 1024
"""Bytes of a body that is no upload."""
TOKEN = "csrf"  # noqa: S105 - a field's name
"""The field of a form that brings a session's token."""


class _Fields:
    """The text fields of a form, each once."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def begin(self, name: str, filename: str | None) -> None:
        raise Invalid("Content-Type: send this form as application/x-www-form-urlencoded")

    def data(self, data: bytes) -> None:
        """Never called: there are no parts."""

    def end(self) -> None:
        """Never called: there are no parts."""

    def add(self, name: str, value: str) -> None:
        if name in self.values:
            raise Invalid(f"the form has more than one {name[:60]!a}")
        if "\0" in value:
            raise Invalid("the form holds a NUL")
        self.values[name] = value


def _body(environ: Mapping[str, Any]) -> RequestBody:
    length = content_length(environ)
    if length is not None and length > MOST:
        raise TooLarge(f"only an upload may have more than {MOST} bytes")
    return RequestBody(request_body(environ), length, None)


def read(environ: Mapping[str, Any]) -> Mapping[str, str]:
    """The fields of the form in a request. Raises Invalid, TooLarge."""
    fields = _Fields()
    read_form(_body(environ), environ.get("CONTENT_TYPE"), fields)
    return fields.values


def read_json(environ: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON object in a request; an empty one where there is no body. Raises Invalid, TooLarge."""
    body, data = _body(environ), b""
    while chunk := body.read(MOST + 1 - len(data)):
        data += chunk
    if len(data) > MOST:
        raise TooLarge(f"only an upload may have more than {MOST} bytes")
    if not data:
        return {}
    kind = environ.get("CONTENT_TYPE", "").split(";")[0].strip().lower()
    if kind != "application/json":
        # A form of another site cannot send this type without being asked about it first.
        raise Invalid("Content-Type: send application/json")
    try:
        value = json.loads(data)
        json.dumps(value, ensure_ascii=False).encode()  # halves of characters are JSON, and no text
    except (ValueError, RecursionError) as error:
        raise Invalid("the body is no JSON of whole characters") from error
    if not isinstance(value, dict):
        raise Invalid("the body is no JSON object")
    return value
