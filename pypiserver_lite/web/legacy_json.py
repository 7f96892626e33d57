"""Facts about projects and files in the shape of PyPI's JSON API, and the list of all files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..model import File, Project, Source
from ..releases import about, latest
from ..simple.render import file_path, shown

if TYPE_CHECKING:
    pass

# The texts and lists that `info` has in PyPI's JSON API, besides those that are put together from more.
_TEXTS = (
    *("author", "author_email", "description_content_type", "download_url", "home_page", "license"),
    *("license_expression", "maintainer", "maintainer_email", "summary"),
)
_LISTS = ("classifiers", "dynamic", "license_files", "platforms", "provides_extra", "requires_dist")


def file_links(index: Source) -> Iterator[str]:
    """The pieces of a page that links every file of the index."""
    yield "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>Index of packages</title></head><body>\n"
    for name, filename in index.filenames():
        link = file_path(name, filename)
        # What quote leaves and what a file name may hold needs no escaping but for these.
        text = filename.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        yield f'<a href="{link}">{text}</a><br>\n'
    yield "</body></html>\n"


def project_json(project: Project, version: str | None, index: Source, address: str) -> dict[str, object]:
    """A project's facts in the shape of PyPI's JSON API, about its release `version`.

    ``None`` is the latest, and then the files of every release are in it.
    `address` is the index's own, with a slash at its end. Raises Unavailable
    if the source cannot say now.
    """
    chosen = latest(project) if version is None else version
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
    described = about(project, version, index)
    files = [file for file in project.files if file.version == version]
    reasons = [shown(file.yanked) for file in files if file.yanked is not None]
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
        "yanked_reason": shown(file.yanked or "") or None,
    }


def _kind(filename: str) -> tuple[str, str]:
    """``packagetype`` and ``python_version``, as PyPI has them."""
    if filename.endswith(".whl"):
        return "bdist_wheel", (filename.split("-")[-3:-2] or ["any"])[0]
    if filename.endswith(".egg"):
        python = re.search(r"-py([0-9]+(?:\.[0-9]+)*)", filename)
        return "bdist_egg", python[1] if python else "any"
    return "sdist", "source"
