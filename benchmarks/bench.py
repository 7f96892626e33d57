"""What every part of the benchmark is handed: folders, sizes, patience, and servers that end with the part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import servers
from data import Folders, asked
from load import Ask, shuffled
from servers import Server

Figure = TypeVar("Figure")

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"


@dataclass
class Bench:
    """One run. `quick` asks less often, and makes the largest folder smaller."""

    quick: bool
    folders: Folders = field(default_factory=Folders)
    _running: list[Server] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """How often each side of a comparison has its turn."""
        return 3 if self.quick else 7

    @property
    def seconds(self) -> int:
        """How long a turn under load takes."""
        return 1 if self.quick else 2

    @property
    def many(self) -> int:
        """Files in the largest folder."""
        return 20_000 if self.quick else 100_000

    @property
    def scratch(self) -> Path:
        """For logs and settings."""
        return self.folders.scratch

    @contextmanager
    def part(self) -> Iterator[None]:
        """Servers that are started inside end with it."""
        try:
            yield
        finally:
            self.stop_all()

    def stop_all(self) -> None:
        """End the servers of this part."""
        while self._running:
            self._running.pop().stop()

    def start(self, server: Server, path: str = "/") -> Server:
        """Wait for a server, and end it with the part."""
        self._running.append(server)
        return server.ready(path)

    def stop(self, server: Server) -> None:
        """End one server now."""
        self._running.remove(server)
        server.stop()

    def ours(self, folder: Path, *flags: str, name: str = "ours", cache: Path | None = None) -> Server:
        """pypiserver-lite over `folder`, all files read."""
        return self.start(servers.ours(self.scratch, folder, *flags, name=name, cache=cache), "/health").settle()

    def bare(self, kind: str, size: int = 4096) -> Server:
        """The bare application on a server (see `servers.bare`)."""
        return self.start(servers.bare(self.scratch, kind, size), "/x")

    def pypiserver(self, folder: Path, *flags: str, cached: bool = False) -> Server:
        """pypiserver over `folder`."""
        return self.start(servers.pypiserver(self.scratch, folder, *flags, cached=cached), "/simple/asked0000/")


AS_PIP = {
    "User-Agent": 'pip/25.3 {"ci":null,"cpu":"x86_64","distro":{"name":"Debian GNU/Linux","version":"12"},'
    '"implementation":{"name":"CPython","version":"3.11.7"},"installer":{"name":"pip","version":"25.3"},'
    '"openssl_version":"OpenSSL 3.0.15","python":"3.11.7","system":{"name":"Linux","release":"6.1"}}',
    "Connection": "keep-alive",
    "Cache-Control": "max-age=0",
}
"""What pip sends with every request for a page, besides the forms it takes."""


def pages(**headers: str) -> list[Ask]:
    """The pages of all projects that are asked for, as pip asks, with these headers (``_`` for ``-``)."""
    named = AS_PIP | {key.replace("_", "-"): value for key, value in headers.items()}
    return shuffled([Ask(f"/simple/{project}/", named) for project in asked()])


def repeat(times: int, action: Callable[[], Figure]) -> list[Figure]:
    """The figures of an action done so often."""
    return [action() for _ in range(times)]
