"""Rules and groups in the file of settings: what they mean there, and what is wrong with them, in one clear line."""

from __future__ import annotations

from pathlib import Path

import live
import pytest
from packaging.utils import NormalizedName

from pypiserver_lite import site
from pypiserver_lite.config import load
from pypiserver_lite.config.settings import Config
from pypiserver_lite.config.values import RIGHTS
from pypiserver_lite.errors import ConfigError
from pypiserver_lite.model import User

HEAD = """\
passwords = "htpasswd"
packages = ["packages"]
disable_fallback = true

[index.prod]
packages = ["prod"]

[index.own]
packages = ["own"]
authenticate = ["list", "update"]

[groups]
release = ["Ann Lee", "ci"]
nobody = []
"""
RULES = """
[[rule]]    # the first
who = ["@release"]
may = ["upload", "yank"]
projects = ["acme-*"]
indexes = ["/", "prod"]

[[rule]]
who = "owner"
may = "upload, remove"
indexes = ["prod"]

[[rule]]
who = ["*"]
may = ["list", "download"]
indexes = ["/", "prod"]
"""
WHOLE = HEAD + RULES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    live.write_htpasswd(tmp_path / "htpasswd", **{"Ann Lee": "right", "bob": "right"})
    for name in ("packages", "prod", "own"):
        (tmp_path / name).mkdir()
    return tmp_path


def read(folder: Path, text: str, **given: object) -> Config:
    (folder / "i.toml").write_text(text)
    return load.of_file(folder / "i.toml", {"cache_dir": folder / "cache", **given})


def test_a_file_says_who_may_what_in_each_of_its_indexes(folder: Path) -> None:
    config = read(folder, WHOLE, admin=["bob"])
    assert config.groups == {"release": ("Ann Lee", "ci"), "nobody": ()}
    assert [rule.place.rpartition(", ")[2] for rule in config.rules] == ["line 16", "line 22", "line 27"]
    sites = site.build_all(config)
    try:
        books = {name: one.gate.book for name, one in sites.by_name.items()}
    finally:
        sites.close()
    ann, bob = User(name="Ann Lee"), User(name="bob")
    acme, other = (NormalizedName(name) for name in ("acme-x", "other"))

    def may(name: str, who: User | None, project: NormalizedName) -> set[str]:
        return {action for action in RIGHTS if books[name].decide(who, action, project, lambda: None).allowed}

    for name in ("/", "prod"):
        assert books[name].decide(ann, "yank", acme).by == f"rule 1, {folder / 'i.toml'}, line 16"
        assert books[name].decide(ann, "yank", acme).why == "by rule 1"
        assert may(name, None, acme) == {"list", "download"}
        assert may(name, bob, acme) == set(RIGHTS)
    assert may("/", ann, acme) == {"list", "download", "upload", "push", "yank"}
    assert may("/", ann, other) == {"list", "download"}
    assert may("prod", ann, other) == {"list", "download", "upload", "push"}
    # No rule is about this one: it goes by its own settings.
    assert books["own"].by_flags and not books["prod"].by_flags
    assert may("own", None, acme) == {"download"}
    assert may("own", ann, acme) == set(RIGHTS) - {"admin"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("@release", "@releas"), r"line 17: rule 1, who: there is no group 'releas'; did you mean 'release'\?"),
        (("@release", "@xyz"), r"line 17: rule 1, who: there is no group 'xyz'; name its users in \[groups\]"),
        (('"upload", "yank"', '"uplaod"'), r"line 18: rule 1, may: 'uplaod' is none of .*; did you mean 'upload'\?"),
        (('"upload", "yank"', '"update"'), r"line 18: rule 1, may: .*'update' of -a is upload, yank, remove, push"),
        (('"upload", "yank"', ""), r"line 18: rule 1, may: it names no action"),
        (('"/", "prod"]\n\n', '"/", "prd"]\n\n'), r"line 20: rule 1, indexes: .*'prd'; did you mean 'prod'\?"),
        (('projects = ["acme-*"]', "projects = []"), r"line 19: rule 1, projects: it names none; leave it out"),
        (('indexes = ["prod"]', "indexes = []"), r"line 25: rule 2, indexes: it names none; leave it out"),
        (('who = "owner"\n', ""), r"line 22: rule 2: it says nothing of who"),
        (('who = "owner"', "who = []"), r"line 23: rule 2, who: it names nobody"),
        (('may = "upload, remove"\n', ""), r"line 22: rule 2: it says nothing; add may"),
        (("upload, remove", "upload, list"), r"line 23: rule 2, who: .*; list is not about owners"),
        (('"upload, remove"', '"*"'), r"line 23: rule 2, who: .*; list, download, admin is not about owners"),
        (('may = "upload, remove"', 'may = "upload"\nmay_not = "upload"'), r"line 25: rule 2, may_not: upload stands"),
        (('may = ["list"', 'may = ["admin"'), r"line 28: rule 3, who: whoever administers has a login"),
        (('"upload", "yank"]', '"admin"]'), r"line 19: rule 1, projects: to administer is not about projects"),
        (("projects =", "project ="), r"line 19: rule 1, project: there is no such setting; did you mean 'projects'\?"),
        (("[[rule]]    #", "[rule]   #"), r"."),  # TOML itself refuses both kinds in one file
        (('release = ["Ann Lee", "ci"]', 'release = ["@nobody"]'), r"line 13: groups.release: a group is no name"),
        (('release = ["Ann Lee", "ci"]', 'release = ["a:b"]'), r"line 13: groups.release: 'a:b' is no name of a user"),
        (('release = ["Ann Lee", "ci"]', "release = 5"), r"line 13: groups.release: a number cannot stand here"),
        (('release = ["Ann Lee", "ci"]', '"a b" = ["x"]'), r"line 13: groups.\"a b\": a name has letters"),
        (('["list", "update"]\n', '["update"]\n[groups.x]\ny = 1\n'), r"."),
        (('passwords = "htpasswd"', ""), r"line 17: rule 1, who: .*nobody can in the index /: add passwords = FILE"),
        (
            ('packages = ["prod"]', 'packages = ["prod"]\npasswords = "."'),
            r"rule 1, who: .*nobody can in the index prod",
        ),
        (
            ('passwords = "htpasswd"', 'passwords = "htpasswd"\nauthenticate = ["list", "update"]'),
            r"line 17: rule 1: it says who may do what in the index /, and so does .*line 2: authenticate; leave one",
        ),
        (
            ('packages = ["prod"]', 'packages = ["prod"]\nauthenticate = "update"'),
            r"line 17: rule 1: .* in the index prod, and so does .*line 7: index.prod.authenticate; leave one",
        ),
        (("disable_fallback", 'may = "list"\ndisable_fallback'), r"line 3: may: it belongs to a rule .*\[\[rule\]\]"),
        (("disable_fallback", "rules = 1\ndisable_fallback"), r"line 3: rules: .*did you mean 'rule'\?"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(folder: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in WHOLE
    with pytest.raises(ConfigError, match=said) as caught:
        read(folder, WHOLE.replace(*change, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["rule = 1", "rule = [1]", "groups = 1", "[rule]\nwho = 1", "[groups]\na.b = 1"])
def test_what_is_no_rule_and_no_group_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"line 1|line 2"):
        read(folder, text)


def test_flags_and_rules_that_contradict_each_other_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"rule 1: .* in the index /, and so does .*authenticate; leave one"):
        read(folder, WHOLE, authenticate=["list"])
    with pytest.raises(ConfigError, match=r"admin ann needs a password file"):
        site.build(read(folder, "", packages=[folder / "packages"], admin=["ann"])).close()


def test_where_nobody_logs_in_there_is_no_admin_of_the_root_either(folder: Path) -> None:
    text = HEAD.replace('authenticate = ["list", "update"]', 'authenticate = ["."]\npasswords = "."')
    config = read(folder, 'admin = ["bob"]\n' + text)
    assert (config.of("/").admin, config.of("prod").admin, config.of("own").admin) == (("bob",), ("bob",), ())
    site.build_all(config).close()
    with pytest.raises(ConfigError, match=r"admin bob needs a password file"):
        site.build_all(read(folder, text.replace('passwords = "."', 'passwords = "."\nadmin = ["bob"]')))


def test_rules_written_in_one_line_are_rules_too(folder: Path) -> None:
    text = HEAD.replace(
        "[index.prod]", 'rule = [{who = ["*"], may = ["list"]},\n  {who = ["*"], may_not = ["lst"]}]\n[index.prod]'
    )
    with pytest.raises(ConfigError, match=r"line \d+: rule 2, may_not: 'lst' is none of"):
        read(folder, text)
