"""Changing the file of settings by ``config``: comments and order stay, and nothing wrong is written."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest
import tomli
from builders import make_wheel
from hypothesis import given, settings
from hypothesis import strategies as st
from live import run
from test_file import WHOLE

from pypiserver_lite.config import edit, file
from pypiserver_lite.errors import ConfigError

FILE = """\
# The packages of acme.
port = 8080  # as ever
cache_dir = "cache"

[upstream.pypi]
mode = "cache"

[upstream.other]  # of our friends
url = "https://me:s3cr3t@other.example.com/simple/"

# What is good.
[index.prod]
packages = ["prod"]
upstreams = [
  "pypi",  # the world
]
policy.cooldown = "7d"

[index."team/dev"]
bases = ["prod"]  # first
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pypiserver-lite.toml").write_text(FILE)
    make_wheel(tmp_path / "prod")
    return tmp_path


def text(folder: Path) -> str:
    return (folder / "pypiserver-lite.toml").read_text()


CHANGES = [
    (("index.prod.upstreams", "pypi", "other"), '  "pypi",  # the world\n', '  "pypi",  # the world\n  "other",\n'),
    (("index.prod.upstreams", "other", "pypi"), '  "pypi",  # the world\n', '  "other",\n  "pypi",  # the world\n'),
    (("index.prod.upstreams",), None, "upstreams = []\n"),
    (("port", "81"), "port = 8080  # as ever", "port = 81  # as ever"),
    (("host", "::"), None, 'host = "::"'),
    (("quiet", "yes"), None, "quiet = true"),
    (("cache_size", "5GB"), None, 'cache_size = "5GB"'),
    (("policy.allow", "numpy>=2", "acme-*"), None, '[policy]\nallow = ["numpy>=2", "acme-*"]'),
    (("index.prod.policy.cooldown", "2d"), 'policy.cooldown = "7d"', 'policy.cooldown = "2d"'),
    (("index.prod.policy.wheels_only", "yes"), None, "policy.wheels_only = true"),
    (("index.team/dev.title", "Not ready"), None, 'bases = ["prod"]  # first\ntitle = "Not ready"\n'),
    (('index."team/dev".title', "Not ready"), None, 'title = "Not ready"\n'),
    (("upstream.other.never", "acme-*"), None, 'never = ["acme-*"]'),
    (("upstream.other.password_file", "pw"), None, 'password_file = "pw"'),
    (("index.new.packages", "prod"), None, '[index.new]\npackages = ["prod"]\n'),
]


@pytest.mark.parametrize(("words", "old", "new"), CHANGES)
def test_a_setting_is_changed_and_the_rest_stays(
    folder: Path, words: tuple[str, ...], old: str | None, new: str
) -> None:
    (folder / "pw").write_text("x")
    key = edit.parse_key(words[0])
    made = edit.changed(FILE, key, edit.value_of(words[1:], edit.setting_of(key)))
    assert new in made
    if old is not None:
        assert made == FILE.replace(old, new)
    removed = [line for line in FILE.splitlines() if line not in made.splitlines()]
    assert not [line for line in removed if "#" in line and "world" not in line and "as ever" not in line]
    assert file.parse(folder / "x.toml", made, {}) is not None


def test_the_command_writes_reads_and_removes(folder: Path) -> None:
    path = folder / "pypiserver-lite.toml"
    path.chmod(0o640)
    done = run(folder, "config", "set", "index.prod.upstreams", "pypi", "other").good()
    assert done == "pypiserver-lite.toml: index.prod.upstreams set to pypi, other"
    assert text(folder) == FILE.replace("# the world\n", '# the world\n  "other",\n')
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert run(folder, "config", "get", "index.prod.upstreams").good() == "pypi\nother"
    assert run(folder, "config", "get", "port").good() == "8080"
    assert run(folder, "config", "get", "upstream.other.url").good() == "https://other.example.com/simple/"
    run(folder, "config", "unset", "index.prod.policy.cooldown").good()
    run(folder, "config", "unset", "index.team/dev").good()
    assert "cooldown" not in text(folder) and "team/dev" not in text(folder) and "# What is good." in text(folder)
    gone = run(folder, "config", "get", "index.prod.policy.cooldown")
    assert gone.code == 1 and "does not say index.prod.policy.cooldown" in gone.said
    run(folder, "check").good()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "index.prod.upstreams", "pypi", "othr"), "there is no upstream 'othr'; did you mean 'other'?"),
        (("set", "index.prod.bases", "team/dev"), "they lead back to itself"),
        (("set", "index.prod.packages", "none"), "index.prod: the packages folder none does not exist"),
        (("set", "port", "x"), "port: 'x' is not a whole number"),
        (("set", "port", "1", "2"), "exactly one value is needed"),
        (("set", "port"), "exactly one value is needed"),
        (("set", "quiet", "maybe"), "'maybe' is neither yes nor no"),
        (("set", "prot", "1"), "prot: there is no such setting; did you mean 'port'?"),
        (("set", "index.prod.port", "1"), "index.prod.port: it is a setting of the whole server"),
        (("set", "index.prod", "1"), "index.prod: that is no setting"),
        (("set", "config", "x"), "config: it cannot stand here"),
        (("set", "a..b", "x"), "'a..b' is no key"),
        (("set", "upstream.other.ca", "${A}", "b"), "exactly one value is needed"),
        (("unset", "upstream.pypi"), "there is no upstream 'pypi'"),
        (("unset", "port", "1"), "takes no values"),
        (("get", "nonsense"), "nonsense: there is no such setting"),
    ],
)
def test_what_would_be_refused_is_not_written(folder: Path, words: tuple[str, ...], said: str) -> None:
    done = run(folder, "config", *words)
    assert done.code == 2 and said in done.said, done
    assert text(folder) == FILE
    assert sorted(path.name for path in folder.iterdir()) == ["home", "prod", "pypiserver-lite.toml"] or not done.said


def test_a_file_that_is_wrong_already_can_be_mended_step_by_step(folder: Path) -> None:
    path = folder / "pypiserver-lite.toml"
    path.write_text(FILE.replace('"prod"]\nup', '"gone"]\nup').replace("port = 8080", "prot = 8080"))
    done = run(folder, "config", "set", "host", "::1").good()
    assert "as before, this cannot be served: " in done and "prot: there is no such setting" in done
    assert run(folder, "config", "set", "port", "x").code == 2
    path.write_text(FILE.replace('"prod"]\nup', '"gone"]\nup'))
    done = run(folder, "config", "set", "host", "::1").good()
    assert "warning: as before, this cannot be served: " in done and 'host = "::1"' in text(folder)
    run(folder, "config", "set", "index.prod.packages", "prod").good()
    run(folder, "check").good()
    path.write_text(FILE.replace("s3cr3t", "${PW}"))
    assert "has no variable PW" in run(folder, "config", "set", "port", "81").good()
    assert run(folder, "config", "get", "port").good() == "81"
    path.write_text("port = \n")
    assert "line 1: this is not right as TOML" in run(folder, "config", "set", "port", "1").bad()


LIST = """\
upstreams = [  # whom we ask
  # Ann looks after these.
  "corp",   # the house's own
  'pypi',
  # Ask Bob.
  "old" # soon gone
  # Nothing else.
]
"""


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["new", "old", "corp", "pypi"], ['"new",', "# Ask Bob.", '"old", # soon gone', "# Ann looks after these."]),
        (["pypi"], ["# Ann looks after these.", "'pypi',", "# Ask Bob.", "# Nothing else."]),
        ([], ["# Ann looks after these.", "# Ask Bob.", "# Nothing else."]),
    ],
)
def test_comments_of_a_list_stay_with_what_they_are_about(words: list[str], made: list[str]) -> None:
    changed = edit.changed(LIST, ("upstreams",), words)
    assert tomli.loads(changed) == {"upstreams": words}
    lines = changed.splitlines()
    assert lines[0] == "upstreams = [  # whom we ask" and lines[-1] == "]"
    assert [line.strip() for line in lines[1 : len(made) + 1]] == made
    assert ('  "corp",   # the house\'s own' in lines) == ("corp" in words)


TABLES = """\
# of prod
[index.prod]  # ours
packages = ["p"]
# of its policy

  [index.prod.policy]  # strict
  cooldown = "7d"
# at its end

# DO NOT TOUCH: the auditors' index
[index.audit]
packages = ["q"]

# the last word"""


@pytest.mark.parametrize(
    ("key", "first", "last"),
    [
        ("index.prod.policy", 5, 6),
        ("index.prod.policy.cooldown", 6, 6),
        ("index.prod.packages", 2, 2),
        ("index.prod", 1, 6),
        ("index.audit", 10, 11),
        ("index", 1, 11),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_is_unset_takes_no_comment_along_that_stands_after_it(key: str, first: int, last: int, end: str) -> None:
    lines = TABLES.split("\n")
    left = [*lines[:first], *lines[last + 1 :]]
    if left[first - 1] == left[first] == "":
        del left[first]
    assert edit.changed(end.join(lines), edit.parse_key(key), None) == end.join(left)


def test_what_is_new_in_a_table_stands_before_the_comment_above_the_next() -> None:
    made = edit.changed(TABLES, ("index", "prod", "policy", "until"), "2030-01-01")
    made = edit.changed(made, ("index", "audit", "title"), "Audit")
    made = edit.changed(made, ("title",), "All")
    made = edit.changed(made, ("index", "audit", "policy", "cooldown"), "1d")
    assert [line for line in made.splitlines() if line] == [
        'title = "All"',
        *(line for line in TABLES.splitlines()[:7] if line),
        '  until = "2030-01-01"',
        *(line for line in TABLES.splitlines()[7:12] if line),
        'title = "Audit"',
        "[index.audit.policy]",
        'cooldown = "1d"',
        "# the last word",
    ]


def test_user_and_password_are_set_and_unset_one_after_the_other(folder: Path) -> None:
    done = run(folder, "config", "set", "upstream.pypi.username", "builder").good()
    assert "warning: until more is said, this cannot be served: " in done and "belong together" in done
    assert "belong together" in run(folder, "check").bad()
    run(folder, "config", "set", "upstream.pypi.password", text="s3cret\n").good()
    assert 'username = "builder"\npassword = "s3cret"' in text(folder)
    done = run(folder, "config", "set", "upstream.pypi.password", "${PW}").good()
    assert "warning: until more is said" in done and "has no variable PW" in done
    run(folder, "check", PW="x").good()
    assert "warning" not in run(folder, "config", "set", "port", "81", PW="x").good()
    run(folder, "config", "unset", "upstream.pypi.password").good()
    run(folder, "config", "unset", "upstream.pypi.username").good()
    run(folder, "check").good()


def test_an_index_with_dots_in_its_name_is_unset(folder: Path) -> None:
    run(folder, "config", "set", "index.my.dotted.name.packages", "prod").good()
    assert '[index."my.dotted.name"]' in text(folder)
    assert "no such setting" in run(folder, "config", "unset", "index.my.dotted.nam").bad()
    run(folder, "config", "unset", "index.my.dotted.name").good()
    assert text(folder).rstrip() == FILE.rstrip()


@pytest.mark.parametrize(("url", "mode"), [("https://me:s3cr3t@x.example/", 0o600), ("https://x.example/", 0o644)])
def test_a_new_file_with_a_password_is_for_its_owner_alone(folder: Path, url: str, mode: int) -> None:
    (folder / "home" / "packages").mkdir(parents=True)
    before = os.umask(0o022)
    try:
        run(folder, "config", "set", "upstream.x.url", url, "--config", "new.toml").good()
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "new.toml").stat().st_mode) == mode


def test_windows_files_links_and_new_files(folder: Path) -> None:
    path = folder / "pypiserver-lite.toml"
    path.write_bytes(b"\xef\xbb\xbf" + FILE.replace("\n", "\r\n").encode())
    (folder / "link.toml").symlink_to(path)
    run(folder, "config", "set", "host", "::1", "--config", "link.toml").good()
    data = path.read_bytes()
    assert (folder / "link.toml").is_symlink() and data.startswith(b"\xef\xbb\xbf# The") and b'host = "::1"\r\n' in data
    assert data.count(b"\n") == data.count(b"\r\n") == FILE.count("\n") + 1
    run(folder, "config", "set", "packages", "prod", "--config", "new.toml").good()
    assert (folder / "new.toml").read_text() == 'packages = ["prod"]\n'
    assert run(folder, "config", "unset", "port", "--config", "none.toml").code == 2
    assert "none.toml: No such file" in run(folder, "config", "get", "port", "--config", "none.toml").bad()


def test_a_secret_is_not_shown(folder: Path) -> None:
    path = folder / "pypiserver-lite.toml"
    assert "s3cr3t" not in run(folder, "config", "set", "upstream.other.url", "https://a:s3cr3t@x.example.com/").good()
    path.write_text(FILE.replace('url = "https://me:s3cr3t@', 'username = "u"\npassword = "s3cr3t"\nurl = "https://'))
    assert run(folder, "config", "get", "upstream.other.password").good() == "***"
    words = ("config", "set", "upstream.other.password")
    done = run(folder, *words, "s3cr3t2")
    assert done.code == 2 and "s3cr3t" not in done.said and "s3cr3t2" not in text(folder)
    assert "s3cr3t" not in run(folder, *words, text="s3cr3t2\n").good() and '"s3cr3t2"' in text(folder)
    assert run(folder, *words, text="").code == 2
    run(folder, *words, "${PW}", PW="x").good()
    assert run(folder, "config", "get", "upstream.other.password", PW="x").good() == "${PW}"


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_changed_only_that_changes(seed: int) -> None:
    chance = random.Random(seed)
    made = WHOLE
    keys = [
        *("port", "title", "packages", "policy.size", "policy.allow", "index.prod.policy.cooldown", "index.prod.title"),
        *(
            "index.team/dev.upstreams",
            "index.x.bases",
            "upstream.pypi.never",
            "upstream.y.url",
            "index.a/b.policy.deny",
        ),
    ]
    for _ in range(6):
        path = edit.parse_key(chance.choice(keys))
        setting = edit.setting_of(path)
        value = None if chance.random() < 0.3 else edit.value_of(["7"], setting)
        before = tomli.loads(made)
        try:
            made = edit.changed(made, path, value)
        except ConfigError:
            continue
        after = tomli.loads(made)
        assert edit.find(made, path) == value
        for tables in (before, after):
            here = tables
            for part in path[:-1]:
                here = here.setdefault(part, {})
            here.pop(path[-1], None)
        assert before == after
