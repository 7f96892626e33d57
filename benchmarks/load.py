"""Asking servers: many requests with wrk, a few in turn, and what they cost the server."""

from __future__ import annotations

import http.client
import random
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from environment import need
from servers import LOAD_CORE, Server


@dataclass(frozen=True)
class Ask:
    """A GET."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What a load cost the server that bore it."""

    requests: int
    bytes: int
    seconds: float
    cpu: float
    """Seconds of the server's processor time."""
    asking: float = 0.0
    """Seconds of the processor time of who asked."""

    @property
    def per_request(self) -> float:
        """Microseconds of processor time for one request."""
        return self.cpu / self.requests * 1e6

    @property
    def per_megabyte(self) -> float:
        """Microseconds of processor time for 10⁶ bytes, at both ends.

        Who of the two does the kernel's part of a transfer on one machine
        depends on who is faster.
        """
        return (self.cpu + self.asking) / self.bytes * 1e12


_LUA = """\
local asks, at = {}, 0
local wanted = {
%s
}
init = function(arguments)
  for number, ask in ipairs(wanted) do
    asks[number] = wrk.format("GET", ask[1], ask[2])
  end
end
request = function()
  at = at %% #asks + 1
  return asks[at]
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d\\n", summary.requests, summary.bytes, summary.duration,
    e.connect + e.read + e.write + e.timeout + e.status))
end
"""


def _lua(text: str) -> str:
    return "".join(char if char.isalnum() else f"\\{ord(char):03}" for char in text)


def wrk(server: Server, asks: Sequence[Ask], seconds: int, connections: int = 8, behind: Sequence[Server] = ()) -> Cost:
    """Ask for all of `asks` round and round for some seconds; the time of servers `behind` counts too.

    Raises RuntimeError if any request fails.
    """
    rows = []
    for ask in asks:
        headers = ", ".join(f'["{_lua(name)}"] = "{_lua(value)}"' for name, value in ask.headers.items())
        rows.append(f'{{"{_lua(ask.path)}", {{{headers}}}}},')
    with tempfile.NamedTemporaryFile("w", suffix=".lua", prefix="pypiserver-lite-bench-") as script:
        script.write(_LUA % "\n".join(rows))
        script.flush()
        command = ["taskset", "-c", str(LOAD_CORE), need("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s"]
        command += ["--timeout", "20s", "-s", script.name, f"http://127.0.0.1:{server.port}"]
        before, asked = sum(each.cpu() for each in (server, *behind)), _children()
        ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        cpu, asking = sum(each.cpu() for each in (server, *behind)) - before, _children() - asked
    said = ran.stdout + ran.stderr
    numbers = [line.split()[1:] for line in said.splitlines() if line.startswith("RESULT")]
    if ran.returncode or not numbers:
        raise RuntimeError(f"wrk failed: {said}")
    requests, received, duration, errors = map(int, numbers[0])
    if errors or not requests:
        raise RuntimeError(f"{server.name}: {errors} of {requests} requests failed\n{said}")
    return Cost(requests, received, duration / 1e6, cpu, asking)


def _children() -> float:
    """Seconds of processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def in_turn(server: Server, asks: Sequence[Ask], count: int) -> Cost:
    """`count` of `asks` one after the other, for servers that wrk would wait too long for."""
    received, before, began = 0, server.cpu(), time.monotonic()
    for number in range(count):
        ask = asks[number % len(asks)]
        status, body = server.get(ask.path, ask.headers)
        if status >= 400:
            raise RuntimeError(f"{server.name} answers {status} to {ask.path}")
        received += len(body)
    return Cost(count, received, time.monotonic() - began, server.cpu() - before)


@dataclass(frozen=True)
class Entrant:
    """One side of a comparison: who is asked, and for what."""

    server: Server
    asks: Sequence[Ask]
    connections: int = 8
    turns: int = 0
    """If not 0: this many requests in turn instead of a load."""
    behind: Sequence[Server] = ()
    """Whom it passes requests on to."""

    def once(self, seconds: int) -> Cost:
        """Bear one load."""
        if self.turns:
            return in_turn(self.server, self.asks, self.turns)
        return wrk(self.server, self.asks, seconds, self.connections, self.behind)


def race(entrants: Mapping[str, Entrant], rounds: int, seconds: int) -> dict[str, list[Cost]]:
    """Each entrant in turn, `rounds` times over: what disturbs the machine disturbs all of them."""
    for entrant in entrants.values():
        replace(entrant, turns=min(entrant.turns, 1)).once(1)
    costs: dict[str, list[Cost]] = {name: [] for name in entrants}
    for _ in range(rounds):
        for name, entrant in entrants.items():
            costs[name].append(entrant.once(seconds))
    return costs


def shuffled(asks: Sequence[Ask]) -> list[Ask]:
    """The same order in every run, and no order to the server."""
    mixed = list(asks)
    random.Random(4).shuffle(mixed)
    return mixed


def stays_open(server: Server, ask: Ask, times: int = 3) -> bool:
    """Whether the server answers several such requests on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.connect()
        first = connection.sock
        for _ in range(times):
            connection.request("GET", ask.path, headers=dict(ask.headers))
            connection.getresponse().read()
            if connection.sock is not first:
                return False
        return True
    finally:
        connection.close()


def etag(server: Server, ask: Ask) -> str:
    """The ETag of the answer to `ask`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("GET", ask.path, headers=dict(ask.headers))
        answer = connection.getresponse()
        answer.read()
        return answer.getheader("ETag") or ""
    finally:
        connection.close()


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def upload_form(filename: str, project: str, version: str, digest: str) -> tuple[bytes, bytes, str]:
    """What stands before and after the file in the body of an upload, and the body's Content-Type."""
    boundary = "benchmark-8d1c4a"
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": project,
        "version": version,
        "filetype": "bdist_wheel",
        "pyversion": "py3",
        "sha256_digest": digest,
    }
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{filename}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def send_file(server: Server, head: bytes, body: Path, tail: bytes, content_type: str) -> int:
    """POST a body with a file in its middle; the answer's status."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        connection.putrequest("POST", "/")
        connection.putheader("Content-Type", content_type)
        connection.putheader("Content-Length", str(len(head) + body.stat().st_size + len(tail)))
        connection.endheaders(head)
        with body.open("rb") as file:
            connection.sock.sendfile(file)
        connection.send(tail)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()
