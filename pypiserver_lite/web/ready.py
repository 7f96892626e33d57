"""Pages that were served before, answered ahead of the router.

The plain route fills this; it answers the same bytes. What is kept is only
answered while what it shows is still the very same object, so a look-up, a
check that the folder has not changed and a comparison are the whole cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from packaging.utils import NormalizedName

from ..auth import Gate
from ..errors import PypiServerLiteError
from ..model import Source
from .send import Answer, Ready

_MOST = 20_000  # combinations of path and headers; clients have few header forms, so this is many projects
_Key = tuple[str, str | None, str | None]


class ReadyPages:
    """The pages of `index`, by path and by the headers that choose their form; ``list`` rights apply.

    `stale` says whether a page has to be marked, so that it is not answered here; ``None``: none ever has.
    """

    def __init__(self, index: Source, gate: Gate, stale: Callable[[NormalizedName], float | None] | None) -> None:
        self._project, self._names = index.project, index.names
        self._stale = stale
        self._gate = gate
        self._open = not gate.needs_login("list")
        self._kept: dict[_Key, tuple[NormalizedName | None, object, Ready]] = {}

    def keep(
        self, path: str, environ: Mapping[str, Any], name: NormalizedName | None, source: object, page: Ready
    ) -> None:
        """Answer the next request like this one with `page`, while `source` is what `name` (``None``: the list) is."""
        if environ.get("QUERY_STRING"):
            return
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[path, environ.get("HTTP_ACCEPT"), environ.get("HTTP_ACCEPT_ENCODING")] = name, source, page

    def answer(self, environ: Mapping[str, Any]) -> Answer | None:
        """The answer to a request for a kept page; ``None`` sends it the plain way, errors and refusals too."""
        get = environ.get
        kept = self._kept.get((get("PATH_INFO", ""), get("HTTP_ACCEPT"), get("HTTP_ACCEPT_ENCODING")))
        if kept is None or get("QUERY_STRING") or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return None
        if not self._open and not self._gate.recognises(get("HTTP_AUTHORIZATION"), get("REMOTE_ADDR", "")):
            return None
        name, source, page = kept
        try:
            current = self._names() if name is None else self._project(name)
        except PypiServerLiteError:
            return None  # the plain route meets the same error and has words for it
        # Asked last: looking the project up is what finds out that its upstream gives no answer.
        stale = self._stale is not None and name is not None and self._stale(name) is not None
        if current is not source or stale:
            return None
        known = get("HTTP_IF_NONE_MATCH")
        return page.whole if known is None else page.answer(known)
