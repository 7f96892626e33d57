"""No client, upstream or restart takes from a server a name that its folder had."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import forms
import live
import pytest
from builders import make_wheel
from test_cli import run as command

from pypiserver_lite import make_app


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    make_wheel(tmp_path / "packages", "other")
    return tmp_path / "packages"


@pytest.mark.parametrize("mode", ["redirect", "proxy", "cache"])
def test_no_address_of_a_removed_project_reaches_the_upstream(packages: Path, tmp_path: Path, mode: str) -> None:
    make_wheel(tmp_path / "theirs", "ours", "99.0", payload=b"evil")
    make_wheel(packages)
    theirs = make_app(tmp_path / "theirs", disable_fallback=True, cache_dir=tmp_path / "their cache")
    with (
        live.in_thread(theirs) as upstream,
        live.serve(packages=[packages], fallback_url=upstream.simple, fallback_mode=mode, **forms.OPEN) as server,
    ):
        until = time.monotonic() + 10
        while "project/ours/" not in live.ask(server, "/", Accept="text/html").text:
            assert time.monotonic() < until, "it is not among the newest on the home page"
            time.sleep(0.05)
        answer = forms.post(server, forms.action("remove_pkg", name="ours", version="1.0"))
        assert answer.status == 200 and "upstream" not in answer.text
        for path in (
            "/simple/ours/",
            "/simple/ours/?format=application/vnd.pypi.simple.v1%2Bjson",
            "/packages/ours-1.0-py3-none-any.whl",
            "/packages/ours-99.0-py3-none-any.whl",
            "/packages/ours-99.0-py3-none-any.whl.metadata",
            "/pypi/ours/json",
            "/pypi/ours/99.0/json",
            "/project/ours/",
            "/project/ours/99.0/",
        ):
            assert live.ask(server, path).status == 404, path
        assert live.ask(server, "/ours/").headers["location"] == "../simple/ours/"
        assert "ours" not in live.ask(server, "/simple/").text
        assert live.ask(server, "/").status == 200
        assert "names" in live.ask(server, "/simple/ours/").text
        assert not [path for path in upstream.asked() if "ours" in path]
        said = command("names", "release", "Ours", "--in", packages, cwd=tmp_path)
        assert (said.returncode, said.stdout) == (0, "ours: released\n")
        before = len(upstream.asked())
        assert live.ask(server, "/").status == 200
        assert len(upstream.asked()) == before  # the home page is about what is here
        assert live.ask(server, "/simple/ours/").status == (302 if mode == "redirect" else 200)


@pytest.mark.parametrize("mode", ["redirect", "proxy", "cache"])
@pytest.mark.parametrize("way", ["dropped in", "another server", "another worker"])
def test_a_name_is_ours_from_its_first_file_on_however_busy_the_server(
    packages: Path, tmp_path: Path, mode: str, way: str
) -> None:
    names = [f"new{number}" for number in range(20)]
    for name in names:
        make_wheel(tmp_path / "theirs", name, "99.0")
    theirs = make_app(tmp_path / "theirs", disable_fallback=True, cache_dir=tmp_path / "their cache")
    more: dict[str, Any] = {"server": "granian", "workers": 2} if way == "another worker" else {}
    with ExitStack() as stack:
        upstream = stack.enter_context(live.in_thread(theirs))
        servers = [
            stack.enter_context(
                live.serve(packages=[packages], fallback_url=upstream.simple, fallback_mode=mode, **forms.OPEN, **more)
            )
            for _ in range(2 if way == "another server" else 1)
        ]

        reads = [0]

        def read(over: threading.Event) -> None:
            connections = [http.client.HTTPConnection(server.host, server.port, timeout=20) for server in servers]
            while not over.is_set():
                for connection in connections:
                    connection.request("GET", "/simple/other/")
                    assert connection.getresponse().read()
                reads[0] += 1
            for connection in connections:
                connection.close()

        readers = stack.enter_context(live.meanwhile(read, 4))
        for name in names:
            enough = reads[0] + 100
            while reads[0] < enough:  # whatever was saved up for looking at the folder is spent
                assert not any(reader.done() for reader in readers)
                time.sleep(0.01)
            if way == "dropped in":
                make_wheel(packages, name)
            else:
                form = forms.upload(forms.wheel(name), f"{name}-1.0-py3-none-any.whl")
                assert forms.post(servers[0], form).status == 200
            for server in servers * (6 if way == "another worker" else 1):
                answer = live.ask(server, f"/simple/{name}/")
                assert answer.status == 200 and f"{name}-1.0-" in answer.text, name
        assert not [path for path in upstream.asked() if "new" in path]
    for reader in readers:
        reader.result()


def test_a_disk_that_is_not_mounted_at_the_start_is_503_until_it_is(packages: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for file in packages.iterdir():
        os.utime(file, (10**9, 10**9))  # of a file that may still change nothing is remembered
    with live.serve(packages=[packages], cache_dir=cache, disable_fallback=True) as server:
        assert live.ask(server, "/simple/other/").status == 200
    packages.rename(tmp_path / "disk")
    packages.mkdir()
    with live.serve(packages=[packages], cache_dir=cache, disable_fallback=True) as server:
        assert live.ask(server, "/simple/other/").status == 503
        assert live.ask(server, "/health").status == 200
        packages.rmdir()
        (tmp_path / "disk").rename(packages)
        assert live.ask(server, "/simple/other/").status == live.ask(server, "/").status == 200


def test_the_verb_lists_and_releases(packages: Path, tmp_path: Path) -> None:
    for name in ("ours", "acme"):
        make_wheel(packages, name)
    assert command("names", "list", "--in", packages, cwd=tmp_path).stdout == ""
    for name in ("ours", "acme"):
        (packages / f"{name}-1.0-py3-none-any.whl").unlink()
    assert command("names", "list", "--in", packages, cwd=tmp_path).stdout == "acme\nours\n"
    assert json.loads(command("names", "list", "--json", "--in", packages, cwd=tmp_path).stdout) == ["acme", "ours"]
    for words, code, text in (
        (["release"], 2, "either names or --all"),
        (["release", "ours", "--all"], 2, "either names or --all"),
        (["list", "ours"], 2, "takes no names"),
        (["release", "nobodys"], 1, "never had files"),
        (["release", "other"], 1, "has files here"),
        (["release", "!"], 1, "not a project name"),
    ):
        said = command("names", *words, "--in", packages, cwd=tmp_path)
        assert said.returncode == code and text in said.stderr and said.stderr.count("\n") == 1, said
    assert (
        command("names", "release", "--all", "--in", packages, cwd=tmp_path).stdout
        == "acme: released\nours: released\n"
    )
    assert command("names", "list", "--json", "--in", packages, cwd=tmp_path).stdout == "[]\n"
    (packages / "other-1.0-py3-none-any.whl").unlink()  # it had files when the others were released
    assert command("names", "list", "--in", packages, cwd=tmp_path).stdout == "other\n"
