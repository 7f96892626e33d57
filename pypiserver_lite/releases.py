"""The releases of a project: which there are, and what each says of itself."""

from __future__ import annotations

from collections.abc import Sequence

from . import archives, dists
from .errors import DiskFailed, Missing
from .metadata import NOTHING, About, parse
from .model import Content, File, LocalFile, Opener, Project, Stream


def about(project: Project, version: str, index: Opener) -> About:
    """What a release says of itself, from the first of its files that can be read.

    Raises Unavailable if its source cannot say now.
    """
    files = [file for file in project.files if file.version == version]
    # Wheels first: what is in them is final. Of these the smallest, in case it has to be fetched.
    for file in sorted(files, key=lambda file: (not file.filename.endswith(".whl"), file.size or 0)):
        data = _metadata(project, file, index)
        if data is not None:
            return parse(data)
    return NOTHING


def _metadata(project: Project, file: File, index: Opener) -> bytes | None:
    try:
        if file.core_metadata is not None:
            return _bytes(index.open(project.name, file.filename, ".metadata"))
        # What may not be offered to resolvers is good enough to read; but nothing is fetched for that.
        content = None if file.url else index.open(project.name, file.filename)
        return archives.core_metadata(content.path, file.filename) if isinstance(content, LocalFile) else None
    except (Missing, FileNotFoundError):
        return None
    except OSError as error:
        raise DiskFailed(f"{file.filename} cannot be read now ({error.strerror}); try again later") from error


def _bytes(content: Content | None) -> bytes | None:
    if isinstance(content, Stream):
        return b"".join(content.read(0, None))
    if isinstance(content, LocalFile):
        with content.path.open("rb") as file:
            return file.read(archives.METADATA_LIMIT)
    return None


def latest(project: Project) -> str:
    """The newest release that pip would take: not yanked, and final if there is a final one; empty if there is none."""
    live = {file.version for file in project.files if file.yanked is None} or set(project.versions)
    ordered = [version for version in project.versions if version in live]
    keys = map(dists.version_key, ordered)
    final = [version for valid, parsed, version in keys if valid and not parsed.is_prerelease]
    return (final or ordered or [""])[-1]


def release(project: Project, version: str) -> str:
    """A version as the project spells it. Raises Missing if there is no such release."""
    for known in project.versions:
        if dists.same_version(known, version):
            return known
    raise Missing(f"{project.name} has no release {version[:100]}")


def joined(projects: Sequence[Project]) -> Project:
    """Several projects of one name as one; of two files that are the same part of a release the first wins."""
    files: dict[str, File] = {}
    parts: set[object] = set()
    for project in projects:
        new = [file for file in project.files if file.filename not in files and part(file) not in parts]
        files.update((file.filename, file) for file in new)
        parts.update(map(part, new))
    versions = {version for project in projects for version in project.versions}
    first = next((project for project in projects if project.status != "active"), projects[0])
    return Project(
        name=projects[0].name,
        files=tuple(sorted(files.values(), key=lambda file: (dists.version_key(file.version), file.filename))),
        versions=tuple(sorted(versions, key=dists.version_key)),
        status=first.status,
        reason=first.reason,
    )


def part(file: File) -> object:
    """What a file is of its project, of which there is one alone; spellings make no difference."""
    return dists.part_of_release(file.filename, file.project) or file.filename
