"""Distributions: what their file names say.

Reading is lenient, for the folders and indexes of the last twenty years;
uploading is strict (PEP 427, 625, 715).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from packaging.utils import NormalizedName, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from .errors import Invalid

Kind = Literal["wheel", "sdist", "egg"]

NAME_LIMIT = 200
"""Characters of a project name or a version that any parser gets to see."""
FILENAME_LIMIT = 255
"""Characters of a file name; no file system we know takes more bytes."""

CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What may not stand in HTML: controls but for tab and newline, surrogates, and what Unicode says is no character."""

_NORMAL = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_SEPARATORS = re.compile(r"[-_.]+", re.ASCII)


def try_normalize(name: str) -> NormalizedName | None:
    """The normalised form of a project name (PEP 503), or ``None`` if it cannot be one."""
    if len(name) > NAME_LIMIT:
        return None
    if _NORMAL.fullmatch(name) is not None:
        return NormalizedName(name)
    if _NAME.fullmatch(name) is None:
        return None
    return NormalizedName(_SEPARATORS.sub("-", name).lower())


def normalize(name: str) -> NormalizedName:
    """The normalised form of a project name (PEP 503). Raises Invalid if it cannot be one."""
    normal = try_normalize(name)
    if normal is None:
        raise Invalid(
            f"{name[:50]!r} is not a project name: use ASCII letters, digits, '.', '_' and '-', "
            f"a letter or digit first and last, {NAME_LIMIT} characters at most"
        )
    return normal


# A folder repeats the spelling of a project in each of its files. Names in requests do not come
# here, so strangers cannot fill it.
_name_of_prefix = lru_cache(maxsize=2**15)(try_normalize)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What the name of a distribution says."""

    filename: str
    project: NormalizedName
    version: str
    """Normalised (PEP 440) if it is valid, else as spelled."""
    kind: Kind


_SDIST_ENDINGS = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz")
"""Those that pip installs."""
_WHEEL = re.compile(r"[^-]+-(v?[0-9][^-]*)(?:-[0-9][^-]*)?-[^-]+-[^-]+-[^-]+\.whl", re.ASCII | re.IGNORECASE)
_EGG = re.compile(r"[^-]+-(v?[0-9][^-]*)(?:-.+)?\.egg", re.ASCII | re.IGNORECASE)

# A version as old tools spelled it in sdist names, with hyphens where PEP 440 allows them. A plain
# integer followed by another ("foo-2-1") is no post-release: there the name ends in a number.
_VERSION_WITH_HYPHENS = re.compile(
    r"""v?(?:[0-9]+!)?[0-9]+(?P<dotted>(?:\.[0-9]+)+)?
        (?:[-_.]?(?:alpha|beta|preview|pre|rc|a|b|c)[-_.]?[0-9]*)?
        (?:(?(dotted)-[0-9]+|(?!))|[-_.]?(?:post|rev|r)[-_.]?[0-9]*)?
        (?:[-_.]?dev[-_.]?[0-9]*)?
        (?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_VERSION_BEGINS = re.compile(r"-v?[0-9]+([.!])?", re.ASCII | re.IGNORECASE)


# What today's tools write, where the project is what stands before the first hyphen: nearly every file there is.
_PLAIN = re.compile(
    r"([A-Za-z0-9_.]+)-[0-9][A-Za-z0-9_.!+]*"
    r"(?:(?:-[0-9][A-Za-z0-9_.]*)?-[A-Za-z0-9_.]+-[A-Za-z0-9_.]+-[A-Za-z0-9_.]+\.whl|\.tar\.gz|\.zip)",
    re.ASCII,
)


def project_of(filename: str) -> NormalizedName | None:
    """The project a file belongs to, judged by its name alone; ``None`` if it is not a distribution.

    Called for every file at start, hence cheap. Never raises.
    """
    plain = _PLAIN.fullmatch(filename)
    if plain is not None and len(filename) <= FILENAME_LIMIT:
        return _name_of_prefix(plain[1])
    found = _locate(filename)
    return None if found is None else found[0]


def parse_filename(filename: str, project: NormalizedName | None = None) -> Parsed | None:
    """Everything a file name says, read leniently (PEP 427, 625 and what came before); ``None`` if nothing.

    An old sdist name can be split in more than one way. With `project` it is
    split so that it belongs to that project, and is ``None`` if it cannot;
    without, the project is what `project_of` says. Never raises.
    """
    found = _locate(filename)
    if found is None:
        return None
    name, start, end, kind = found
    if project is not None and name != project:
        if kind != "sdist":
            return None
        starts = (match.start() + 1 for match in _VERSION_BEGINS.finditer(filename, 0, end))
        start = next((at for at in starts if try_normalize(filename[: at - 1]) == project), 0)
        if not start:
            return None
        name = project
    return Parsed(filename=filename, project=name, version=_version(filename[start:end]), kind=kind)


def _locate(filename: str) -> tuple[NormalizedName, int, int, Kind] | None:
    """Project, where the version begins and ends, and kind."""
    # isprintable() is false for control characters, lone surrogates (names that are not UTF-8) and
    # characters that turn text around: nothing a page or a log could spell safely.
    if len(filename) > FILENAME_LIMIT or not filename.isprintable() or "/" in filename or "\\" in filename:
        return None
    kind: Kind
    if filename.endswith((".whl", ".egg")):
        kind, pattern = ("wheel", _WHEEL) if filename.endswith(".whl") else ("egg", _EGG)
        match = pattern.fullmatch(filename)
        if match is None:
            return None
        start, end = match.span(1)
    else:
        ending = _sdist_ending(filename)
        if not ending:
            return None
        kind, end = "sdist", len(filename) - len(ending)
        start = _sdist_version(filename, end)
    name = _name_of_prefix(filename[: start - 1]) if start else None
    return None if name is None else (name, start, end, kind)


def _sdist_ending(filename: str) -> str:
    return next((ending for ending in _SDIST_ENDINGS if filename.endswith(ending)), "")


def _sdist_version(filename: str, end: int) -> int:
    """Where the version begins in an sdist's name that ends at `end` but for its ending; 0 if nowhere."""
    first = _VERSION_BEGINS.search(filename, 0, end)
    if first is None:
        return 0
    if filename.find("-", first.end(), end) < 0:
        return first.start() + 1
    last = last_dotted = 0
    for match in _VERSION_BEGINS.finditer(filename, 0, end):
        last = match.start() + 1
        if _VERSION_WITH_HYPHENS.fullmatch(filename, last, end):
            return last
        if match[1]:
            last_dotted = last
    return last_dotted or last


@lru_cache(maxsize=2**14)
def _version(text: str) -> str:
    """A version as normalised by PEP 440 (wheels write ``_`` for its ``-``), else as spelled."""
    for valid, version, _ in map(version_key, (text, text.replace("_", "-"))):
        if valid:
            return str(version)
    return text


VersionKey = tuple[bool, Version, str]
_NO_VERSION = Version("0")


def version_key(version: str) -> VersionKey:
    """A key that sorts versions oldest first: what PEP 440 cannot read comes first, by its text. Never raises."""
    if len(version) <= NAME_LIMIT:
        try:
            return True, Version(version), version
        except InvalidVersion:
            pass
    return False, _NO_VERSION, version


def same_version(one: str, other: str) -> bool:
    """Whether two spellings mean the same release: ``1.0`` and ``1.0.0`` do (PEP 440). Never raises."""
    return one == other or (version_key(one)[0] and version_key(one)[:2] == version_key(other)[:2])


def part_of_release(filename: str, project: NormalizedName) -> tuple[object, ...] | None:
    """What a project has one file of: an sdist a version, a wheel a version, build and tags; ``None`` if it is neither.

    Spellings of the name and the version, and the form of an sdist, make no difference.
    """
    parsed = parse_filename(filename, project)
    if parsed is None or parsed.kind == "egg":
        return None
    version = version_key(parsed.version)
    if parsed.kind == "sdist":
        return "sdist", version[:2] if version[0] else version
    try:
        return "wheel", *parse_wheel_filename(filename)[1:]
    except ValueError:
        return None


_UPLOADABLE = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._+!-]*\.(?:whl|tar\.gz|zip|tar\.bz2|tar\.xz|tgz)\Z", re.ASCII)


def check_upload_name(filename: str) -> Parsed:
    """The reading of a file name that may be uploaded (PEP 427, 527, 625, 715). Raises Invalid with the fix.

    Local versions and ``linux_*`` wheels pass, for private indexes exist for
    them, and so do older spellings of the same name. What passes is safe as
    a name in any folder: no separator, no control character, no leading dot.
    """
    shown = f"{filename[:100]!r}"
    if not filename.endswith((".whl", *_SDIST_ENDINGS)):
        raise Invalid(f"{shown} is not accepted: upload a wheel (.whl) or an sdist ({', '.join(_SDIST_ENDINGS)})")
    if len(filename) > 250 or _UPLOADABLE.match(filename) is None:
        raise Invalid(
            f"{shown} is not accepted: a file name begins with an ASCII letter or digit, "
            "has only those and '.', '_', '-', '+', '!', and is 250 characters long at most"
        )
    parsed = parse_filename(filename)
    try:
        if filename.endswith(".whl"):
            name = parse_wheel_filename(filename)[0]
        else:  # of the endings, the library knows those that PyPI takes
            name = parse_sdist_filename(filename.removesuffix(_sdist_ending(filename)) + ".tar.gz")[0]
    except ValueError as error:
        form = "NAME-VERSION(-BUILD)-PYTHON-ABI-PLATFORM.whl" if filename.endswith(".whl") else "NAME-VERSION.tar.gz"
        raise Invalid(
            f"{shown} is not a valid file name: it must be {form} with a version as in PEP 440; build it again"
        ) from error
    # An old spelling that could be split in two ways must not be stored under one name and listed under another.
    if parsed is None or parsed.project != name:
        raise Invalid(f"{shown} is not clear about its name and version: write neither with a hyphen; build it again")
    return parsed
