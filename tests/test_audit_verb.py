"""Who did what: on record by HTTP and by verbs, shown by ``audit``, copied by ``records``."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import forms
import live
import pytest
from builders import make_wheel
from live import run

FILE = """\
packages = ["packages"]
passwords = "htpasswd"
disable_fallback = true

[index.dev]
packages = ["dev"]
passwords = "htpasswd"

[index.prod]
packages = ["prod"]
passwords = "htpasswd"
"""
ANN = {"Authorization": "Basic YW5uOnB3", "User_Agent": "twine/6"}
CLI = f"cli:{getpass.getuser()}"
WHEEL = "ours-1.0-py3-none-any.whl"
RECORDS = Path("packages", ".pypiserver-lite", "records.sqlite3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pypiserver-lite.toml").write_text(FILE)
    live.write_htpasswd(tmp_path / "htpasswd", ann="pw")
    for name in ("packages", "dev", "prod"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[live.Server]:
    with live.serve(config=folder / "pypiserver-lite.toml", disable_fallback=None) as server:
        yield server


def told(folder: Path, *words: str) -> list[dict[str, object]]:
    """What is on record, the oldest first."""
    lines = run(folder, "audit", "--json", *words).good().splitlines()
    return [json.loads(line) for line in lines[::-1]]


def test_every_change_over_http_is_on_record_with_all_that_is_known(server: live.Server, folder: Path) -> None:
    data = forms.wheel()
    for _ in range(2):
        assert forms.post(server, forms.upload(data, WHEEL), "/dev/", **ANN).status == 200
    release = {"name": "Ours", "version": "1.0"}
    assert forms.post(server, forms.action("yank", **release, reason="bad"), "/dev/", **ANN).status == 200
    assert forms.post(server, forms.action("unyank", **release), "/dev/", **ANN).status == 200
    assert forms.post(server, forms.action("push", **release, to="prod"), "/dev/", **ANN).status == 200
    assert forms.post(server, forms.upload(forms.wheel(payload=b"x"), WHEEL), "/dev/", **ANN).status == 409
    assert forms.post(server, forms.action("remove_pkg", **release), "/dev/", **ANN).status == 200
    assert forms.post(server, forms.action("remove_pkg", **release), "/dev/", **ANN).status == 404
    assert live.ask(server, "/-/api/reload", "POST", b"", **ANN).status == 200
    found = told(folder)
    assert [(one["action"], one["outcome"], one["index"], one["reason"]) for one in found] == [
        ("upload", "done", "dev", ""),
        ("upload", "done", "dev", "these very bytes were here already"),
        ("yank", "done", "dev", "bad"),
        ("unyank", "done", "dev", ""),
        ("push", "done", "prod", "from dev"),
        ("upload", "failed", "dev", found[5]["reason"]),
        ("remove", "done", "dev", ""),
        ("remove", "failed", "dev", "there is no release '1.0' of ours"),
        ("reload", "done", "/", ""),
    ]
    assert "already exists" in str(found[5]["reason"])
    for one in found:
        assert (one["who"], one["address"], one["client"], one["token"]) == ("ann", "127.0.0.1", "twine/6", "")
    for one in [*found[:5], found[6]]:
        assert (one["project"], one["version"]) == ("ours", "1.0")
        assert one["files"] == [{"name": WHEEL, "sha256": hashlib.sha256(data).hexdigest()}]
    log = server.log()
    assert f"upload done: from 127.0.0.1 of user 'ann', client 'twine/6': ours 1.0 in dev: {WHEEL}\n" in log
    assert "|pypiserver_lite.audit|INFO|" in log and "upload failed: from 127.0.0.1 of user 'ann'" in log


def test_refusals_are_on_record_and_clients_that_say_nothing_are_not(folder: Path) -> None:
    (folder / "pypiserver-lite.toml").write_text(
        FILE.replace("[index.dev]", 'authenticate = "update,list"\n[index.dev]')
    )
    with live.serve(config=folder / "pypiserver-lite.toml", disable_fallback=None) as server:
        assert live.ask(server, "/simple/").status == 401
        assert forms.post(server, forms.upload(forms.wheel(), WHEEL)).status == 401
        assert live.ask(server, "/simple/", Authorization="Basic YW5uOm5v", User_Agent="pip/25").status == 401
        assert live.ask(server, "/simple/", Authorization=ANN["Authorization"]).status == 200
        foreign = {**ANN, "Origin": "http://evil.example"}
        assert forms.post(server, forms.action("yank", name="ours", version="1.0"), **foreign).status == 403
        assert "login refused: from 127.0.0.1 of user 'ann', client 'pip/25': wrong password\n" in server.log()
    found = told(folder)
    assert [(one["action"], one["outcome"], one["who"], one["client"]) for one in found] == [
        ("login", "refused", "ann", "pip/25"),
        ("update", "refused", "ann", "twine/6"),
    ]
    assert found[0]["reason"] == "wrong password"


def test_what_rules_refuse_is_on_record_with_the_project(folder: Path) -> None:
    (folder / "pypiserver-lite.toml").write_text(
        'packages = ["packages"]\npasswords = "htpasswd"\ndisable_fallback = true\n'
        '[[rule]]\nwho = ["ann"]\nmay = ["upload"]\nprojects = ["acme-*"]\n'
        '[[rule]]\nwho = ["*"]\nmay = ["list", "download"]\n'
    )
    with live.serve(config=folder / "pypiserver-lite.toml", disable_fallback=None) as server:
        assert forms.post(server, forms.upload(forms.wheel(), WHEEL), **ANN).status == 403
        assert forms.post(server, forms.action("yank", name="Ours", version="1"), **ANN).status in (403, 404)
    upload, yank = told(folder)
    assert [upload[key] for key in ("action", "outcome", "who", "project", "index")] == [
        *("upload", "refused", "ann", "ours", "/")
    ]
    assert str(upload["reason"]).startswith("ann may not upload ours here: ")
    assert [yank[key] for key in ("action", "project")] == ["yank", "ours"]


@pytest.mark.parametrize("there", [False, True])
def test_who_tries_to_change_what_they_may_not_see_is_on_record(folder: Path, there: bool) -> None:
    if there:
        make_wheel(folder / "packages")
    (folder / "pypiserver-lite.toml").write_text(
        'packages = ["packages"]\npasswords = "htpasswd"\ndisable_fallback = true\n'
        '[[rule]]\nwho = ["ann"]\nmay = ["*"]\nprojects = ["acme-*"]\n'
    )
    with live.serve(config=folder / "pypiserver-lite.toml", disable_fallback=None) as server:
        assert live.ask(server, "/simple/ours/", Authorization=ANN["Authorization"]).status == 404
        for action in ("remove_pkg", "yank"):
            answer = forms.post(server, forms.action(action, name="ours", version="1.0"), **ANN)
            assert (answer.status, answer.text) == (404, "no project ours here\n")
    assert [(one["action"], one["outcome"], one["who"], one["project"]) for one in told(folder)] == [
        ("remove", "refused", "ann", "ours"),
        ("yank", "refused", "ann", "ours"),
    ]


def test_a_quiet_server_says_no_change(folder: Path) -> None:
    # It does not say where it listens either.
    words = [sys.executable, "-m", "pypiserver_lite", "run", "-q", "--port", str(port := live.free_port())]
    environ = live.bare_environ(folder / "home", PYTHONPATH=str(live.SOURCE))
    with live.spawn(words, environ, "", folder, port) as server:
        while True:
            with contextlib.suppress(OSError):
                live.ask(server, "/health")
                break
        assert forms.post(server, forms.upload(forms.wheel(), WHEEL), **ANN).status == 200
        assert server.log() == ""


def test_verbs_are_on_record_as_who_gives_them(folder: Path) -> None:
    make_wheel(folder / "dev")
    run(folder, "yank", "ours", "1.0", "--index", "dev", "--reason", "bad").good()
    run(folder, "unyank", "ours", "1.0", "--index", "dev").good()
    run(folder, "push", "ours==1.0", "--from", "dev", "--to", "prod").good()
    run(folder, "yank", "ours", "2.0", "--index", "dev").bad()
    run(folder, "passwd", "htpasswd", "bob", "--stdin", text="secret\n").good()
    run(folder, "passwd", "./htpasswd", "bob", "--delete").good()
    run(folder, "passwd", "another", "bob", "--stdin", text="secret\n").good()  # of no server that is known here
    run(folder, "passwd", "another", "bob", "--delete", "--state-dir", "state").good()
    assert [one["action"] for one in told(folder, "--state-dir", "state")] == ["user-delete"]
    found = told(folder)
    assert {one["who"] for one in found} == {CLI} and {one["address"] for one in found} == {""}
    assert [(one["action"], one["outcome"], one["index"], one["reason"]) for one in found] == [
        ("yank", "done", "dev", "bad"),
        ("unyank", "done", "dev", ""),
        ("push", "done", "prod", "from dev"),
        ("yank", "failed", "dev", "there is no release '2.0' of ours"),
        ("password", "done", "/", "of bob"),
        ("user-delete", "done", "/", "of bob"),
    ]
    assert str(found[0]["client"]).endswith(" yank")
    assert [file["name"] for file in found[2]["files"]] == [WHEEL]  # type: ignore[attr-defined]


def test_a_verb_whose_records_have_no_place_changes_nothing(folder: Path) -> None:
    make_wheel(folder / "dev")
    (folder / "state").write_text("in the way")
    said = run(folder, "yank", "ours", "1.0", "--index", "dev", "--state-dir", "state").bad()
    assert "--state-dir" in said and "records" in said
    assert not (folder / "dev" / f"{WHEEL}.yanked").exists()


def test_audit_shows_lines_for_people_and_finds_what_is_asked_for(folder: Path) -> None:
    make_wheel(folder / "dev")
    make_wheel(folder / "dev", "other")
    for name in ("ours", "other"):
        run(folder, "yank", name, "1.0", "--index", "dev", "--reason", "bad").good()
    lines = run(folder, "audit").good().splitlines()
    assert len(lines) == 2 and lines[1].endswith(f": ours 1.0 in dev: {WHEEL}: bad")
    assert f"Z yank done: from - of user '{CLI}', client 'pypiserver-lite/" in lines[1]
    for words, count in (
        (["--since", "1h"], 2),
        (["--since", "2099-01-01"], 0),
        (["--project", "Ours"], 1),
        (["--user", CLI], 2),
        (["--user", "ann"], 0),
        (["--index", "dev", "--action", "yank", "--outcome", "done"], 2),
        (["--index", "/prod/"], 0),
        (["--limit", "1"], 1),
    ):
        assert len(told(folder, *words)) == count, words
    for words, said in (
        (["--since", "soon"], "--since"),
        (["--action", "explode"], "explode"),
        (["--limit", "0"], "--limit"),
        (["--index", "prd"], "did you mean 'prod'"),
    ):
        assert said in run(folder, "audit", *words).bad()


def test_a_long_trail_is_shown_to_its_beginning(folder: Path) -> None:
    make_wheel(folder / "dev")
    run(folder, "yank", "ours", "1.0", "--index", "dev").good()
    with closing(sqlite3.connect(folder / RECORDS)) as records:
        records.executemany(
            "INSERT INTO events SELECT NULL, moment, who, token, address, client, action, place, project, version, "
            "files, outcome, ? FROM events WHERE id = 1",
            [(str(at),) for at in range(1200)],
        )
        records.commit()
    assert [one["reason"] for one in told(folder)] == ["", *map(str, range(1200))]
    assert len(told(folder, "--limit", "700")) == 700


def test_the_folders_named_on_the_command_line_have_records_of_their_own(tmp_path: Path) -> None:
    make_wheel(tmp_path / "a")
    run(tmp_path, "yank", "ours", "1.0", "./a").good()
    assert len(told(tmp_path, "--in", "a")) == 1
    run(tmp_path, "unyank", "ours", "1.0", "./a", "--state-dir", "state", "--audit-log", "log").good()
    assert [one["action"] for one in told(tmp_path, "--state-dir", "state")] == ["unyank"]
    assert [json.loads(line)["outcome"] for line in (tmp_path / "log").read_text().splitlines()] == ["begun", "done"]


def test_who_names_no_folder_is_told_which_records_there_are_not_and_none_are_made(tmp_path: Path) -> None:
    # As README begins: a folder and a password file by flags, no file of settings.
    live.write_htpasswd(tmp_path / "htpasswd", ann="pw")
    for name in ("home", "served"):
        (tmp_path / name).mkdir()

    def said(*words: str) -> live.Ran:
        return run(tmp_path, *words)

    for words in (["audit"], ["token", "list"], ["owner", "list", "acme"]):
        assert "no records yet in " in said(*words).good() and "--in FOLDER" in said(*words, "--in", "served").good()
    for words in (
        ["records", "backup", "copy"],
        ["token", "create", "x", "--may", "list"],
        ["owner", "add", "a", "ann"],
    ):
        assert "--in FOLDER" in said(*words).bad()
    assert "-P FILE" in said("token", "create", "x", "--user", "ann", "--in", "served").bad()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["home", "htpasswd", "served"]
    made = said("token", "create", "x", "--user", "ann", "--in", "served", "-P", "htpasswd").good()
    assert "on record in served" in made and "no records yet" not in said("token", "list", "--in", "served").good()
    said("records", "backup", "copy", "--in", "served").good()
    assert "tokens of this user stay" in said("passwd", "htpasswd", "ann", "--delete").good()
    assert "x of ann" in said("token", "list", "--in", "served").good()
    run(tmp_path, "passwd", "htpasswd", "ann", "--stdin", text="pw\n").good()
    ended = said("passwd", "htpasswd", "ann", "--delete", "--state-dir", "served/.pypiserver-lite").good()
    assert "tokens" not in ended and said("token", "list", "--in", "served").good() == ""


def test_records_are_copied_whole_and_over_nothing(server: live.Server, folder: Path) -> None:
    assert "no records yet" in run(folder, "records", "backup", "copy").bad()
    assert forms.post(server, forms.upload(forms.wheel(), WHEEL), **ANN).status == 200
    run(folder, "records", "backup", "copy").good()
    assert os.listdir(folder).count("copy") == 1 and not [name for name in os.listdir(folder) if "copy-" in name]
    (folder / "state").mkdir()
    (folder / "copy").rename(folder / "state" / "records.sqlite3")
    assert [one["action"] for one in told(folder, "--state-dir", "state")] == ["upload"]
    (folder / "copy").write_text("mine")
    assert "copy: File exists" in run(folder, "records", "backup", "copy").bad()
    assert (folder / "copy").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is somebody else's")
def test_what_root_makes_is_for_the_owner_of_the_folder(folder: Path) -> None:
    make_wheel(folder / "dev")
    os.chown(folder / "packages", 12345, 12346)
    run(folder, "yank", "ours", "1.0", "--index", "dev").good()
    for path in (folder / RECORDS, (folder / RECORDS).parent):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (12345, 12346)


def test_a_name_that_is_released_is_on_record(folder: Path) -> None:
    for name in ("ours", "other", "third"):
        make_wheel(folder / "dev", name)
    with live.serve(config=folder / "pypiserver-lite.toml", disable_fallback=None) as server:
        assert live.ask(server, "/dev/simple/ours/").status == 200
    for path in (folder / "dev").glob("*.whl"):
        path.unlink()
    run(folder, "names", "release", "Ours", "--index", "dev").good()
    run(folder, "names", "release", "ours", "--index", "dev").bad()
    run(folder, "names", "release", "--all", "--index", "dev").good()
    found = [(one["action"], one["outcome"], one["project"], one["reason"]) for one in told(folder)]
    assert found[0] == ("release", "done", "ours", "") and found[2] == ("release", "done", "", "all")
    assert found[1][:3] == ("release", "failed", "ours")


def test_check_tells_where_the_records_are_and_what_is_wrong_with_them(folder: Path) -> None:
    assert f"keeps its records in {RECORDS}" in run(folder, "check").good()
    assert json.loads(run(folder, "check", "--json").good())["server"]["records"] == str(RECORDS)
    make_wheel(folder / "dev")
    run(folder, "yank", "ours", "1.0", "--index", "dev").good()
    before = {path.name: path.read_bytes() for path in (folder / RECORDS).parent.iterdir()}
    run(folder, "check").good()
    assert {path.name: path.read_bytes() for path in (folder / RECORDS).parent.iterdir()} == before
    data = bytearray((folder / RECORDS).read_bytes())
    data[5 * 4096 : 5 * 4096 + 100] = bytes(range(100))
    (folder / RECORDS).write_bytes(data)
    said = run(folder, "check").bad()
    assert "records.sqlite3 is damaged" in said and "Traceback" not in said


def test_an_audit_log_that_cannot_be_written_ends_the_start_and_check_says_so(folder: Path) -> None:
    for words in (["check"], ["run", "--port", "0"], ["yank", "ours", "1.0", "--index", "dev"]):
        assert "--audit-log none/log" in run(folder, *words, "--audit-log", "none/log").bad()
    run(folder, "check", "--audit-log", "log").good()
    assert not (folder / "log").exists()
