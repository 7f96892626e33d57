"""The htpasswd file, edited without Apache's tools."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from pypiserver_lite.errors import ConfigError, Invalid
from pypiserver_lite.rights import htpasswd
from pypiserver_lite.rights.gate import Gate
from pypiserver_lite.rights.rules import RuleBook
from pypiserver_lite.rights.who import Passwords, parse_basic

OTHERS = b"# our users\n\n  # indented\nbob:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\nnonsense \xff\n\nzoe:!\n"


def verifies(path: Path, user: str, password: str) -> bool:
    return Passwords(path).book().verify(user, password.encode())


@pytest.mark.parametrize("password", ["sécret: 1", "x" * 72])
def test_what_is_written_lets_the_user_in_and_is_bcrypt_as_apache_spells_it(tmp_path: Path, password: str) -> None:
    path = tmp_path / "htpasswd"
    htpasswd.set_password(path, "ann", password)
    assert verifies(path, "ann", password)
    assert not verifies(path, "ann", "other")
    assert path.read_text().startswith("ann:$2y$10$")


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    htpasswd.set_password(tmp_path / "f", "ann", "secret")
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_everything_else_in_the_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(OTHERS)
    path.chmod(0o640)
    os.chown(path, os.getuid(), os.getgid())
    htpasswd.set_password(path, "ann", "secret")
    assert path.read_bytes().startswith(OTHERS + b"ann:$2y$")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    htpasswd.set_password(path, "bob", "secret")
    lines = path.read_bytes().split(b"\n")
    assert lines[:3] == OTHERS.split(b"\n")[:3] and lines[3].startswith(b"bob:") and len(lines) == 9
    htpasswd.set_password(path, "bob", "secret")
    htpasswd.delete_user(path, "ann")
    htpasswd.delete_user(path, "bob")
    assert path.read_bytes() == OTHERS.replace(b"bob:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\n", b"")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"ann:HASH\n"),
        (b"bob:x", b"bob:x\nann:HASH\n"),
        (b"bob:x\r\n", b"bob:x\r\nann:HASH\r\n"),
        (b"\xef\xbb\xbfbob:x\n", b"\xef\xbb\xbfbob:x\nann:HASH\n"),
        (b"ann:old\nbob:x\nann:older\n", b"ann:HASH\nbob:x\n"),
        (b" ann:old:comment \n#ann:off\nannie:x\n", b"ann:HASH\n#ann:off\nannie:x\n"),
    ],
)
def test_the_users_line_is_replaced_or_added(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "f"
    path.write_bytes(before)
    htpasswd.set_password(path, "ann", "secret")
    data = path.read_bytes()
    begin = data.index(b"ann:$2y$") + 4
    assert data[:begin] + b"HASH" + data[begin + 60 :] == after


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(OTHERS)
    (tmp_path / "link").symlink_to("real")
    htpasswd.set_password(tmp_path / "link", "ann", "secret")
    assert (tmp_path / "link").is_symlink()
    assert verifies(tmp_path / "real", "ann", "secret")


@pytest.mark.parametrize(
    "user", ["", "a:b", "a\nb", "a\0b", "a\x7fb", "a\x85b", " ann", "ann ", "#ann", "x" * 256, "é" * 128, "\ud800"]
)
def test_names_that_could_never_log_in_are_refused(tmp_path: Path, user: str) -> None:
    with pytest.raises(Invalid):
        htpasswd.set_password(tmp_path / "f", user, "secret")
    with pytest.raises(Invalid):
        htpasswd.delete_user(tmp_path / "f", user)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("password", ["", "x" * 73, "é" * 37, "se\ncret", "sec\0ret", "\udcff"])
def test_passwords_that_could_not_work_are_refused_and_not_quoted(tmp_path: Path, password: str) -> None:
    with pytest.raises(Invalid) as caught:
        htpasswd.set_password(tmp_path / "f", "ann", password)
    assert not password or password not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_trouble_with_the_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "users").write_bytes(OTHERS)
    for path in (tmp_path / "none", tmp_path / "no" / "such", tmp_path / "folder", tmp_path / "users"):
        with pytest.raises(ConfigError, match=path.name) as caught:
            htpasswd.delete_user(path, "ann")
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError):
        htpasswd.set_password(tmp_path / "no" / "such", "ann", "secret")
    with pytest.raises(ConfigError):
        htpasswd.set_password(tmp_path / "folder", "ann", "secret")
    assert sorted(os.listdir(tmp_path)) == ["folder", "users"]
    assert (tmp_path / "users").read_bytes() == OTHERS


def test_a_running_server_takes_new_users_and_drops_deleted_ones(tmp_path: Path) -> None:
    path = tmp_path / "f"
    htpasswd.set_password(path, "ann", "secret")
    passwords = Passwords(path)
    gate = Gate(passwords, RuleBook.of_flags(frozenset({"update"})))
    assert "update" not in gate.book.open
    htpasswd.set_password(path, "bob", "other")
    assert passwords.book().verify("bob", b"other")
    htpasswd.delete_user(path, "ann")
    assert not passwords.book().verify("ann", b"secret")


def test_several_editors_lose_no_user(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(OTHERS)

    def add(number: int) -> None:
        for turn in range(3):
            htpasswd.set_password(path, f"user{number}.{turn}", "secret")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes().count(b"\nuser") == 9


def test_any_password_that_is_taken_can_be_sent(tmp_path: Path) -> None:
    import base64

    htpasswd.set_password(tmp_path / "f", "jörg", "pä: 1")
    for encoding in ("utf-8", "latin-1"):
        header = "Basic " + base64.b64encode("jörg:pä: 1".encode(encoding)).decode()
        user, password = parse_basic(header)
        assert Passwords(tmp_path / "f").book().verify(user, password)
