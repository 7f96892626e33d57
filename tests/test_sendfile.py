"""Files handed over to the web server in front: what it is told, and what clients get from a real nginx."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import live
import pytest
from builders import make_wheel

from pypiserver_lite import ConfigError, make_app
from pypiserver_lite.config.load import from_settings

NGINX = next(
    (path for path in ("/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx") if Path(path).exists()), ""
)
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx is not installed (apt-get install nginx)")

CONFIG = """\
{user}
daemon off;
pid {home}/nginx.pid;
error_log stderr notice;
worker_processes 1;
events {{ worker_connections 128; }}
http {{
  access_log off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass {behind}; }}
    location /_files/ {{
      internal;
      alias {folder}/;
      etag on;
      add_header X-Content-Type-Options nosniff always;
    }}
  }}
}}
"""


@contextmanager
def nginx(behind: str, folder: Path) -> Iterator[live.Server]:
    """nginx on a free port, passing everything to the address `behind` and sending the files of `folder` when told."""
    with tempfile.TemporaryDirectory(prefix="pypiserver-lite-nginx-") as name:
        home, port = Path(name), live.free_port()
        # Started by root, its workers would be somebody who may not enter these folders.
        user = "user root;" if os.geteuid() == 0 else ""
        text = CONFIG.format(user=user, home=home, folder=folder, port=port, behind=behind)
        (home / "nginx.conf").write_text(text)
        command = [NGINX, "-e", "stderr", "-p", str(home), "-c", str(home / "nginx.conf")]
        with live.spawn(command, live.bare_environ(home / "home"), "start worker process", home, port) as server:
            yield server


def told(packages: Path, rule: str, path: str) -> live.Answer:
    """What a server with this rule answers by itself."""
    app = make_app(packages, sendfile_header=rule, disable_fallback=True, cache_dir=packages.parent / "cache")
    with live.in_thread(app) as server:
        return live.ask(server, path)


def test_the_header_names_the_file_by_its_path_and_the_body_is_empty(packages: Path) -> None:
    wheel = make_wheel(packages / "deep", "ours", "1.0")
    answer = told(packages, "X-Sendfile", f"/packages/{wheel.name}")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["x-sendfile"] == str(wheel.resolve())
    assert answer.headers["content-type"] == "application/zip"
    assert "immutable" in answer.headers["cache-control"]


def test_a_mapping_puts_an_address_in_place_of_the_folder(packages: Path) -> None:
    wheel = make_wheel(packages / "deep", "ours", "1.0")
    answer = told(packages, f"X-Accel-Redirect=/_files:{packages}", f"/packages/{wheel.name}")
    assert answer.headers["x-accel-redirect"] == f"/_files/deep/{wheel.name}"


def test_a_path_cannot_end_the_header_nor_begin_a_query(packages: Path) -> None:
    wheel = make_wheel(packages / "a?b #c%\n\xe9", "ours", "1.0")
    answer = told(packages, f"X-Accel-Redirect=/_files:{packages}", f"/packages/{wheel.name}")
    assert answer.headers["x-accel-redirect"] == f"/_files/a%3Fb%20%23c%25%0A%C3%A9/{wheel.name}"


def test_a_file_outside_the_mappings_is_sent_from_here(packages: Path) -> None:
    wheel = make_wheel(packages, "ours", "1.0")
    (packages / "other").mkdir()
    answer = told(packages, f"X-Accel-Redirect=/_files:{packages / 'other'}", f"/packages/{wheel.name}")
    assert answer.body == wheel.read_bytes()
    assert "x-accel-redirect" not in answer.headers


def test_metadata_and_pages_are_always_sent_from_here(packages: Path) -> None:
    wheel = make_wheel(packages, "ours", "1.0")
    assert b"Name: ours" in told(packages, "X-Sendfile", f"/packages/{wheel.name}.metadata").body
    assert wheel.name.encode() in told(packages, "X-Sendfile", "/simple/ours/").body


def test_a_missing_file_is_404_without_the_header(packages: Path) -> None:
    make_wheel(packages, "ours", "1.0")
    answer = told(packages, "X-Sendfile", "/packages/ours-2.0-py3-none-any.whl")
    assert answer.status == 404
    assert "x-sendfile" not in answer.headers


@pytest.mark.parametrize(
    "rule",
    [
        "X-Accel-Redirect",
        "X-Accel-Redirect=/_files",
        "X-Accel-Redirect=_files:/srv",
        "X Sendfile",
        "X-Sendfile=/a b:/c",
    ],
)
def test_a_rule_that_cannot_work_is_refused_at_the_start(rule: str) -> None:
    with pytest.raises(ConfigError, match="sendfile_header"):
        from_settings({"sendfile_header": rule})


def test_a_mapping_of_a_folder_without_packages_is_refused_at_the_start(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ConfigError, match="holds none of the packages folders"):
        make_app(packages, sendfile_header=f"X-Accel-Redirect=/_files:{tmp_path / 'elsewhere'}")


@needs_nginx
def test_nginx_sends_what_we_allow_with_ranges_and_validators(packages: Path, tmp_path: Path) -> None:
    wheel = make_wheel(packages / "a b%20c", "ours", "1.0+local", payload=os.urandom(300_000))
    data, path = wheel.read_bytes(), f"/packages/{wheel.name.replace('+', '%2B')}"
    rule = f"X-Accel-Redirect=/_files:{packages}"
    with live.serve(packages=[packages], sendfile_header=rule) as server, nginx(server.url, packages) as front:
        whole = live.ask(front, path)
        assert (whole.status, whole.body) == (200, data)  # F1
        assert int(whole.headers["content-length"]) == len(data)
        assert whole.headers["content-type"] == "application/zip"  # F3, F4
        assert "immutable" in whole.headers["cache-control"]  # F13
        assert whole.headers["x-content-type-options"] == "nosniff"
        assert whole.headers["accept-ranges"] == "bytes"  # F5
        assert "x-accel-redirect" not in whole.headers
        tag = whole.headers["etag"]
        assert tag.startswith('"')  # F12
        head = live.ask(front, path, "HEAD")
        assert (head.status, head.headers["content-length"], head.body) == (200, str(len(data)), b"")
        assert head.headers["etag"] == tag
        for asked, part in (
            ("bytes=10-19", data[10:20]),
            ("bytes=-100", data[-100:]),
            ("bytes=299999-", data[299999:]),
        ):
            answer = live.ask(front, path, Range=asked)  # F6
            assert (answer.status, answer.body) == (206, part)
        beyond = live.ask(front, path, Range=f"bytes={len(data)}-")
        assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(data)}")  # F8
        assert live.ask(front, path, Range="bytes=0-9", If_Range=tag).status == 206  # F11
        assert live.ask(front, path, Range="bytes=0-9", If_Range='"other"').body == data
        again = live.ask(front, path, If_None_Match=tag)
        assert (again.status, again.body) == (304, b"")
        assert (
            live.ask(front, path, If_None_Match='"other"', If_Modified_Since=whole.headers["last-modified"]).body
            == data
        )
        digest = json.loads(live.ask(front, "/simple/ours/", Accept="application/vnd.pypi.simple.v1+json").body)
        assert digest["files"][0]["hashes"]["sha256"] == hashlib.sha256(data).hexdigest()


@needs_nginx
def test_nginx_sends_nothing_that_we_did_not_allow(packages: Path, tmp_path: Path) -> None:
    wheel = make_wheel(packages, "ours", "1.0")
    passwords = live.write_htpasswd(tmp_path / "htpasswd", alice="secret")
    everything = "update,download,list"
    rule = f"X-Accel-Redirect=/_files:{packages}"
    with (
        live.serve(packages=[packages], sendfile_header=rule, passwords=passwords, authenticate=everything) as server,
        nginx(server.url, packages) as front,
    ):
        path = f"/packages/{wheel.name}"
        assert live.ask(front, path).status == 401
        assert live.ask(front, path, "HEAD").status == 401
        assert live.ask(front, f"/_files/{wheel.name}").status == 404
        allowed = live.ask(front, path, Authorization="Basic YWxpY2U6c2VjcmV0")
        assert (allowed.status, allowed.body) == (200, wheel.read_bytes())
        assert "private" in allowed.headers["cache-control"]  # P10
