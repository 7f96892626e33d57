"""What commands leave behind: what root makes is for whoever the server runs as, and what is not does not stop it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import faulty_upstream as faulty
import pytest
from builders import make_wheel
from installs import ROOT

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be somebody else"
)

USER = 54321
SETTINGS = """
cache_dir = "var/cache"
audit_log = "log/audit"
allow_host = "*"
[upstream.up]
url = "{url}"
mode = "cache"
[index.dev]
packages = ["dev"]
[index.prod]
packages = ["prod"]
upstreams = ["up"]
[index.prod.policy]
licences = ["MIT"]
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of the user that the server runs as, where anybody gets to, unlike in pytest's."""
    with faulty.upstream() as up, tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        wheel = make_wheel(folder / "made", "theirs", "1.0", "License-Expression: MIT")
        up.add("theirs", wheel.name, wheel.read_bytes())
        make_wheel(folder / "dev", "ours", "1.0", "License-Expression: MIT")
        for sub in ("prod", "var", "log"):
            (folder / sub).mkdir()
        (folder / "index.toml").write_text(SETTINGS.format(url=up.url))
        (folder / "needs.txt").write_text("theirs==1.0")
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER)
        folder.chmod(0o755)
        yield folder


def verb(place: Path, *words: str) -> None:
    """Run a command as root."""
    command = [sys.executable, "-m", "pypiserver_lite", *words, "--config", "index.toml"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


MADE = (
    ["explain", "theirs", "--index", "prod"],
    ["cache", "show"],
    ["cache", "warm", "-r", "needs.txt", "--index", "prod"],
    ["push", "ours==1.0", "--from", "dev", "--to", "prod"],
    ["yank", "ours", "1.0", "--index", "dev"],
    ["names", "list", "--index", "prod"],
)


@pytest.mark.parametrize("words", MADE, ids=lambda words: words[0] + words[1])
def test_what_root_makes_is_for_the_owner_of_the_folder(words: list[str], place: Path) -> None:
    verb(place, *words)
    assert [path for path in place.rglob("*") if (path.stat().st_uid, path.stat().st_gid) != (USER, USER)] == []


AS_USER = f"""
import contextlib, io, os, pathlib
from pypiserver_lite import cli, make_app

def serve():
    make_app(config="index.toml").close()
    return cli.main(["check", "--config", "index.toml", "--json"])

with contextlib.redirect_stdout(io.StringIO()):
    serve()  # with what root may import, which need not lie where this user gets to
for path in pathlib.Path("var/cache").glob("*"):
    os.chown(path, 0, 0)
os.setresuid({USER}, {USER}, {USER})
serve()
"""


def test_what_others_made_in_the_cache_does_not_stop_a_server_and_check_tells(place: Path) -> None:
    verb(place, "cache", "warm", "-r", "needs.txt", "--index", "prod")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", AS_USER]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = "\n".join(json.loads(done.stdout)["remarks"])
    for name in ("upstream", "facts.sqlite3", "policies.sqlite3"):
        assert f"var/cache/{name} cannot be used by this user" in found
