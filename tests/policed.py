"""Indexes with policies, policies with a clock of their own, and what is asked of both."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xmlrpc.client import dumps, loads

import faulty_upstream as faulty
import pytest
from builders import make_wheel, metadata
from packaging.utils import NormalizedName
from wsgi_client import Client

from pypiserver_lite import make_app
from pypiserver_lite.config.indexes import PolicySettings
from pypiserver_lite.config.settings import POLICY_KEYS
from pypiserver_lite.model import File, Project
from pypiserver_lite.policy.governed import Governed
from pypiserver_lite.policy.licensing import Licensing
from pypiserver_lite.policy.remembered import Remembered

JSON = "application/vnd.pypi.simple.v1+json"
LONG_AGO = "2020-01-02T03:04:05Z"
DAY = 86_400


@pytest.fixture(name="upstream")
def policed_upstream() -> Iterator[faulty.FaultyUpstream]:
    """An upstream without anything."""
    with faulty.upstream() as server:
        yield server


def put(server: faulty.FaultyUpstream, place: Path, name: str, version: str, *lines: str, **facts: Any) -> str:
    """A wheel at the upstream; its file name."""
    wheel = make_wheel(place, name, version, *lines)
    facts = {"upload_time": LONG_AGO, "metadata": metadata(name, version, *lines), **facts}
    server.add(name, wheel.name, wheel.read_bytes(), **facts)
    return wheel.name


def have(folder: Path, name: str, version: str, *lines: str, age: float = 100 * DAY, make: Any = make_wheel) -> Path:
    """A distribution in a folder, of some seconds ago."""
    path: Path = make(folder, name, version, *lines)
    os.utime(path, (time.time() - age,) * 2)
    return path


@contextmanager
def served(place: Path, text: str) -> Iterator[Client]:
    """The indexes of a file of settings."""
    (place / "index.toml").write_text(f'cache_dir = "cache"\nallow_host = "*"\n{text}')
    app = make_app(config=place / "index.toml")
    try:
        yield Client(app)
    finally:
        app.close()


def of_upstream(client: Client, name: str, index: str = "/") -> Project:
    """A project as the upstream of an index has it, whatever hides its files."""
    (remote,) = client.application.app(index).site.remotes
    project = remote.project(NormalizedName(name))
    assert isinstance(project, Project)
    return project


def seen_long_ago(database: Path, project: Project) -> None:
    """As if the files of a project had first been seen eight days ago."""
    memory = Remembered(database)
    memory.seen(project.files, time.time() - 8 * DAY, origin=project.origin)
    memory.close()


def listed(client: Client, name: str, root: str = "/", status: int = 200) -> list[str]:
    """The files of a page."""
    answer = client.get(f"{root}simple/{name}/", status, Accept=JSON)
    return [file["filename"] for file in answer.json["files"]] if status == 200 else []


def called(client: Client, method: str, *parameters: Any) -> Any:
    """What an XML-RPC call returns."""
    body = dumps(parameters, method).encode()
    return loads(client.post("/RPC2", body, "text/xml").body)[0][0]


class Clock:
    """Tells the seconds that it is told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Nobody:
    """A source without a file."""

    def open(self, name: NormalizedName, filename: str, side: str = "") -> None:
        """Nothing."""


def settings_of(**said: Any) -> PolicySettings:
    """A policy as the file of settings says it."""
    return PolicySettings(**{key: POLICY_KEYS[key].parse(value) for key, value in said.items()})


def governed(clock: Clock, remembered: Remembered | None = None, **said: Any) -> Governed:
    """What obeys such a policy."""
    licensing = Licensing(remembered or Remembered(None), clock=clock)
    return Governed(settings_of(**said), licensing, clock=clock)


def a_project(clock: Clock, *ages: float | None, name: str = "foo") -> Project:
    """A project with a version for each age in seconds; ``None``: of unknown age."""
    files = tuple(
        File(
            filename=f"{name}-{number}.0.tar.gz",
            project=NormalizedName(name),
            version=f"{number}.0",
            size=10,
            uploaded=None if age is None else datetime.fromtimestamp(clock.now - age, timezone.utc),
        )
        for number, age in enumerate(ages, 1)
    )
    return Project(name=NormalizedName(name), files=files, versions=tuple(file.version for file in files))
