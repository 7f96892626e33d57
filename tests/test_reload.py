"""The file of settings is read again while the server runs: nothing asked meanwhile fails, and nothing leaks."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import live
import pytest
from builders import make_wheel
from wsgi_client import Client

from pypiserver_lite import ConfigError, make_app
from pypiserver_lite.cli.serve import Again
from pypiserver_lite.config.file import FILENAME
from pypiserver_lite.config.load import of_file
from pypiserver_lite.config.settings import SERVER_KEYS
from pypiserver_lite.web import Front
from pypiserver_lite.web.front import FIXED

SERVERS = [
    pytest.param(name, workers, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed"))
    for name, workers in (("waitress", 1), ("granian", 1), ("granian", 2), ("gunicorn", 1), ("gunicorn", 2))
]
WHEEL = "ours-1.0-py3-none-any.whl"


def settings(path: Path, title: str, *more: str) -> Path:
    """A file of settings in which one index is based on another, and whatever else is said."""
    lines = [f'title = "{title}"', "disable_fallback = true", *more]
    lines += ["[index.prod]", 'packages = ["prod"]', f'title = "{title}"']
    lines += ['[index."team/dev"]', 'packages = ["dev"]', 'bases = ["prod"]', f'title = "{title}"']
    staged = path.with_suffix(".new")
    staged.write_text("\n".join(lines) + "\n")
    staged.rename(path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "dev").mkdir()
    make_wheel(tmp_path / "prod", "ours", "1.0", payload=os.urandom(300_000))
    return settings(tmp_path / "index.toml", "zero")


@contextlib.contextmanager
def serving(file: Path, server: str = "waitress", workers: int = 1, **flags: Any) -> Iterator[live.Server]:
    """A server whose settings are those of a file, and to which anybody may upload."""
    flags = {"passwords": ".", "authenticate": ".", "disable_fallback": False, **flags}
    with live.serve(config=file, server=server, workers=workers, **flags) as running:
        yield running


def hang_up(server: live.Server) -> None:
    """Send SIGHUP."""
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)


def api(server: live.Server, **headers: str) -> live.Answer:
    """Have the settings read again over HTTP."""
    return live.ask(server, "/-/api/reload", "POST", b"", **headers)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def title(server: live.Server, path: str = "/prod/") -> str:
    """What an index is called now, by the process that a new connection leads to."""
    found: str = json.loads(live.ask(server, path, Accept="application/json").body)["result"]["title"]
    return found


def everywhere(server: live.Server, wanted: str) -> bool:
    """Whether every process says so, as far as twenty connections tell."""
    return all(title(server) == wanted for _ in range(20))


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_nothing_that_is_asked_fails_while_settings_are_read_again(file: Path, server: str, workers: int) -> None:
    with serving(file, server, workers) as running:

        def keep_asking(over: threading.Event) -> int:
            asked = 0
            with contextlib.closing(http.client.HTTPConnection(running.host, running.port, timeout=20)) as kept:
                while not over.is_set():
                    for path in ("/team/dev/simple/ours/", f"/prod/packages/{WHEEL}", "/prod/", "/simple/"):
                        assert live.ask(running, path).status == 200
                        kept.request("GET", path)
                        answer = kept.getresponse()
                        assert (answer.status, len(answer.read()) > 0) == (200, True)
                        asked += 2
            return asked

        with live.meanwhile(keep_asking, 4) as askers:
            for number in range(20):
                settings(file, f"number {number}", *(['welcome = "missing"'] if number == 7 else []))
                if number % 2:
                    assert api(running).status == (400 if number == 7 else 200)
                else:
                    hang_up(running)
                wanted = f"number {6 if number == 7 else number}"
                until(lambda wanted=wanted: title(running) == wanted)  # type: ignore[misc]
        assert min(asker.result() for asker in askers) > 10
        until(lambda: everywhere(running, "number 19"))


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_a_bad_file_leaves_all_as_it_is_and_is_said_with_its_line(file: Path, server: str, workers: int) -> None:
    with serving(file, server, workers) as running:
        settings(file, "one", "overwritten = true")
        answer = api(running)
        assert answer.status == 400
        where = f"{file}, line 3: overwritten: there is no such setting; did you mean 'overwrite'?"
        assert answer.text == f"the settings stay as they are: {where}\n"
        before = running.log().count(where)
        hang_up(running)
        until(lambda: running.log().count(where) > before)
        file.unlink()
        hang_up(running)
        until(lambda: "the settings stay as they are: --config" in running.log())
        assert everywhere(running, "zero")
        settings(file, "two")
        hang_up(running)
        until(lambda: everywhere(running, "two"))


@pytest.mark.parametrize(("server", "workers"), SERVERS[2::2])
def test_a_process_that_is_started_anew_while_the_file_is_bad_takes_what_is_in_force(
    file: Path, server: str, workers: int
) -> None:
    with serving(file, server, workers) as running:
        settings(file, "one")
        hang_up(running)
        until(lambda: everywhere(running, "one"))
        file.write_text("nonsense")
        begin_anew(running, workers)
        until(lambda: everywhere(running, "one"))


@contextlib.contextmanager
def in_working_folder(folder: Path, server: str, workers: int) -> Iterator[live.Server]:
    """A server that is told of no file, in a folder that may have one; what is served without any is there too."""
    environ = live.bare_environ(folder / "home", PYTHONPATH=str(live.SOURCE))
    make_wheel(folder / "home" / "packages", "default", "1.0")
    command = [sys.executable, "-m", "pypiserver_lite", "run", "--server", server, "--workers", str(workers)]
    command += ["-P", ".", "-a", ".", "--allow-host", "*", "--port", "0", "--cache-dir", str(folder / "cache")]
    command += ["--disable-fallback"]
    with live.spawn(command, environ, r"http://127\.0\.0\.1:(?P<port>[0-9]+)/", folder) as running:
        yield running


def begin_anew(server: live.Server, workers: int) -> None:
    """End one of the processes that answer, and wait until another has come in its place."""
    assert server.process is not None
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    until(lambda: len(children.read_text().split()) == workers)
    before = children.read_text().split()
    os.kill(int(before[-1]), signal.SIGKILL)
    until(lambda: len(children.read_text().split()) == workers and children.read_text().split() != before)
    until(lambda: _answers(server, "/simple/"))


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_a_file_of_the_working_folder_that_is_away_leaves_all_as_it_is(file: Path, server: str, workers: int) -> None:
    found, away = settings(file.with_name(FILENAME), "zero"), file.with_name("away")
    with in_working_folder(file.parent, server, workers) as running:
        found.rename(away)
        answer = api(running)
        assert (answer.status, answer.text) == (
            400,
            f"the settings stay as they are: --config {found}: No such file or directory\n",
        )
        before = running.log().count("the settings stay as they are")
        hang_up(running)
        until(lambda: running.log().count("the settings stay as they are") > before)
        if server != "waitress":
            begin_anew(running, workers)
        assert everywhere(running, "zero")
        away.rename(found)
        settings(found, "one")
        hang_up(running)
        until(lambda: everywhere(running, "one"))


@pytest.mark.parametrize(("server", "workers"), SERVERS[1::2])
def test_what_began_without_a_file_goes_on_without_one(file: Path, server: str, workers: int) -> None:
    with in_working_folder(file.parent, server, workers) as running:
        settings(file.with_name(FILENAME), "zero")
        assert api(running).status == 404
        begin_anew(running, workers)
        pages = [live.ask(running, path).status for path in ("/simple/default/", "/prod/simple/") for _ in range(20)]
        assert pages == [200] * 20 + [404] * 20


def _answers(server: live.Server, path: str = "/prod/") -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return all(live.ask(server, path).status == 200 for _ in range(20))
    return False


def test_sighup_without_a_file_ends_the_server(packages: Path) -> None:
    with live.serve(packages=[packages]) as server:
        assert api(server).status == 403
        hang_up(server)
        assert server.process is not None
        assert server.process.wait(live.STOP_BOUND) == 0


@pytest.mark.parametrize(("server", "workers"), SERVERS[3:])  # the others read in a thread, and end whatever it does
def test_readings_that_wait_are_one_and_none_when_the_server_is_to_end(file: Path, server: str, workers: int) -> None:
    with serving(file, server, workers) as running:
        assert running.process is not None
        until(lambda: everywhere(running, "zero"))
        pipe, right = file.with_name("pipe"), settings(file.with_name("right.toml"), "one")
        os.mkfifo(pipe)
        pipe.replace(file)
        hang_up(running)
        found: list[int] = []

        def is_read() -> bool:
            with contextlib.suppress(OSError):
                found.append(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
            return bool(found)

        until(is_read)
        for _ in range(10):
            hang_up(running)
            time.sleep(0.05)  # or the system would make them one
        running.process.terminate()
        time.sleep(0.2)
        text = right.read_bytes()
        right.replace(file)
        with open(found[0], "wb") as writer:
            writer.write(text)
        assert running.process.wait(live.STOP_BOUND) == 0
        assert running.log().count("the settings were read again") <= 1 + workers


IN_TERMINAL = (
    "import fcntl, os, sys, termios as t; fcntl.ioctl(0, t.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(("server", "workers"), SERVERS[::2])
def test_closing_its_terminal_ends_the_server_but_after_nohup(
    file: Path, server: str, workers: int, ignored: bool
) -> None:
    master, slave = os.openpty()
    command = [sys.executable, "-m", "pypiserver_lite", "run", "--config", str(file), "--port", "0"]
    command += ["--server", server, "--workers", str(workers), "--cache-dir", str(file.parent / "cache")]
    environ = live.bare_environ(file.parent / "home", PYTHONPATH=str(live.SOURCE))
    with (file.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, *(["nohup"] if ignored else []), *command],
            stdin=slave,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environ,
            cwd=file.parent,
        )
    os.close(slave)
    try:
        until(lambda: "serves" in (file.parent / "log").read_text())
        process.send_signal(signal.SIGHUP)
        until(lambda: "the settings were read again" in (file.parent / "log").read_text())
        assert process.poll() is None
        said = len((file.parent / "log").read_bytes())
        os.close(master)
        if ignored:
            until(lambda: b"the settings were read again" in (file.parent / "log").read_bytes()[said:])
            process.terminate()
        assert process.wait(live.STOP_BOUND) == 0
    finally:
        process.kill()
        process.wait()


def test_who_may_update_with_a_login_may_have_them_read_and_nobody_else(file: Path) -> None:
    passwords = live.write_htpasswd(file.parent / "htpasswd", ann="pw")
    login = "Basic YW5uOnB3"
    with serving(file, passwords=passwords, authenticate="update") as server:
        settings(file, "one")
        assert api(server).status == 401
        assert api(server, Authorization="Basic YW5uOm5v").status == 401
        assert api(server, Authorization=login, Origin="http://evil.example").status == 403
        assert live.ask(server, "/-/api/reload", Authorization=login).status in (404, 405)
        assert live.ask(server, "/prod/-/api/reload", "POST", Authorization=login).status in (404, 405)
        assert title(server) == "zero"
        assert api(server, Authorization=login).status == 200
        assert title(server) == "one"
        assert "reload done: from 127.0.0.1 of user 'ann'" in server.log()
    with serving(file, passwords=None, authenticate="update") as server:
        settings(file, "two")
        assert api(server, Authorization=login).status == 403
        assert title(server) == "one"
    app = make_app(file.parent / "prod", passwords=".", authenticate=".", cache_dir=file.parent / "cache")
    with live.in_thread(app) as alone:
        assert api(alone).text == "this server has no file of settings that it could read again\n"


def test_what_cannot_change_while_the_server_runs_is_named(file: Path) -> None:
    port = live.free_port()
    with serving(file, port=port) as server:
        settings(file, "one", "connection_limit = 7", 'log_frmt = "%(message)s"', 'max_upload = "5GB"')
        hang_up(server)
        until(lambda: "connection_limit, log_frmt: not changed while the server runs; restart it" in server.log())
        assert "max_upload" not in server.log()
        assert everywhere(server, "one")
    with serving(file, port=port) as server:
        settings(file, "two", 'max_upload = "6GB"')
        hang_up(server)
        until(lambda: "max_upload: more than 5000000000 bytes are taken after a restart only" in server.log())


def test_of_every_setting_of_the_server_it_is_known_whether_it_may_change_while_that_runs() -> None:
    taken_up = {"server_base_url", "health_endpoint", "allow_host", "sendfile_header", "cache_dir", "cache_size"}
    taken_up |= {"state_dir", "audit_log", "no_download_counts"}
    without_effect = {"config", "backend"}
    assert {*FIXED, *taken_up, *without_effect} == set(SERVER_KEYS)


def test_new_passwords_rights_and_indexes_hold_at_once(file: Path) -> None:
    live.write_htpasswd(file.parent / "htpasswd", ann="pw")
    with serving(file, passwords=None, authenticate=None, disable_fallback=True) as server:
        assert live.ask(server, "/prod/simple/").status == 200
        assert live.ask(server, "/later/simple/").status == 404
        settings(file, "one", 'passwords = "htpasswd"', 'authenticate = ["update", "list"]')
        with file.open("a") as more:
            more.write('[index.later]\nbases = ["team/dev"]\n')
        hang_up(server)
        until(lambda: live.ask(server, "/prod/simple/").status == 401)
        page = live.ask(server, "/later/simple/", Authorization="Basic YW5uOnB3")
        assert (page.status, "ours" in page.text) == (200, True)
        settings(file, "two")
        hang_up(server)
        until(lambda: live.ask(server, "/later/simple/").status == 404)


def test_wrong_logins_of_one_password_file_are_counted_together_for_all_indexes(file: Path) -> None:
    live.write_htpasswd(file.parent / "htpasswd", ann="pw")
    rights = (["list"], ["list", "update"], ["list", "download"])

    def guessed(server: live.Server, name: str) -> list[int]:
        wrong = "Basic " + base64.b64encode(f"ann:{name}".encode()).decode()
        return [live.ask(server, f"/{name}/simple/", Authorization=wrong).status for _ in range(6)]

    settings(file, "one", 'passwords = "htpasswd"')
    with file.open("a") as more:
        more.write("".join(f'[index.i{at}]\nbases = ["prod"]\nauthenticate = {one}\n' for at, one in enumerate(rights)))
    with serving(file, passwords=None, authenticate=None, disable_fallback=True) as server:
        assert guessed(server, "i0") == [401] * 6
        told = guessed(server, "i1")
        assert told[:4] == [401] * 4 and told[-1] == 429
        file.write_text(
            file.read_text() + '[index.new]\nbases = ["prod"]\nauthenticate = ["list", "download", "update"]\n'
        )
        hang_up(server)
        until(lambda: live.ask(server, "/new/simple/").status == 401)
        assert 429 in guessed(server, "new")[:2]


def test_what_is_under_way_ends_as_it_began(file: Path) -> None:
    data = os.urandom(3_000_000)
    with faulty.upstream() as upstream:
        path = upstream.add("big", "big-1.0.tar.gz", data)
        upstream.stored[path].speed = 1e6
        far = [f'[upstream.far]\nurl = "{upstream.url}"', '[index.far]\nupstreams = ["far"]']
        settings(file, "one", *far)
        with serving(file) as server:
            assert live.ask(server, "/far/simple/big/").status == 200

            def fetch(over: threading.Event) -> live.Answer:
                return live.ask(server, "/far/packages/big-1.0.tar.gz")

            def publish(over: threading.Event) -> int:
                wheel = make_wheel(file.parent / "dist", "slow", "1.0", payload=os.urandom(500_000)).read_bytes()
                return _uploads_slowly(server, "/team/dev/", "slow-1.0-py3-none-any.whl", wheel)

            with live.meanwhile(fetch) as (fetching,), live.meanwhile(publish) as (publishing,):
                until(lambda: upstream.count(path) > 0)
                for number in range(3):
                    # Another name for the folder: nothing of the old one is used on.
                    settings(file, f"again {number}", *(far if number < 2 else []))
                    hang_up(server)
                    until(lambda number=number: title(server) == f"again {number}")  # type: ignore[misc]
                assert not fetching.done()
                assert (fetching.result().status, fetching.result().body == data) == (200, True)
                assert publishing.result() == 200
            assert live.ask(server, "/team/dev/simple/slow/").status == 200


def _uploads_slowly(server: live.Server, path: str, filename: str, data: bytes) -> int:
    fields = {":action": "file_upload", "protocol_version": "1", "name": "slow", "version": "1.0"}
    fields |= {"filetype": "bdist_wheel", "pyversion": "py3", "metadata_version": "2.1"}
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = f'--b\r\nContent-Disposition: form-data; name="content"; filename="{filename}"\r\n\r\n'.encode()
    body = b"".join([*parts, head, data, b"\r\n--b--\r\n"])
    with contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=30)) as connection:
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "multipart/form-data; boundary=b")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        for at in range(0, len(body), 50_000):
            connection.send(body[at : at + 50_000])
            time.sleep(0.2)
        return connection.getresponse().status


def _used(server: live.Server) -> tuple[int, int, int]:
    """Threads, descriptors and kB of memory of the server."""
    assert server.process is not None
    place = Path(f"/proc/{server.process.pid}")
    text = (place / "status").read_text()
    found = [int(match[1]) for name in ("Threads", "VmRSS") if (match := re.search(rf"^{name}:\s+(\d+)", text, re.M))]
    return found[0], len(os.listdir(place / "fd")), found[1]


def test_fifty_readings_leave_no_thread_no_descriptor_and_no_memory_behind(file: Path, tmp_path: Path) -> None:
    for number in range(30):
        make_wheel(tmp_path / "prod", f"part-{number}", "1.0")
    with faulty.upstream() as upstream:
        upstream.add("far", "far-1.0.tar.gz", b"far")
        far = [f'[upstream.far]\nurl = "{upstream.url}"', '[index.far]\nupstreams = ["far"]']
        far += ['[index.ruled]\nbases = ["team/dev", "far"]\n[index.ruled.policy]\ndeny = ["x"]\ncooldown = "0s"']
        far += ['licences = ["MIT"]']

        def again(number: int) -> None:
            # Every other time a folder is another one, and what was kept of it is let go.
            settings(file, f"number {number}", *(['hash_algo = "md5"'] if number % 2 else []), *far)
            assert api(server).status == 200
            for path in ("/far/simple/far/", "/team/dev/simple/part-7/", "/prod/", "/prod/search?q=part", "/far/"):
                assert live.ask(server, path).status == 200
            for path in ("/ruled/simple/part-7/", "/ruled/simple/far/"):
                assert live.ask(server, path).status in (200, 404)

        with serving(file) as server:
            for number in range(20):
                again(number)
            threads, descriptors, memory = _used(server)
            for number in range(20, 70):
                again(number)
            until(lambda: _used(server)[:2] <= (threads + 1, descriptors + 2))
            assert _used(server)[2] - memory < 8_000


def test_a_front_that_cannot_be_made_leaves_nothing_open(file: Path) -> None:
    front = make_app(config=file, cache_dir=file.parent / "cache")
    client = Client(front)
    settings(file, "one", 'templates = "missing"')
    with pytest.raises(ConfigError, match="missing"):
        front.reload()
    assert client.get("/prod/", Accept="application/json").json["result"]["title"] == "zero"
    assert client.get("/team/dev/simple/ours/").status == 200
    settings(file, "two")
    assert front.hangup()
    assert client.get("/prod/", Accept="application/json").json["result"]["title"] == "two"
    assert isinstance(front, Front)
    front.close()


def test_another_process_may_be_told_all_settings(file: Path) -> None:
    """Where processes are not forked, what makes the application is sent to them."""
    settings(
        file,
        "one",
        '[upstream.far]\nurl = "http://who:secret@127.0.0.1:9/simple/"',
        "[index.far]",
        'upstreams = ["far"]',
    )
    config = of_file(file, {"cache_dir": str(file.parent / "cache")})
    again = pickle.loads(pickle.dumps(Again(["--config", str(file)], config)))
    assert again.config.upstreams["far"].url == config.upstreams["far"].url
    front = Front(lambda: config, again.config)
    assert Client(front).get("/far/", Host="127.0.0.1", Accept="application/json").json["result"]["type"] == "mirror"
    front.close()
