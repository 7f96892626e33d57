"""What is built from the project is whole, and serves wherever it is installed."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import make_wheel
from installs import BACKEND, NEEDED, ROOT, closure, copy_project, make_environment, provide
from live import Shell, ask, bare_environ, spawn

import pypiserver_lite

# The group keeps these tests in one worker, which builds once.
pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("packaging")]

ADDRESS = r"http://(?P<host>127\.0\.0\.1):(?P<port>[0-9]+)/"
WHOLE = ["CHANGES.rst", "Dockerfile", "LICENSE", "Makefile", "README.rst", "pyproject.toml", "setup.cfg", ".ci/run"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    project = copy_project(folder / "project")
    Shell(folder / "home").python("-m", "build", "--no-isolation", "--outdir", folder, project).good()
    return folder


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def tree(*folders: str) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_with_its_templates_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    templates = {f"pypiserver_lite/{name}" for name in tree("templates")}
    assert names == tree("pypiserver_lite") | templates
    assert {"pypiserver_lite/py.typed", "pypiserver_lite/templates/home.tpl"} <= names


def test_the_sdist_holds_the_whole_project(built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert tree("pypiserver_lite", "templates", "tests") | set(WHOLE) <= names
    assert not [name for name in names if re.search(r"__pycache__|\.pyc$", name)]


def test_the_long_description_renders_as_indexes_show_it(built: Path, shell: Shell) -> None:
    shell.python("-m", "twine", "check", "--strict", only(built, "*.whl"), only(built, "*.tar.gz")).good()


def from_wheel(built: Path, shell: Shell, folder: Path) -> list[str]:
    python = make_environment(folder / "env")
    shell.pip("--python", python, "install", "--no-index", only(built, "*.whl")).good()
    return [str(folder / "env" / "bin" / "pypiserver-lite")]


def from_sdist(built: Path, shell: Shell, folder: Path) -> list[str]:
    return _from_source(shell, folder, only(built, "*.tar.gz"))


def from_editable_checkout(built: Path, shell: Shell, folder: Path) -> list[str]:
    return _from_source(shell, folder, "--editable", copy_project(folder / "project"))


def _from_source(shell: Shell, folder: Path, *source: str | Path) -> list[str]:
    python = make_environment(folder / "env")
    backend = provide(folder / "backend", BACKEND)
    offline = ("--no-index", "--no-build-isolation")
    shell.pip("--python", python, "install", *offline, *source, PYTHONPATH=str(backend)).good()
    return [str(folder / "env" / "bin" / "pypiserver-lite")]


def from_plain_checkout(built: Path, shell: Shell, folder: Path) -> list[str]:
    project = copy_project(folder / "project")
    start = f"import sys; sys.path.insert(0, {str(project)!r}); from pypiserver_lite.cli import main; sys.exit(main())"
    return [str(make_environment(folder / "env")), "-c", start]


def from_zipapp(built: Path, shell: Shell, folder: Path) -> list[str]:
    archive = folder / "index.pyz"
    with zipfile.ZipFile(only(built, "*.whl")) as wheel:
        wheel.extractall(folder / "unpacked")
    shell.python("-m", "zipapp", folder / "unpacked", "-m", "pypiserver_lite.cli:main", "-o", archive).good()
    return [str(make_environment(folder / "env")), str(archive)]


Installer = Callable[[Path, Shell, Path], list[str]]


@pytest.mark.parametrize(
    "installed", [from_wheel, from_sdist, from_editable_checkout, from_plain_checkout, from_zipapp]
)
def test_it_serves_with_only_what_it_declares(installed: Installer, built: Path, shell: Shell, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "packages", "ours", "1.0")
    command = [*installed(built, shell, tmp_path), "run", "--port", "0", str(tmp_path / "packages")]
    with spawn(command, bare_environ(tmp_path / "home"), ADDRESS, tmp_path) as server:
        home = ask(server, "/")
        assert home.status == 200 and "pip install" in home.text
        assert b"ours/" in ask(server, "/simple/").body
        assert wheel.name.encode() in ask(server, "/simple/ours/").body
        assert ask(server, f"/packages/{wheel.name}").body == wheel.read_bytes()


def test_the_installed_command_and_module_know_their_version(built: Path, shell: Shell, tmp_path: Path) -> None:
    (command,) = from_wheel(built, shell, tmp_path)
    for words in ([command], [tmp_path / "env" / "bin" / "python", "-m", "pypiserver_lite"]):
        assert pypiserver_lite.__version__ in shell.run(*words, "--version").good()


def test_the_server_needs_about_a_dozen_distributions() -> None:
    assert len(closure(NEEDED)) <= 19
