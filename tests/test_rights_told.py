"""What ``check`` and ``explain --user`` say of who may do what, and by which rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruled import PROD, ROOT, USERS, may_change, may_download, may_list, ruled

from pypiserver_lite import cli
from pypiserver_lite.dists import normalize


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("told")
    with ruled(folder):
        return folder / "index.toml"


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert cli.main(list(words)) == 0
    return capsys.readouterr().out


def test_check_says_who_may_what_in_each_index_and_by_which_line(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "check", "--config", str(file))
    at = next(number for number, line in enumerate(file.read_text().splitlines(), 1) if line == "[[rule]]")
    assert f"  bob may not list, download secret-* (rule 1, {file}, line {at})\n" in text
    assert "  @release (ann) may upload, yank acme-* (rule 2, " in text
    assert text.count("  whoever owns it may upload, yank, remove (rule 3, ") == 1
    assert text.count("  anybody may list, download pub-* (rule 5, ") == 2
    assert text.count("  root may everything\n") == 3
    assert "  who has a password in " in text  # of the index that no rule is about
    facts = json.loads(said(capsys, "check", "--json", "--config", str(file)))
    indexes = {index["name"]: index for index in facts["indexes"]}
    assert indexes["own"]["rules"] == [] and indexes["own"]["may"]["list"] == "users"
    assert indexes["/"]["may"] == dict.fromkeys(("list", "download", "update"), "rules")
    assert indexes["prod"]["rules"][1]["groups"] == {"release": ["ann"]}


@pytest.mark.parametrize("index", [ROOT, PROD])
def test_explain_says_what_a_user_may_do_with_a_project(
    file: Path, index: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for user in USERS[:7]:
        for name in ("acme-core", "pub-lib", "secret-tool"):
            words = ["explain", name, "--config", str(file), "--index", index, "--json", "--user"]
            facts = json.loads(said(capsys, *words, user.replace("nobody", "*")))
            may = {action: decided["allowed"] for action, decided in facts["may"].items()}
            expected = {"list": may_list(user, name, index), "download": may_download(user, name, index)}
            changes = ("upload", "yank", "remove", "push")
            expected |= {action: user != "nobody" and may_change(user, action, name, index) for action in changes}
            assert may == expected, (user, name)


def test_explain_names_the_rule_in_words(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "explain", "secret-tool", "--user", "bob", "--config", str(file))
    assert f"\nbob may not list it: rule 1, {file}, line " in text
    assert "\nbob may not upload it: no rule\n" in text
    text = said(capsys, "explain", "pub-lib", "--user", "eve", "--config", str(file))
    assert "\neve may remove it: rule 3, " in text
    text = said(capsys, "explain", "pub-lib", "--user", "*", "--config", str(file))
    assert "\nwho has no login may list it: rule 5, " in text
    text = said(capsys, "explain", "pub-lib", "--user", "root", "--config", str(file))
    assert "\nroot may push it: --admin\n" in text
    text = said(capsys, "explain", "acme-own", "--user", "eve", "--config", str(file), "--index", "own")
    assert "\neve may list it: -a list\n" in text
    assert cli.main(["explain", "pub-lib", "--user", "zoe", "--config", str(file)]) == 1
    assert "nobody called 'zoe' can log in" in capsys.readouterr().err


def test_owners_are_shown_added_and_removed_on_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ruled(tmp_path) as server:
        where = ["--config", str(tmp_path / "index.toml")]
        assert said(capsys, "owner", "list", "pub.LIB", *where) == "eve\n"
        assert said(capsys, "owner", "add", "pub-lib", "dan", *where) == "pub-lib in /: dan, eve\n"
        assert server.app.site_of(ROOT).gate.owners(normalize("pub-lib")) == frozenset({"dan", "eve"})
        assert said(capsys, "owner", "remove", "pub-lib", "eve", *where) == "pub-lib in /: dan\n"
        assert said(capsys, "owner", "add", "pub-lib", "cat", "--index", "prod", *where) == "pub-lib in prod: cat\n"
        assert said(capsys, "owner", "list", "pub-lib", *where) == "dan\n"
        events = server.app.site_of(ROOT).records.trail.find(action="owner")
        assert [(event.index, event.project, event.reason) for event in events][-1] == ("/", "pub-lib", "add dan")
        for words, code in (
            (["list", "pub-lib", "dan"], 2),
            (["add", "pub-lib"], 2),
            (["add", "pub-lib", "a:b"], 2),
            (["remove", "pub-lib", "zoe"], 1),
            (["list", "!"], 1),
        ):
            assert cli.main(["owner", *words, *where]) == code, words
