"""The verbs that work on one index of a file of settings, or on the file itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import faulty_upstream as faulty
import live
import pytest
from builders import listed, make_sdist, make_wheel

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


def run(folder: Path, *words: str, text: str = "", **env: str) -> live.Ran:
    """A command in this folder; what it says on both its outputs."""
    done = subprocess.run(
        [sys.executable, "-m", "pypiserver_lite", *words],
        cwd=folder,
        env=live.bare_environ(folder / "home", **{"PYTHONPATH": str(live.SOURCE), **env}),
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return live.Ran(done.returncode, (done.stdout + done.stderr).strip())


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
