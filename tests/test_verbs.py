"""The verbs that work on one index of a file of settings, or on the file itself."""

from __future__ import annotations

import json
from pathlib import Path

import faulty_upstream as faulty
import live
import pytest
from builders import listed, make_sdist, make_wheel
from live import run

from pypiserver_lite.cli.remarks import remarks
from pypiserver_lite.config import load

FILE = """\
cache_dir = "cache"

[upstream.far]
url = "http://127.0.0.1:9/simple/"

[index.dev]
packages = ["dev"]

[index.prod]
bases = ["dev"]
upstreams = ["far"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pypiserver-lite.toml").write_text(FILE)
    make_wheel(tmp_path / "dev")
    make_sdist(tmp_path / "dev")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('templates = "none"', "line 2: templates none: there is no such folder"),
        ('logo = "none.png"', "line 2: logo: 'none.png' is neither a picture in the folder of templates nor"),
        ("workers = 2", "line 2: workers: waitress runs in one process; choose server granian or gunicorn"),
        ('log_req_frmt = "%(x"', "line 2: log_req_frmt: incomplete format key"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "check"])
def test_what_a_file_says_wrong_is_named_as_it_stands_there(folder: Path, verb: str, line: str, said: str) -> None:
    (folder / "pypiserver-lite.toml").write_text(FILE.replace("\n", f"\n{line}\n", 1))
    told = run(folder, verb)
    assert told.code == 2 and f"pypiserver-lite: pypiserver-lite.toml, {said}" in told.said, told
    (folder / "pypiserver-lite.toml").unlink()
    told = run(folder, verb, PYPISERVER_LITE_PACKAGES="dev", PYPISERVER_LITE_PASSWORDS="none")
    assert told.code == 2 and "pypiserver-lite: PYPISERVER_LITE_PASSWORDS none: No such file" in told.said, told


@pytest.mark.parametrize("words", [("--index", "dev"), ("--index", "/dev/", "--config", "pypiserver-lite.toml")])
def test_a_release_of_one_of_several_indexes_is_yanked(folder: Path, words: tuple[str, ...]) -> None:
    run(folder, "yank", "ours", "1.0", *words, "--reason", "bad").good()
    marks = [name for name in listed(folder / "dev") if name.endswith(".yanked")]
    assert marks == ["ours-1.0-py3-none-any.whl.yanked", "ours-1.0.tar.gz.yanked"]
    run(folder, "unyank", "ours", "1.0", *words).good()
    assert not [name for name in listed(folder / "dev") if name.endswith(".yanked")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("yank", "ours", "1.0"), "the index / has no packages folder; name one that has, with --index: dev"),
        (("yank", "ours", "1.0", "--index", "prod"), "the index prod has no packages folder"),
        (
            ("yank", "ours", "1.0", "--index", "dve"),
            "there is no index 'dve' in pypiserver-lite.toml; did you mean 'dev'?",
        ),
        (
            ("names", "list", "--index", "none"),
            "there is no index 'none' in pypiserver-lite.toml; there are /, dev, prod",
        ),
        (("yank", "ours", "1.0", "dev", "--index", "dev"), "--index dev has folders of its own"),
        (("cache", "show", "--index", "x"), "there is no index 'x'"),
    ],
)
def test_an_index_that_cannot_be_meant_is_refused(folder: Path, words: tuple[str, ...], said: str) -> None:
    done = run(folder, *words)
    assert done.code == 2 and said in done.said, done


def test_folders_may_still_be_named_where_there_is_a_file(folder: Path) -> None:
    assert "ours-1.0.tar.gz: yanked" in run(folder, "yank", "ours", "1.0", "dev").good()
    (folder / "pypiserver-lite.toml").unlink()
    done = run(folder, "yank", "ours", "1.0", "--index", "dev")
    assert done.code == 2 and "without a file of settings (--config FILE)" in done.said


def test_names_are_kept_for_each_index(folder: Path) -> None:
    assert run(folder, "names", "list", "--index", "dev").good() == ""
    for path in (folder / "dev").glob("ours*"):
        path.unlink()
    assert run(folder, "names", "list", "--index", "dev").good() == "ours"
    assert run(folder, "names", "release", "ours", "--index", "dev").good() == "ours: released"


def test_the_cache_is_filled_as_the_index_asks(folder: Path) -> None:
    (folder / "r.txt").write_text("ours\nfoo\nbar\n")
    with faulty.upstream() as server:
        server.add("foo", "foo-1.0.tar.gz", b"foo")
        server.add("ours", "ours-9.tar.gz", b"evil")
        text = FILE.replace("http://127.0.0.1:9/simple/", server.url) + 'private = ["bar"]\n'
        (folder / "pypiserver-lite.toml").write_text(text)
        done = run(folder, "cache", "warm", "-r", "r.txt", "--index", "prod")
        assert done.code == 1 and "foo-1.0.tar.gz: fetched" in done.said
        assert "ours-1.0-py3-none-any.whl: cached" in done.said and "bar is reserved for this index" in done.said
        assert not [path for path in server.paths() if "ours" in path or "bar" in path]
    assert "2 entries" in run(folder, "cache", "show").good()


def test_check_says_what_a_file_means(folder: Path) -> None:
    live.write_htpasswd(folder / "users", ann="secret")
    (folder / "pypiserver-lite.toml").write_text(
        'host = "0.0.0.0"\nthreads = 20\npasswords = "users"\ncache_dir = "cache"\n[upstream.far]\n'
        'url = "https://me:s3cr3t@far.example.com/simple/"\nnever = ["acme-*"]\nmirrors = ["https://x:s3cr3t@b.example.com/"]\n'
        '[upstream.direct]\nurl = "https://direct.example.com/"\nmode = "redirect"\n[upstream.unused]\n'
        '[index."team/dev"]\ntitle = "Development"\npackages = ["dev"]\nbases = ["prod"]\nprivate = ["acme-*"]\n'
        'authenticate = ["list", "download", "update"]\n[index.prod]\nupstreams = ["direct", "far"]\noverwrite = true\n'
        '[index.prod.policy]\ncooldown = "7d"\nexempt = ["x==1 until 2020-01-01"]\nmerge = ["torch"]\n'
    )
    before = sorted(folder.rglob("*"))
    said = run(folder, "check", "--port", "81", "--log-file", "log").good()
    for line in (
        "pypiserver-lite.toml",
        "waitress listens on http://0.0.0.0:81/",
        "  threads: 20",
        "/team/dev/: Development",
        "  serves dev, uploads go there",
        "  1. its own files (dev)\n  2. the files of prod (no folder)",
        "  3. direct at https://direct.example.com/, clients are sent there",
        "  4. far at https://far.example.com/simple/, or https://b.example.com/, asked for clients, what comes is "
        "kept, never for acme-*",
        "  reserves acme-*: never asked of an upstream",
        "  as in prod, hides files younger than 1 week",
        "  who has a password in users may see what there is, download, publish, yank, remove and push to here",
        "warning: the upstream unused is asked by no index; name it in 'upstreams' of one",
        "warning: upstream.direct.mode is redirect: for the names that it serves clients are sent there and hear ",
        "warning: upstream.direct.mode is redirect, but what a policy governs or merges is asked for by this server",
        "warning: the index prod: the exemption x==1 until 2020-01-01 has ended",
    ):
        assert line in said
    told = json.loads(run(folder, "check", "--json").good())
    assert [index["path"] for index in told["indexes"]] == ["/", "/team/dev/", "/prod/"]
    assert told["indexes"][1]["may"] == dict.fromkeys(("list", "download", "update"), "users")
    assert told["indexes"][2]["may"]["update"] == "nowhere" and "  nobody may (it has no folder) publish, yank" in said
    assert told["indexes"][0]["asks"] == [] and told["indexes"][2]["overwrite"] is True
    assert "s3cr3t" not in said + json.dumps(told)
    after = sorted(path for path in folder.rglob("*") if "home" not in path.parts)
    assert after == before  # nothing is left behind


def test_check_says_where_upstreams_are_asked_for_reserved_names_after_all(folder: Path) -> None:
    (folder / "pypiserver-lite.toml").write_text(
        'cache_dir = "cache"\n[upstream.far]\nurl = "http://127.0.0.1:9/simple/"\n'
        '[index.prod]\npackages = ["dev"]\nupstreams = ["far"]\nprivate = ["acme-*", "our-*"]\n'
        '[index.dev]\nbases = ["prod"]\n[index.dev.policy]\nmerge = ["a*-tools"]\n[index.top]\nbases = ["dev"]\n'
    )
    said = run(folder, "check").good()
    for place, words in (("dev", True), ("top", True), ("prod", False)):
        part = said.partition(f"\n/{place}/")[2].partition("\n\n")[0]
        excepted = "  reserves acme-*, but asks upstreams for what 'merge' names of that" in part
        assert excepted is words
        assert f"  reserves {'' if words else 'acme-*, '}our-*: never asked of an upstream" in part
    assert "warning: the index dev: 'merge' has upstreams asked for acme-* too, which prod reserves" in said


def test_check_without_a_file_is_about_the_flags(folder: Path) -> None:
    (folder / "pypiserver-lite.toml").unlink()
    said = run(folder, "check", "dev", "-P", ".", "-a", ".", "--host", "0.0.0.0", "--fallback-mode", "cache").good()
    assert "no file of settings" in said and "anybody may see what there is, download, publish" in said
    assert "whoever reaches this port may publish and remove packages" in said
    assert "asked for clients, what comes is kept" in said


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("", ("none",), "the packages folder none does not exist"),
        ("porrt = 1\n", (), "line 1: porrt: there is no such setting; did you mean 'port'?"),
        ('[index.a]\npackages = "none"\n', (), "line 1: index.a: the packages folder none does not exist"),
        ('packages = "dev"\n', ("-a", "list"), "-a list needs a password file"),
        ('packages = "dev"\nworkers = 2\n', (), "line 2: workers: waitress runs in one process"),
        ('packages = "dev"\ntrusted_proxy = ["x/y"]\n', (), "trusted_proxy 'x/y'"),
        ('packages = "dev"\ntls_cert = "none"\n', (), "tls_cert and tls_key belong together"),
        (
            'packages = "dev"\nserver = "granian"\ntls_cert = "none"\ntls_key = "none"\n',
            (),
            "tls_cert: there is no such",
        ),
        ('packages = "dev"\nhealth_endpoint = "/simple/x"\n', (), "health_endpoint"),
        ('packages = "dev"\nwelcome = "none.tpl"\n', (), "none.tpl"),
        ('packages = "dev"\nlog_req_frmt = "%(x"\n', (), "log_req_frmt"),
        ('packages = "dev"\nfallback_ca = "none"\nfallback_mode = "proxy"\n', (), "fallback_ca"),
        ('packages = "dev"\npasswords = "none"\n', (), "none"),
    ],
)
def test_check_fails_where_run_would(folder: Path, text: str, words: tuple[str, ...], said: str) -> None:
    (folder / "pypiserver-lite.toml").write_text(text)
    for verb in ("check", "run"):
        done = run(folder, verb, "--cache-dir", "cache", *words, *(["-p", "0"] if verb == "run" else []))
        assert done.code == 2 and said in done.said.splitlines()[-1], done


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[index.b]\npackages = "dev"\n', []),
        (
            '[index.b]\npackages = ["more", "dev"]\noverwrite = true\n',
            ["the indexes dev and b share dev and differ in overwrite"],
        ),
        (
            '[index.b]\npackages = "dev"\npasswords = "."\nauthenticate = "."\n',
            ["the indexes dev and b share dev and differ in passwords, authenticate"],
        ),
        ('[index.b.policy]\nmerge = "torch"\n[index.b]\nbases = "dev"\n', ["the index b: 'merge' has no effect"]),
        ('[index.b.policy]\nmerge = "torch"\n[index.b]\nbases = "dev"\nupstreams = "far"\n', []),
        (
            '[index.b]\nbases = "e"\nupstreams = "far"\n[index.b.policy]\nmerge = "*"\n'
            '[index.e]\npackages = "e"\nprivate = "x-*"\n',
            ['the index b: merge = ["*"] has upstreams asked', "the index b: 'merge' has upstreams asked for x-* too"],
        ),
        (
            '[index.b]\nbases = "c"\n[index.c]\npackages = "c"\npasswords = "p"\nauthenticate = "list,download"\n',
            ["the index b: anybody may list and download what c has, which asks for a login itself"],
        ),
        (
            '[index.dev.policy]\nexempt = ["a==1 until 2999-01-01", "b==1 until 2001-01-01"]\n',
            ["the index dev: the exem"],
        ),
    ],
)
def test_what_may_not_be_meant_is_said(folder: Path, text: str, said: list[str]) -> None:
    (folder / "index.toml").write_text(FILE + text)
    found = list(remarks(load.gather({"config": folder / "index.toml"}, {})))
    found = [remark.replace(f"{folder}/", "") for remark in found]
    assert len(found) == len(said) and all(map(str.startswith, found, said)), found


def test_settings_of_asking_that_the_upstreams_have_themselves_are_said(folder: Path) -> None:
    (folder / "index.toml").write_text('packages = "dev"\nupstreams = ["far"]\ncache_ttl = 5\n[upstream.far]\n')
    (found,) = remarks(load.gather({"config": folder / "index.toml"}, {}))
    assert found == "--cache-ttl: without effect, for with 'upstreams' it is said of each, in [upstream.NAME]"


def test_verbs_that_are_mistyped_are_known(folder: Path) -> None:
    for word, verb in {
        "pussh": "push",
        "chekc": "check",
        "conifg": "config",
        "validate": "check",
        "promote": "push",
    }.items():
        done = run(folder, word)
        assert done.code == 2 and f"did you mean 'pypiserver-lite {verb}'?" in done.said, done
