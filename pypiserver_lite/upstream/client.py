"""Asking an upstream index: pages, files and parts of files.

Nothing an upstream sends is believed before it is whole, of the right kind
and within bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, Literal

from packaging.utils import NormalizedName

from ..errors import Busy, Unavailable
from ..simple.parse import PAGE_LIMIT
from . import hops
from .exchange import Exchange, Named
from .replies import Transfer, field, joined, unzipped

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"  # PEP 691
UNCHANGED: Final = "unchanged"
"""The upstream's reply that a page is still the same."""

_NO_OTHERS: Named = frozenset()
_PATIENCE = 6  # times as long as others
_AS_IT_IS = {"Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedPage:
    """A whole page as it came, unpacked."""

    body: bytes
    content_type: str
    url: str
    """Where it came from in the end; what its links are relative to. Holds no credentials."""
    etag: str | None = None
    modified: str | None = None
    mirror: str = ""
    """Which of several addresses of the upstream gave it; nothing for the first."""


class Upstream(Exchange):
    """One upstream index at `url`, the parent of its project pages."""

    def page(
        self,
        name: NormalizedName,
        *,
        etag: str | None = None,
        modified: str | None = None,
        on_size: Callable[[int], object] | None = None,
    ) -> FetchedPage | Literal["unchanged"] | None:
        """The page of a project, UNCHANGED if it is still the one of these validators, ``None`` if there is none.

        `on_size` is told how many bytes of it will be held, before they are.
        Raises what that does, Unavailable, Late, Busy, Loop.
        """
        headers = {"Accept": ACCEPT, "Accept-Encoding": "gzip"}
        headers |= {"If-None-Match": etag} if etag else {}
        headers |= {"If-Modified-Since": modified} if modified else {}
        with self._whole("GET", f"{self.url}{name}/", headers, _NO_OTHERS, self._page) as reply:
            if reply.status == 404:
                return None
            if reply.status == 304 and (etag or modified):
                return UNCHANGED
            if reply.status != 200:
                raise reply.refusal()
            pieces = reply.pieces()
            if reply.coding == "gzip":
                pieces = unzipped(pieces)
            elif reply.coding:
                raise Unavailable("the upstream packed its page in a way we did not ask for")
            return FetchedPage(
                body=joined(pieces, PAGE_LIMIT, on_size),
                content_type=(reply.header("Content-Type") or "")[:200],
                url=reply.url,
                etag=field(reply.header("ETag")),
                modified=field(reply.header("Last-Modified")),
            )

    def small(self, url: str, *, limit: int, named: Named = _NO_OTHERS) -> bytes | None:
        """The bytes at an address that a page names, `limit` at most; ``None`` if there are none (404, 410).

        Raises Unavailable, Late, Busy, Loop.
        """
        with self._whole("GET", url, _AS_IT_IS, named, self._page) as reply:
            if reply.status in (404, 410):
                return None
            reply.check_file()
            return joined(reply.pieces(), limit)

    def sends_parts(self, url: str, *, named: Named = _NO_OTHERS) -> bool:
        """Whether a part of a file can be had without the rest. Raises as `open` does."""
        with self._whole("GET", url, {**_AS_IT_IS, "Range": "bytes=1-1"}, named, self._read) as reply:
            reply.check_file(packed=True)
            return reply.status == 206

    def open(
        self,
        url: str,
        *,
        named: Named = _NO_OTHERS,
        start: int = 0,
        stop: int | None = None,
        if_range: str | None = None,
        packed: bool = False,
        soon: bool = False,
        patient: bool = False,
    ) -> Transfer:
        """A file, or the half-open range of it, as it comes and as the rate allows. The caller closes it.

        Where all that is asked for must come `soon`, it has the time of a page, and no rate. Who is `patient` waits
        longer for it to begin, if not too many do: something on the way may look through all of it first.

        An upstream that knows no ranges sends everything: look at `Transfer.start`. One may say of a ``.tar.gz`` that
        it is `packed` by gzip (Apache's AddEncoding), and mean the very file: for those who know its digest.
        Raises Missing if the file is not there, Unavailable, Late, Busy, Loop.
        """
        headers = dict(_AS_IT_IS)
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if if_range:
            headers["If-Range"] = if_range
        with ExitStack() as held, ExitStack() as waiting:
            if soon:
                asked = self._asked("GET", url, headers, named, self._page)
            else:
                held.enter_context(self._lasting.inside(min(self._read, hops.left())))
                seconds = self._read
                if patient and not start:
                    with suppress(Busy):
                        waiting.enter_context(self._patient.inside())
                        seconds *= _PATIENCE
                asked = self._asked("GET", url, headers, named, seconds, begun=start > 0)
            reply = held.enter_context(asked)
            self._answered(reply)  # which may go on for long
            reply.check_file(packed=packed)
            return Transfer(reply, start, held, paced=not soon)
