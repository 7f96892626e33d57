"""What the machine routes say: page cache, JSON facts, and carrying out a change."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast
from urllib.parse import quote

from packaging.version import InvalidVersion, Version

from .. import dists
from ..errors import Invalid, Missing
from ..model import File, Project, Source, Stream
from .send import Page

if TYPE_CHECKING:
    from ..site import Site
    from ..upload import Received

_MOST_BYTES = 32 * 2**20


class PageCache:
    """Rendered pages, kept as long as what they show is the very same object; bounded in bytes."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most_bytes
        self._pages: dict[Hashable, tuple[object, Page]] = {}
        self._weight = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, source: object, make: Callable[[], Page]) -> Page:
        """The page made of `source` under `key`; made anew when `source` is another object than last time."""
        kept = self._pages.get(key)
        if kept is not None and kept[0] is source:
            return kept[1]
        page = make()
        with self._lock:
            old = self._pages.pop(key, None)
            self._weight += page.weight - (old[1].weight if old else 0)
            self._pages[key] = source, page
            # The oldest go first: a page that is still asked for is soon made again.
            while self._weight > self._most and len(self._pages) > 1:
                first = next(iter(self._pages))
                self._weight -= self._pages.pop(first)[1].weight
        return page


class Readable(Protocol):
    """The one thing a request's body can do."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; empty at the end."""


class _Bounded:
    """A body that ends where its Content-Length says, on servers that would wait for more."""

    def __init__(self, body: Readable, length: int) -> None:
        self._body = body
        self._left = length

    def read(self, size: int = -1, /) -> bytes:
        data = self._body.read(self._left if size < 0 else min(size, self._left)) if self._left else b""
        self._left -= len(data)
        return data


def content_length(environ: Mapping[str, Any]) -> int | None:
    """Bytes of the body as announced. Raises Invalid for what is no number."""
    text = environ.get("CONTENT_LENGTH") or ""
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise Invalid("Content-Length must be a whole number")
    return int(text)


def request_body(environ: Mapping[str, Any]) -> Readable:
    """The body of a request, ending where it ends whatever the server does."""
    length = content_length(environ)
    body = cast("BinaryIO", environ["wsgi.input"])
    if length is not None:
        return _Bounded(body, length)
    return body if environ.get("wsgi.input_terminated") else io.BytesIO()


def reason(text: str) -> str:
    """A text as a reason phrase: one line of printable ASCII, at most 150 characters (RFC 9112 section 4)."""
    return re.sub(r"[^ -~]+", " ", text).strip()[:150] or "Refused"


def carry_out(received: Received, site: Site, user: str) -> str:
    """Do what a request to the upload API asks for; a short text that says what was done.

    Raises Invalid, Missing, Conflict or an Unavailable; then nothing has changed.
    """
    if received.upload is not None:
        upload = received.upload
        added = site.store.add(upload, overwrite=site.config.overwrite)
        site.log.info("%s uploaded %s (%d bytes)%s", user, upload.filename, upload.size, "" if added else " again")
        return "stored" if added else "these very bytes were here already"
    if received.action in ("submit", "verify"):
        return "nothing to register: upload the files"
    name = dists.normalize(received.text("name"))
    version = received.text("version")
    if received.action == "remove_pkg":
        files = site.store.remove(name, version)
        site.log.warning("%s removed %s", user, ", ".join(files))
        gone = site.index.project(name) is None and site.fallback(name) is not None
        return f"removed {', '.join(files)}" + (f"; {name} now comes from the upstream" if gone else "")
    text = received.text("reason", "") if received.action == "yank" else None
    files = site.store.yank(name, version, text)
    site.log.warning("%s %sed %s", user, received.action, ", ".join(files))
    return f"{received.action}ed {', '.join(files)}"


def file_links(index: Source) -> Iterator[str]:
    """The pieces of a page that links every file of the index."""
    yield "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>Index of packages</title></head><body>\n"
    for name, filename in index.filenames():
        link = quote(filename, safe="")
        if dists.project_of(filename) != name:
            link = f"{name}/{link}"
        # What quote leaves and what a file name may hold needs no escaping but for these.
        text = filename.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        yield f'<a href="{link}">{text}</a><br>\n'
    yield "</body></html>\n"


def project_json(project: Project, index: Source, root: str, version: str | None = None) -> dict[str, object]:
    """A project's facts in the shape of PyPI's JSON API, about its latest release or `version`.

    Links are relative, as all links here are; `root` leads from the page to
    the index's root. Raises Missing if there is no such release.
    """
    releases: dict[str, list[dict[str, object]]] = {}
    for file in reversed(project.files):
        releases.setdefault(file.version, []).append(_file_json(file, root))
    chosen = _latest(project) if version is None else _release(project, version)
    info = {"name": project.name, "version": chosen, **_described(project, chosen, index)}
    answer: dict[str, object] = {"info": info, "urls": releases.get(chosen, [])}
    return answer if version is not None else {**answer, "releases": releases}


def _latest(project: Project) -> str:
    """The newest release that pip would take: not yanked, and final if there is a final one."""
    live = {file.version for file in project.files if file.yanked is None} or set(project.versions)
    ordered = [version for version in project.versions if version in live]
    final = [version for version in ordered if not _is_prerelease(version)]
    return (final or ordered or [""])[-1]


def _is_prerelease(version: str) -> bool:
    try:
        return Version(version).is_prerelease
    except InvalidVersion:
        return True


def _release(project: Project, version: str) -> str:
    for known in project.versions:
        if dists.same_version(known, version):
            return known
    raise Missing(f"{project.name} has no release {version[:100]}")


def _described(project: Project, version: str, index: Source) -> dict[str, object]:
    for file in project.files:
        if file.version == version and file.core_metadata is not None:
            content = index.open(project.name, file.filename, ".metadata")
            if isinstance(content, Stream):
                metadata = dists.parse_metadata(b"".join(content.read(0, None)))
                return {"summary": metadata.summary, "requires_python": metadata.requires_python}
    return {"summary": None, "requires_python": None}


def _file_json(file: File, root: str) -> dict[str, object]:
    return {
        "filename": file.filename,
        "url": f"{root}packages/{quote(file.filename, safe='')}",
        "digests": dict(file.hashes),
        "size": file.size,
        "upload_time_iso_8601": file.uploaded.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if file.uploaded else None,
        "requires_python": file.requires_python,
        "packagetype": "bdist_wheel" if file.filename.endswith(".whl") else "sdist",
        "yanked": file.yanked is not None,
        "yanked_reason": file.yanked or None,
    }
