"""A `Project`, or the list of all, as a page of the simple API, for whatever form a client wants.

API version 1.4 in JSON and HTML (PEP 503, 592, 629, 658, 691, 700, 714, 740,
792, 833), strict about what clients may stumble over. Pure: values to bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from urllib.parse import quote

from packaging.utils import NormalizedName

from ..dists import CONTROLS, project_of
from ..model import File, Project
from .negotiate import Form

API_VERSION = "1.4"


def render_names(names: Iterable[NormalizedName], form: Form, serial: int) -> bytes:
    """The list of all projects. `serial` is where mirrors stand that have read it: PyPI's own addition to the JSON."""
    if form is Form.JSON:
        meta = {"api-version": API_VERSION, "_last-serial": serial}
        return _json({"meta": meta, "projects": [{"name": name, "_last-serial": serial} for name in names]})
    # Normalised names hold nothing that HTML or a URL would have to escape.
    return _html("Simple index", (), (f'<a href="{name}/">{name}</a>' for name in names))


def render_project(project: Project, form: Form) -> bytes:
    """The page of a project, in its own order. Links are relative to ``/simple/NAME/``.

    A quarantined project offers no files (PEP 792). Files whose names cannot
    be spelled in a page are left out.
    """
    files = [file for file in project.files if file.filename.isprintable()] if project.status != "quarantined" else []
    if form is Form.JSON:
        return _json(_project_object(project, files))
    metas: list[tuple[str, str]] = []
    if project.status != "active":
        metas.append(("pypi:project-status", project.status))
        if project.reason is not None:
            metas.append(("pypi:project-status-reason", project.reason))
    # If the attribute is used at all it is on every link (PEP 503).
    signatures = all(file.has_signature is not None for file in files)
    return _html(f"Links for {project.name}", metas, (_anchor(file, project.name, signatures) for file in files))


def _json(page: Mapping[str, object]) -> bytes:
    # Written as itself, text is shorter than in escapes. Lone surrogates have been taken out.
    return json.dumps(page, ensure_ascii=False, separators=(",", ":")).encode()


def _html(title: str, metas: Iterable[tuple[str, str]], anchors: Iterable[str]) -> bytes:
    head = "".join(
        f'<meta name="{name}" content="{_attribute(content)}">\n'
        for name, content in (("pypi:repository-version", API_VERSION), *metas)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{head}<title>{title}</title>\n</head>\n'
        f"<body>\n<h1>{title}</h1>\n" + "".join(f"{anchor}<br>\n" for anchor in anchors) + "</body>\n</html>\n"
    ).encode()


def shown(text: str) -> str:
    """The text without the characters that nothing can show."""
    return text if text.isprintable() else CONTROLS.sub("", text)


def _attribute(text: str) -> str:
    """Text inside double quotes; no raw ``>``, for hatch reads pages with a regular expression."""
    return escape(shown(text)).replace("\n", "&#10;")


def file_path(name: NormalizedName, filename: str) -> str:
    """A file's address below ``packages/``; its project stands before it where its name does not tell."""
    # The last segment, decoded, is the file name: pip takes the name from there.
    quoted = quote(filename, safe="")
    return quoted if project_of(filename) == name else f"{name}/{quoted}"


def _link(file: File, name: NormalizedName) -> str:
    return f"../../packages/{file_path(name, file.filename)}"


def _project_object(project: Project, files: Sequence[File]) -> dict[str, object]:
    page: dict[str, object] = {"meta": {"api-version": API_VERSION}, "name": project.name}
    if project.status != "active":
        page["project-status"] = {"status": project.status} | (
            {"reason": shown(project.reason)} if project.reason is not None else {}
        )
    page["versions"] = [shown(version) for version in project.versions] if project.status != "quarantined" else []
    page["files"] = [_file_object(file, project.name) for file in files]
    return page


def _file_object(file: File, name: NormalizedName) -> dict[str, object]:
    # Never "dist-info-metadata": pip before 23.2 crashes on it in JSON (PEP 714).
    entry: dict[str, object] = {
        "filename": file.filename,
        "url": _link(file, name),
        "hashes": dict(file.hashes),
        "core-metadata": False if file.core_metadata is None else dict(file.core_metadata) or True,
        "yanked": False if file.yanked is None else shown(file.yanked) or True,
    }
    if file.size is not None:
        entry["size"] = file.size
    if file.uploaded is not None:
        # isoformat() writes six decimals or none: older Pythons read nothing else.
        entry["upload-time"] = file.uploaded.replace(tzinfo=None).isoformat() + "Z"
    if file.requires_python is not None:
        entry["requires-python"] = shown(file.requires_python)
    if file.has_signature is not None:
        entry["gpg-sig"] = file.has_signature
    if file.provenance is not None and file.provenance.startswith("https://"):
        entry["provenance"] = shown(file.provenance)
    return entry


def _anchor(file: File, name: NormalizedName, signatures: bool) -> str:
    attributes = [("href", _link(file, name) + _hash("#", file.hashes))]
    if file.requires_python is not None:
        attributes.append(("data-requires-python", file.requires_python))
    if file.core_metadata is not None:
        value = _hash("", file.core_metadata) or "true"
        # The second is the name that pip 23.0 and 23.1 know (PEP 714).
        attributes += [("data-core-metadata", value), ("data-dist-info-metadata", value)]
    if file.yanked is not None:
        attributes.append(("data-yanked", file.yanked))
    if signatures:
        attributes.append(("data-gpg-sig", "true" if file.has_signature else "false"))
    if file.provenance is not None and file.provenance.startswith("https://"):
        attributes.append(("data-provenance", file.provenance))
    written = "".join(f' {name}="{_attribute(value)}"' for name, value in attributes)
    return f"<a{written}>{escape(file.filename)}</a>"


def _hash(before: str, hashes: Mapping[str, str]) -> str:
    return next((f"{before}{algorithm}={value}" for algorithm, value in hashes.items()), "")
