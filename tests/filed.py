"""Indexes as a file of settings describes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wsgi_client import Client

from pypiserver_lite.config import load
from pypiserver_lite.config.settings import Config
from pypiserver_lite.web import Front, make_app


def written(folder: Path, text: str, **settings: Any) -> Path:
    """A file of settings in a folder, which keeps its cache there too."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{name} = {value!r}\n" for name, value in {"cache_dir": "cache", **settings}.items())
    path = folder / "pypiserver-lite.toml"
    path.write_text(lines + text)
    return path


def config_of(folder: Path, text: str) -> Config:
    """The settings of such a file."""
    return load.of_file(written(folder, text), {})


@contextmanager
def served(folder: Path, text: str) -> Iterator[Front]:
    """All indexes of such a file, for the length of a block."""
    app = make_app(config=written(folder, text))
    try:
        yield app
    finally:
        app.close()


@contextmanager
def asked(folder: Path, text: str) -> Iterator[Client]:
    """A client of these."""
    with served(folder, text) as app:
        yield Client(app)
