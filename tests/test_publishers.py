"""A project's page tells who published a file and when, of what is on record and is still that file."""

from __future__ import annotations

import re
import time
from pathlib import Path

import forms
import live
import pytest
from builders import make_wheel

ANN = {"Authorization": "Basic YW5uOnB3"}
WHEEL = "ours-1.0-py3-none-any.whl"
BY_ANN = r'<time datetime="20\d\d-\d\d-\d\dT[0-9:]{8}\+00:00">\d\d \w{3} 20\d\d, \d\d:\d\d UTC</time> by <bdi>ann</bdi>'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Settings of an index, one that is based on it, and one that is based on it though it is closed to its readers."""
    live.write_htpasswd(tmp_path / "htpasswd", ann="pw")
    for name in ("dev", "closed"):
        (tmp_path / name).mkdir()
    path = tmp_path / "pypiserver-lite.toml"
    path.write_text(
        'passwords = "htpasswd"\n[index.dev]\npackages = ["dev"]\npasswords = "htpasswd"\n'
        '[index.closed]\npackages = ["closed"]\npasswords = "htpasswd"\nauthenticate = "update,list"\n'
        '[index.top]\nbases = ["dev", "closed"]\n'
    )
    return path


def page(server: live.Server, index: str, name: str = "ours") -> str:
    return live.ask(server, f"/{index}/project/{name}/", Authorization=ANN["Authorization"]).text


def test_who_published_a_file_stands_on_its_page_from_the_next_request_on(file: Path) -> None:
    with live.serve(config=file, disable_fallback=None) as server:
        make_wheel(file.parent / "dev", "dropped")
        make_wheel(file.parent / "dev", "ours", "0.9")
        assert "UTC</time> by" not in page(server, "dev")
        assert forms.post(server, forms.upload(forms.wheel(), WHEEL), "/dev/", **ANN).status == 200
        for index in ("dev", "top"):
            for _ in range(2):
                assert len(re.findall(BY_ANN, page(server, index))) == 1
            assert "UTC</time> by" not in page(server, index, "dropped")
        make_wheel(file.parent / "dev", payload=b"by hand")
        assert WHEEL in page(server, "dev") and "UTC</time> by" not in page(server, "dev")


def test_names_of_a_closed_base_are_told_to_its_own_readers_alone(file: Path) -> None:
    with live.serve(config=file, disable_fallback=None) as server:
        assert forms.post(server, forms.upload(forms.wheel(), WHEEL), "/closed/", **ANN).status == 200
        assert re.search(BY_ANN, page(server, "closed"))
        assert WHEEL in page(server, "top") and "ann" not in page(server, "top")


def test_a_page_is_shown_though_the_records_cannot_be_read(file: Path) -> None:
    with live.serve(config=file, disable_fallback=None) as server:
        assert forms.post(server, forms.upload(forms.wheel(), WHEEL), "/dev/", **ANN).status == 200
        (file.parent / "dev" / ".pypiserver-lite" / "records.sqlite3").rename(file.parent / "away")
        until = time.monotonic() + 30
        while "UTC</time> by" in page(server, "dev"):
            assert time.monotonic() < until
        assert WHEEL in page(server, "dev")
        assert forms.post(server, forms.action("yank", name="ours", version="1.0"), "/dev/", **ANN).status == 503
        assert live.ask(server, "/dev/simple/ours/").status == 200
