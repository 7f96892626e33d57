"""Those who stand between clients and an upstream: pypiserver-lite and its peers, each with an upstream of its own."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import Bench
from environment import HERE, PYTHON, VENV, need
from servers import LOAD_CORE, Server, free_port

REQUIREMENTS = ("devpi-server==6.20.*", "proxpi==1.3.*", "gunicorn==23.*")
_PEERS = VENV / "peers"


def peers() -> Path:
    """The folder of the peers' programs, installed first if need be, apart from ours: they share dependencies."""
    stamp = _PEERS / "made-of"
    if not stamp.exists() or stamp.read_text() != repr(REQUIREMENTS):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(_PEERS)], check=True)
        install = [str(_PEERS / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *REQUIREMENTS], check=True, timeout=600)
        stamp.write_text(repr(REQUIREMENTS))
    return _PEERS / "bin"


def upstream(bench: Bench) -> Server:
    """An index that is far away (`slow_upstream`)."""
    port = free_port()
    command = [str(PYTHON), str(HERE / "slow_upstream.py"), str(port), str(LOAD_CORE)]
    return bench.start(Server("upstream", command, port, bench.scratch), "/+counts")


class Direct:
    """Nobody in between."""

    def __init__(self, bench: Bench) -> None:
        self.source = upstream(bench)

    def page(self, project: str) -> str:
        """The address of a project's page."""
        return f"http://127.0.0.1:{self.source.port}/simple/{project}/"

    def asked(self, start: str = "/") -> int:
        """How many requests the upstream has had to paths that begin so."""
        counts: dict[str, int] = json.loads(self.source.get("/+counts")[1])
        return sum(count for path, count in counts.items() if path.startswith(start))


class Between(Direct):
    """A server in front of its own upstream. `make` starts it; a restart is another call with the same settings."""

    def __init__(self, bench: Bench, source: Server, make: Callable[[], Server], *, ready: str, pages: str) -> None:
        self.source = source
        self._bench = bench
        self._make = make
        self._ready = ready
        self._pages = pages
        self.server = bench.start(make(), ready)

    def page(self, project: str) -> str:
        """The address of a project's page."""
        return f"http://127.0.0.1:{self.server.port}{self._pages}{project}/"

    def restart(self) -> None:
        """Stop it and start it again; nothing but what lies on disk stays."""
        self._bench.stop(self.server)
        self.server = self._bench.start(self._make(), self._ready)


def ours(bench: Bench, *, packages: Path | None = None) -> Between:
    """pypiserver-lite with ``--fallback-mode cache``, as it comes."""
    source, port = upstream(bench), free_port()
    folder = packages or bench.folders.empty("packages")
    command = [str(PYTHON), "-m", "pypiserver_lite", "run", "--port", str(port)]
    command += ["--cache-dir", str(bench.folders.empty("cache")), "--fallback-mode", "cache"]
    command += ["--fallback-url", f"http://127.0.0.1:{source.port}/simple/", str(folder)]
    make = partial(Server, "ours", command, port, bench.scratch)
    return Between(bench, source, make, ready="/health", pages="/simple/")


def nginx(bench: Bench) -> Between:
    """nginx with ``proxy_cache``, connections kept open, and one request to the upstream for many who ask."""
    source, port = upstream(bench), free_port()
    home = bench.folders.empty("nginx")
    os.chmod(home, 0o755)
    temps = "".join(f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = home / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {home}/pid; {'user root;' if os.getuid() == 0 else ''}\n"
        "events { worker_connections 512; }\n"
        f"http {{ access_log off; {temps} sendfile on; keepalive_requests 100000000;\n"
        f"proxy_cache_path {home}/cache levels=1:2 keys_zone=index:10m max_size=10g inactive=1d use_temp_path=off;\n"
        f"upstream index {{ server 127.0.0.1:{source.port}; keepalive 32; }}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://index; proxy_http_version 1.1;\n"
        "proxy_set_header Connection ''; proxy_cache index; proxy_cache_valid 200 10m; proxy_cache_lock on;\n"
        "proxy_cache_lock_timeout 60s; proxy_cache_lock_age 60s; proxy_cache_use_stale error timeout updating; } } }\n"
    )
    command = [need("nginx"), "-p", str(home), "-c", str(config), "-e", str(home / "error.log")]
    make = partial(Server, "nginx", command, port, bench.scratch)
    return Between(bench, source, make, ready="/simple/", pages="/simple/")


def devpi(bench: Bench) -> Between:
    """devpi-server with a mirror index."""
    source, port = upstream(bench), free_port()
    home, programs = bench.folders.empty("devpi"), peers()
    prepare = [str(programs / "devpi-init"), "--serverdir", str(home), "--no-root-pypi"]
    done = subprocess.run(prepare, capture_output=True, text=True, timeout=120, cwd=bench.scratch, check=False)
    if done.returncode:
        raise RuntimeError(f"devpi-init failed: {done.stderr[-200:]}")
    command = [str(programs / "devpi-server"), "--serverdir", str(home), "--host", "127.0.0.1", "--port", str(port)]
    make = partial(Server, "devpi", command, port, bench.scratch)
    between = Between(bench, source, make, ready="/+api", pages="/root/mirror/+simple/")
    token = _ask_devpi(port, "POST", "/+login", {"user": "root", "password": ""}, "")["result"]["password"]
    index = {"type": "mirror", "mirror_url": f"http://127.0.0.1:{source.port}/simple/", "mirror_no_project_list": True}
    _ask_devpi(port, "PUT", "/root/mirror", index, base64.b64encode(f"root:{token}".encode()).decode())
    return between


def _ask_devpi(port: int, method: str, path: str, value: object, login: str) -> dict[str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        fields = {"Content-Type": "application/json", "Accept": "application/json", "X-Devpi-Auth": login}
        connection.request(method, path, json.dumps(value), {name: text for name, text in fields.items() if text})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"devpi answers {answer.status} to {method} {path}: {body[:200]!r}")
        said: dict[str, dict[str, str]] = json.loads(body)
        return said
    finally:
        connection.close()


def proxpi(bench: Bench) -> Between:
    """proxpi in gunicorn with sixteen threads."""
    source, port = upstream(bench), free_port()
    environ = {
        "PROXPI_INDEX_URL": f"http://127.0.0.1:{source.port}/simple/",
        "PROXPI_CACHE_DIR": str(bench.folders.empty("proxpi")),
    }
    command = [str(peers() / "gunicorn"), "--threads", "16", "--bind", f"127.0.0.1:{port}", "proxpi.server:app"]
    make = partial(Server, "proxpi", command, port, bench.scratch, environ)
    return Between(bench, source, make, ready="/health", pages="/index/")
