"""Uploads: many small ones at once, and a big one."""

from __future__ import annotations

import hashlib
import http.client
import threading
from collections.abc import Iterator, Sequence

import servers
from bench import Bench
from data import wheel, wheel_name
from load import send_file, timed, upload_form
from servers import Server
from table import Row, Target

_OPEN = ("-P", ".", "-a", ".")
_CLIENTS = 4
_Post = tuple[bytes, str]


def posts(round_number: int, count: int) -> list[_Post]:
    """Bodies of uploads that no server has seen, with their Content-Type."""
    made = []
    for number in range(count):
        project, version = f"uploaded{number % 20:02}", f"{round_number}.{number}"
        data, name = wheel(project, version), wheel_name(project, version)
        head, tail, content_type = upload_form(name, project, version, hashlib.sha256(data).hexdigest())
        made.append((head + data + tail, content_type))
    return made


def rate(server: Server, made: Sequence[_Post]) -> float:
    """Uploads a second with four clients, each on one connection."""
    failed: list[str] = []

    def client(mine: Sequence[_Post]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for body, content_type in mine:
            try:
                connection.request("POST", "/", body, {"Content-Type": content_type})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200:
                    failed.append(f"{answer.status} {text[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                failed.append(str(error))
        connection.close()

    threads = [threading.Thread(target=client, args=(made[start::_CLIENTS],)) for start in range(_CLIENTS)]

    def run() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    seconds = timed(run)
    if failed:
        raise RuntimeError(f"{server.name}: {len(failed)} of {len(made)} uploads failed: {failed[0]}")
    return len(made) / seconds


def small(bench: Bench) -> Iterator[Row]:
    """Uploads a second into a small and into the largest folder."""
    few, many = bench.folders.files(1000), bench.folders.files(bench.many)
    entrants = {
        "few": (bench.ours(few, *_OPEN), 400),
        "many": (bench.ours(many, *_OPEN), 400),
        "old few": (bench.pypiserver(few, *_OPEN), 100),
        "old many": (bench.pypiserver(many, *_OPEN), 4),
    }
    figures: dict[str, list[float]] = {name: [] for name in entrants}
    try:
        for number in range(1, 2 * min(bench.rounds, 4), 2):
            for name, (server, count) in entrants.items():
                # The two programs share a folder, and must not send the same files.
                figures[name].append(rate(server, posts(number + name.startswith("old"), count)))
    finally:
        bench.stop_all()
        for folder in (few, many):
            for left in folder.glob("uploaded*"):
                left.unlink()
    target, unit = Target("≥", 200, "/s"), "/s"
    yield Row("small uploads, 4 clients, 1,000 files", figures["few"], unit, target=target)
    what = f"small uploads, 4 clients, {bench.many:,} files"
    yield Row(what, figures["many"], unit, target=target)
    yield Row(what, figures["many"], unit, "ours, 1,000 files", figures["few"], target=Target("≥", 0.9))
    yield Row("small uploads, 4 clients, 1,000 files", figures["few"], unit, "pypiserver", figures["old few"])
    yield Row(what, figures["many"], unit, "pypiserver", figures["old many"])


def big(bench: Bench) -> Iterator[Row]:
    """One big upload, in megabytes a second, and what it takes in memory."""
    megabytes = 128 if bench.quick else 512
    source = bench.folders.big_file(megabytes) / wheel_name("big", "1.0")
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else ""
    target_folder = bench.folders.empty("uploads")
    contestants = [
        bench.start(servers.ours(bench.scratch, target_folder, *_OPEN), "/health"),
        bench.start(servers.pypiserver(bench.scratch, target_folder), "/packages/"),
    ]
    head, tail, content_type = upload_form(source.name, "big", "1.0", digest)
    speeds: list[list[float]] = [[], []]
    grown: list[list[float]] = [[], []]
    for _ in range(min(bench.rounds, 4)):
        for number, server in enumerate(contestants):
            idle = server.memory()
            server.forget_peak()
            status = []
            seconds = timed(lambda: status.append(send_file(server, head, source, tail, content_type)))  # noqa: B023
            if status != [200]:
                raise RuntimeError(f"{server.name} answers {status} to an upload of {megabytes} MB")
            speeds[number].append(source.stat().st_size / seconds / 1e6)
            grown[number].append(server.memory("VmHWM") - idle)
            (target_folder / source.name).unlink()
    what = f"one upload of {megabytes} MB"
    yield Row(what, speeds[0], "MB/s", "pypiserver", speeds[1], target=Target("≥", 1.5))
    yield Row(f"{what}: memory above idle", grown[0], "MB", "pypiserver", grown[1], target=Target("≤", 16, "MB"))
