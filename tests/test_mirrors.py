"""Serials, by which mirrors see what changed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import forms
from builders import make_wheel
from mirrored import JSON, MOMENT, mirrored_packages, mirroring_client  # noqa: F401 - fixtures
from wsgi_client import Client

from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder


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
    folder = Folder([packages], Memory(None))
    before = folder.state()
    folder.remove("other", "1.0")  # type: ignore[arg-type]
    assert folder._snapshot.serial.state(0) is not before
    folder.close()


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
