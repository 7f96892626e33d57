"""Answers over HTTP: validators, ranges, compression, caching headers and refusals, decided here and nowhere else.

Follows RFC 9110 (conditional requests, ranges) and RFC 9111 (caching).
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

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
    Undecided,
)

Headers = list[tuple[str, str]]
More = tuple[tuple[str, str], ...]
_log = logging.getLogger(__name__)

CHANGED = "pypiserver_lite.changed"
"""In the environment of a request whose answer others may change: it is theirs, and not the one that is kept."""
_GZIP_FROM = 1000  # bytes; below, a packet is a packet


@dataclass(frozen=True, slots=True)
class Answer:
    """A status line, headers and a body: bytes, an open file to be sent from where it stands, or pieces."""

    status: str
    headers: Headers
    body: bytes | BinaryIO | Iterable[bytes] = b""


class Page:
    """A rendered page, ready to be sent in any encoding.

    The ETag is a digest of the bytes; the compressed form has its own, since
    a strong validator names one sequence of bytes (RFC 9110 section 8.8.3).
    """

    __slots__ = ("_common", "_digest", "_packed", "plain")

    def __init__(
        self, body: bytes, content_type: str, *, cache_control: str, vary: str, more: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._digest = hashlib.sha256(body).hexdigest()[:32]
        self._common = _common(content_type, cache_control, vary, tuple(more))
        self._packed: Ready | None = None
        self.plain = Ready([*self._common, ("ETag", f'"{self._digest}"')], body)

    @property
    def weight(self) -> int:
        """Bytes this page takes in memory, nearly."""
        return len(self.plain.body) * 2 + 2000

    def answer(self, environ: Mapping[str, Any], more: More = ()) -> Answer:
        """The page in the encoding this client likes, or 304; `more` as `Ready.answer` has it."""
        ready = self.encoded(environ.get("HTTP_ACCEPT_ENCODING", ""))
        answer = ready.answer(environ.get("HTTP_IF_NONE_MATCH"), more)
        return replace(answer, headers=answer.headers.copy()) if CHANGED in environ else answer

    def encoded(self, accept_encoding: str) -> Ready:
        """The page in the form this client understands best; compressed when first asked for."""
        # Clients send one of a few headers; a long one is no client's, and not worth keeping.
        accepts = _accepts_gzip if len(accept_encoding) <= 200 else accepts_gzip
        if len(self.plain.body) < _GZIP_FROM or not accepts(accept_encoding):
            return self.plain
        if self._packed is None:
            # mtime=0: the same page has the same bytes, in every process.
            packed = gzip.compress(self.plain.body, 6, mtime=0)
            headers = [*self._common, ("Content-Encoding", "gzip"), ("ETag", f'"{self._digest}-gzip"')]
            self._packed = Ready(headers, packed)
        return self._packed


@functools.lru_cache(maxsize=256)
def _common(content_type: str, cache_control: str, vary: str, more: tuple[tuple[str, str], ...]) -> Headers:
    """The headers that a page shares with others: the same objects, so that answering any page finds them at hand."""
    fixed = [("Content-Type", content_type), ("Cache-Control", cache_control), ("Vary", vary)]
    return [*fixed, ("X-Content-Type-Options", "nosniff"), *(more or _policy(content_type))]


def _policy(content_type: str) -> Headers:
    """What a browser may do with a page that is nothing but links: follow them."""
    nothing = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return [("Content-Security-Policy", nothing)] if "html" in content_type else []


class Ready:
    """One encoding of a page with its headers, so complete that answering is a comparison."""

    __slots__ = ("_headers", "_made", "body", "etag")

    def __init__(self, headers: Headers, body: bytes) -> None:
        self._headers, self.body = headers, body
        self.etag = dict(headers)["ETag"]
        self._made = self._make(())

    def answer(self, if_none_match: str | None, more: More = ()) -> Answer:
        """200 with the bytes, or 304 if `if_none_match` names them.

        `more` headers are true of this moment; the answers with them are kept for who comes with the very same object.
        """
        made = self._made
        if made[0] is not more:
            made = self._made = self._make(more)
        if if_none_match is not None and (if_none_match == self.etag or matches(if_none_match, self.etag)):
            return made[2]
        return made[1]

    def _make(self, more: More) -> tuple[More, Answer, Answer]:
        headers = [*self._headers, ("Content-Length", str(len(self.body))), *more]
        whole = Answer(status="200 OK", headers=headers, body=self.body)
        return more, whole, Answer(status="304 Not Modified", headers=[*unchanged_headers(self._headers), *more])


def with_said(answer: Answer, said: Headers) -> Answer:
    """`answer` with what a subclass said on Bottle's response: in place of what we say, but for Vary, which adds up."""
    names = {name.lower() for name, _ in said} - {"vary"}
    return replace(answer, headers=[header for header in answer.headers if header[0].lower() not in names] + said)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client understands gzip (RFC 9110 section 12.5.3)."""
    if "gzip" not in accept_encoding:
        return False
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", parameters) is None
    return False


_accepts_gzip = functools.lru_cache(maxsize=256)(accepts_gzip)


def matches(header: str, etag: str) -> bool:
    """Whether an If-None-Match field names `etag`, compared weakly (RFC 9110 section 13.1.2)."""
    if header.strip() == "*":
        return True
    tags = re.findall(r'(?:W/)?("[^"]*")', header[:4000])
    return etag.removeprefix("W/") in tags


def unchanged_headers(headers: Headers) -> Headers:
    """Of the headers of a 200, those that a 304 repeats (RFC 9110 section 15.4.5)."""
    return [header for header in headers if header[0] in ("ETag", "Vary", "Cache-Control")]


def reason(text: str) -> str:
    """A text as a reason phrase: one line of printable ASCII, at most 150 characters (RFC 9112 section 4)."""
    return re.sub(r"[^ -~]+", " ", text).strip()[:150] or "Refused"


def prefers_html(accept: str) -> bool:
    """Whether it is a browser that asks: it names HTML first, and other things after it.

    Old installers ask for HTML too, but for nothing else; they want short plain words when something is wrong.
    """
    first, _, rest = accept.partition(",")
    return first.strip().lower() == "text/html" and bool(rest)


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
    Undecided: 503,
    ReadOnly: 503,
    DiskFailed: 503,
    NoSpace: 507,
    Loop: 508,
    PypiServerLiteError: 500,
}

REALM = "pypiserver-lite"
"""What ``WWW-Authenticate`` calls this server (RFC 7617)."""

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


def see_other(address: str, *headers: tuple[str, str]) -> Answer:
    """To a page that is asked for by GET, this once (303)."""
    answer = text(f"see {address}", [("Location", address), *headers])
    kept = [header for header in answer.headers if header[0] != "Cache-Control"]
    return Answer(status="303 See Other", headers=[*kept, ("Cache-Control", "no-store")], body=answer.body)


def refusal(error: PypiServerLiteError) -> Answer:
    """The answer that says what is wrong and what to do: plain text, and in short the reason phrase.

    twine shows only the reason phrase, flit only plain text.
    """
    code = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers: Headers = []
    if isinstance(error, Denied) and error.challenge:
        code = 401
        headers.append(("WWW-Authenticate", f'Basic realm="{REALM}", charset="UTF-8"'))
    if isinstance(error, (TooMany, Busy, Undecided)):
        # pip comes back five times, whenever it is told to: a licence may take some seconds.
        soon = 2 if isinstance(error, Undecided) else 1
        headers.append(("Retry-After", str(error.retry_after if isinstance(error, TooMany) else soon)))
    if isinstance(error, NotAcceptable):
        headers.append(("Vary", "Accept, Accept-Encoding"))
    answer = text(str(error), headers)
    return Answer(status=f"{code} {reason(str(error))}", headers=answer.headers, body=answer.body)


def refusal_as_json(refusal: Answer) -> Answer:
    """A refusal that was plain text, for programs that read JSON; its status and headers stay."""
    assert isinstance(refusal.body, bytes)  # a line of text
    body = json.dumps({"error": refusal.body.decode().strip()}).encode()
    own = ("Content-Type", "Content-Length")
    headers = [header for header in refusal.headers if header[0] not in own]
    more = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return Answer(status=refusal.status, headers=[*headers, *more], body=body)
