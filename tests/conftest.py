"""What every test may ask for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import live
import pytest
from folders import Make
from hypothesis import settings
from running import MIB, App, Process, Running, Start

from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder
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
def folder(tmp_path: Path) -> Path:
    """An empty folder in which uploads are staged."""
    path = tmp_path / "staged"
    path.mkdir()
    return path


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes folders."""
    made: list[tuple[Folder, Memory]] = []

    def make(*roots: Path, database: Path | None = None, **settings: Any) -> Folder:
        memory = Memory(database)
        made.append((Folder(roots, memory, **settings), memory))
        return made[-1][0]

    yield make
    for folder, memory in made:
        folder.close()
        memory.close()


@pytest.fixture
def shell(tmp_path: Path) -> live.Shell:
    """Clients in a home of their own."""
    return live.Shell(tmp_path / "home")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Begins services in threads, over an application with a large file."""
    running: list[Running] = []

    def begin(**options: Any) -> Running:
        big = tmp_path / "big"
        if not big.exists():
            big.write_bytes(bytes(range(256)) * 4096 * 32)  # 32 MiB
        running.append(Running(App(big), **options))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service for all tests of a module that leave it as it is."""
    running = Running(App(tmp_path_factory.mktemp("shared") / "big"), max_body=20 * MIB)
    yield running
    running.stop()


@pytest.fixture
def process() -> Iterator[Callable[..., Process]]:
    """Begins servers in processes of their own."""
    started: list[Process] = []

    def begin(server: str = "waitress", **options: Any) -> Process:
        started.append(Process(server, **options))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()
