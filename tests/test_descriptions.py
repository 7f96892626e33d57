"""A description costs its asker two seconds at most and the server nothing more, whatever a renderer makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import live
import pytest
from builders import make_wheel
from wsgi_client import Client

from pypiserver_lite import make_app
from pypiserver_lite.errors import Busy
from pypiserver_lite.metadata import About
from pypiserver_lite.web import descriptions
from pypiserver_lite.web.descriptions import LONGEST, Descriptions

T = TypeVar("T")
linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes where Linux shows them")
PLAIN = '<pre class="plain">*words* &lt;b&gt;</pre>'

RENDERERS = {
    "hangs": "import time\ntime.sleep(600)",
    "spins": "while True: pass",
    "minds no alarm": "import signal, time\nsignal.alarm(0)\ntime.sleep(30)",
    "dies": "import os\nos.abort()",
    "raises": "raise RuntimeError",
    "eats": "x = [bytes(10**8) for _ in range(1000)]",
    "talks": "text = 'x' * 10**8",
    "is bent": "return 7",
    "has none": "return None",
}


def renderer(folder: Path, code: str) -> Path:
    """A folder for ``sys.path`` with a renderer that leaves a trace of each call and then does this."""
    package = folder / "renderer" / "readme_renderer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    body = code.replace("\n", "\n    ")
    trace = f"open({str(folder / 'calls')!r}, 'a').write('x')"
    (package / "markdown.py").write_text(f"def render(text):\n    {trace}\n    {body}\n    return text\n")
    return package.parent


def calls(folder: Path) -> int:
    """How often that renderer was called."""
    return len((folder / "calls").read_text()) if (folder / "calls").exists() else 0


def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a server that embeds Python: no interpreter can be started."""
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    monkeypatch.setattr(sys, "exec_prefix", "/nowhere")


def said(text: str = "*words* <b>", kind: str = "text/markdown") -> About:
    return About(fields={}, description=text, description_type=kind)


def children(pid: int) -> set[int]:
    """Its child processes, those included that ended and that it did not wait for."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found |= {int(child) for child in (task / "children").read_text().split()}
    return found


@linux
@pytest.mark.parametrize("name", RENDERERS)
def test_a_renderer_that_fails_leaves_the_text_and_no_process(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(renderer(tmp_path, RENDERERS[name]))
    shown, before = Descriptions(), children(os.getpid())
    began = time.monotonic()
    assert shown.html(said()) == PLAIN
    assert time.monotonic() - began < 20
    assert shown.html(said()) == PLAIN and calls(tmp_path) == 1  # a failure is remembered
    assert children(os.getpid()) <= before


def test_what_failed_is_tried_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = f"import os\nif os.path.getsize({str(tmp_path / 'calls')!r}) < 2: raise RuntimeError"
    monkeypatch.syspath_prepend(renderer(tmp_path, again))
    now = [1000.0]
    shown = Descriptions(lambda: now[0], seconds=60.0)
    for _ in range(2):
        assert shown.html(said("*words*")) == '<pre class="plain">*words*</pre>' and calls(tmp_path) == 1
    now[0] += 301
    for _ in range(2):
        assert shown.html(said("*words*")) == "*words*" and calls(tmp_path) == 2


def test_of_very_many_that_failed_the_last_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(renderer(tmp_path, "pass"))
    shown = Descriptions(seconds=60.0)
    with monkeypatch.context() as without:
        embedded(without)
        for number in range(5000):
            assert shown.html(said(str(number))).startswith('<pre class="plain">')
    assert shown.html(said("4999")) == '<pre class="plain">4999</pre>'
    assert shown.html(said("0")) == "0"  # tried again


def test_a_page_shows_what_could_be_rendered_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = f"import os\nif os.path.getsize({str(tmp_path / 'calls')!r}) < 2: raise RuntimeError"
    monkeypatch.syspath_prepend(renderer(tmp_path, f"{again}\nreturn '<em>words</em>'"))
    now = [1000.0]
    monkeypatch.setattr(descriptions, "Descriptions", lambda: Descriptions(lambda: now[0], seconds=60.0))
    make_wheel(tmp_path / "p", "aa", "1.0", "Description-Content-Type: text/markdown", body="*words*")
    app = make_app(tmp_path / "p", cache_dir=tmp_path / "c", disable_fallback=True)
    client = Client(app)
    for _ in range(2):
        assert '<pre class="plain">*words*</pre>' in client.get("/project/aa/").text
    now[0] += 301
    assert "<em>words</em>" in client.get("/project/aa/").text
    app.site.close()


@linux
def test_a_renderer_has_a_gigabyte_of_memory_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "try: bytes(1100 * 2**20)\nexcept MemoryError: return 'bounded'"
    monkeypatch.syspath_prepend(renderer(tmp_path, code))
    assert Descriptions(seconds=60.0).html(said()) == "bounded"


@linux
def test_a_renderer_ends_even_when_the_server_is_gone(tmp_path: Path) -> None:
    path = renderer(
        tmp_path, f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}\\n')\ntime.sleep(600)"
    )
    code = (
        "from pypiserver_lite.metadata import About\n"
        "from pypiserver_lite.web.descriptions import Descriptions\n"
        "Descriptions(seconds=600).html(About(fields={}, description='x', description_type='text/markdown'))"
    )
    environ = {"PYTHONPATH": os.pathsep.join([str(path), str(live.SOURCE)])}
    with subprocess.Popen([sys.executable, "-c", code], env=environ) as server:
        pid = until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        server.kill()
    # Who takes over the children of others may be slow to see their end.
    until(lambda: not runs(Path(f"/proc/{pid}/stat")))


def runs(stat: Path) -> bool:
    """Whether a process goes on."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(found: Callable[[], T]) -> T:
    """What comes of asking until something does."""
    deadline = time.monotonic() + 60
    while not (thing := found()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return thing


def test_a_description_is_rendered_once_for_all_who_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(renderer(tmp_path, "import time\ntime.sleep(0.5)"))
    shown = Descriptions()

    def ask(number: int) -> str | None:
        try:
            return shown.html(said("<p>x</p>"))
        except Busy:
            return None

    with ThreadPoolExecutor(20) as pool:
        assert "<p>x</p>" in set(pool.map(ask, range(20))) <= {"<p>x</p>", None}
    assert ask(0) == "<p>x</p>" and calls(tmp_path) == 1


def test_only_few_are_rendered_at_once_and_who_comes_then_hears_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(renderer(tmp_path, "import time\ntime.sleep(600)"))
    shown, busy = Descriptions(), []

    def ask(number: int) -> None:
        try:
            assert shown.html(said(f"text {number % 10}")).startswith('<pre class="plain">text')
        except Busy:
            busy.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(busy) >= 35 and calls(tmp_path) <= 2


def test_a_long_description_is_shown_as_text_and_says_that_it_is_cut() -> None:
    line = "**Ünï** `code`\n"
    html = Descriptions().html(said(line * 10_000))
    assert html.startswith('<pre class="plain">**Ünï**') and "<b>" not in html
    assert len(html.encode()) < LONGEST + 300 and html.endswith("hold all of it.</p>")
    assert "<strong>" in Descriptions().html(said(line * (LONGEST // len(line.encode()))))
    assert 'class="note"' not in descriptions.plain("x" * LONGEST)


def test_without_the_extra_descriptions_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "readme_renderer.py").write_text("raise ImportError('it is not installed')")
    monkeypatch.syspath_prepend(tmp_path)
    assert Descriptions().html(said()) == PLAIN
    embedded(monkeypatch)
    assert Descriptions().html(said("*other* <b>")).startswith('<pre class="plain">*other*')


@contextmanager
def serving(tmp_path: Path, code: str | None, server: str) -> Iterator[live.Server]:
    """A server with that renderer, or the real one, over three projects; project c's description is another's."""
    for name in ("aa", "bb", "cc"):
        body = "*words* <b>" if name != "cc" else "*other*"
        make_wheel(tmp_path / "p", name, "1.0", "Description-Content-Type: text/markdown", body=body)
    path = [str(live.SOURCE)] if code is None else [str(renderer(tmp_path, code)), str(live.SOURCE)]
    environ = live.bare_environ(tmp_path / "home", PYTHONPATH=os.pathsep.join(path))
    with live.serve(packages=[tmp_path / "p"], env=environ, server=server) as started:
        yield started


SERVERS = pytest.mark.parametrize("server", ["waitress", "gunicorn", "granian"])


def page(server: live.Server, name: str) -> str:
    answer = live.ask(server, f"/project/{name}/", Accept="text/html,*/*")
    assert answer.status == 200
    return answer.text


@linux
@SERVERS
def test_every_server_renders_and_starts_nothing_before(tmp_path: Path, server: str) -> None:
    with serving(tmp_path, None, server) as started:
        assert started.process is not None
        assert renderers(started.process.pid) == set()
        # A machine that is busy with other tests may take too long once.
        assert "<em>words</em>" in page(started, "aa") or "<em>other</em>" in page(started, "cc")
        assert renderers(started.process.pid) == set()


@linux
@SERVERS
def test_on_every_server_a_renderer_that_hangs_costs_nobody_else(tmp_path: Path, server: str) -> None:
    with serving(tmp_path, "import time\ntime.sleep(600)", server) as started:
        assert started.process is not None
        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(page, started, ("aa", "bb", "cc")[number % 3]) for number in range(12)]
            assert live.ask(started, "/simple/aa/").status == 200
            for found in asked:
                assert "&lt;b&gt;" in found.result(30) or "*other*" in found.result(30)
        assert renderers(started.process.pid) == set()
        assert "Traceback" not in started.log()


def renderers(pid: int) -> set[str]:
    """The command lines of its descendants that render; empty ones are of those that ended and nobody waited for."""
    found: set[str] = set()
    for child in children(pid):
        line = Path(f"/proc/{child}/cmdline").read_text()
        found |= renderers(child) | ({line} if not line or "readme.py" in line else set())
    return found


def test_the_start_of_a_server_brings_no_renderer_and_starts_no_process(tmp_path: Path) -> None:
    code = (
        "import sys, subprocess\n"
        "subprocess.Popen = None\n"
        "from pypiserver_lite import make_app\n"
        f"make_app({str(tmp_path)!r}, cache_dir={str(tmp_path / 'c')!r})\n"
        "print(sorted({'readme_renderer', 'docutils', 'nh3'} & set(sys.modules)))"
    )
    environ = {"PYTHONPATH": str(live.SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
