"""Which form of a page a client wants (PEP 691, RFC 9110 section 12). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import lru_cache

from ..errors import NotAcceptable


class Form(Enum):
    """The three forms of a page; the value is the media type. In the order in which ties are decided (PEP 691)."""

    JSON = "application/vnd.pypi.simple.v1+json"
    HTML = "application/vnd.pypi.simple.v1+html"
    TEXT = "text/html"

    __hash__ = object.__hash__  # each look-up of a page needs it, and Enum's own is written in Python

    @property
    def content_type(self) -> str:
        """For the header of that name; HTML says that it is UTF-8."""
        return self.value if self is Form.JSON else f"{self.value}; charset=utf-8"


FORMS: Mapping[str, Form] = {
    **{form.value: form for form in Form},
    "application/vnd.pypi.simple.latest+json": Form.JSON,
    "application/vnd.pypi.simple.latest+html": Form.HTML,
}
"""Every media type of the API, and the form that it names."""
_RANGE = re.compile(r"[^\s/;,]+/[^\s/;,]+")
_QUALITY = re.compile(r"[0-9]{1,3}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}", re.ASCII)


def negotiate(accept: str | None, format: str | None = None) -> Form:
    """The form to answer with, for an ``Accept`` header and a ``format`` parameter, each ``None`` if absent.

    `format` is one exact type and wins; its ``+`` may have arrived as a
    space. Otherwise the highest quality wins. At equal quality a form that is
    named wins over one that only ``*/*`` lets in, and then JSON comes before
    v1+html before text/html; who accepts just anything gets text/html.
    Malformed members are passed over. Raises NotAcceptable.
    """
    if format is not None:
        form = FORMS.get(format.strip().replace(" ", "+").lower())
    elif accept is None:
        form = Form.TEXT
    else:
        # Clients send one of a few headers; a long one is no client's, and not worth keeping.
        form = _remembered(accept) if len(accept) <= 500 else _accepted(accept)
    if form is None:
        raise NotAcceptable(f"this page comes as {', '.join(form.value for form in Form)}; accept one of these")
    return form


def _accepted(accept: str) -> Form | None:
    qualities: dict[str, float] = {}
    for media, quality in _ranges(accept):
        key = FORMS[media].value if media in FORMS else media
        qualities[key] = max(quality, qualities.get(key, 0.0))
    if not qualities:
        return Form.TEXT
    offers: list[tuple[float, bool, Form]] = []
    for form in Form:
        # The most specific range that covers a type decides about it (RFC 9110 section 12.5.1).
        kind = form.value.partition("/")[0] + "/*"
        named = form.value if form.value in qualities else kind if kind in qualities else "*/*"
        offers.append((qualities.get(named, 0.0), named != "*/*", form))
    best, is_named, _ = max(offers, key=lambda offer: offer[:2])
    if not best:
        return None
    tied = [form for *rank, form in offers if rank == [best, is_named]]
    return Form.TEXT if not is_named and Form.TEXT in tied else tied[0]


_remembered = lru_cache(maxsize=256)(_accepted)


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    """Media range, in lower case, and quality of each well-formed member."""
    for member in accept.split(","):
        media, *parameters = (part.strip() for part in member.lower().split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = (part.strip() for part in parameter.partition("="))
            if name == "q":
                quality = min(float(value), 1.0) if _QUALITY.fullmatch(value) else -1.0
        media = "*/*" if media == "*" else media
        if quality >= 0 and _RANGE.fullmatch(media):
            yield media, quality
