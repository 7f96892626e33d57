"""What every test may ask for by name."""

from __future__ import annotations

from pathlib import Path

import live
import pytest


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """An empty folder to serve."""
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


@pytest.fixture
def shell(tmp_path: Path) -> live.Shell:
    """Clients in a home of their own."""
    return live.Shell(tmp_path / "home")
