"""What the machine routes say: lists of files, JSON facts, and carrying out a change."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast
from urllib.parse import quote

from packaging.utils import NormalizedName

from .. import dists, metadata
from ..errors import Invalid
from ..model import File, Project, Source

if TYPE_CHECKING:
    from ..site import Site
    from ..upload import Received

# The texts and lists that `info` has in PyPI's JSON API, besides those that are put together from more.
_TEXTS = (
    *("author", "author_email", "description_content_type", "download_url", "home_page", "license"),
    *("license_expression", "maintainer", "maintainer_email", "summary"),
)
_LISTS = ("classifiers", "dynamic", "license_files", "platforms", "provides_extra", "requires_dist")


class Readable(Protocol):
    """The one thing a request's body can do."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; empty at the end."""


class _Bounded:
    """A body that ends where its Content-Length says, on servers that would wait for more.

    Reading raises Invalid where the server cannot read on, because the client
    hung up or sends nonsense.
    """

    def __init__(self, body: Readable, length: int | None) -> None:
        self._body = body
        self._left = length

    def read(self, size: int = -1, /) -> bytes:
        if self._left is not None:
            size = self._left if size < 0 else min(size, self._left)
        try:
            data = b"" if size == 0 else self._body.read(size) if size > 0 else self._body.read()
        except OSError as error:
            raise Invalid("the request body broke off; send it again") from error
        if self._left is not None:
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
    if length is None and not environ.get("wsgi.input_terminated"):
        return io.BytesIO()
    return _Bounded(body, length)


def reason(text: str) -> str:
    """A text as a reason phrase: one line of printable ASCII, at most 150 characters (RFC 9112 section 4)."""
    return re.sub(r"[^ -~]+", " ", text).strip()[:150] or "Refused"


def prefers_html(accept: str) -> bool:
    """Whether it is a browser that asks: it names HTML first, and other things after it.

    Old installers ask for HTML too, but for nothing else; they want short plain words when something is wrong.
    """
    first, _, rest = accept.partition(",")
    return first.strip().lower() == "text/html" and bool(rest)


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
        return f"removed {', '.join(files)}"
    text = received.text("reason", "") if received.action == "yank" else None
    files = site.store.yank(name, version, text)
    site.log.warning("%s %sed %s", user, received.action, ", ".join(files))
    return f"{received.action}ed {', '.join(files)}"


def file_links(index: Source) -> Iterator[str]:
    """The pieces of a page that links every file of the index."""
    yield "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>Index of packages</title></head><body>\n"
    for name, filename in index.filenames():
        link = file_path(name, filename)
        # What quote leaves and what a file name may hold needs no escaping but for these.
        text = filename.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        yield f'<a href="{link}">{text}</a><br>\n'
    yield "</body></html>\n"


def file_path(name: NormalizedName, filename: str) -> str:
    """A file's address below ``packages/``; its project stands before it where its name does not tell."""
    quoted = quote(filename, safe="")
    return quoted if dists.project_of(filename) == name else f"{name}/{quoted}"


def project_json(project: Project, version: str | None, index: Source, address: str) -> dict[str, object]:
    """A project's facts in the shape of PyPI's JSON API, about its release `version`.

    ``None`` is the latest, and then the files of every release are in it.
    `address` is the index's own, with a slash at its end. Raises Unavailable
    if the source cannot say now.
    """
    chosen = metadata.latest(project) if version is None else version
    releases: dict[str, list[dict[str, object]]] = {}
    for file in reversed(project.files):
        releases.setdefault(file.version, []).append(file_json(file, address))
    answer: dict[str, object] = {
        "info": release_info(project, chosen, index, address),
        "urls": releases.get(chosen, []),
        "vulnerabilities": [],
    }
    return {**answer, "releases": releases} if version is None else answer


def release_info(project: Project, version: str, index: Source, address: str) -> dict[str, object]:
    """What a release says of itself, by PyPI's names. Raises Unavailable if its source cannot say now."""
    described = metadata.read(project, version, index)
    files = [file for file in project.files if file.version == version]
    reasons = [file.yanked for file in files if file.yanked is not None]
    yanked = bool(files) and len(reasons) == len(files)
    page = f"{address}project/{project.name}/"
    return {
        **{field: described.fields.get(field) for field in _TEXTS},
        **{field: list(described.listed(field)) for field in _LISTS},
        # What PyPI has no more, or never had here; clients that read them know that they may be empty.
        **dict.fromkeys(("bugtrack_url", "docs_url")),
        "downloads": {"last_day": -1, "last_week": -1, "last_month": -1},
        "description": described.description,
        "keywords": ",".join(described.listed("keywords")) or None,
        "name": described.text("name") or project.name,
        "platform": ",".join(described.listed("platforms")) or None,
        "version": version,
        "project_urls": dict(described.links()) or None,
        "package_url": page,
        "project_url": page,
        "release_url": f"{page}{quote(version, safe='')}/",
        "requires_python": next((file.requires_python for file in files if file.requires_python), None),
        "yanked": yanked,
        "yanked_reason": next(filter(None, reasons), None) if yanked else None,
    }


def file_json(file: File, address: str) -> dict[str, object]:
    """A file's facts by PyPI's names, its address in full."""
    kind, python = _kind(file.filename)
    return {
        "filename": file.filename,
        "url": f"{address}packages/{file_path(file.project, file.filename)}",
        "digests": dict(file.hashes) if file.md5 is None else {**file.hashes, "md5": file.md5},
        "md5_digest": file.md5 or file.hashes.get("md5"),
        "size": file.size,
        "upload_time": file.uploaded.strftime("%Y-%m-%dT%H:%M:%S") if file.uploaded else None,
        "upload_time_iso_8601": file.uploaded.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if file.uploaded else None,
        "requires_python": file.requires_python,
        "packagetype": kind,
        "python_version": python,
        "has_sig": bool(file.has_signature),
        "comment_text": "",
        "downloads": -1,
        "yanked": file.yanked is not None,
        "yanked_reason": file.yanked or None,
    }


def _kind(filename: str) -> tuple[str, str]:
    """``packagetype`` and ``python_version``, as PyPI has them."""
    if filename.endswith(".whl"):
        return "bdist_wheel", (filename.split("-")[-3:-2] or ["any"])[0]
    if filename.endswith(".egg"):
        python = re.search(r"-py([0-9]+(?:\.[0-9]+)*)", filename)
        return "bdist_egg", python[1] if python else "any"
    return "sdist", "source"
