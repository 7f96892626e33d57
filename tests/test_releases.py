"""A release has one sdist, and one wheel a build and tags, however their names are spelled; and it does not change."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import forms
import live
import pytest
from builders import make_sdist, make_wheel
from packaging.utils import NormalizedName

from pypiserver_lite import dists

CORP = NormalizedName("corp-lib")


def repacked(sdist: Path, ending: str) -> Path:
    """The same files in another form, beside it."""
    data = gzip.decompress(sdist.read_bytes())
    path = sdist.with_name(sdist.name.removesuffix(".tar.gz") + ending)
    if ending == ".zip":
        with tarfile.open(sdist) as archive, zipfile.ZipFile(path, "w") as target:
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                target.writestr(member.name, content.read())
        return path
    packers: dict[str, Callable[[bytes], bytes]] = {".tar.bz2": bz2.compress, ".tar.xz": lzma.compress}
    path.write_bytes(packers.get(ending, gzip.compress)(data))
    return path


@pytest.mark.parametrize(
    "same",
    [
        ["corp-lib-1.0.tar.gz", "corp_lib-1.0.0.tar.gz", "Corp.Lib-v1.tar.gz", "corp_lib-1.0.zip", "corp_lib-1.tgz"],
        ["corp_lib-1.0-py3-none-any.whl", "Corp_Lib-1.0.0-py3-none-any.whl"],
        ["corp_lib-1.0-1-py2.py3-none-any.whl", "corp_lib-1-1-py3.py2-none-any.whl"],
        ["corp_lib-1.0+a.1.tar.gz", "corp_lib-1+a-1.tar.gz"],
        ["corp_lib-1.0.post1.tar.bz2", "corp_lib-1.0-1.tar.xz"],
        ["corp_lib-2.0.tar.gz"],
        ["corp_lib-1.0-py2-none-any.whl"],
        ["corp_lib-1.0-2-py3-none-any.whl"],
    ],
)
def test_spellings_of_one_part_of_a_release_are_known(same: list[str]) -> None:
    parts = {dists.part_of_release(name, CORP) for name in same}
    assert len(parts) == 1 and None not in parts
    others = {
        "corp_lib-3.0.tar.gz",
        "corp_lib-1.0-py3-none-linux_x86_64.whl",
        "corp_lib-1.0-py3.8.egg",
        "other-1.0.zip",
    }
    assert not parts & {dists.part_of_release(name, CORP) for name in others}


def upload(server: live.Server, path: Path, filename: str) -> live.Answer:
    return forms.post(server, forms.upload(path.read_bytes(), filename))


def test_another_spelling_of_what_is_there_is_a_conflict(packages: Path, tmp_path: Path) -> None:
    first = make_sdist(tmp_path, "corp-lib", "1.0", filename="corp-lib-1.0.tar.gz")
    second = make_sdist(tmp_path, "corp-lib", "1.0.0", filename="corp_lib-1.0.0.tar.gz")
    wheel = make_wheel(tmp_path, "corp-lib", "1.0")
    with live.serve(packages=[packages], **forms.OPEN) as server:
        assert upload(server, first, first.name).status == 200
        for path, filename in [(second, second.name), (first, "Corp.Lib-1.tar.gz"), (repacked(first, ".zip"), "")]:
            answer = upload(server, path, filename or path.name)
            assert answer.status == 409 and "corp-lib-1.0.tar.gz is that part of corp-lib 1" in answer.text
        assert upload(server, first, first.name).status == 200
        assert upload(server, wheel, wheel.name).status == 200
        assert upload(server, wheel, wheel.name.replace("corp_lib", "Corp_Lib")).status == 409
    assert sorted(path.name for path in packages.iterdir() if path.is_file()) == [first.name, wheel.name]


def test_overwriting_leaves_one_spelling_and_the_yank(packages: Path, tmp_path: Path) -> None:
    first = make_sdist(packages / "deep", "corp-lib", "1.0", filename="corp-lib-1.0.tar.gz")
    Path(f"{first}.yanked").write_text("breaks")
    Path(f"{first}.asc").write_text("signature")
    second = make_sdist(tmp_path, "corp-lib", "1.0.0", filename="corp_lib-1.0.0.tar.gz")
    with live.serve(packages=[packages], overwrite=True, **forms.OPEN) as server:
        assert upload(server, second, second.name).status == 200
        page = live.ask(server, "/simple/corp-lib/").text
    assert page.count("<a ") == 1 and second.name in page and 'data-yanked="breaks"' in page
    assert "data-gpg-sig" not in page or 'data-gpg-sig="false"' in page
    assert [path.name for path in (packages / "deep").iterdir()] == []
    assert sorted(path.name for path in packages.glob("corp*")) == [second.name, f"{second.name}.yanked"]


RACER = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from source_contract import staged
from pypiserver_lite.errors import Conflict
from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder

folder = Folder([Path(sys.argv[3])], Memory(None))
overwrite = sys.argv[4] == "overwrite"
for line in sys.stdin:
    path = Path(line.strip())
    upload = staged(folder, path, "corp-lib", path.parent.name)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        folder.add(upload, overwrite=overwrite)
        print("stored", flush=True)
    except Conflict:
        print("refused", flush=True)
"""


@pytest.mark.parametrize("mode", ["plain", "overwrite"])
def test_of_two_spellings_at_once_in_two_processes_one_stays(packages: Path, tmp_path: Path, mode: str) -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-c", RACER, str(here), str(here.parent), str(packages), mode]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(2)
    ]

    def tell(lines: list[str]) -> list[str]:
        said = []
        for racer, line in zip(racers, lines, strict=True):
            assert racer.stdin is not None
            racer.stdin.write(f"{line}\n")
            racer.stdin.flush()
        for racer in racers:
            assert racer.stdout is not None
            said.append(racer.stdout.readline().strip())
        return said

    try:
        for number in range(40):
            version = f"{number}.0"
            names = (f"corp-lib-{version}.tar.gz", f"corp_lib-{version}.0.tar.gz")
            paths = [make_sdist(tmp_path / version, "corp-lib", version, filename=name) for name in names]
            assert tell([str(path) for path in paths]) == ["ready", "ready"]
            outcome = sorted(tell(["go", "go"]))
            assert outcome == (["refused", "stored"] if mode == "plain" else ["stored", "stored"])
            assert len([name for name in names if (packages / name).exists()]) == 1
    finally:
        for racer in racers:
            racer.communicate(timeout=20)


@pytest.mark.clients
@pytest.mark.parametrize("ending", [".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz"])
def test_every_form_that_pip_installs_may_be_uploaded(packages: Path, tmp_path: Path, ending: str) -> None:
    shell = live.Shell(tmp_path / "home")
    lines = ("Requires-Python: >=3.7", "Summary: In every form")
    original = live.make_own_sdist(tmp_path, "corp-lib", "1.0", *lines)
    path = original if ending == ".tar.gz" else repacked(original, ending)
    with live.serve(packages=[packages], **forms.OPEN) as server:
        options = ("--non-interactive", "--disable-progress-bar", "--repository-url", server.url)
        if ending in (".tar.gz", ".zip"):  # twine knows no others
            shell.python("-m", "twine", "upload", *options, "-u", "x", "-p", "x", path).good()
        else:
            assert forms.post(server, forms.upload(path.read_bytes(), path.name)).status == 200
        page = live.ask(server, "/simple/corp-lib/").text
        assert path.name in page and 'data-requires-python="&gt;=3.7"' in page
        assert "In every form" in live.ask(server, "/project/corp-lib/", Accept="text/html,*/*").text
        served = live.ask(server, f"/packages/{path.name}")
        assert served.body == path.read_bytes() and "content-encoding" not in served.headers
        target = tmp_path / "target"
        pip = ("--no-deps", "--no-cache-dir", "--no-build-isolation", "--index-url", server.simple)
        shell.pip("install", *pip, "--target", target, "corp-lib").good()
        assert live.installed(target) == {"corp-lib": "1.0"}
        shell.uv(
            "pip", "install", "--no-cache", "--default-index", server.simple, "--target", tmp_path / "u", "corp-lib"
        )
    assert path.name in {file.name for file in packages.iterdir()}


def test_other_forms_are_refused_and_the_refusal_names_those_that_are_taken(packages: Path, tmp_path: Path) -> None:
    plain = io.BytesIO(gzip.decompress(make_sdist(tmp_path).read_bytes())).getvalue()
    with live.serve(packages=[packages], **forms.OPEN) as server:
        answer = forms.post(server, forms.upload(plain, "ours-1.0.tar"))
    assert answer.status == 400 and ".tar.gz, .zip, .tar.bz2, .tar.xz, .tgz" in answer.text
