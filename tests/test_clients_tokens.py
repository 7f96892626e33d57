"""twine, uv, flit, hatch, poetry and pdm publish with a token, pip and uv read with one, as each client sends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import live
import pytest
from builders import make_wheel
from test_clients_publish import CLIENTS, built, every_client, make_project, stored

from pypiserver_lite.records import Records

pytestmark = pytest.mark.clients

SETTINGS = """\
passwords = "htpasswd"
packages = ["packages"]
state_dir = "state"
disable_fallback = true

[[rule]]
who = ["ann"]
may = ["*"]
"""


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A server where ann may everything, and her tokens."""

    server: live.Server
    shelf: Path
    upload: str
    """For projects called ours-… alone."""
    read: str

    def address(self, user: str, password: str) -> str:
        """Of the simple index, with a login in it."""
        return f"http://{user}:{password}@{self.server.host}:{self.server.port}/simple/"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "packages").mkdir()
    live.write_htpasswd(folder / "htpasswd", ann="right")
    (folder / "index.toml").write_text(SETTINGS)
    records = Records(folder / "state" / "records.sqlite3")
    _, upload = records.tokens.create("ci", by="root", user="ann", may=["upload"], projects=["ours-*"])
    _, read = records.tokens.create("read", by="root", user=None, may=["list", "download"])
    records.close()
    with live.serve("-v", config=folder / "index.toml") as server:
        yield Guarded(server=server, shelf=folder / "packages", upload=upload, read=read)
        said = server.log()
    assert "Traceback" not in said and upload not in said and read not in said


@every_client
def test_each_client_publishes_with_a_token_what_it_is_for(
    client: str, guarded: Guarded, shell: live.Shell, tmp_path: Path
) -> None:
    publish, url = CLIENTS[client], guarded.server.url
    project = make_project(tmp_path / "project", f"ours-{client}")
    publish(shell, project, url, "__token__", guarded.upload).good()
    assert stored(guarded.shelf, f"ours-{client}") == built(project)
    # Under its user's own name too; the same bytes are there already.
    publish(shell, project, url, "ann", guarded.upload)
    other = make_project(tmp_path / "other", f"theirs-{client}")
    publish(shell, other, url, "__token__", guarded.upload).bad()
    publish(shell, project, url, "__token__", guarded.upload[:-1] + "!").bad()
    assert stored(guarded.shelf, f"theirs-{client}") == {}


def test_uv_publishes_with_its_own_setting_for_tokens(guarded: Guarded, shell: live.Shell, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", "ours-token")
    address = guarded.server.url + "legacy/"
    shell.uv(
        *("publish", "--publish-url", address, "--trusted-publishing", "never"),
        cwd=project,
        UV_PUBLISH_TOKEN=guarded.upload,
    ).good()
    assert stored(guarded.shelf, "ours-token") == built(project)


def pip(shell: live.Shell, index: str, target: Path) -> live.Ran:
    return shell.pip("install", "-i", index, "--no-cache-dir", "--no-deps", "--target", target, "plain")


def uv(shell: live.Shell, index: str, target: Path) -> live.Ran:
    options = ("--default-index", index, "--no-cache", "--no-deps", "--target", target)
    return shell.uv("pip", "install", *options, "plain")


Install = Callable[[live.Shell, str, Path], live.Ran]


@pytest.mark.parametrize("install", [pip, uv])
def test_installers_read_with_a_token(install: Install, guarded: Guarded, shell: live.Shell, tmp_path: Path) -> None:
    make_wheel(guarded.shelf, "plain")
    for number, index in enumerate((guarded.address("__token__", guarded.read), guarded.address(guarded.read, ""))):
        install(shell, index, tmp_path / f"t{number}").good()
        assert live.installed(tmp_path / f"t{number}") == {"plain": "1.0"}
    install(shell, guarded.address("__token__", guarded.upload), tmp_path / "no").bad()
    netrc = shell.home / ".netrc"
    netrc.write_text(f"machine {guarded.server.host} login __token__ password {guarded.read}\n")
    netrc.chmod(0o600)
    install(shell, f"{guarded.server.url}simple/", tmp_path / "netrc").good()
    assert live.installed(tmp_path / "netrc") == {"plain": "1.0"}
