"""The container image, without a container engine: its steps are run in a folder that stands for its root.

The interpreter that runs the tests stands for the base image's.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from builders import make_wheel
from installs import BACKEND, FAST, NEEDED, ROOT, add_path, provide
from live import Shell, ask, spawn, stop

from pypiserver_lite.config.settings import ENV_PREFIX, SETTINGS

pytestmark = pytest.mark.xdist_group("packaging")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, in order: keyword and the rest."""
    lines = [
        line for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    whole = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(words[0], words[1]) for line in whole.splitlines() if len(words := line.split(None, 1)) == 2]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for keyword, rest in instructions():
        if keyword == "FROM":
            found.append([])
        if found:
            found[-1].append((keyword, rest))
    return found


def last(keyword: str) -> str:
    return [rest for word, rest in stages()[-1] if word == keyword][-1]


@dataclass
class Image:
    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    folder: str = "/"

    def inside(self, text: str) -> str:
        """`text` with the image's absolute paths led to the folder that stands for its root."""
        return re.sub(r"(?<![\w./-])/(opt|data|src)\b", rf"{self.root}/\1", text)

    def workdir(self) -> Path:
        path = Path(self.inside(self.folder))
        path.mkdir(parents=True, exist_ok=True)
        return path

    def outside_volumes(self) -> set[str]:
        volumes = tuple(self.inside(volume) for volume in json.loads(last("VOLUME")))
        return {str(path) for path in self.root.rglob("*") if not str(path).startswith(volumes)}


def copy_context(destination: Path) -> None:
    """``COPY . .`` with what .dockerignore lets through."""
    rules = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] not in ("", "#")
    ]
    assert rules[0] == "*" and rules[-1] == "**/__pycache__"
    for name in (rule[1:] for rule in rules[1:-1]):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, destination / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, destination / name)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    made = Image(tmp_path_factory.mktemp("image"))
    aside = tmp_path_factory.mktemp("aside")
    backend = provide(aside / "backend", BACKEND)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = Shell(aside / "home", {"PATH": path, "PYTHONPATH": str(backend)})
    for stage in stages():
        made.folder = "/"
        for keyword, rest in stage:
            if keyword == "WORKDIR":
                made.folder = rest
            elif keyword == "COPY" and rest == ". .":
                copy_context(made.workdir())
            elif keyword == "COPY":
                _, source, target = rest.split()
                assert source == target and Path(made.inside(source)).is_dir()
            elif keyword == "RUN":
                # What stands in for the network and for being root.
                step = rest.replace("pip install", "pip install --no-index --no-build-isolation")
                step = re.sub(r"-o \d+ -g \d+", f"-o {os.getuid()} -g {os.getgid()}", step)
                shell.run("sh", "-ec", made.inside(step), cwd=made.workdir()).good()
                if "-m venv" in step:
                    add_path(Path(made.inside(step.split()[-1])), provide(aside / "needed", [*NEEDED, *FAST]))
            elif keyword == "ENV":
                for word in shlex.split(rest):
                    name, value = word.split("=", 1)
                    made.environ[name] = made.inside(value).replace("$PATH", os.environ["PATH"])
    return made


def test_the_image_serves_takes_uploads_and_writes_only_to_its_volumes(image: Image, tmp_path: Path) -> None:
    before = image.outside_volumes()
    wheel = make_wheel(tmp_path, "ours", "1.0")
    entry = [*json.loads(last("ENTRYPOINT")), "-P", ".", "-a", "."]  # as after the image's name
    environ = {**image.environ, "PYPISERVER_LITE_PORT": "0"}
    with spawn(entry, environ, r"http://(?P<host>0\.0\.0\.0):(?P<port>[0-9]+)/", tmp_path) as server:
        server.host = "127.0.0.1"
        assert ask(server, "/").status == 200
        with wheel.open("rb") as body:
            fields = {":action": "file_upload", "name": "ours", "version": "1.0", "filetype": "bdist_wheel"}
            answer = requests.post(server.url, data=fields, files={"content": (wheel.name, body)}, timeout=10)
        assert answer.status_code == 200, answer.text
        assert ask(server, f"/packages/{wheel.name}").body == wheel.read_bytes()
        assert Path(image.inside(f"/data/packages/{wheel.name}")).is_file()
        assert healthy(image, server.port)
        # The entry is the server and not a shell, so SIGTERM reaches it, and it ends with 0.
        stop(server)
        assert not healthy(image, server.port)
        assert "|WARNING|" in server.log() and "-P . -a . with --host 0.0.0.0" in server.log()
    assert image.outside_volumes() == before


def test_the_image_takes_a_verb_or_no_words_at_all(image: Image, tmp_path: Path) -> None:
    assert "CMD" not in [keyword for keyword, _ in stages()[-1]]
    entry, environ = json.loads(last("ENTRYPOINT")), {**image.environ, "PYPISERVER_LITE_PORT": "0"}
    for words in ([], ["run", "-v"]):
        with spawn([*entry, *words], environ, r"http://(?P<host>0\.0\.0\.0):(?P<port>[0-9]+)/", tmp_path) as server:
            assert ask(server, "/simple/").status == 200
    file = tmp_path / "htpasswd.txt"
    command = [*entry, "passwd", str(file), "ann", "--stdin"]
    subprocess.run(command, env=environ, input=b"secret\n", timeout=60, check=True)
    assert file.read_text().startswith("ann:$2y$")


def healthy(image: Image, port: int) -> bool:
    return checked(image, str(port)).returncode == 0


def checked(image: Image, port: str) -> subprocess.CompletedProcess[bytes]:
    command = json.loads(last("HEALTHCHECK").split("CMD", 1)[1])
    env = {**image.environ, "PYPISERVER_LITE_PORT": port}
    return subprocess.run(command, env=env, stderr=subprocess.PIPE, timeout=30, check=False)


def test_its_health_check_knows_what_kubernetes_puts_in_place_of_the_port(image: Image) -> None:
    assert b"ValueError" not in checked(image, "tcp://10.96.7.7:8080").stderr


def test_the_image_runs_as_an_ordinary_user() -> None:
    assert re.fullmatch(r"[1-9][0-9]{3,}(:\d+)?", last("USER"))


def test_the_image_keeps_packages_and_memory_on_volumes(image: Image) -> None:
    volumes = json.loads(last("VOLUME"))
    assert "/data/packages" in volumes
    for path in (
        image.environ["PYPISERVER_LITE_CACHE_DIR"],
        image.environ["TMPDIR"],
        image.environ["HOME"] + "/packages",
    ):
        assert path in [image.inside(volume) for volume in volumes], path


def test_a_file_in_the_image_says_which_folders_are_served(image: Image) -> None:
    folder = Path(image.inside(last("WORKDIR")))
    (folder / "packages" / "prod").mkdir()
    (folder / "packages" / "root").mkdir()
    file = folder / "pypiserver-lite.toml"
    command = [*json.loads(last("ENTRYPOINT")), "check"]

    def checked_with(**more: str) -> str:
        env = {**image.environ, **more}
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    try:
        file.write_text('packages = ["packages/root"]\n\n[index.prod]\npackages = ["packages/prod"]\n')
        told = checked_with()
        assert "  serves packages/root, uploads go there\n" in told and "  serves packages/prod, uploads" in told
        told = checked_with(PYPISERVER_LITE_PACKAGES=str(folder / "packages"))
        assert "which PYPISERVER_LITE_PACKAGES names, " in told and "index prod lies inside" in told
        file.write_text("[index.prod]\npackages = ['packages/prod']\n")
        told = checked_with()
        assert told.count("  serves ") == 1 and "  serves packages/prod" in told
        file.write_text("title = 'ours'\n")
        assert f"  serves {folder}/packages, uploads go there\n" in checked_with()
    finally:
        file.unlink()


def test_the_image_names_only_settings_that_exist() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    named = set(re.findall(rf"\b{ENV_PREFIX}([A-Z_]+)", text))
    assert named <= {name.upper() for name in SETTINGS}
    assert last("EXPOSE") in text.split("PYPISERVER_LITE_PORT=", 1)[1].split()
