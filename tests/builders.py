"""Real wheels and sdists, made in a line."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path


def listed(folder: Path) -> list[str]:
    """The names in a packages folder, sorted, dot-names too; but for our own records."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".pypiserver-lite")


def metadata(name: str, version: str, *lines: str, body: str = "") -> bytes:
    """The text of METADATA or PKG-INFO; `lines` are further header lines."""
    head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]
    return ("\n".join(head) + "\n" + (f"\n{body}" if body else "")).encode()


def make_wheel(
    folder: Path,
    name: str = "ours",
    version: str = "1.0",
    *lines: str,
    tags: str = "py3-none-any",
    filename: str | None = None,
    payload: bytes = b"",
    body: str = "",
    core_metadata: bytes | None = None,
) -> Path:
    """An installable wheel with one module; `lines` go into its METADATA, `payload` into a data file."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.lower().replace("-", "_").replace(".", "_")
    path = folder / (filename or f"{module}-{version}-{tags}.whl")
    info = f"{module}-{version}.dist-info"
    members = {
        f"{module}/__init__.py": f"__version__ = {version!r}\n".encode(),
        f"{info}/METADATA": core_metadata if core_metadata is not None else metadata(name, version, *lines, body=body),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tags}\n".encode(),
    }
    if payload:
        members[f"{module}/payload.bin"] = payload
    record = ""
    for member, data in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{member},sha256={digest},{len(data)}\n"
    members[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if payload else zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return path


def make_sdist(
    folder: Path,
    name: str = "ours",
    version: str = "1.0",
    *lines: str,
    filename: str | None = None,
    core_metadata: bytes | None = None,
) -> Path:
    """A source distribution that setuptools can build."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.lower().replace("-", "_").replace(".", "_")
    path = folder / (filename or f"{module}-{version}.tar.gz")
    top = f"{module}-{version}"
    members = {
        f"{top}/PKG-INFO": core_metadata if core_metadata is not None else metadata(name, version, *lines),
        f"{top}/pyproject.toml": (
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            f'[project]\nname = "{name}"\nversion = "{version}"\n'
        ).encode(),
        f"{top}/{module}.py": b"",
    }
    with tarfile.open(path, "w:gz") as archive:
        for member, data in members.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path
