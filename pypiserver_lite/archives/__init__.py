"""The core metadata inside archives, read within fixed bounds.

Archives come from strangers, and a hostile file of a few kilobytes can ask for
all memory and time.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import BinaryIO

from packaging.utils import NormalizedName

from ..dists import Parsed, parse_filename, try_normalize
from ..errors import Invalid
from . import tars, zips

METADATA_LIMIT = 8 * 2**20
"""Bytes of the longest METADATA or PKG-INFO that is read."""

_NO_METADATA = "has no PKG-INFO in its top folder"
_DIST_INFO = re.compile(rb"([^/]+)\.dist-info/(.*)", re.DOTALL)


def core_metadata(file: str | Path | BinaryIO, filename: str) -> bytes | None:
    """The METADATA of a wheel or the PKG-INFO of an sdist, byte for byte; ``None`` if there is none to be had.

    A broken, hostile or odd archive is ``None``; a disk that fails is an OSError.
    """
    parsed = parse_filename(filename)
    if parsed is None:
        return None
    try:
        return _read(file, parsed, whole=False)
    except Invalid:
        return None


def check_archive(file: str | Path | BinaryIO, parsed: Parsed) -> bytes:
    """The core metadata of an archive that is fit for upload; raises Invalid saying what is wrong with it.

    A wheel is a zip with one ``NAME-VERSION.dist-info`` holding METADATA and
    WHEEL (PEP 427); an sdist is an archive with one top folder holding
    PKG-INFO (PEP 625), unpacked to its end as far as the bounds allow.
    Raises OSError when the disk fails.
    """
    return _read(file, parsed, whole=True)


def _read(file: str | Path | BinaryIO, parsed: Parsed, *, whole: bool) -> bytes:
    if isinstance(file, (str, Path)):
        with Path(file).open("rb") as opened:
            return _read(opened, parsed, whole=whole)
    try:
        if parsed.kind == "wheel":
            return _wheel_metadata(file, parsed.project, whole=whole)
        if parsed.filename.endswith(".zip"):
            return _zip_sdist_metadata(file)
        if parsed.kind == "sdist":
            return _tar_sdist_metadata(file, parsed.filename, whole=whole)
    except Invalid as error:
        raise Invalid(f"{parsed.filename[:100]!r} {error}; build it again") from error
    except OSError as error:
        # The decoders and a seek to a nonsensical place raise OSError too, but only these two kinds.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise Invalid(f"{parsed.filename[:100]!r} is not a readable archive; build it again") from error
    except Exception as error:  # zlib, lzma and struct each have errors of their own
        raise Invalid(f"{parsed.filename[:100]!r} is not a readable archive; build it again") from error
    raise Invalid(f"{parsed.filename[:100]!r} is an egg; upload a wheel")


def _wheel_metadata(file: BinaryIO, project: NormalizedName, *, whole: bool) -> bytes:
    found: dict[bytes, zips.Zipped] = {}
    folders: set[bytes] = set()
    for member in zips.members(file):
        match = _DIST_INFO.fullmatch(member.name)
        # Two folders are enough to refuse, so many cannot pile up.
        if match is None or len(folders) > 1:
            continue
        if try_normalize(_folder_name(match[1])) != project:
            if whole:
                raise Invalid("has a second .dist-info folder, of another project, and installers would refuse it")
            continue
        folders.add(match[1])
        if match[2] in (b"METADATA", b"WHEEL"):
            if match[2] in found:
                raise Invalid(f"has {match[2].decode()} twice")
            found[match[2]] = member
    if len(folders) != 1 or b"METADATA" not in found:
        raise Invalid(f"has not just one folder {project.replace('-', '_')}-VERSION.dist-info with METADATA in it")
    if whole:
        if b"WHEEL" not in found:
            raise Invalid("has no WHEEL file beside METADATA")
        zips.unpacked(file, found[b"WHEEL"], METADATA_LIMIT)
    return zips.unpacked(file, found[b"METADATA"], METADATA_LIMIT)


def _folder_name(stem: bytes) -> str:
    return stem.decode("utf-8", "replace").rpartition("-")[0]


def _zip_sdist_metadata(file: BinaryIO) -> bytes:
    sdist = _Sdist()
    found: zips.Zipped | None = None
    for member in zips.members(file):
        name = member.name.decode("utf-8", "surrogateescape")
        if sdist.is_metadata(name, folder=name.endswith("/")):
            found = member
    if found is None:
        raise Invalid(_NO_METADATA)
    return zips.unpacked(file, found, METADATA_LIMIT)


class _Sdist:
    """Sees to it that all members of an sdist lie in one top folder, with PKG-INFO once."""

    def __init__(self) -> None:
        self._top: str | None = None
        self._found = False

    def is_metadata(self, name: str, *, folder: bool) -> bool:
        """Whether this is the sdist's PKG-INFO. Raises Invalid for a second, or outside the one top folder."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise Invalid("has a member that leads outside")
        if not parts and folder:
            return False
        if not parts or (len(parts) == 1 and not folder) or self._top not in (None, parts[0]):
            raise Invalid("has more than one top folder, or files beside it")
        self._top = parts[0]
        if folder or parts[1:] != ["PKG-INFO"]:
            return False
        if self._found:
            raise Invalid("has PKG-INFO twice")
        self._found = True
        return True


def _tar_sdist_metadata(file: BinaryIO, filename: str, *, whole: bool) -> bytes:
    tape, sdist = tars.Tape(file, filename), _Sdist()
    found: bytes | None = None
    try:
        for member in tars.members(tape):
            if sdist.is_metadata(member.name, folder=not member.isreg()):
                if member.size > METADATA_LIMIT or member.issparse():
                    raise Invalid("has metadata that is too long, or has holes")
                found = tape.take(member.size)
                if not whole:
                    return found
        tape.wind()
    except tars.LookedEnough:
        if found is None:
            raise
    if found is None:
        raise Invalid(_NO_METADATA)
    return found
