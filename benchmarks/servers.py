"""Server processes on one core: started, watched and ended. One function for each kind."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from environment import HERE, PYTHON, need

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
_TICKS = os.sysconf("SC_CLK_TCK")
_START_BOUND = 60.0


def free_port() -> int:
    """A port that was free a moment ago, and that the system gives to no outgoing connection.

    Waiting for a server by connecting to one that it does would sooner or
    later connect to itself, and so take the port away.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


class Server:
    """A server and all its processes, alone on the server's core.

    It runs in a session of its own, by which its processes are found; they
    are ended by their numbers.
    """

    def __init__(
        self, name: str, command: Sequence[str], port: int, scratch: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.port = name, port
        self._log = scratch / f"{name.replace(' ', '-')}-{port}.log"
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
        self.began = time.monotonic()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                list(command),
                env={**kept, "HOME": str(scratch), **(environ or {})},
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_onto_server_core,
            )

    def ready(self, path: str = "/") -> Server:
        """Wait until it answers a GET of `path` with anything below 500; `answered` is then when it did."""
        while True:
            try:
                if self.get(path)[0] < 500:
                    self.answered = time.monotonic()
                    return self
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() - self.began > _START_BOUND:
                self.stop()
                raise RuntimeError(f"{self.name} does not answer:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.002)

    def get(self, path: str, headers: Mapping[str, str] | None = None, timeout: float = 60) -> tuple[int, bytes]:
        """Status and body of one GET on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def settle(self, bound: float = 300) -> Server:
        """Wait until ours has read all files, so that nothing but requests takes time."""
        deadline = time.monotonic() + bound
        while time.monotonic() < deadline:
            facts = json.loads(self.get("/health", {"Accept": "application/json"})[1]).get("facts", {})
            if facts.get("total") is not None and facts["done"] >= facts["total"]:
                return self
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} has not read its files in {bound} s")

    def _processes(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.getsid(int(entry.name)) == self.process.pid:
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def cpu(self) -> float:
        """Seconds of processor time that its processes and their ended children have used."""
        total = 0
        for pid in self._processes():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += sum(map(int, fields[11:15]))
        return total / _TICKS

    def memory(self, field: str = "VmRSS") -> float:
        """Megabytes (10⁶ bytes) in memory now, or at most until now (``VmHWM``), of all its processes."""
        total = 0
        for pid in self._processes():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(field + ":"):
                    total += int(line.split()[1]) * 1024
        return total / 1e6

    def forget_peak(self) -> None:
        """Let ``VmHWM`` begin at what is in memory now."""
        for pid in self._processes():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def stop(self) -> None:
        """End it, politely first."""
        for number, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
            for pid in [self.process.pid] if number == signal.SIGTERM else self._processes():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            if not self._processes():
                return


def _onto_server_core() -> None:
    os.sched_setaffinity(0, {SERVER_CORE})


def ours(scratch: Path, folder: Path, *flags: str, cache: Path | None = None, name: str = "ours") -> Server:
    """pypiserver-lite over `folder`; facts in `cache`, or in a folder of the run's that belongs to `folder`."""
    port = free_port()
    remembered = cache or folder.with_name(folder.name + ".cache")
    command = [str(PYTHON), "-m", "pypiserver_lite", "run", "--port", str(port), "--cache-dir", str(remembered)]
    return Server(name, [*command, "--disable-fallback", *flags, str(folder)], port, scratch)


def configured(scratch: Path, text: str, cache: Path, name: str) -> Server:
    """pypiserver-lite with the settings of `text`, written to a file."""
    port, config = free_port(), scratch / f"{name}.toml"
    config.write_text(text)
    command = [str(PYTHON), "-m", "pypiserver_lite", "run", "--port", str(port), "--cache-dir", str(cache)]
    return Server(name, [*command, "--config", str(config)], port, scratch)


def pypiserver(scratch: Path, folder: Path, *flags: str, cached: bool = False) -> Server:
    """pypiserver over `folder`; `cached` keeps its listing in memory (its backend ``cached-dir``)."""
    port = free_port()
    backend = "cached-dir" if cached else "simple-dir"
    command = [str(PYTHON), "-m", "pypiserver", "run", "-p", str(port), "-i", "127.0.0.1", "--disable-fallback"]
    rights = () if "-P" in flags else ("-P", ".", "-a", ".")
    name = "pypiserver cached" if cached else "pypiserver"
    return Server(name, [*command, "--backend", backend, *rights, *flags, str(folder)], port, scratch)


def bare(scratch: Path, kind: str, size: int = 4096) -> Server:
    """A ``bottle`` route or a ``wsgi`` function on waitress, or a ``granian`` one, that returns `size` ready bytes."""
    port = free_port()
    environ = {"BARE_BYTES": str(size), "PYTHONPATH": str(HERE)}
    command = [str(PYTHON), str(HERE / "bare.py"), kind, str(port)]
    if kind == "granian":
        command = [str(PYTHON), "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", "1", "--blocking-threads", "16", "--no-ws", "--no-log", "bare:application"]
    return Server(f"bare {kind}", command, port, scratch, environ)


def nginx(scratch: Path, root: Path, locations: str = "") -> Server:
    """nginx with one worker over the static files in `root`; `locations` is further configuration."""
    port = free_port()
    home = scratch / f"nginx-{port}"
    home.mkdir()
    temps = "".join(f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = home / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {home}/pid; {'user root;' if os.getuid() == 0 else ''}\n"
        "events { worker_connections 512; }\n"
        f"http {{ access_log off; {temps} sendfile on; tcp_nopush on; keepalive_requests 100000000;\n"
        "types { text/html html; application/zip whl; }\n"
        f"server {{ listen 127.0.0.1:{port}; root {root}; {locations} }} }}\n"
    )
    command = [need("nginx"), "-p", str(home), "-c", str(config), "-e", str(home / "error.log")]
    return Server("nginx", command, port, scratch)
