"""Serials, by which mirrors see what changed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import forms
import pytest
from builders import make_wheel
from mirrored import JSON, MOMENT, mirrored_packages, mirroring_client  # noqa: F401 - fixtures
from policed import DAY, Clock, Nobody, a_project, governed
from wsgi_client import Client

from pypiserver_lite import make_app
from pypiserver_lite.config.load import of_file
from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder
from pypiserver_lite.index import Index
from pypiserver_lite.model import SERIALS_SINCE
from pypiserver_lite.web import Front


def serial(client: Client, path: str = "/simple/") -> int:
    """What a page says, in its header."""
    return int(client.get(path, Accept=JSON).headers["X-PyPI-Last-Serial"])


def test_a_serial_grows_with_every_change_and_is_the_same_everywhere(packages: Path, tmp_path: Path) -> None:
    now = time.time() + 10
    folders = [Folder([packages], Memory(None)) for _ in range(2)]
    subfolder = packages / "sub"

    def grown(before: int) -> int:
        nonlocal now
        while time.time() < now - 8.9:  # a second has passed since the last change
            time.sleep(0.05)
        now = time.time() + 10
        after = {folder.state(now).serial for folder in (*folders, Folder([packages], Memory(None)))}
        assert len(after) == 1, "processes that began earlier and later say the same"
        assert after.pop() > before
        return folders[0].state(now).serial

    last = grown(0)
    assert folders[0].state(now) is folders[0].state(now)
    (packages / "ours_thing-2.0-py3-none-any.whl").unlink()
    last = grown(last)
    subfolder.mkdir()
    shutil.copy2(packages / "other-1.0-py3-none-any.whl", subfolder / "other-2.0-py3-none-any.whl")
    last = grown(last)
    shutil.rmtree(subfolder)
    last = grown(last)
    folders[0].remove("other", "1.0")  # type: ignore[arg-type]
    grown(last)
    for folder in folders:
        folder.close()


def test_who_reads_within_the_second_of_a_change_reads_again(packages: Path) -> None:
    folder = Folder([packages], Memory(None))
    began = time.time()
    during = folder.state(began)
    assert folder.state(began + 1).serial == during.serial
    after = folder.state(began + 10)
    assert after.serial == during.serial + 1 and after is not during
    assert folder.state(began + 100) is after
    # A change within the same second, too late for whoever read `during`.
    make_wheel(packages, "ours-thing", "3.0")
    assert folder.project("ours-thing") is not None  # type: ignore[arg-type]
    assert folder.state(began + 200).serial > during.serial


def test_our_own_change_is_another_state_before_the_folder_is_looked_at_again(packages: Path) -> None:
    now = [0.0]
    folder = Folder([packages], Memory(None), clock=lambda: now[0])
    before, now[0] = folder.state(), 0.0
    folder.remove("other", "1.0")  # type: ignore[arg-type]
    assert folder.state() is not before
    folder.close()


def test_what_settings_and_policies_change_is_another_serial_that_never_falls(tmp_path: Path) -> None:
    file = tmp_path / "index.toml"
    make_wheel(tmp_path / "packages", "acme", "1.0")
    make_wheel(tmp_path / "more", "other", "1.0")
    base = 'cache_dir = "cache"\nallow_host = ["*"]\nupstreams = []\npackages = ["packages"]\n'
    more = '[index.more]\npackages = ["more"]\n'

    def second(path: Path) -> int:
        return int(path.stat().st_ctime) - SERIALS_SINCE

    def set_later(text: str) -> None:
        last = max(second(file) if file.exists() else 0, second(tmp_path / "packages"), second(tmp_path / "more"))
        while not file.exists() or second(file) <= last + 1:  # a folder's serial is one more once its second is over
            file.write_text(text)
            time.sleep(0.1)

    set_later(base)
    fronts = [Front(load=lambda: of_file(file, {})) for _ in range(2)]
    last = 0
    try:
        for text in (base + more, f'{base}bases = ["more"]\n{more}', base, f'{base}[policy]\ndeny = ["acme"]\n'):
            set_later(text)
            for front in fronts:
                front.reload()
            started = make_app(config=file)
            serials = {serial(Client(app)) for app in (*fronts, started)}
            started.close()
            assert serials <= {second(file), second(file) + 1}  # one more once that second is over
            assert last < min(serials)
            last = max(serials)
        make_wheel(tmp_path / "packages", "acme", "2.0")
        assert serial(Client(fronts[0])) >= last
    finally:
        for front in fronts:
            front.close()


def test_who_reads_within_the_second_of_new_settings_reads_again() -> None:
    moment = 1_800_000_000
    index, serial = Index(changed=moment), moment - SERIALS_SINCE
    assert index.state(moment).serial == index.state(moment + 1).serial == serial
    assert [index.state(moment + later).serial for later in (10, 20)] == [serial + 1] * 2


@pytest.mark.parametrize(
    ("said", "age", "later"),
    [
        ({"cooldown": "7d"}, 7 * DAY - 100, 3700),  # the hour after the file is shown
        ({"cooldown": "60s"}, 50, 16),
        ({"deny": ["foo"], "exempt": ["foo until 2027-01-15"]}, 100, DAY),
    ],
)
def test_what_time_changes_is_another_serial_in_every_process(said: dict[str, Any], age: float, later: float) -> None:
    clock, unasked = Clock(), Clock()
    project = a_project(clock, age)
    policy = governed(clock, **said)
    index, other = Index(policy=policy), Index(policy=governed(unasked, **said))
    trimmed, before = policy.trim(project, Nobody()), index.state()
    assert index.state() is before
    unasked.now = clock.now = clock.now + later
    assert policy.trim(project, Nobody()).versions != trimmed.versions
    assert before.serial < index.state().serial == other.state().serial <= clock.now - SERIALS_SINCE
    assert index.state() is index.state()


def test_pages_say_the_serial_that_mirrors_ask_for(client: Client) -> None:
    listed = client.get("/simple/", Accept=JSON)
    last = listed.json["meta"]["_last-serial"]
    assert listed.json["projects"] == [{"name": name, "_last-serial": last} for name in ("other", "ours-thing")]
    # A page that says less than the list is stale to bandersnatch.
    for path in ("/simple/", "/simple/ours-thing/", "/pypi/ours-thing/json", "/pypi/ours-thing/1.0/json"):
        for _ in range(2):
            assert serial(client, path) >= last
    upload = forms.upload(forms.wheel("ours-thing", "4.0"), "ours_thing-4.0-py3-none-any.whl")
    tag = client.get("/simple/other/").headers["ETag"]
    client.post("/", upload, forms.TYPE)
    assert serial(client, "/simple/ours-thing/") >= serial(client, "/simple/other/") >= last
    # Whoever knows another project's page need not read it again.
    assert "X-PyPI-Last-Serial" in client.get("/simple/other/", 304, If_None_Match=tag).headers
