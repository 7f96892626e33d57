"""Short answers: texts, redirects, and refusals with their status numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from ..errors import (
    Busy,
    Conflict,
    Denied,
    DiskFailed,
    Invalid,
    Late,
    Loop,
    Missing,
    NoSpace,
    NotAcceptable,
    PypiServerLiteError,
    ReadOnly,
    TooLarge,
    TooMany,
    Unavailable,
)
from .answers import Answer, Headers
from .legacy_json import reason

STATUS: Mapping[type[PypiServerLiteError], int] = {
    Invalid: 400,
    TooLarge: 413,
    NotAcceptable: 406,
    Missing: 404,
    Conflict: 409,
    Denied: 403,
    TooMany: 429,
    Unavailable: 502,
    Late: 504,
    Busy: 503,
    ReadOnly: 503,
    DiskFailed: 503,
    NoSpace: 507,
    Loop: 508,
    PypiServerLiteError: 500,
}
REALM = "pypiserver-lite"

_PHRASES = {301: "Moved Permanently", 302: "Found"}


def content(body: bytes, content_type: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """A body that is made for each request."""
    common = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-cache"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Answer(status="200 OK", headers=[*common, *headers], body=body)


def text(words: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """A line of plain text."""
    return content((words + "\n").encode("utf-8", "replace"), "text/plain; charset=utf-8", headers)


def as_json(value: object) -> Answer:
    """A value as JSON."""
    return content(json.dumps(value).encode(), "application/json")


def redirect(address: str, code: int) -> Answer:
    """Elsewhere: 301 for good, 302 for now. `address` is relative where it is ours."""
    answer = text(f"see {address}", [("Location", address)])
    return Answer(status=f"{code} {_PHRASES[code]}", headers=answer.headers, body=answer.body)


def refusal(error: PypiServerLiteError) -> Answer:
    """The answer that says what is wrong and what to do: plain text, and in short the reason phrase.

    twine shows only the reason phrase, flit only plain text.
    """
    code = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers: Headers = []
    if isinstance(error, Denied) and error.challenge:
        code = 401
        headers.append(("WWW-Authenticate", f'Basic realm="{REALM}", charset="UTF-8"'))
    if isinstance(error, (TooMany, Busy)):
        headers.append(("Retry-After", str(error.retry_after if isinstance(error, TooMany) else 1)))
    if isinstance(error, NotAcceptable):
        headers.append(("Vary", "Accept, Accept-Encoding"))
    answer = text(str(error), headers)
    return Answer(status=f"{code} {reason(str(error))}", headers=answer.headers, body=answer.body)
