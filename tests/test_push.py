"""A release goes from one index to another, over HTTP and by the command."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import live
import pytest
from builders import listed, make_sdist, make_wheel

FILE = """\
passwords = "users"
cache_dir = "cache"
verbose = 1
allow_host = ["*"]

[index.dev]
packages = ["dev"]

[index.prod]
packages = ["prod"]
passwords = "keepers"

[index.shown]
bases = ["dev"]

[index.closed]
packages = ["closed"]
authenticate = ["update", "download", "list"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.toml").write_text(FILE)
    for name in ("dev", "prod", "closed"):
        (tmp_path / name).mkdir()
    live.write_htpasswd(tmp_path / "users", ann="developer", bob="both")
    live.write_htpasswd(tmp_path / "keepers", kim="keeper", bob="both")
    make_wheel(tmp_path / "dev")
    make_sdist(tmp_path / "dev")
    make_wheel(tmp_path / "closed", name="hidden")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[live.Server]:
    with live.serve(config=folder / "index.toml", cache_dir=None, disable_fallback=None, allow_host=None) as server:
        yield server


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


KIM, ANN, BOB = basic("kim", "keeper"), basic("ann", "developer"), basic("bob", "both")


def post(server: live.Server, path: str, headers: dict[str, str], **fields: str) -> live.Answer:
    """Send a form as ``curl -d`` does."""
    body = urlencode({":" + key if key == "action" else key: value for key, value in fields.items()}).encode()
    return live.ask(server, path, "POST", body, Content_Type="application/x-www-form-urlencoded", **headers)


def push(server: live.Server, headers: dict[str, str], source: str = "/dev/", **fields: str) -> live.Answer:
    return post(server, source, headers, **{"action": "push", "name": "Ours", "version": "1.0", "to": "prod", **fields})


def digests(server: live.Server, index: str) -> dict[str, str]:
    """The files of a page with their digests."""
    page = live.ask(server, f"/{index}/simple/ours/", Accept="application/vnd.pypi.simple.v1+json")
    return {file["filename"]: file["hashes"]["sha256"] for file in json.loads(page.body)["files"]}


def test_a_push_is_for_who_may_publish_there(server: live.Server, folder: Path) -> None:
    for headers in ({}, ANN, basic("kim", "wrong")):
        assert push(server, headers).status == 401
        assert listed(folder / "prod") == []
    answer = push(server, KIM)  # who has no password for the index that it comes from: downloads are open
    assert (answer.status, answer.text.strip()) == (200, "pushed ours-1.0-py3-none-any.whl, ours-1.0.tar.gz to prod")
    assert digests(server, "prod") == digests(server, "dev")
    assert f", as {folder / 'index.toml'} says" in server.log()
    assert push(server, KIM).text.strip() == "prod has ours-1.0-py3-none-any.whl, ours-1.0.tar.gz already"
    line = "push done: from 127.0.0.1 of user 'kim': ours 1.0 in prod: "
    line += "ours-1.0-py3-none-any.whl, ours-1.0.tar.gz: from dev"
    assert server.log().count(line) == 2


def test_a_push_is_for_who_may_download(server: live.Server, folder: Path) -> None:
    answer = push(server, KIM, "/closed/", name="hidden")
    assert answer.status == 401 and listed(folder / "prod") == []
    assert push(server, ANN, "/closed/", name="hidden").status == 401
    assert push(server, BOB, "/closed/", name="hidden").status == 200


def test_a_short_form_opens_nothing_but_a_push(server: live.Server, folder: Path) -> None:
    before = listed(folder / "dev")
    for action in ("remove_pkg", "yank", "unyank", "submit", "file_upload", "nonsense"):
        for headers in ({}, KIM):
            assert post(server, "/dev/", headers, action=action, name="ours", version="1.0").status == 401, action
    for body in (b"", b"\xff", b"%ff=1", b"x" * 1000):
        kind = "application/x-www-form-urlencoded"
        assert live.ask(server, "/dev/", "POST", body, Content_Type=kind).status == 401
    assert post(server, "/dev/", ANN, action="nonsense").status == 400
    assert listed(folder / "dev") == before
    assert post(server, "/dev/", ANN, action="yank", name="ours", version="1.0").status == 200
    assert push(server, {**KIM, "Origin": "http://evil.example.com"}).status == 403


def test_what_cannot_be_pushed_is_said(server: live.Server, folder: Path) -> None:
    assert push(server, KIM, to="none").status == 404
    assert push(server, BOB, to="dev").status == 400
    assert push(server, KIM, version="2.0").status == 404
    assert push(server, KIM, version="").status == 400
    assert push(server, KIM, "/shown/").status == 404  # it has the release from its base, not itself
    answer = push(server, BOB, to="/")
    assert answer.status == 400 and "no folder of its own" in answer.text
    (folder / "prod" / "ours-1.0.tar.gz").write_bytes(b"other")
    answer = push(server, KIM)
    assert answer.status == 409 and "ours-1.0.tar.gz has other content there" in answer.text
    assert listed(folder / "prod") == ["ours-1.0.tar.gz"]


def test_a_server_of_one_index_says_so(tmp_path: Path) -> None:
    make_wheel(tmp_path / "packages")
    with live.serve(packages=[tmp_path / "packages"], passwords=".", authenticate=".") as server:
        answer = push(server, {}, "/")
    assert answer.status == 400 and "one index alone" in answer.text


@pytest.mark.clients
def test_what_twine_publishes_to_one_index_is_pushed_to_the_next(
    server: live.Server, folder: Path, tmp_path: Path
) -> None:
    shell = live.Shell(tmp_path / "home")
    wheel = make_wheel(tmp_path / "new", version="1.1")
    login = ["-u", "ann", "-p", "developer"]
    shell.python("-m", "twine", "upload", "--repository-url", f"{server.url}dev/", *login, wheel).good()
    assert push(server, KIM, version="1.1").status == 200
    assert digests(server, "prod") == {wheel.name: hashlib.sha256(wheel.read_bytes()).hexdigest()}


def run(folder: Path, *words: str, text: str = "", **env: str) -> live.Ran:
    """The command ``push`` in this folder."""
    return live.run(folder, "push", *words, text=text, **env)


ENDS = ("--from", "dev", "--to", "prod")


def test_the_command_pushes_from_folder_to_folder(folder: Path) -> None:
    (folder / "dev" / "ours-1.0.tar.gz.yanked").write_text("bad")
    done = run(folder, "ours==1.0", *ENDS, "--config", "index.toml")
    assert done.good() == "ours-1.0-py3-none-any.whl: pushed to prod\nours-1.0.tar.gz: pushed to prod"
    assert listed(folder / "prod") == ["ours-1.0-py3-none-any.whl", "ours-1.0.tar.gz", "ours-1.0.tar.gz.yanked"]
    assert run(folder, "ours==1.0", *ENDS, PYPISERVER_LITE_CONFIG="index.toml").good().count("is already in prod") == 2
    for words, code, said in (
        (["ours==2.0", *ENDS], 1, "there is no release '2.0' of ours"),
        (["ours==1.0", "--from", "dev", "--to", "dev"], 1, "from one index to another"),
        (
            ["ours==1.0", "--from", "dev", "--to", "pord"],
            2,
            "there is no index 'pord' in index.toml; did you mean 'prod'?",
        ),
        (["ours", *ENDS], 2, "write NAME==VERSION"),
        (["ours==1.0", *ENDS, "--user", "x"], 2, "for --server"),
        (["ours==1.0", "--from", "dev", "--to", "https://x/", "--server", "https://y/"], 2, "leave it out"),
    ):
        done = run(folder, *words, "--config", "index.toml")
        assert done.code == code and said in done.said, done


def test_a_push_takes_no_larger_files_than_an_upload(folder: Path) -> None:
    text = FILE.replace('packages = ["prod"]\n', 'packages = ["prod"]\nmax_upload = "100"\n')
    (folder / "index.toml").write_text(text)
    done = run(folder, "ours==1.0", *ENDS, "--config", "index.toml")
    assert done.code == 1 and "is larger than the 100 bytes that are taken there; nothing was pushed" in done.said
    assert listed(folder / "prod") == []


def test_the_command_asks_a_server(server: live.Server, folder: Path) -> None:
    words = ("ours==1.0", *ENDS, "--server", server.url)
    assert "401" in run(folder, *words).bad() and "--user" in run(folder, *words).said
    done = run(folder, *words, "--user", "kim", "--password-stdin", text="wrong\n")
    assert "wrong user name or password" in done.bad() and "--user" not in done.said
    done = run(folder, *words, "--user", "kim", "--password-stdin", text="keeper\n")
    assert done.good() == "pushed ours-1.0-py3-none-any.whl, ours-1.0.tar.gz to prod"
    (folder / "home").mkdir(exist_ok=True)
    (folder / "home" / ".netrc").write_text("machine 127.0.0.1 login kim password keeper\n")
    (folder / "home" / ".netrc").chmod(0o600)
    assert run(folder, *words).good().startswith("prod has ")
    gone = run(folder, "ours==1.0", *ENDS, "--server", f"http://127.0.0.1:{live.free_port()}")
    assert gone.code == 1 and "is the server running there?" in gone.said
    assert run(folder, "ours==1.0", *ENDS, "--server", "x").code == 2


@pytest.mark.clients
def test_the_command_pushes_elsewhere_by_twine(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder / "dev" / "ours-1.0.tar.gz.asc").write_bytes(b"-----BEGIN PGP SIGNATURE-----\n")
    with live.serve(packages=[tmp_path / "elsewhere"], passwords=folder / "keepers") as server:
        words = ("ours==1.0", "--from", "dev", "--to", server.url, "--config", "index.toml")
        wrong = run(folder, *words, TWINE_USERNAME="kim", TWINE_PASSWORD="wrong")
        assert wrong.code == 1 and "twine: " in wrong.said
        nobody = run(folder, *words)
        assert nobody.code == 1 and "twine: " in nobody.said
        spelled = (word.replace("http://", "HTTP://") for word in words)
        run(folder, *spelled, TWINE_USERNAME="kim", TWINE_PASSWORD="keeper").good()
    expected = ["ours-1.0-py3-none-any.whl", "ours-1.0.tar.gz", "ours-1.0.tar.gz.asc"]
    assert listed(tmp_path / "elsewhere") == expected
    for name in expected:
        assert (tmp_path / "elsewhere" / name).read_bytes() == (folder / "dev" / name).read_bytes()


def test_without_twine_it_says_what_to_install(folder: Path) -> None:
    (folder / "twine.py").write_text("raise ImportError('none')\n")
    words = ("ours==1.0", "--from", "dev", "--to", "https://x.example.com/", "--config", "index.toml")
    done = run(folder, *words, PYTHONPATH=f"{folder}:{live.SOURCE}")
    assert done.code == 2 and "pip install 'pypiserver-lite[push]'" in done.said


def test_what_the_source_hides_is_not_pushed(folder: Path) -> None:
    with (folder / "index.toml").open("a") as file:
        file.write('[index.dev.policy]\nwheels_only = true\ndeny = ["ours==2.0"]\n')
    make_wheel(folder / "dev", version="2.0")
    for version, said in (("2.0", "deny"), ("1.0", "ours-1.0.tar.gz is hidden here")):
        done = run(folder, f"ours=={version}", *ENDS, "--config", "index.toml")
        assert done.code == 1 and said in done.said, done
    assert listed(folder / "prod") == []
