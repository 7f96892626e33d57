"""The command line: every mistake is one clear line and exit code 2; every verb does what it says."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import bottle
import live
import pytest
import requests
from builders import make_wheel

from pypiserver_lite import make_app, site
from pypiserver_lite.cli.remarks import remarks
from pypiserver_lite.config import load, settings, values
from pypiserver_lite.errors import ConfigError

ROOT = Path(__file__).parents[1]


def run(
    *words: object, cwd: Path, env: dict[str, str] | None = None, text: str = ""
) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYPISERVER_LITE_")}
    return subprocess.run(
        [sys.executable, "-m", "pypiserver_lite", *map(str, words)],
        cwd=cwd,
        env={
            **kept,
            "PYTHONPATH": str(ROOT),
            "HOME": str(cwd / "home"),
            "XDG_CACHE_HOME": str(cwd / "cache"),
            **(env or {}),
        },
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,  # no terminal either
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_wheel(tmp_path / "packages", "ours", "1.0")
    for name in ("serve", "update", "updat", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken.tpl").write_text("<p>fine</p>\n% if\n")
    (tmp_path / "failing.tpl").write_text("<p>{{URL}}</p>\n\n{{no_such_variable}}\n")
    return tmp_path


OURS = (
    *("/", "/simple/", "/simple", "/simple/health", "/packages/health", "/search", "/project/x", "/pypi/x/json"),
    *("/x/json", "/robots.txt", "/-/style.css", "/RPC2"),
)
"""Paths that have another use."""


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["run", "--no-such-flag", "packages"], "--no-such-flag"),
        (["--no-such-flag"], "--no-such-flag"),
        (["run", "no-such-folder"], "no-such-folder"),
        (["run"], "packages"),
        (["run", "broken.tpl"], "broken.tpl"),
        (["run", "-p", "x", "packages"], "--port"),
        (["run", "-p", "70000", "packages"], "--port"),
        (["run", "-p"], "-p"),
        (["run", "-P", "no-such-file", "packages"], "no-such-file"),
        (["run", "-P", "packages", "packages"], "packages"),
        (["run", "-P", ".", "packages"], "-a ."),
        (["run", "-a", ".", "packages"], "-P ."),
        (["run", "-a", "download", "packages"], "-P FILE"),
        (["run", "-a", "fly", "packages"], "--authenticate"),
        (["run", "--hash-algo", "crc", "packages"], "--hash-algo"),
        (["run", "--fallback-url", "ftp://example.test/", "packages"], "--fallback-url"),
        (["run", "--server", "guess", "packages"], "--server"),
        (["run", "--allow-host", "http://index.test/", "packages"], "--allow-host"),
        (["run", "--allow-host", "index.test:8080", "packages"], "--allow-host"),
        (["run", "--backend", "fast-dir", "packages"], "--backend"),
        (["run", "--server-base-url", "ftp://x/", "packages"], "--server-base-url"),
        (["run", "--server-base-url", "/../x", "packages"], "--server-base-url"),
        (["run", "--private", "[", "packages"], "--private"),
        (["run", "--private", "acme/*", "packages"], "--private"),
        (["run", "--private", "", "packages"], "--private: it is empty"),
        (["run", "--threads", "1000000", "packages"], "--threads: a number of threads lies between 1 and 1000"),
        (["run", "x" * 300], "reached"),
        (["run", "--health-endpoint", "health", "packages"], "--health-endpoint"),
        *((["run", "--health-endpoint", path, "packages"], "--health-endpoint") for path in OURS),
        (["run", "--welcome", "no-such-page.tpl", "packages"], "no-such-page.tpl"),
        (["run", "--welcome", "broken.tpl", "packages"], "broken.tpl, line 2"),
        (["run", "--welcome", "failing.tpl", "packages"], "failing.tpl, line 3"),
        (["run", "--templates", "no-such-templates", "packages"], "no-such-templates"),
        (["run", "--log-file", "packages", "packages"], "--log-file"),
        (["run", "--log-req-frmt", "%(odd", "packages"], "--log-req-frmt"),
        (["run", "--log-frmt", "%(nonsense)s", "packages"], "--log-frmt"),
        (["run", "--log-frmt", "%(message)d", "packages"], "--log-frmt"),
        (["run", "--cache-control", "-1", "packages"], "--cache-control"),
        (["run", "--max-upload", "much", "packages"], "--max-upload"),
        (["run", "--host", "no such host", "packages"], "--host"),
        (["passwd"], "FILE"),
        (["passwd", "missing/file", "ann", "--stdin"], "missing"),
        (["passwd", "htpasswd", "nobody", "--delete"], "htpasswd"),
        (["passwd", "htpasswd", "ann"], "--stdin"),  # without a terminal
        (["serve", "packages"], "run"),
        (["help"], "--help"),
        (["update"], "./update"),
        (["updat", "packages"], "./updat"),
        (["-v", "serve"], "run"),
        (["--port", "8080", "cahce"], "cache"),
        (["rnu", "packages"], "did you mean 'pypiserver-lite run'"),
        (["list"], "/simple/"),
        (["remove", "ours"], "yank"),
        (["rm", "ours"], "yank"),
        (["search", "ours"], "/search"),
        (["upload", "ours-1.0.tar.gz"], "twine upload"),
        (["install", "ours"], "pip install"),
        (["adduser", "ann"], "passwd"),
        (["version"], "--version"),
        (["yank", "ours"], "required: VERSION; see"),
        (["names"], "{list,release}"),
        (["cache", "sow"], "'show'"),
        (["run", "--prot", "8080", "packages"], "did you mean --port"),
        (["--prot", "8080", "packages"], "did you mean --port"),
        (["yank", "ours", "1.0", "no-such-folder"], "no-such-folder"),
    ],
)
def test_a_wrong_command_is_one_line_that_names_the_fault(folder: Path, words: list[str], named: str) -> None:
    done = run(*words, cwd=folder, text="secret\n")
    assert done.returncode == 2, done
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


@contextlib.contextmanager
def ordinary() -> Iterator[None]:
    """Without the rights of root, who may read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_folder_that_cannot_be_reached_is_said(folder: Path) -> None:
    config = load.from_settings({"packages": folder / "packages", "cache_dir": folder / "cache"})
    folder.chmod(0)
    try:
        with ordinary(), pytest.raises(ConfigError, match=r"packages.*cannot be reached"):
            site.build_folder(config)
    finally:
        folder.chmod(0o700)


def test_what_is_accepted_without_effect_or_may_not_be_meant_is_a_line_in_the_log(folder: Path) -> None:
    templates = folder / "templates"
    templates.mkdir()
    for name in ("projct.tpl", "about.tpl"):
        (templates / name).write_text("<p>x</p>")
    with live.serve(
        packages=[folder / "packages"],
        server="wsgiRef",
        backend="cached-dir",
        fallback_url="http://ann:secret@mirror.example.test/pypi",
        fallback_mode="proxy",
        templates=templates,
        log_file=folder / "log",
        log_req_frmt="%(REQUEST_METHOD)s %(bottle.request)s %(nonsense)s",
        log_res_frmt="%(status)s %(ms)d",
    ) as server:
        assert live.ask(server, "/simple/ours/").status == 200
        log = server.log()
    lines = [line for line in log.splitlines() if "|WARNING|" in line]
    said = ("nonsense", "--server wsgiref", "--backend cached-dir", "--fallback-url", "projct")
    for line, named in zip(lines, said, strict=True):
        assert named in line
    assert "project.tpl" in lines[4] and "secret" not in log
    assert set(lines) <= set((folder / "log").read_text().splitlines())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], []),
        (["--disable-fallback"], []),
        (["--fallback-url", "http://x.test/simple/", "--fallback-mode", "cache", "--cache-ttl", "5"], []),
        (["--fallback-proxy", "http://x.test:1", "--cache-ttl", "5"], ["--cache-ttl, --fallback-proxy"]),
        (["--disable-fallback", "--fallback-url", "http://x.test/"], ["--fallback-url"]),
        (["--disable-fallback", "--fallback-mode", "proxy", "--netrc", "file"], ["--fallback-mode, --netrc"]),
    ],
)
def test_options_for_an_upstream_that_is_not_asked_are_said(words: list[str], said: list[str]) -> None:
    found = list(remarks(load.load(load.make_parser("", ""), words, {})))
    assert [remark.partition(":")[0] for remark in found] == said


def test_every_server_of_bottle_and_pypiserver_is_accepted() -> None:
    names = {*bottle.server_names, "auto", "cherrypy", "gevent", "gunicorn", "paste", "twisted", "wsgiref"}
    for name in names:
        assert load.from_settings({"server": name}).server.server == name.lower()


def test_options_may_stand_before_the_verb_and_the_verb_may_be_left_out(folder: Path) -> None:
    make_wheel(folder / "update", "ours", "1.0")
    for line in (
        "-v run --port 0 packages",
        "--host 127.0.0.1 run --port 0 packages",
        "--port 0 packages",
        "-v --port 0 packages",
        "--port 0 -- update",
        "--port 0 ./update",
    ):
        command = [sys.executable, "-m", "pypiserver_lite", *line.split()]
        environ = live.bare_environ(folder / "home", PYTHONPATH=str(ROOT))
        with live.spawn(command, environ, r"http://127\.0\.0\.1:(?P<port>[0-9]+)/", folder) as server:
            assert live.ask(server, "/simple/ours/").status == 200
    # What an option takes is no verb, though it be called like one.
    shown = run("--cache-dir", "run", "cache", "show", cwd=folder)
    assert shown.returncode == 0 and str(folder / "run") in shown.stdout


@pytest.mark.parametrize(
    ("base", "shown"), [("https://index.example.test/a/py", "https://index.example.test"), ("a/py/", "")]
)
def test_the_index_stands_under_its_base_url_too(folder: Path, base: str, shown: str) -> None:
    with live.serve("-P", ".", "-a", ".", packages=[folder / "packages"], server_base_url=base) as server:
        for path in ("/a/py/", "/"):  # as it comes from the outside, or with what a proxy left of it
            assert f"{shown or server.url.rstrip('/')}/a/py/simple/" in live.ask(server, path).text
            assert live.ask(server, f"{path}simple/ours/").status == 200
            assert live.ask(server, f"{path}health").status == 200
        assert live.ask(server, "/a/py").headers["location"] == "py/"
        assert live.ask(server, "/a/python/").status == 404
        page = live.ask(server, "/a/py/simple/ours/").text
        assert live.ask(server, urljoin("/a/py/simple/ours/", re.findall('href="([^"#]+)', page)[-1])).status == 200
        fields = {":action": "remove_pkg", "name": "ours", "version": "1.0"}
        assert requests.post(f"{server.url}a/py/", data=fields, timeout=20).status_code == 200
        assert live.ask(server, "/a/py/simple/ours/").status == 404


@pytest.mark.parametrize("base", ["/packages", "/pypi", "/simple"])
def test_a_path_that_a_proxy_took_away_is_not_looked_for_again(folder: Path, base: str) -> None:
    with live.serve(packages=[folder / "packages"], server_base_url=base, trusted_proxy="127.0.0.1") as server:
        page = live.ask(server, "/simple/ours/", X_Forwarded_Prefix=base)
        link = urljoin("/simple/ours/", re.findall('href="([^"#]+)', page.text)[-1])
        assert link.startswith("/packages/")
        assert live.ask(server, link, X_Forwarded_Prefix=base).status == 200
        assert live.ask(server, f"{base}{link}").status == 200


def test_quiet_is_quiet(folder: Path) -> None:
    environ = live.bare_environ(folder / "home", PYTHONPATH=str(ROOT))
    port = live.free_port()
    command = [sys.executable, "-m", "pypiserver_lite", "run", "-q", "-p", str(port), "packages"]
    with live.spawn(command, environ, "", folder, port) as server:
        until = time.monotonic() + 30
        answer = None
        while answer is None:
            assert time.monotonic() < until, server.log()
            with contextlib.suppress(OSError):
                answer = live.ask(server, "/simple/ours/")
        assert answer.status == 200
        assert live.ask(server, "/simple/!/").status == 404
        assert server.log() == ""


def test_verbose_says_what_is_wrong_once(folder: Path) -> None:
    with live.serve("-v", packages=[folder / "packages"], disable_fallback=True) as server:
        assert live.ask(server, "/simple/!/").status == 404
        assert live.ask(server, "/", "POST").status == 403
        assert live.ask(server, "/simple/", "POST", b"x" * 100_000).status == 403
        (folder / "packages").rename(folder / "gone")
        until = time.monotonic() + 30
        while live.ask(server, "/simple/nobodys/").status != 503:
            assert time.monotonic() < until
        (folder / "gone").rename(folder / "packages")
        said = [line.split("|", 4)[1:] for line in server.log().splitlines() if "|" in line]
    refusals = [(level, text) for _, level, _, text in said if re.match("[45]", text)]
    assert [(level, text[:40]) for level, text in refusals] == [
        ("INFO", "404 Not Found GET /simple/!/: no such pr"),
        ("INFO", "403 Forbidden POST /: uploads are switch"),
        ("INFO", "403 Forbidden POST /simple/: uploads are"),
        ("ERROR", "503 Service Unavailable GET /simple/nobo"),
    ]


def test_a_port_in_use_is_said(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("run", "-p", port, "packages", cwd=folder)
    assert done.returncode == 2 and f"{port}" in done.stderr and "--port" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_unknown_variable_names_the_nearest(folder: Path) -> None:
    done = run("run", "packages", cwd=folder, env={"PYPISERVER_LITE_PROT": "1"})
    assert done.returncode == 2 and "PYPISERVER_LITE_PORT" in done.stderr


def test_help_explains_every_verb_and_flag(folder: Path) -> None:
    top = run("--help", cwd=folder)
    assert top.returncode == 0
    verbs = re.findall("^  ([a-z]+) ", top.stdout, re.MULTILINE)
    assert {"run", "check", "config", "passwd", "yank", "unyank", "push", "explain", "names", "cache"} <= set(verbs)
    for verb in verbs:
        text = run(verb, "--help", cwd=folder).stdout
        assert f"\n  pypiserver-lite {verb} " in text  # an example
    text = run("run", "--help", cwd=folder).stdout
    for setting in settings.SETTINGS.values():
        for flag in setting.flags:
            assert flag in text


def test_flags_win_over_variables_and_variables_over_defaults() -> None:
    parser = load.make_parser("", "")
    environ = {"PYPISERVER_LITE_PORT": "1", "PYPISERVER_LITE_HOST": "::1", "PYPISERVER_LITE_PACKAGES": "a:b"}
    config = load.load(parser, ["-p", "2", "-o"], environ)
    assert (config.server.port, config.server.host) == (2, "::1")
    assert (config.index.overwrite, config.index.cache_control) == (True, None)
    assert [path.name for path in config.index.packages] == ["a", "b"]
    assert load.load(parser, ["c"], environ).index.packages == (Path("c"),)


def test_what_kubernetes_says_of_a_service_of_our_name_is_no_setting() -> None:
    address = "tcp://10.96.7.7:8080"
    said = {"SERVICE_HOST": "10.96.7.7", "SERVICE_PORT": "80", "SERVICE_PORT_HTTP": "80", "PORT": address}
    said |= {
        "PORT_80_TCP": address,
        "PORT_80_TCP_PROTO": "tcp",
        "PORT_80_TCP_PORT": "80",
        "PORT_80_TCP_ADDR": "10.96.7.7",
    }
    said |= {f"WEB_{name}": value for name, value in said.items()}
    environ = {f"PYPISERVER_LITE_{name}": value for name, value in said.items()}
    assert load.load(load.make_parser("", ""), [], environ).server.port == 8080
    with pytest.raises(ConfigError, match="PYPISERVER_LITE_PORTS is no setting"):
        load.from_environ({**environ, "PYPISERVER_LITE_PORTS": "80"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_user_without_a_home_needs_none_where_all_is_named() -> None:
    lines = [
        "import os, sys",
        "os.setresuid(54321, 0, 0)",
        "del os.environ['HOME'], os.environ['XDG_CACHE_HOME']",
        "from pypiserver_lite import cli, make_app",
        "make_app('packages', cache_dir='cache', disable_fallback=True).close()",
        "for words in ('packages', '--cache-dir cache', '-P ~/htpasswd --cache-dir cache packages'):",
        "    print(cli.main(['run', '-p', '0', *words.split()]))",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/", "XDG_CACHE_HOME": "/"}
    with tempfile.TemporaryDirectory() as folder:  # where anybody gets to, unlike in pytest's
        Path(folder, "packages").mkdir()
        Path(folder).chmod(0o777)
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["2", "2", "2"], done.stderr
    told = done.stderr.strip().splitlines()
    assert [line.split(":")[1].strip() for line in told] == ["--cache-dir", "PYPISERVER_LITE_PACKAGES", "--passwords"]


def test_a_folder_whose_name_the_output_cannot_spell_is_served(folder: Path) -> None:
    (folder / "pü").mkdir()
    env = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    words = [
        sys.executable,
        "-m",
        "pypiserver_lite",
        "run",
        "-p",
        "0",
        "--cache-dir",
        str(folder / "c"),
        str(folder / "pü"),
    ]
    with live.spawn(
        words, live.bare_environ(folder / "home", **env), r"p\\xfc on http://127\.0\.0\.1:(?P<port>[0-9]+)/", folder
    ) as server:
        assert live.ask(server, "/simple/").status == 200


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs an output that is always full")
def test_a_full_disk_behind_the_output_keeps_nothing_from_starting(folder: Path) -> None:
    command = [sys.executable, "-m", "pypiserver_lite", "run", "-p", "0", "--cache-dir", str(folder / "c"), "packages"]
    environ = live.bare_environ(folder / "home", PYTHONPATH=str(ROOT))
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environ, cwd=folder) as server,
    ):
        assert server.stderr is not None
        try:
            said = server.stderr.readline()
            server.terminate()
            rest = server.stderr.read()
        finally:
            server.kill()
    assert "standard output" in said and "No space" in said
    assert (rest, server.returncode) == ("", 0)


def test_no_folder_at_all_is_one_clear_line(folder: Path) -> None:
    done = run("run", cwd=folder, env={"PYPISERVER_LITE_PACKAGES": ":"})
    assert done.returncode == 2 and "PYPISERVER_LITE_PACKAGES: name a folder" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    with pytest.raises(ConfigError, match="packages: name a folder"):
        make_app(packages=[])


def test_a_number_that_is_too_large_is_called_so() -> None:
    with pytest.raises(ConfigError, match="1000000000000 is too large"):
        load.from_settings({"cache_ttl": "1000000000000"})


@pytest.mark.parametrize("text", ["0", "12k", "1.5MB", "10GB", "2GiB", "7 tb"])
def test_sizes_have_units(text: str) -> None:
    expected = {"0": 0, "12k": 12_000, "1.5MB": 1_500_000, "10GB": 10**10, "2GiB": 2**31, "7 tb": 7 * 10**12}
    assert values.parse_size(text) == expected[text]


@pytest.mark.parametrize("config", [{"prot": 1}, {"port": "x"}, {"authenticate": ["fly"]}, {"fallback_url": "x"}])
def test_wrong_settings_of_a_host_are_config_errors(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        load.from_settings(config)


def test_a_password_is_set_changed_and_deleted(folder: Path) -> None:
    from passlib.hash import bcrypt

    file = folder / "htpasswd"
    for password in ("first", "second"):
        done = run("passwd", "htpasswd", "ann", "--stdin", cwd=folder, text=f"{password}\n")
        assert done.returncode == 0, done.stderr
        assert bcrypt.verify(password, file.read_text().strip().split(":", 1)[1])
        assert password not in done.stdout + done.stderr
    assert run("passwd", "htpasswd", "ann", "--delete", cwd=folder).returncode == 0
    assert "ann" not in file.read_text()


def test_a_release_is_yanked_and_unyanked(folder: Path) -> None:
    wheel = folder / "packages" / "ours-1.0-py3-none-any.whl"
    assert run("yank", "Ours", "1.0.0", "packages", "--reason", "bad build", cwd=folder).returncode == 0
    assert Path(f"{wheel}.yanked").read_text() == "bad build"
    assert run("unyank", "ours", "1.0", "packages", cwd=folder).returncode == 0
    assert not Path(f"{wheel}.yanked").exists()
    (folder / "farm").mkdir()
    (folder / "farm" / wheel.name).symlink_to(wheel)
    assert run("yank", "ours", "1.0", "farm", cwd=folder).returncode == 1
    for verb in ("yank", "unyank"):
        assert run(verb, "ours", "1.0", "farm", "--follow-links", cwd=folder).returncode == 0
        assert (folder / "farm" / f"{wheel.name}.yanked").exists() == (verb == "yank")
    done = run("yank", "ours", "2.0", "packages", cwd=folder)
    assert done.returncode == 1 and "ours" in done.stderr
