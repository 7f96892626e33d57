"""pip, uv, poetry and pdm install from a live server what the standards say they should."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import live
import pytest
from builders import make_sdist, make_wheel
from packaging.version import Version

from pypiserver_lite import make_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

pytestmark = pytest.mark.clients

PIPS = {version("pip"): None, **live.pip_wheels()}
"""Version → wheel of the pips at hand; the environment's own needs none."""


@dataclass(frozen=True)
class Installer:
    """A client that installs: a pip of some version, or uv (`wheel` and `pip` are ``None``)."""

    label: str
    pip: str | None = None
    wheel: Path | None = None

    def __str__(self) -> str:
        return self.label

    def run(self, shell: live.Shell, verb: str, index: str, *arguments: str | Path, **more: Any) -> live.Ran:
        """``install`` or ``download`` with this index alone."""
        if self.pip is None:
            return shell.uv("pip", verb, "--default-index", index, *arguments, **more)
        if self.wheel is not None:
            more["PYTHONPATH"] = str(self.wheel)
        return shell.pip(verb, "--index-url", index, *arguments, **more)

    def install(self, shell: live.Shell, index: str, target: Path, *arguments: str | Path, **more: Any) -> live.Ran:
        """Install into a folder."""
        return self.run(shell, "install", index, "--target", target, *arguments, **more)


UV = Installer("uv")
PIP = Installer("pip", pip=version("pip"))
SPREAD = {version("pip"), min(PIPS, key=Version), max(PIPS, key=Version)}
EVERY = [UV, *(Installer(f"pip-{known}", pip=known, wheel=PIPS[known]) for known in sorted(SPREAD))]
BOTH = [PIP, UV]


def pip_since(least: str) -> Installer:
    """The oldest pip at hand that is at least this new."""
    fit = [known for known in PIPS if Version(known) >= Version(least)]
    if not fit:
        pytest.skip(f"no pip from {least} on is at hand (virtualenv brings one)")
    known = min(fit, key=Version)
    return Installer(f"pip-{known}", pip=known, wheel=PIPS[known])


def fill(folder: Path) -> None:
    """One project for each promise."""
    for number in ("1.0", "1.9", "2.0"):
        make_wheel(folder, "plain", number)
    make_wheel(folder, "Needs.Plain", "1.0", "Requires-Dist: plain<2")
    make_wheel(folder, "picky", "1.0", "Requires-Python: >=3.8")
    make_wheel(folder, "picky", "2.0", "Requires-Python: >=3.99, <4")
    make_wheel(folder, "broken", "1.0")
    yanked = make_wheel(folder, "broken", "1.1")
    (folder / f"{yanked.name}.yanked").write_text("eats <data> & more")
    make_wheel(folder, "more", "1.0", "Provides-Extra: fast", 'Requires-Dist: leaf; extra == "fast"')
    make_wheel(folder, "leaf", "1.0", filename="leaf-1.0-1build2-py3-none-any.whl")
    live.make_own_sdist(folder, "Source-Only", "1.0", "Requires-Dist: source-leaf")
    make_wheel(folder, "source-leaf", "0.1.dev3")
    make_wheel(folder, "local", "1.0+cpu.1")
    make_wheel(folder, "local", "0.9")
    make_wheel(folder, "epoch", "1!0.1")
    make_wheel(folder, "epoch", "2020.1")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Recording]:
    """A server of our own over `fill`, remembering what it was asked."""
    folder = tmp_path_factory.mktemp("shop")
    fill(folder)
    with live.in_thread(make_app(folder, disable_fallback=True, cache_dir=folder / ".cache")) as server:
        yield server


@pytest.fixture
def served(packages: Path, tmp_path: Path) -> Iterator[Callable[..., live.Recording]]:
    """Serve `packages` with settings of one's own."""
    with contextlib.ExitStack() as stack:

        def start(**settings: object) -> live.Recording:
            app = make_app(packages, **{"disable_fallback": True, "cache_dir": tmp_path / "facts", **settings})
            return stack.enter_context(live.in_thread(app))

        yield start


@pytest.mark.parametrize("installer", EVERY, ids=str)
def test_every_installer_finds_the_right_release_of_everything(
    installer: Installer, shop: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    # N2, N5, U8, H10, Y1, T12's names; J9 (pip 23.0 falls over a wrong JSON key); a build tag; an extra; an sdist.
    wanted = ["needs-plain", "picky", "broken", "more[fast]", "source.only", "local", "epoch"]
    said = installer.install(shell, shop.simple, tmp_path / "t", *wanted, "source-leaf==0.1.dev3").good()
    assert live.installed(tmp_path / "t") == {
        "Needs.Plain": "1.0",
        "plain": "1.9",  # the newest that its dependant allows
        "picky": "1.0",  # 2.0 is for a Python to come
        "broken": "1.0",  # 1.1 is yanked
        "more": "1.0",
        "leaf": "1.0",  # by an extra
        "Source-Only": "1.0",
        "source-leaf": "0.1.dev3",
        "local": "1.0+cpu.1",
        "epoch": "1!0.1",  # an epoch beats any year
    }, said
    # One look at each project's page, and nothing that failed on the way.
    pages = [asked for asked in shop.asked() if asked.startswith("GET /simple/")]
    assert "GET /simple/needs-plain/" in pages
    shop.forget()


@pytest.mark.parametrize("installer", BOTH, ids=str)
def test_yanked_release_is_installed_when_pinned_and_its_reason_shown(  # Y1, Y2
    installer: Installer, shop: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    said = installer.install(shell, shop.simple, tmp_path / "t", "broken==1.1").good()
    assert live.installed(tmp_path / "t") == {"broken": "1.1"}
    assert "eats <data> & more" in said


@pytest.mark.parametrize("installer", BOTH, ids=str)
def test_unknown_project_is_plainly_not_found(  # U5
    installer: Installer, shop: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    said = installer.install(shell, shop.simple, tmp_path / "t", "no-such-project").bad()
    assert "No matching distribution found for no-such-project" in said or "was not found" in said
    assert not (tmp_path / "t").exists() or not live.installed(tmp_path / "t")


def test_cool_down_of_pip_goes_by_the_upload_time(  # J7
    packages: Path, served: Callable[..., live.Recording], shell: live.Shell, tmp_path: Path
) -> None:
    installer = pip_since("26.0")
    age(make_wheel(packages, "aged", "1.0"), 2020)
    age(make_wheel(packages, "aged", "2.0"), 2023)
    installer.install(
        shell, served().simple, tmp_path / "t", "--uploaded-prior-to", "2022-01-01T00:00:00Z", "aged"
    ).good()
    assert live.installed(tmp_path / "t") == {"aged": "1.0"}


def test_cool_down_of_uv_goes_by_the_upload_time(  # J7
    packages: Path, served: Callable[..., live.Recording], shell: live.Shell, tmp_path: Path
) -> None:
    age(make_wheel(packages, "aged", "1.0"), 2020)
    age(make_wheel(packages, "aged", "2.0"), 2023)
    UV.install(shell, served().simple, tmp_path / "t", "--exclude-newer", "2022-01-01T00:00:00Z", "aged").good()
    assert live.installed(tmp_path / "t") == {"aged": "1.0"}


def age(path: Path, year: int) -> None:
    """Let a file be of the middle of that year."""
    moment = datetime(year, 6, 15, 12, 30, tzinfo=timezone.utc).timestamp()
    os.utime(path, (moment, moment))


def test_pip_resolves_from_metadata_without_fetching_a_wheel(  # D1, D2
    shop: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    installer = pip_since("26")  # 24.2 fetches wheels in a dry run too
    report = tmp_path / "report.json"
    shop.forget()
    installer.install(
        shell, shop.simple, tmp_path / "t", "--dry-run", "--report", report, "--only-binary", ":all:", "needs-plain"
    ).good()
    found = {item["metadata"]["name"]: item for item in json.loads(report.read_text())["install"]}
    assert {name: item["metadata"]["version"] for name, item in found.items()} == {"Needs.Plain": "1.0", "plain": "1.9"}
    digest = found["plain"]["download_info"]["archive_info"]["hashes"]["sha256"]
    assert len(digest) == 64
    files = [asked.rpartition("/")[2] for asked in shop.asked() if "/packages/" in asked]
    assert sorted(files) == ["needs_plain-1.0-py3-none-any.whl.metadata", "plain-1.9-py3-none-any.whl.metadata"]


def test_uv_resolves_from_metadata_without_fetching_a_wheel(  # D1, D2
    shop: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    (tmp_path / "wanted.in").write_text("needs-plain\n")
    shop.forget()
    locked = UV.run(shell, "compile", shop.simple, "--generate-hashes", "--quiet", tmp_path / "wanted.in").good()
    assert "needs-plain==1.0" in locked
    assert "plain==1.9" in locked
    assert locked.count("--hash=sha256:") == 2
    files = [asked for asked in shop.asked() if "/packages/" in asked]
    assert files and all(asked.endswith(".whl.metadata") for asked in files), files


@pytest.mark.parametrize("installer", BOTH, ids=str)
def test_hashes_hold_in_hash_checking_mode(  # H4, J5
    installer: Installer, packages: Path, served: Callable[..., live.Recording], shell: live.Shell, tmp_path: Path
) -> None:
    wheel = make_wheel(packages, "ours", "1.0")
    server = served()
    wanted = tmp_path / "wanted.txt"
    wanted.write_text(f"ours==1.0 --hash=sha256:{live.sha256(wheel)}\n")
    installer.install(shell, server.simple, tmp_path / "t", "--require-hashes", "-r", wanted).good()
    assert live.installed(tmp_path / "t") == {"ours": "1.0"}
    wanted.write_text(f"ours==1.0 --hash=sha256:{'0' * 64}\n")
    said = installer.install(shell, server.simple, tmp_path / "u", "--require-hashes", "-r", wanted).bad()
    assert "hash" in said.lower()


def test_pip_downloads_the_very_bytes(  # F1, F2, U8: epochs, local versions, build tags, sdists
    packages: Path, served: Callable[..., live.Recording], shell: live.Shell, tmp_path: Path
) -> None:
    files = [
        make_wheel(packages, "local", "1.0+cpu.1"),
        make_wheel(packages, "epoch", "1!0.1"),
        make_wheel(packages, "Old.Name", "1.0", filename="Old.Name-1.0-7-py3-none-any.whl"),
        live.make_own_sdist(packages, "source", "1.0"),
        live.make_own_sdist(packages / "nested" / "deep", "deeper", "1.0"),
    ]
    server = served()
    wanted = ["local", "epoch", "old-name", "source", "deeper"]
    PIP.run(shell, "download", server.simple, "--no-deps", "--dest", tmp_path / "d", *wanted).good()
    assert {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()} == {
        path.name: path.read_bytes() for path in files
    }


def test_pip_resumes_a_broken_download(  # F5, F6, F11
    packages: Path, tmp_path: Path, shell: live.Shell
) -> None:
    installer = pip_since("25.1")
    make_wheel(packages, "big", "1.0", payload=os.urandom(3_000_000))
    app = make_app(packages, disable_fallback=True, cache_dir=tmp_path / "facts")
    cut: list[str] = []

    def fragile(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        """The first whole answer of the wheel breaks off after a third."""
        body: Any = app(environ, start_response)
        if cut or not environ["PATH_INFO"].endswith(".whl"):
            return body
        cut.append(environ["PATH_INFO"])
        begun = b"".join(body)[:1_000_000]
        body.close()
        return [begun]

    with live.in_thread(fragile) as server:
        installer.install(shell, server.simple, tmp_path / "t", "--resume-retries", "3", "big").good()
        fetched = [request for request in server.requests if request.path.endswith(".whl")]
    app.close()
    assert (tmp_path / "t" / "big" / "payload.bin").stat().st_size == 3_000_000
    assert cut and len(fetched) == 2
    assert fetched[1].headers["range"].startswith("bytes=")
    assert fetched[1].headers["range"] != "bytes=0-"
    assert fetched[1].headers["if-range"].startswith('"')


def test_new_file_is_seen_at_once_by_a_client_that_caches_pages(  # P6, P7
    packages: Path, served: Callable[..., live.Recording], shell: live.Shell, tmp_path: Path
) -> None:
    make_wheel(packages, "ours", "1.0")
    server = served()
    UV.install(shell, server.simple, tmp_path / "t", "ours").good()
    make_wheel(packages, "ours", "1.1")
    server.forget()
    UV.install(shell, server.simple, tmp_path / "t", "--upgrade", "ours").good()
    assert live.installed(tmp_path / "t") == {"ours": "1.1"}
    assert any("if-none-match" in request.headers for request in server.requests)


@pytest.mark.parametrize("installer", BOTH, ids=str)
def test_index_url_may_lack_simple(
    installer: Installer, shop: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    installer.install(shell, shop.url, tmp_path / "t", "Needs.Plain").good()
    assert live.installed(tmp_path / "t") == {"Needs.Plain": "1.0", "plain": "1.9"}


def test_pip_takes_us_as_an_extra_index(shop: live.Recording, shell: live.Shell, tmp_path: Path) -> None:  # U5
    theirs = tmp_path / "theirs"
    make_wheel(theirs, "foreign", "3.0", "Requires-Dist: needs-plain")
    with live.in_thread(make_app(theirs, disable_fallback=True, cache_dir=tmp_path / "facts")) as other:
        PIP.install(shell, other.simple, tmp_path / "t", "--extra-index-url", shop.simple, "foreign").good()
        assert "GET /simple/plain/" in other.asked()
    assert live.installed(tmp_path / "t") == {"foreign": "3.0", "Needs.Plain": "1.0", "plain": "1.9"}


def test_uv_takes_us_as_an_extra_index(shop: live.Recording, shell: live.Shell, tmp_path: Path) -> None:  # U5
    theirs = tmp_path / "theirs"
    make_wheel(theirs, "foreign", "3.0", "Requires-Dist: needs-plain")
    with live.in_thread(make_app(theirs, disable_fallback=True, cache_dir=tmp_path / "facts")) as other:
        UV.install(shell, other.simple, tmp_path / "t", "--index", shop.simple, "foreign").good()
    assert live.installed(tmp_path / "t") == {"foreign": "3.0", "Needs.Plain": "1.0", "plain": "1.9"}


@pytest.mark.parametrize("installer", BOTH, ids=str)
def test_packages_page_works_as_find_links(
    installer: Installer, shop: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    links = ("--no-index", "--find-links", shop.url + "packages/")
    installer.install(shell, "http://127.0.0.1:9/", tmp_path / "t", *links, "needs-plain", "local", "epoch").good()
    found = live.installed(tmp_path / "t")
    assert found == {"Needs.Plain": "1.0", "plain": "1.9", "local": "1.0+cpu.1", "epoch": "1!0.1"}


def test_poetry_locks_from_us_alone(shop: live.Recording, shell: live.Shell, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.10,<4"\n'
        'dependencies = ["needs-plain", "broken", "picky"]\n[tool.poetry]\npackage-mode = false\n'
        f'[[tool.poetry.source]]\nname = "ours"\nurl = "{shop.simple}"\npriority = "primary"\n'
    )
    shell.python("-m", "poetry", "lock", cwd=project).good()
    assert locked(project / "poetry.lock") == {"broken": "1.0", "needs-plain": "1.0", "picky": "1.0", "plain": "1.9"}


def test_pdm_locks_from_us_alone(shop: live.Recording, shell: live.Shell, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.10,<4"\n'
        'dependencies = ["needs-plain", "broken", "picky"]\n[tool.pdm]\ndistribution = false\n'
        f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{shop.simple}"\nverify_ssl = false\n'
    )
    (project / ".pdm-python").write_text(sys.executable)
    shell.python("-m", "pdm", "lock", cwd=project).good()
    assert locked(project / "pdm.lock") == {"broken": "1.0", "needs-plain": "1.0", "picky": "1.0", "plain": "1.9"}


def locked(path: Path) -> dict[str, str]:
    """Name → version in a lock file of poetry or pdm, each with a hash of ours."""
    text = path.read_text("utf-8")
    assert "sha256:" in text
    entries = re.findall(r'^\[\[package\]\]\nname = "([^"]+)"\nversion = "([^"]+)"', text, re.MULTILINE)
    return {name.lower().replace(".", "-"): number for name, number in entries}


@pytest.fixture
def guarded(packages: Path, served: Callable[..., live.Recording], tmp_path: Path) -> live.Recording:
    """A server that lets only user ``ann`` list and download."""
    make_wheel(packages, "ours", "1.0", "Requires-Dist: plain")
    make_wheel(packages, "plain", "1.0")
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="p:w%d")
    return served(passwords=passwords, authenticate="update,download,list")


ANN = ("ann", "p%3Aw%25d")


@pytest.mark.parametrize("installer", BOTH, ids=str)
def test_credentials_in_the_address_open_pages_and_files(  # A3, A5, D6
    installer: Installer, guarded: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    said = installer.install(shell, guarded.login(*ANN), tmp_path / "t", "ours").good()
    assert live.installed(tmp_path / "t") == {"ours": "1.0", "plain": "1.0"}
    assert "p%3Aw%25d" not in said


@pytest.mark.parametrize("installer", BOTH, ids=str)
def test_credentials_in_netrc_open_pages_and_files(  # A1: uv looks there only after a 401
    installer: Installer, guarded: live.Recording, shell: live.Shell, tmp_path: Path
) -> None:
    netrc = shell.home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login ann password p:w%d\n")
    netrc.chmod(0o600)
    installer.install(shell, guarded.simple, tmp_path / "t", "ours").good()
    assert live.installed(tmp_path / "t") == {"ours": "1.0", "plain": "1.0"}


@pytest.mark.parametrize("installer", BOTH, ids=str)
@pytest.mark.parametrize("login", [None, ("ann", "wrong")], ids=["nobody", "wrong"])
def test_without_the_right_login_nothing_is_had(  # A1, A2
    installer: Installer,
    login: tuple[str, str] | None,
    guarded: live.Recording,
    shell: live.Shell,
    tmp_path: Path,
) -> None:
    index = guarded.login(*login) if login else guarded.simple
    said = installer.install(shell, index, tmp_path / "t", "ours").bad()
    assert ("401 Unauthorized" if installer is UV else "No matching distribution found for ours") in said
    assert not any("/packages/" in asked for asked in guarded.asked())


def test_open_list_with_protected_downloads_lets_pip_look_and_not_fetch(  # A5, D6
    packages: Path, served: Callable[..., live.Recording], shell: live.Shell, tmp_path: Path
) -> None:
    make_wheel(packages, "ours", "1.0")
    server = served(passwords=live.write_htpasswd(tmp_path / "htpasswd", ann="pw"), authenticate="update,download")
    said = PIP.install(shell, server.simple, tmp_path / "t", "ours").bad()
    assert "401 Client Error: a user name and password are needed here" in said
    PIP.install(shell, server.login("ann", "pw"), tmp_path / "t", "ours").good()
    assert live.installed(tmp_path / "t") == {"ours": "1.0"}


def test_command_line_serves_several_folders(tmp_path: Path, shell: live.Shell) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    make_wheel(first, "ours", "1.0", "Requires-Dist: plain")
    make_wheel(second / "plain", "plain", "1.0")
    make_sdist(second, "unused", "1.0")
    with live.serve("-v", packages=[first, second]) as server:
        PIP.install(shell, server.simple, tmp_path / "t", "ours").good()
        assert live.installed(tmp_path / "t") == {"ours": "1.0", "plain": "1.0"}
        assert "GET /simple/ours/" in server.log()
