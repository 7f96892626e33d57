"""Look after the cache of an upstream: show, prune, clear, and fetch ahead what a team will need."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from ..errors import ConfigError, Missing, Unavailable
from ..model import File, LocalFile, Project, Source, Stream
from ..upstream.cache import Cache
from ..upstream.room import Freed

_LINE_LIMIT = 10_000


Outcome = Literal["chosen", "fetched", "cached", "skipped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of fetching ahead."""

    subject: str
    """A requirement or a file name."""
    outcome: Outcome
    text: str = ""
    """Why, if it was skipped or failed."""
    size: int = 0
    """Bytes of the file."""
    done: int
    """Steps done so far, this one included."""
    total: int
    """Steps in all, as far as known: it grows while requirements turn into files."""


def prune(cache: Cache, size: int) -> Freed:
    """Remove the least recently used, until no more than `size` bytes are left."""
    return cache.trim(size)


def clear(cache: Cache) -> Freed:
    """Remove everything."""
    return cache.clear()


def read_requirements(path: Path) -> tuple[Requirement | str, ...]:
    """The requirements of a file as pip has it, those that apply to this Python, and what is editable as a text.

    Comments, hashes and continued lines are understood, ``-r`` and ``-c``
    files are read where they are named (constraints narrow what is
    required), other options are passed over. Raises ConfigError for a line that
    is no requirement and for a file that cannot be read.
    """
    required: list[Requirement | str] = []
    constraints: dict[str, Requirement] = {}
    for place, line, constraint in _lines(path, frozenset(), False):
        if line.startswith("-"):
            required.append(line)
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise ConfigError(f"{place}: {line[:100]!r} is no requirement such as NAME or NAME==1.0") from error
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if constraint:
            constraints[canonicalize_name(requirement.name)] = requirement
        else:
            required.append(requirement)
    for one in required:
        if isinstance(one, Requirement) and (narrowed := constraints.get(canonicalize_name(one.name))) is not None:
            one.specifier &= narrowed.specifier
    return tuple(required)


def _lines(path: Path, above: frozenset[Path], constraint: bool) -> Iterator[tuple[str, str, bool]]:
    """Where a requirement stands, its text, and whether it only constrains."""
    if path.resolve() in above:
        raise ConfigError(f"{path} names itself")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    joined = re.sub(r"\\\r?\n", " ", text)
    for number, line in enumerate(joined.splitlines(), 1):
        line = re.split(r"(?:^|\s)#", line[:_LINE_LIMIT], maxsplit=1)[0]
        line = line.strip()
        if not line.startswith("-"):
            line = re.split(r"\s--?[a-z]", line, maxsplit=1)[0].strip()  # options such as --hash
        option = re.fullmatch(r"(?:-r|--requirement|-c|--constraint)[\s=]*(\S.*)", line)
        if option:
            nested = path.parent / option[1].strip()
            yield from _lines(nested, above | {path.resolve()}, constraint or line.startswith(("-c", "--c")))
        elif line and (not line.startswith("-") or re.match(r"-e|--editable\b", line)):
            yield f"{path}, line {number}", line, constraint


def warm(source: Source, requirements: Iterable[Requirement | str], *, every: bool = False) -> Iterator[Event]:
    """Bring into the cache of `source` what installing `requirements` needs; an Event for each step.

    Of each requirement, the newest version that fits is taken (pre-releases
    and yanked ones as installers do), and of it the wheel that suits this
    Python best, or the sdist; with `every`, all its files. What a file itself
    requires is not followed: give the output of ``pip freeze`` or a lock
    file. One that fails does not stop the rest.
    """
    wanted = tuple(requirements)
    tags = {tag: rank for rank, tag in enumerate(sys_tags())}
    chosen: dict[tuple[str, str], File] = {}
    done = 0
    for requirement in wanted:
        done += 1
        files, text, failed = _choose(source, requirement, tags, every)
        chosen |= {(file.project, file.filename): file for file in files}
        yield Event(
            subject=str(requirement),
            outcome="failed" if failed else "chosen" if files else "skipped",
            text=text,
            done=done,
            total=len(wanted) + len(chosen),
        )
    for file in chosen.values():
        done += 1
        outcome, text, size = _fetch(source, file)
        yield Event(
            subject=file.filename,
            outcome=outcome,
            text=text,
            size=size,
            done=done,
            total=len(wanted) + len(chosen),
        )


def _choose(
    source: Source, requirement: Requirement | str, tags: dict[Tag, int], every: bool
) -> tuple[list[File], str, bool]:
    """Files to fetch, else why there are none, and whether that is a failure."""
    if isinstance(requirement, str) or requirement.url is not None:
        return [], "it names an address; only what the index has is fetched", False
    try:
        project = source.project(canonicalize_name(requirement.name))
    except (Missing, Unavailable) as error:
        return [], str(error), True
    if project is None:
        return [], "there is no such project", True
    for files in _releases(project, requirement):
        if every:
            return files, "", False
        fitting = sorted((rank, file.filename, file) for file in files if (rank := _rank(file, tags)) is not None)
        if fitting:
            return [fitting[0][2]], "", False
    return [], "no version fits", True


def _releases(project: Project, requirement: Requirement) -> Iterator[list[File]]:
    """The files of each version that satisfies a requirement, newest first."""
    exact = any(specifier.operator in ("==", "===") for specifier in requirement.specifier)
    by_version: dict[Version, list[File]] = {}
    for file in project.files:
        try:
            version = Version(file.version)
        except InvalidVersion:
            continue
        if (file.yanked is None or exact) and _runs_here(file):
            by_version.setdefault(version, []).append(file)
    # `filter` takes pre-releases only if nothing else fits, as installers do.
    for version in sorted(requirement.specifier.filter(by_version), reverse=True):
        yield by_version[version]


def _runs_here(file: File) -> bool:
    try:
        return file.requires_python is None or SpecifierSet(file.requires_python).contains(
            platform.python_version(), prereleases=True
        )
    except InvalidSpecifier:
        return True  # what cannot be read forbids nothing


def _rank(file: File, tags: dict[Tag, int]) -> int | None:
    """How well a file suits this Python, 0 best; ``None`` if not at all. An sdist suits last."""
    if not file.filename.endswith(".whl"):
        return len(tags)
    try:
        own = parse_wheel_filename(file.filename)[3]
    except InvalidWheelFilename:
        return None
    return min((tags[tag] for tag in own if tag in tags), default=None)


def _fetch(source: Source, file: File) -> tuple[Outcome, str, int]:
    outcome: Outcome
    try:
        content = source.open(file.project, file.filename)
        if isinstance(content, LocalFile):
            outcome, size = "cached", content.path.stat().st_size
        elif isinstance(content, Stream):
            outcome, size = "fetched", sum(len(piece) for piece in content.read(0, None))
        else:
            return "skipped", "it is not fetched through this server", 0
        if file.core_metadata is not None:
            # After the file, from which it may have to be made.
            source.open(file.project, file.filename, ".metadata")
    except (Unavailable, Missing, OSError) as error:
        return "failed", str(error), 0
    return outcome, "", size
