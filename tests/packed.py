"""Archives member by member, and what is made of them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

from builders import metadata

from pypiserver_lite import archives, dists


def archive_zip(path: Path, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip with these members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def tar_bytes(members: list[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar file with these members, not packed."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=format) as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def check(path: Path) -> bytes:
    """The metadata of a file that is fit for upload."""
    parsed = dists.parse_filename(path.name)
    assert parsed
    return archives.check_archive(path, parsed)


INFO = metadata("ours", "1.0")
