"""Real servers on free loopback ports, and real clients that see nothing of this machine's own settings."""

from __future__ import annotations

import contextlib
import ensurepip
import hashlib
import io
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import builders
import trustme
from passlib.context import CryptContext
from waitress import wasyncore
from waitress.server import create_server

import pypiserver_lite

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Result = TypeVar("Result")
START_BOUND = 20.0
"""Seconds a server may take to say where it listens."""
STOP_BOUND = 15.0
"""Seconds a server may take to end after SIGTERM."""
SOURCE = Path(pypiserver_lite.__file__).resolve().parents[1]
"""What must be importable for `pypiserver_lite` to be."""
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT")


def bare_environ(home: Path, **more: str) -> dict[str, str]:
    """The machine's paths and nothing of its user: no settings, caches, keyrings or proxies."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        **{key: os.environ[key] for key in _KEPT if key in os.environ},
        "HOME": str(home),
        "USERPROFILE": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_DIRS": str(home / "config-dirs"),
        "NO_PROXY": "*",
        **more,
    }


def client_environ(home: Path) -> dict[str, str]:
    """A `bare_environ` in which clients are plain and impatient, and know no index."""
    return bare_environ(
        home,
        PIP_CONFIG_FILE=os.devnull,
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_NO_INPUT="1",
        PIP_NO_CACHE_DIR="1",
        PIP_PROGRESS_BAR="off",
        PIP_ROOT_USER_ACTION="ignore",
        PIP_RETRIES="0",
        PIP_TIMEOUT="20",
        UV_NO_CONFIG="1",
        UV_CACHE_DIR=str(home / "uv-cache"),
        UV_PYTHON=sys.executable,
        UV_PYTHON_DOWNLOADS="never",
        UV_HTTP_RETRIES="0",
        UV_NO_PROGRESS="1",
        UV_LINK_MODE="copy",
        PYTHON_KEYRING_BACKEND="keyring.backends.null.Keyring",
        POETRY_KEYRING_ENABLED="false",
        POETRY_NO_INTERACTION="1",
        PDM_CHECK_UPDATE="false",
        HATCH_DATA_DIR=str(home / "hatch-data"),
        HATCH_CACHE_DIR=str(home / "hatch-cache"),
        NO_COLOR="1",
        TERM="dumb",
        COLUMNS="400",  # messages are looked for, so they must not be wrapped
        PYTHONUTF8="1",
    )


@dataclass(frozen=True)
class Ran:
    """A command that ended: its exit code, and all it said."""

    code: int
    said: str

    def good(self) -> str:
        """What it said, if it succeeded."""
        assert self.code == 0, f"exit code {self.code}:\n{self.said}"
        return self.said

    def bad(self) -> str:
        """What it said, if it failed as it should."""
        assert self.code != 0, f"it should have failed:\n{self.said}"
        return self.said


def run(folder: Path, *words: str, text: str = "", **env: str) -> Ran:
    """Our own command in this folder, with `text` as input; what it says on both its outputs, without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "pypiserver_lite", *words],
        cwd=folder,
        env=bare_environ(folder / "home", **{"PYTHONPATH": str(SOURCE), **env}),
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = (done.stdout + done.stderr).strip()
    assert "Traceback" not in said, said
    return Ran(done.returncode, said)


@dataclass
class Shell:
    """Runs clients in a home of their own."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environ = {**client_environ(self.home), **self.environ}

    def run(self, *command: str | Path, cwd: Path | None = None, timeout: float = 90, **more: str) -> Ran:
        """Run a command without a terminal; `more` are environment variables."""
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd or self.home,
            env={**self.environ, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        return Ran(done.returncode, done.stdout)

    def python(self, *arguments: str | Path, **more: Any) -> Ran:
        """This interpreter."""
        return self.run(sys.executable, *arguments, **more)

    def pip(self, *arguments: str | Path, **more: Any) -> Ran:
        """This environment's pip."""
        return self.python("-m", "pip", *arguments, **more)

    def uv(self, *arguments: str | Path, **more: Any) -> Ran:
        """This environment's uv."""
        return self.python("-m", "uv", *arguments, **more)


@dataclass(kw_only=True)
class Server:
    """A running server."""

    host: str
    port: int
    process: subprocess.Popen[bytes] | None = None
    log_file: Path | None = None
    killed: bool = False

    @property
    def url(self) -> str:
        """Its root, with a slash at the end."""
        return f"http://{self.host}:{self.port}/"

    @property
    def simple(self) -> str:
        """Its simple index."""
        return self.url + "simple/"

    def login(self, user: str, password: str, path: str = "simple/") -> str:
        """An address with credentials in it."""
        return f"http://{user}:{password}@{self.host}:{self.port}/{path}"

    def log(self) -> str:
        """Everything it has said until now."""
        assert self.log_file is not None
        return self.log_file.read_text("utf-8", "replace")


@contextmanager
def serve(
    *arguments: str, packages: Sequence[Path] = (), env: Mapping[str, str] | None = None, **flags: object
) -> Iterator[Server]:
    """``python -m pypiserver_lite run`` over `packages` on a free port, until the block ends.

    `flags` are spelled as on the command line: ``passwords=path`` is
    ``--passwords path``, ``overwrite=True`` is ``--overwrite``. There is no
    upstream unless ``fallback_url`` is given or ``disable_fallback=False``.
    Any Host is answered to unless ``allow_host=None``.
    At the end the server must have stopped in time and with exit code 0.
    """
    with tempfile.TemporaryDirectory(prefix="pypiserver-lite-test-") as scratch:
        flags.setdefault("port", 0)
        flags.setdefault("disable_fallback", "fallback_url" not in flags)
        flags.setdefault("cache_dir", Path(scratch) / "cache")
        flags.setdefault("allow_host", "*")  # many a test makes one up
        words = [sys.executable, "-m", "pypiserver_lite", "run", *arguments]
        for name, value in flags.items():
            if value is not None and value is not False:
                words += ["--" + name.replace("_", "-"), *([] if value is True else [str(value)])]
        words += [str(path) for path in packages]
        environ = {**bare_environ(Path(scratch) / "home", PYTHONPATH=str(SOURCE)), **(env or {})}
        with spawn(words, environ, r"http://127\.0\.0\.1:(?P<port>[0-9]+)/", Path(scratch)) as server:
            yield server


@contextmanager
def spawn(
    command: Sequence[str], environ: Mapping[str, str], pattern: str, scratch: Path, port: int | None = None
) -> Iterator[Server]:
    """Any server on the loopback in a subprocess, once its output matches `pattern`.

    The pattern's group ``port`` says where it listens, unless `port` does. The log goes into the folder `scratch`.
    """
    log_file = scratch / "log.txt"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            list(command),
            env=dict(environ),
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    server = Server(host="127.0.0.1", port=0, process=process, log_file=log_file)
    try:
        found = _await(lambda: re.search(pattern, server.log()), server)
        server.port = int(found["port"]) if port is None else port
        yield server
    finally:
        try:
            stop(server)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(5)


def kill(server: Server) -> None:
    """``kill -9``: end a server in the middle of whatever it does."""
    assert server.process is not None
    server.killed = True
    server.process.kill()
    server.process.wait(STOP_BOUND)


def stop(server: Server) -> None:
    """Ask a server to end, and see that it does so in time and content."""
    assert server.process is not None
    if server.killed:
        return
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(STOP_BOUND)
    assert code == 0, f"the server ended with exit code {code}:\n{server.log()}"


def _await(ready: Callable[[], re.Match[str] | None], server: Server) -> re.Match[str]:
    assert server.process is not None
    deadline = time.monotonic() + START_BOUND
    while time.monotonic() < deadline:
        ended = server.process.poll() is not None
        found = ready()
        if found is not None:
            return found
        assert not ended, f"the server ended with exit code {server.process.returncode}:\n{server.log()}"
        time.sleep(0.02)
    raise AssertionError(f"the server did not say where it listens:\n{server.log()}")


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}" + (f"?{self.query}" if self.query else "")


@dataclass(kw_only=True)
class Recording(Server):
    """A running server that remembers what it was asked."""

    app: Any
    requests: list[Asked] = field(default_factory=list)

    def asked(self) -> list[str]:
        """``METHOD /path?query`` of every request until now."""
        return [str(request) for request in self.requests]

    def forget(self) -> None:
        """Start over with an empty record."""
        self.requests.clear()


def certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """A certificate for these hosts and addresses, in one file with its authority's, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    authority = trustme.CA()
    made = authority.issue_cert(*names)
    for part in (*made.cert_chain_pems, authority.cert_pem):
        part.write_to_path(str(cert), append=True)
    made.private_key_pem.write_to_path(str(key))
    return cert, key


@contextmanager
def in_thread(application: WSGIApplication) -> Iterator[Recording]:
    """`application` on waitress in a thread of this process, until the block ends; every request is recorded."""
    requests: list[Asked] = []

    def recorded(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        headers = {key[5:].replace("_", "-").lower(): val for key, val in environ.items() if key.startswith("HTTP_")}
        path = environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"]
        requests.append(Asked(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), headers))
        return application(environ, start_response)

    channels: dict[int, object] = {}
    server = create_server(recorded, host="127.0.0.1", port=0, threads=8, map=channels)
    over = threading.Event()

    def loop() -> None:
        while not over.is_set():
            wasyncore.loop(timeout=1, map=channels, count=1)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield Recording(host="127.0.0.1", port=int(server.effective_port), app=application, requests=requests)
    finally:
        over.set()
        server.pull_trigger()
        thread.join(5)
        server.task_dispatcher.shutdown()
        wasyncore.close_all(channels)
        close = getattr(application, "close", None)
        if callable(close):
            close()


def free_port() -> int:
    """A port that was free a moment ago, for servers that cannot choose one; no outgoing connection is given such."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            return port


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as it came over the wire."""

    status: int
    reason: str
    headers: Mapping[str, str]
    """Lower-case names; the last of several wins."""
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8")


def connect(server: Server, timeout: float = 20, source: str = "127.0.0.1") -> socket.socket:
    """A connection to a server, from this address of the loopback."""
    return socket.create_connection((server.host, server.port), timeout, source_address=(source, 0))


def raw(server: Server, request: bytes, timeout: float = 20) -> bytes:
    """Everything the server answers to these very bytes until it closes the connection."""
    with socket.create_connection((server.host, server.port), timeout) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def ask(server: Server, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
    """One request for exactly this path, nothing added but Host, Content-Length and Connection; nothing followed."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {server.host}:{server.port}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    head, _, rest = raw(server, "\r\n".join([*lines, "", ""]).encode() + body).partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    _, code, reason = [*status.split(" ", 2), ""][:3]
    pairs = [line.partition(":") for line in fields]
    answered = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Answer(int(code), reason, answered, rest)


@contextmanager
def meanwhile(task: Callable[[threading.Event], Result], count: int = 1) -> Iterator[list[Future[Result]]]:
    """`task` in threads of its own; it is to end when the event is set, and that is when the block ends."""
    over = threading.Event()
    with ThreadPoolExecutor(count) as pool:
        try:
            yield [pool.submit(task, over) for _ in range(count)]
        finally:
            over.set()


def write_htpasswd(path: Path, **users: str) -> Path:
    """A password file; bcrypt at its cheapest, since tests check many."""
    hashes = CryptContext(["bcrypt"], bcrypt__rounds=4)
    path.write_text("".join(f"{user}:{hashes.hash(password)}\n" for user, password in users.items()))
    return path


_BACKEND = """\
import os, zipfile

def _write(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    info = "{module}-{version}.dist-info"
    with open("PKG-INFO") as file:
        metadata = file.read()
    _write(os.path.join(wheel_directory, "{module}-{version}-py3-none-any.whl"), {{
        "{module}/__init__.py": "__version__ = {version!r}\\n",
        info + "/METADATA": metadata,
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        info + "/RECORD": "",
    }})
    return "{module}-{version}-py3-none-any.whl"
"""


def make_own_sdist(folder: Path, name: str, version: str, *lines: str, filename: str | None = None) -> Path:
    """A source distribution that brings its own build backend: it installs without anything from another index."""
    folder.mkdir(parents=True, exist_ok=True)
    module = re.sub(r"[-_.]+", "_", name).lower()
    path = folder / (filename or f"{module}-{version}.tar.gz")
    members = {
        "PKG-INFO": builders.metadata(name, version, *lines),
        "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n',
        "own.py": _BACKEND.format(module=module, version=version).encode(),
    }
    with tarfile.open(path, "w:gz") as archive:
        for member, data in members.items():
            entry = tarfile.TarInfo(f"{module}-{version}/{member}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def sha256(data: bytes | Path) -> str:
    """The digest that links and requirements bear."""
    return hashlib.sha256(data if isinstance(data, bytes) else data.read_bytes()).hexdigest()


def installed(target: Path) -> dict[str, str]:
    """Project name → version of what was installed into a ``--target`` folder."""
    found = {}
    for info in target.glob("*.dist-info"):
        text = (info / "METADATA").read_text("utf-8")
        fields = dict(line.split(": ", 1) for line in text.split("\n\n")[0].splitlines() if ": " in line)
        found[fields["Name"]] = fields["Version"]
    return found


def pip_wheels() -> dict[str, Path]:
    """Version → wheel of every pip that Python and virtualenv bring along: old ones and new ones without a network."""
    folders = [Path(ensurepip.__file__).parent / "_bundled"]
    if find_spec("virtualenv") is not None:
        seeds = find_spec("virtualenv.seed.wheels.embed")
        if seeds is not None and seeds.origin:
            folders.append(Path(seeds.origin).parent)
    return {wheel.name.split("-")[1]: wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))}
