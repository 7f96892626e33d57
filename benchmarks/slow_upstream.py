"""An index far away, as a program: ``slow_upstream.py PORT CORE``.

It stands for an upstream 50 ms away that sends 20 MB/s on each connection:
every answer begins 50 ms after its request, and the first one of a
connection another 50 ms later, which is what its handshake would take.

Projects are made up when they are asked for; the first word of a name says
what they hold (`HOLDINGS`), and any other name is 404. ``/+counts`` tells
what was asked for since the start, without delay.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass
from http import HTTPStatus

ROUND_TRIP = 0.05
"""Seconds from a request to the first byte of its answer."""
SPEED = 20e6
"""Bytes a second on one connection."""

_PIECE = 2**16
_JSON = "application/vnd.pypi.simple.v1+json"


@dataclass(frozen=True)
class Holding:
    """How many files a project has, and how large they are."""

    files: int
    size: int


HOLDINGS = {"few": Holding(20, 100_000), "big": Holding(1, 50_000_000), "many": Holding(5_000, 100_000)}
"""By the first word of a project's name, as in ``few-3-17``."""


def filename(project: str, number: int | None = None) -> str:
    """The file of a project with that number, or its newest."""
    newest = HOLDINGS[project.partition("-")[0]].files - 1
    return f"{project.replace('-', '_')}-1.{newest if number is None else number}-py3-none-any.whl"


def block(name: str) -> bytes:
    """What a file consists of, over and over: no two files share a byte sequence or a digest."""
    return hashlib.sha256(name.encode()).digest() * (_PIECE // 32)


def digest(name: str, size: int) -> str:
    """The sha256 of a file."""
    digester, repeated = hashlib.sha256(), block(name)
    for _ in range(size // _PIECE):
        digester.update(repeated)
    digester.update(repeated[: size % _PIECE])
    return digester.hexdigest()


@functools.lru_cache(maxsize=1000)
def page(project: str, *, as_json: bool) -> bytes:
    """A project's page. Only the newest file, which is the one asked for, has its right digest."""
    holding = HOLDINGS[project.partition("-")[0]]
    rows = []
    for number in range(holding.files):
        name = filename(project, number)
        newest = number == holding.files - 1
        made_up = hashlib.sha256(f"not {name}".encode()).hexdigest()
        rows.append((name, f"../../files/{project}/{name}", digest(name, holding.size) if newest else made_up))
    if not as_json:
        links = "".join(
            f'<a href="{url}#sha256={sha256}" data-requires-python="&gt;=3.8">{name}</a><br>\n'
            for name, url, sha256 in rows
        )
        return f"<!DOCTYPE html>\n<html><head><title>{project}</title></head><body>\n{links}</body></html>\n".encode()
    files = [
        {
            "filename": name,
            "url": url,
            "hashes": {"sha256": sha256},
            "requires-python": ">=3.8",
            "size": holding.size,
            "upload-time": "2024-01-02T03:04:05.678901Z",
            "yanked": False,
            "core-metadata": {"sha256": sha256},
        }
        for name, url, sha256 in rows
    ]
    versions = [f"1.{number}" for number in range(holding.files)]
    meta = {"api-version": "1.1"}
    return json.dumps({"meta": meta, "name": project, "files": files, "versions": versions}).encode()


@functools.lru_cache(maxsize=1)
def listing() -> bytes:
    """The list of projects. It names those of the benchmark, for one peer asks for no others."""
    names = [f"few-{round_}-{number}" for round_ in range(10) for number in range(200)]
    names += [f"big-{round_}-{when}" for round_ in range(10) for when in ("alone", "crowd")]
    links = "".join(f'<a href="{name}/">{name}</a><br>\n' for name in names)
    return f"<!DOCTYPE html>\n<html><body>\n{links}</body></html>\n".encode()


@dataclass(frozen=True)
class Answer:
    """What is sent: `whole` at once, or so many bytes of `repeated`."""

    status: HTTPStatus
    content_type: str
    etag: str
    size: int
    repeated: bytes

    def piece(self, at: int) -> bytes:
        """The next bytes, for `at` is always a multiple of a piece."""
        start = at if len(self.repeated) == self.size else 0
        return self.repeated[start : start + min(_PIECE, self.size - at)]


def answer(path: str, accept: str) -> Answer:
    """What this index says to a GET."""
    if found := re.fullmatch(r"/simple/((\w+)[\w-]*)/", path):
        if found[2] in HOLDINGS:
            as_json = _JSON in accept
            return _of(page(found[1], as_json=as_json), _JSON if as_json else "text/html; charset=utf-8")
    elif found := re.fullmatch(r"/files/((\w+)[\w-]*)/([\w.-]+)", path):
        if found[2] in HOLDINGS:
            size, etag = HOLDINGS[found[2]].size, f'"{found[3]}"'
            return Answer(HTTPStatus.OK, "application/octet-stream", etag, size, block(found[3]))
    elif path == "/simple/":
        return _of(listing(), "text/html; charset=utf-8")
    return _of(b"nothing here\n", "text/plain", HTTPStatus.NOT_FOUND)


def _of(body: bytes, content_type: str, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(status, content_type, f'"{hashlib.sha256(body).hexdigest()[:16]}"', len(body), body)


class Index:
    """The server."""

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """All requests of one client, in turn."""
        delay = 2 * ROUND_TRIP
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path = head[0].split(" ")[:2]
                fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                if path == "/+counts":
                    await self._send(writer, method, _of(json.dumps(self._counts).encode(), "application/json"), fields)
                    continue
                self._counts[path] += 1
                due = asyncio.get_running_loop().time() + delay
                # Making up a page takes time, which is part of the delay: a real index has it at hand.
                answered = answer(path, fields.get("accept", ""))
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                delay = ROUND_TRIP
                await self._send(writer, method, answered, fields)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, method: str, answered: Answer, fields: dict[str, str]) -> None:
        status, size = answered.status, answered.size
        if fields.get("if-none-match") == answered.etag:
            status, size = HTTPStatus.NOT_MODIFIED, 0
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nETag: {answered.etag}\r\nVary: Accept\r\n"
        head += f"Content-Type: {answered.content_type}\r\n"
        if status is not HTTPStatus.NOT_MODIFIED:
            head += f"Content-Length: {size}\r\n"
        writer.write(f"{head}\r\n".encode())
        loop = asyncio.get_running_loop()
        began = loop.time()
        for at in range(0, 0 if method == "HEAD" else size, _PIECE):
            wait = began + at / SPEED - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            writer.write(answered.piece(at))
            await writer.drain()


async def main(port: int) -> None:
    """Serve until ended."""
    server = await asyncio.start_server(Index().connection, "127.0.0.1", port, backlog=256)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    # With the load: what is measured has the other core for itself.
    os.sched_setaffinity(0, {int(sys.argv[2])})
    asyncio.run(main(int(sys.argv[1])))
