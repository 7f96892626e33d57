"""twine, uv, flit, hatch, poetry and pdm publish to a live server; what is refused is refused in words they show."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import live
import pytest
from builders import make_sdist, make_wheel

pytestmark = pytest.mark.clients

PASSWORD = "open: sesame"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the shared server publishes into."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture(scope="module")
def index(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Server]:
    """One server with user ``ann`` for all tests; each publishes a project of its own."""
    passwords = live.write_htpasswd(tmp_path_factory.mktemp("secret") / "htpasswd", ann=PASSWORD)
    with live.serve("-v", packages=[shelf], passwords=passwords) as server:
        yield server
        said = server.log()
    assert PASSWORD not in said
    assert "Traceback" not in said


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[live.Server, Path]]:
    """A server without a password file, and its folder."""
    folder = tmp_path_factory.mktemp("closed")
    with live.serve(packages=[folder]) as server:
        yield server, folder


Publish = Callable[[live.Shell, Path, str, str, str], live.Ran]
"""Publish the ``dist`` of a project to an address (of the server's root) as a user."""


def twine(shell: live.Shell, project: Path, url: str, user: str, password: str) -> live.Ran:
    files = sorted((project / "dist").iterdir())
    login = ("--username", user, "--password", password)
    options = ("--non-interactive", "--disable-progress-bar", "--repository-url", url)
    return shell.python("-m", "twine", "upload", *options, *login, *files, cwd=project)


def uv(shell: live.Shell, project: Path, url: str, user: str, password: str) -> live.Ran:
    login = ("--username", user, "--password", password) if user else ()
    return shell.uv("publish", "--publish-url", url + "legacy/", "--trusted-publishing", "never", *login, cwd=project)


def flit(shell: live.Shell, project: Path, url: str, user: str, password: str) -> live.Ran:
    login = {"FLIT_INDEX_URL": url, "FLIT_USERNAME": user, "FLIT_PASSWORD": password}
    return shell.python("-m", "flit", "publish", cwd=project, **login)


def hatch(shell: live.Shell, project: Path, url: str, user: str, password: str) -> live.Ran:
    files = sorted((project / "dist").iterdir())
    login = ("--user", user, "--auth", password)
    return shell.python("-m", "hatch", "publish", "--no-prompt", "--repo", url, *login, *files, cwd=project)


def poetry(shell: live.Shell, project: Path, url: str, user: str, password: str) -> live.Ran:
    login = ("--username", user, "--password", password) if user else ()
    where = {"POETRY_REPOSITORIES_OURS_URL": url + "legacy/"}
    return shell.python("-m", "poetry", "publish", "-n", "-r", "ours", *login, cwd=project, **where)


def pdm(shell: live.Shell, project: Path, url: str, user: str, password: str) -> live.Ran:
    login = ("--username", user, "--password", password)
    return shell.python("-m", "pdm", "publish", "--no-build", "--repository", url + "simple/", *login, cwd=project)


CLIENTS: dict[str, Publish] = {"twine": twine, "uv": uv, "flit": flit, "hatch": hatch, "poetry": poetry, "pdm": pdm}
every_client = pytest.mark.parametrize("client", CLIENTS)

MODULE = '"""Ours."""\n__version__ = "1.0"\nTEXT = {text!r}\n'


def make_project(folder: Path, name: str, text: str = "one") -> Path:
    """A project with a wheel and an sdist in ``dist``; `text` changes their bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1.0"\ndescription = "Ours"\nrequires-python = ">=3.8"\n'
        '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n'
    )
    (folder / ".pdm-python").write_text(sys.executable)  # or pdm makes an environment for each project
    (folder / f"{module}.py").write_text(MODULE.format(text=text))
    make_wheel(folder / "dist", name, "1.0", f"Summary: {text}", "Requires-Python: >=3.8", body="Grüße, 世界\n")
    make_sdist(folder / "dist", name, "1.0", f"Summary: {text}", "Requires-Python: >=3.8")
    return folder


def stored(shelf: Path, name: str) -> dict[str, bytes]:
    """The files of a project on the server's disk."""
    return {path.name: path.read_bytes() for path in shelf.rglob(f"{name.replace('-', '_')}*") if path.is_file()}


def built(project: Path) -> dict[str, bytes]:
    """The distributions of a project on the client's disk."""
    return {path.name: path.read_bytes() for path in (project / "dist").iterdir()}


def page(server: live.Server, name: str) -> dict[str, dict[str, Any]]:
    """File name → what the server's page says of it."""
    answer = live.ask(server, f"/simple/{name}/", Accept="application/vnd.pypi.simple.v1+json")
    assert answer.status == 200, answer
    return {file["filename"]: file for file in json.loads(answer.body)["files"]}


def listed(server: live.Server, name: str) -> dict[str, str]:
    """File name → sha256, as the server's page says."""
    return {filename: file["hashes"]["sha256"] for filename, file in page(server, name).items()}


@every_client
def test_published_files_are_kept_to_the_byte_and_never_replaced(
    client: str, index: live.Server, shelf: Path, shell: live.Shell, tmp_path: Path
) -> None:
    # T1–T12, R1, R2, R3, R5, A3, U13: all that these clients do differently.
    name = f"ours-{client}"
    publish = CLIENTS[client]
    project = make_project(tmp_path / "project", name)
    publish(shell, project, index.url, "ann", PASSWORD).good()
    files = built(project)
    assert len(files) == 2
    assert stored(shelf, name) == files
    assert listed(index, name) == {filename: live.sha256(data) for filename, data in files.items()}

    publish(shell, project, index.url, "ann", PASSWORD).good()  # the same bytes again

    make_project(project, name, text="two")
    changed = publish(shell, project, index.url, "ann", PASSWORD)
    assert built(project) != files
    if client == "hatch":  # looks at our page first, and passes over what is there
        assert changed.said.count("already exists") == 2
    else:
        assert "already exists with other content" in changed.bad()
    assert stored(shelf, name) == files


@every_client
def test_wrong_password_is_told_and_stores_nothing(  # A2, R4, R5
    client: str, index: live.Server, shelf: Path, shell: live.Shell, tmp_path: Path
) -> None:
    name = f"wrong-{client}"
    said = CLIENTS[client](shell, make_project(tmp_path / "p", name), index.url, "ann", "guess").bad()
    assert "wrong user name or password" in said
    assert "guess" not in said
    assert not stored(shelf, name)


@pytest.mark.parametrize("client", ["uv", "poetry"])  # the others ask for a name before they ask us
def test_nobody_in_particular_may_not_publish(  # A1
    client: str, index: live.Server, shelf: Path, shell: live.Shell, tmp_path: Path
) -> None:
    name = f"nobody-{client}"
    said = CLIENTS[client](shell, make_project(tmp_path / "p", name), index.url, "", "").bad()
    assert "a user name and password are needed here" in said or "Missing credentials" in said
    assert not stored(shelf, name)


@every_client
def test_without_a_password_file_the_refusal_says_what_to_do(  # A6, R4
    client: str, closed: tuple[live.Server, Path], shell: live.Shell, tmp_path: Path
) -> None:
    server, folder = closed
    said = CLIENTS[client](shell, make_project(tmp_path / "p", "ours"), server.url, "ann", PASSWORD).bad()
    assert "-P FILE" in said
    assert not list(folder.rglob("*.whl")) and not list(folder.rglob("*.tar.gz"))


def test_published_with_twine_installed_with_pip_and_uv(
    index: live.Server, shell: live.Shell, tmp_path: Path
) -> None:  # P6: at once
    project = make_project(tmp_path / "project", "round-trip")
    twine(shell, project, index.url, "ann", PASSWORD).good()
    shell.pip("install", "--index-url", index.simple, "--target", tmp_path / "t", "round-trip").good()
    shell.uv("pip", "install", "--default-index", index.simple, "--target", tmp_path / "u", "round-trip").good()
    assert live.installed(tmp_path / "t") == live.installed(tmp_path / "u") == {"round-trip": "1.0"}


@pytest.mark.parametrize("client", ["twine", "pdm"])  # pdm sends the signature as text: T9
def test_signature_is_kept_beside_its_file(  # Q4, Q5, T9
    client: str, index: live.Server, shelf: Path, shell: live.Shell, tmp_path: Path
) -> None:
    name = f"signed-{client}"
    project = make_project(tmp_path / "project", name)
    wheel = next((project / "dist").glob("*.whl"))
    signature = b"-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n"
    (project / "dist" / f"{wheel.name}.asc").write_bytes(signature)
    CLIENTS[client](shell, project, index.url, "ann", PASSWORD).good()
    assert stored(shelf, name)[wheel.name] == wheel.read_bytes()
    if client == "twine":
        assert stored(shelf, name) == built(project)
        assert live.ask(index, f"/packages/{wheel.name}.asc").body == signature
        assert {filename: file["gpg-sig"] for filename, file in page(index, name).items()} == {
            filename: filename == wheel.name for filename in built(project) if not filename.endswith(".asc")
        }
    assert f"{wheel.name}.asc" not in listed(index, name)


ATTESTATION = {
    "version": 1,
    "verification_material": {"certificate": "bm9uZQ==", "transparency_entries": [{}]},
    "envelope": {"statement": "e30=", "signature": "c2ln"},
}


@pytest.mark.parametrize("client", ["twine", "uv"])  # uv sends them after the file
def test_attestations_are_kept_as_provenance(  # Q3, T2
    client: str, index: live.Server, shell: live.Shell, tmp_path: Path
) -> None:
    name = f"attested-{client}"
    project = make_project(tmp_path / "project", name)
    files = sorted((project / "dist").iterdir())
    for path in files:
        path.with_name(f"{path.name}.publish.attestation").write_text(json.dumps(ATTESTATION))
    if client == "uv":
        uv(shell, project, index.url, "ann", PASSWORD).good()
    else:
        options = ("--attestations", "--non-interactive", "--disable-progress-bar", "--repository-url", index.url)
        login = ("--username", "ann", "--password", PASSWORD)
        everything = sorted((project / "dist").iterdir())
        shell.python("-m", "twine", "upload", *options, *login, *everything, cwd=project).good()
    assert listed(index, name) == {path.name: live.sha256(path) for path in files}
    for path in files:
        provenance = json.loads(live.ask(index, f"/packages/{path.name}.provenance").body)
        assert provenance["version"] == 1
        assert [bundle["attestations"] for bundle in provenance["attestation_bundles"]] == [[ATTESTATION]]


def test_uv_check_url_skips_the_same_bytes_and_stops_at_others(  # P6, J5
    index: live.Server, shelf: Path, shell: live.Shell, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "project", "checked")
    login = ("--username", "ann", "--password", PASSWORD)
    command = ("publish", "--publish-url", index.url, "--check-url", index.simple, *login)
    shell.uv(*command, cwd=project).good()
    files = stored(shelf, "checked")
    assert files == built(project)
    assert "already exists, skipping" in shell.uv(*command, cwd=project).good()
    make_project(project, "checked", text="two")
    assert re.search("(do|does) not match", shell.uv(*command, cwd=project).bad())
    assert stored(shelf, "checked") == files


@pytest.mark.parametrize("client", ["poetry", "pdm"])
def test_skip_existing_passes_over_what_is_there(  # R2
    client: str, index: live.Server, shelf: Path, shell: live.Shell, tmp_path: Path
) -> None:
    name = f"skipped-{client}"
    project = make_project(tmp_path / "project", name)
    CLIENTS[client](shell, project, index.url, "ann", PASSWORD).good()
    files = stored(shelf, name)
    make_project(project, name, text="two")
    make_wheel(project / "dist", name, "1.0", tags="cp311-cp311-linux_x86_64")  # V8
    options = ("--skip-existing", "--username", "ann", "--password", PASSWORD)
    if client == "poetry":
        where = {"POETRY_REPOSITORIES_OURS_URL": index.url}
        shell.python("-m", "poetry", "publish", "-n", "-r", "ours", *options, cwd=project, **where).good()
    else:
        shell.python("-m", "pdm", "publish", "--no-build", "--repository", index.url, *options, cwd=project).good()
    after = stored(shelf, name)
    assert {filename: after[filename] for filename in files} == files
    assert len(after) == 3


def test_overwrite_lets_twine_replace_a_file(shell: live.Shell, tmp_path: Path) -> None:  # R7, F16
    folder = tmp_path / "packages"
    folder.mkdir()
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann=PASSWORD)
    project = make_project(tmp_path / "project", "ours")
    with live.serve(packages=[folder], passwords=passwords, overwrite=True) as server:
        twine(shell, project, server.url, "ann", PASSWORD).good()
        first = listed(server, "ours")
        make_project(project, "ours", text="two")
        twine(shell, project, server.url, "ann", PASSWORD).good()
        assert stored(folder, "ours") == built(project)
        second = listed(server, "ours")
    assert second == {filename: live.sha256(data) for filename, data in built(project).items()}
    assert not set(first.values()) & set(second.values())


def test_refusal_of_a_bad_file_reaches_the_eye(  # V4, R4: twine shows the reason phrase alone
    index: live.Server, shelf: Path, shell: live.Shell, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    liar = make_wheel(project / "dist", "liar", "1.0")
    liar.rename(liar.with_name("liar-2.0-py3-none-any.whl"))
    said = uv(shell, project, index.url, "ann", PASSWORD).bad()
    assert "status code 400" in said
    assert re.search(r"\b1\.0\b", said) and re.search(r"\b2\.0\b", said), said
    assert not stored(shelf, "liar")
