"""What every test may ask for by name."""

from __future__ import annotations

from pathlib import Path

import live
import pytest
from hypothesis import settings

from pypiserver_lite.upstream.ways import BUNDLES, STORES

# A busy machine is no failure; what must be quick has a test of its own.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def no_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no authority that this machine's environment names."""
    for name in (*BUNDLES, *STORES, *(f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL", "NO"))):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


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
