"""Files: which one a path names, and how it is sent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from packaging.utils import NormalizedName

from ..dists import parse_filename, project_of, try_normalize
from ..errors import Denied, Hidden, Missing, PypiServerLiteError
from ..kept import Kept
from ..model import Content, FileState, LocalFile, Side, User
from . import answers, files
from .entry import USER

if TYPE_CHECKING:
    from ..site import Site

SIDES: tuple[Side, ...] = (".metadata", ".asc", ".provenance")
"""Endings of what belongs to a file, in the order in which they are looked for."""


_SMALL = 64 * 1024
_MOST = 8 * 2**20
_SETTLED = 2 * 10**9  # nanoseconds; a younger file may change without any sign of it


Allow = Callable[[NormalizedName], object]
"""Raises Denied, or Missing, if whoever asks may not download a project's files."""


def _to_all(name: NormalizedName) -> None:
    """Everybody may."""


class Downloads:
    """The files of `site`. Small ones are kept, by the state they were in, and then need not be opened again."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._counting = not site.config.server.no_download_counts
        self._kept = Kept[answers.Ready](lambda ready: len(ready.body) + 1000, most_bytes=_MOST)

    def answer(self, path: str, environ: Mapping[str, Any], allow: Allow = _to_all) -> answers.Answer:
        """The file that `path` names below ``/packages/``, or what belongs to it.

        The last segment is the file's name; one before it may name its
        project. `allow` is asked of each project that it may belong to.
        Raises what that does, Missing, and Unavailable when an upstream fails.
        """
        content, named = self._content(path, allow, environ.get(USER))
        answer = self._answer(content, named, path, environ)
        if self._counting and not named.side and _begins(answer, environ):
            self._site.records.counts.count(self._site.name, named.project, named.filename)
        return answer

    def _content(self, path: str, allow: Allow, user: User | None) -> tuple[Content, _Named]:
        """What `path` names."""
        *folders, filename = path.split("/")
        if not filename or any(folder in ("", ".", "..") for folder in folders):
            raise Missing("no such file here")
        side: Side = next((side for side in SIDES if filename.endswith(side)), "")
        filename = filename.removesuffix(side)
        told: PypiServerLiteError = Missing(f"no file {filename + side} here")
        for name in _owners(folders, filename):
            try:
                allow(name)
                content = self._site.index.open(name, filename, side)
            except Denied as error:
                told = error
            except Hidden as error:
                # Who may not list hears nothing of files that are not given out.
                told = error if self._site.gate.lists(user, name) else told
            except Missing:
                pass
            else:
                if content is not None:
                    return content, _Named(name, filename, side)
        raise told

    def _answer(self, content: Content, named: _Named, path: str, environ: Mapping[str, Any]) -> answers.Answer:
        filename = named.filename + named.side
        control = self._site.file_cache_control
        if isinstance(content, LocalFile):
            if self._site.sendfile is not None:
                handed = files.handed_over(self._site.sendfile, content, filename=filename, cache_control=control)
                if handed is not None:
                    return handed
            try:
                return self._local(content, filename, environ)
            except Missing:
                # What a cache let go in this moment is fetched again.
                content = self._site.index.open(*named) or content
                if isinstance(content, LocalFile):
                    return self._local(content, filename, environ)
        return files.stream(environ, content, filename=filename, cache_control=control)

    def _local(self, content: LocalFile, filename: str, environ: Mapping[str, Any]) -> answers.Answer:
        seen = content.seen
        simple = "HTTP_RANGE" not in environ and "HTTP_IF_MODIFIED_SINCE" not in environ
        kept = self._kept.find(seen) if simple and seen is not None else None
        if kept is not None:
            return kept.answer(environ.get("HTTP_IF_NONE_MATCH"))
        answer = files.local_file(environ, content, filename=filename, cache_control=self._site.file_cache_control)
        if simple and seen is not None and answer.status == "200 OK" and environ["REQUEST_METHOD"] == "GET":
            self._keep(seen, answer)
        return answer

    def _keep(self, seen: FileState, answer: answers.Answer) -> None:
        body = answer.body
        if not isinstance(body, bytes) or not 0 < len(body) == seen.size <= _SMALL:
            return
        if time.time_ns() - seen.mtime_ns < _SETTLED:
            return
        headers = [header for header in answer.headers if header[0] != "Content-Length"]
        self._kept.put(seen, answers.Ready(headers, body))


class _Named(NamedTuple):
    """What a path names."""

    project: NormalizedName
    filename: str
    side: Side


def _begins(answer: answers.Answer, environ: Mapping[str, Any]) -> bool:
    """Whether an answer is a file from its first byte on: not a look at it, and not the rest of a download."""
    if environ["REQUEST_METHOD"] != "GET" or not answer.status.startswith("20"):
        return False
    # Of the request: what a server in front sends in our place, and of which range, it alone knows.
    return "HTTP_RANGE" not in environ or re.match(r"\s*bytes\s*=\s*0\s*-", environ["HTTP_RANGE"]) is not None


def _owners(folders: Sequence[str], filename: str) -> Iterator[NormalizedName]:
    """The projects that a file may belong to.

    Any folder may stand before it, as in pypiserver's links; it counts only
    where it fits the name of the file, or folders would be looked for
    upstream.
    """
    named = try_normalize(folders[-1]) if folders else None
    guessed = project_of(filename)
    if named is not None and named != guessed and parse_filename(filename, named) is not None:
        yield named
    if guessed is not None:
        yield guessed
