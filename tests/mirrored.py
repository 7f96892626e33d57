"""What mirrors and old clients ask of an index."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from builders import make_sdist, make_wheel
from wsgi_client import Client

import pypiserver_lite

JSON = "application/vnd.pypi.simple.v1+json"


MOMENT = datetime(2024, 2, 29, 12, 30, 15, 250000, tzinfo=timezone.utc)


@pytest.fixture(name="packages")
def mirrored_packages(tmp_path: Path) -> Path:
    """Releases of two projects, old and of one moment, one of them yanked."""
    folder = tmp_path / "packages"
    about = ("Summary: Does things", "Requires-Python: >=3.9", "Project-URL: Source, https://code.example.test/ours")
    made = [
        make_wheel(folder, "Ours.Thing", "1.0", *about),
        make_wheel(folder, "Ours.Thing", "1.0", *about, tags="cp311-cp311-linux_x86_64"),
        make_sdist(folder, "Ours.Thing", "1.0", *about),
        make_wheel(folder, "Ours.Thing", "2.0", *about),
        make_wheel(folder, "other", "1.0"),
    ]
    (folder / "ours_thing-1.0-py3.11.egg").write_bytes(b"an egg")
    (folder / f"{made[3].name}.yanked").write_text("broken")
    for path in made:
        os.utime(path, (MOMENT.timestamp(), MOMENT.timestamp()))
    return folder


@pytest.fixture(name="client")
def mirroring_client(packages: Path, tmp_path: Path) -> Iterator[Client]:
    """A client of an index of them that anybody may change."""
    app = pypiserver_lite.make_app(packages, cache_dir=tmp_path / "cache", passwords=".", authenticate=".")
    yield Client(app)
    app.close()
