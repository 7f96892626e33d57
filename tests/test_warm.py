"""Fetching ahead: what a requirements file asks for, and how it is read."""

from __future__ import annotations

import time
from pathlib import Path

import builders
import faulty_upstream as faulty
import pytest
from packaging.utils import NormalizedName

from pypiserver_lite.errors import ConfigError
from pypiserver_lite.index import Index
from pypiserver_lite.jobs import warm as tool
from pypiserver_lite.model import LocalFile
from pypiserver_lite.upstream.cache import Cache
from pypiserver_lite.upstream.client import Upstream
from pypiserver_lite.upstream.source import Remote


def test_requirements_are_read_as_pip_writes_them(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("inner>=1\n")
    (tmp_path / "limits.txt").write_text("foo<2\nunused==1\n")
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# comment\n\n-i http://127.0.0.1/simple\n-r more.txt\n--constraint=limits.txt\n"
        "foo>=1.0  # trailing\nbar[extra]==2.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "never; python_version < '3'\nurl @ http://127.0.0.1/x#egg\n-e git+http://127.0.0.1/y#egg=y\n--editable=./z\n",
    )
    found = [str(requirement).replace(" @", "@") for requirement in tool.read_requirements(path)]
    assert found[:4] == ["inner>=1", "foo<2,>=1.0", "bar[extra]==2.0", "url@ http://127.0.0.1/x#egg"]
    assert found[4:] == ["-e git+http://127.0.0.1/y#egg=y", "--editable=./z"]
    assert [event.outcome for event in tool.warm(Index(), tool.read_requirements(path)[3:])] == ["skipped"] * 3


@pytest.mark.parametrize("text", ["not a requirement\n", "-r requirements.txt\n", "-r none.txt\n", "\xff"])
def test_a_requirements_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="\\.txt"):
        tool.read_requirements(path)


def test_warming_fetches_what_this_python_would_install(tmp_path: Path) -> None:
    with faulty.upstream() as server:
        for version in ("1.0", "2.0", "3.0rc1"):
            wheel = builders.make_wheel(tmp_path / "w", "foo", version)
            server.add("foo", wheel.name, wheel.read_bytes())
            other = f"foo-{version}-cp27-none-win32.whl"
            server.add("foo", other, version.encode())
            server.add("foo", f"foo-{version}.tar.gz", version.encode())
        server.add("foo", "foo-2.1.tar.gz", b"new", yanked=True)
        server.add("foo", "foo-2.2.tar.gz", b"newer", requires_python="<3")
        server.add("bar", "bar-1.0.tar.gz", b"bar")
        remote = Remote(Upstream(server.url), mode="cache", cache=Cache(tmp_path / "c"))
        (tmp_path / "r.txt").write_text("foo\nbar==1.0\nbar==9\nnone\n")
        wanted = tool.read_requirements(tmp_path / "r.txt")
        events = list(tool.warm(remote, wanted))
        assert [(event.subject, event.outcome) for event in events] == [
            ("foo", "chosen"),
            ("bar==1.0", "chosen"),
            ("bar==9", "failed"),
            ("none", "failed"),
            ("foo-2.0-py3-none-any.whl", "fetched"),
            ("bar-1.0.tar.gz", "fetched"),
        ]
        assert [event.done for event in events] == [1, 2, 3, 4, 5, 6]
        assert events[-1].total == 6
        assert all(not path.endswith((".tar.gz", "win32.whl")) or "bar" in path for path in server.paths())
        time.sleep(0.2)
        again = list(tool.warm(remote, wanted))
        assert [event.outcome for event in again[-2:]] == ["cached", "cached"]
        every = list(tool.warm(remote, tool.read_requirements(tmp_path / "r.txt")[:1], every=True))
        assert len(every) == 1 + 3
    offline = Remote(Upstream(server.url), mode="cache", cache=Cache(tmp_path / "c"), ttl=0)
    content = offline.open(NormalizedName("bar"), "bar-1.0.tar.gz")
    assert isinstance(content, LocalFile)
    assert content.path.read_bytes() == b"bar"
