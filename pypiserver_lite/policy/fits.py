"""Which files an installer with some Python on some platform can take, and why it cannot take others. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from packaging import tags
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from ..errors import Invalid
from ..model import File

_PYTHON = re.compile(r"(3)\.([0-9]{1,2})(?:\.([0-9]{1,3}))?(t?)", re.ASCII)
_PLATFORM = re.compile(r"[a-z0-9_.]{1,60}", re.ASCII)
_OLD_LINUX = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
_NAMED = {name: version for version, name in _OLD_LINUX.items()}
# Those that what is built for elder ones runs on.
_LINUX = re.compile(r"(manylinux|musllinux)_([0-9])_([0-9]{1,2})_([a-z0-9_]+)", re.ASCII)
_OLD = re.compile(r"(manylinux1|manylinux2010|manylinux2014)_([a-z0-9_]+)", re.ASCII)
_MAC = re.compile(r"macosx_([0-9]{1,2})_([0-9]{1,2})_(x86_64|arm64)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """An interpreter: a Python such as ``3.9``, ``3.13.1`` or ``3.14t``, a platform such as ``win_amd64``, or both.

    Platforms are spelled as in the names of wheels. Raises Invalid for what is neither.
    """

    python: str | None
    platform: str | None
    _platforms: frozenset[str] = field(init=False, repr=False, compare=False)
    _pythons: frozenset[tuple[str, str]] = field(init=False, repr=False, compare=False)
    """What its tags say of interpreter and ABI, whatever platform they are for."""

    def __post_init__(self) -> None:
        if self.python is not None and not _PYTHON.fullmatch(self.python):
            raise Invalid(f"{self.python[:20]!r} is no version of Python such as 3.12 (3.13t: free-threaded)")
        if self.platform is not None and not _PLATFORM.fullmatch(self.platform):
            raise Invalid(f"{self.platform[:20]!r} is no platform such as win_amd64 or manylinux_2_28_x86_64")
        platforms = () if self.platform is None else _platforms(self.platform)
        object.__setattr__(self, "_platforms", frozenset(platforms))
        object.__setattr__(self, "_pythons", frozenset((tag.interpreter, tag.abi) for tag in self._tags()))

    def _tags(self) -> Iterator[Tag]:
        if self.python is None:
            return
        version, free = self._version()[:2], self.python.endswith("t")
        abis = [f"cp{version[0]}{version[1]}t"] if free else None
        yield from tags.cpython_tags(version, abis=abis, platforms=["any"])
        yield from tags.compatible_tags(version, f"cp{version[0]}{version[1]}", ["any"])

    def _version(self) -> tuple[int, ...]:
        match = _PYTHON.fullmatch(self.python or "")
        return () if match is None else (int(match[1]), int(match[2]), int(match[3] or 0))

    def refuses(self, file: File) -> str | None:
        """Why an installer there does not take a file, as the rest of a sentence; ``None`` if it does."""
        return self._python_refuses(file) or self._tags_refuse(file)

    def _python_refuses(self, file: File) -> str | None:
        if self.python is None or not file.requires_python:
            return None
        try:
            wanted = SpecifierSet(file.requires_python)
        except InvalidSpecifier:
            return None  # as for installers: what cannot be read asks for nothing
        version = Version(".".join(map(str, self._version())))
        return None if wanted.contains(version, prereleases=True) else f"it requires Python {file.requires_python}"

    def _tags_refuse(self, file: File) -> str | None:
        if file.filename.endswith(".egg"):
            return "it is an egg, which installers do not take any more"
        if not file.filename.endswith(".whl"):
            return None
        try:
            its = parse_wheel_filename(file.filename)[3]
        except ValueError:
            return "its name is not that of a wheel"
        fitting = {
            tag for tag in its if self.platform is None or tag.platform == "any" or tag.platform in self._platforms
        }
        if not fitting:
            return f"it is for {_listed(tag.platform for tag in its)}"
        if self.python is not None and not any((tag.interpreter, tag.abi) in self._pythons for tag in fitting):
            return f"it is for {_listed(f'{tag.interpreter}-{tag.abi}' for tag in fitting)}"
        return None


def _platforms(platform: str) -> Iterator[str]:
    """A platform, and what else runs there: what is built for elder ones."""
    old = _OLD.fullmatch(platform)
    if old is not None:
        major, minor = _NAMED[old[1]]
        platform = f"manylinux_{major}_{minor}_{old[2]}"
    linux, mac = _LINUX.fullmatch(platform), _MAC.fullmatch(platform)
    if linux is not None:
        for minor in range(int(linux[3]), -1, -1):
            yield f"{linux[1]}_{linux[2]}_{minor}_{linux[4]}"
            if linux[1] == "manylinux" and (int(linux[2]), minor) in _OLD_LINUX:
                yield f"{_OLD_LINUX[int(linux[2]), minor]}_{linux[4]}"
        yield f"linux_{linux[4]}"
    elif mac is not None:
        yield from tags.mac_platforms((int(mac[1]), int(mac[2])), mac[3])
    else:
        yield platform


def _listed(words: Iterator[str]) -> str:
    return ", ".join(sorted(set(words)))
