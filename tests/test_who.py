"""Who a login is: formats of passwords, the header, the file over time, the library."""

from __future__ import annotations

import base64
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from logins import SECRET, SHA_SECRET, Clock, Counted, basic, enters, file_of_ann, gate_of_ann, write  # noqa: F401 - fixtures

from pypiserver_lite.errors import Busy, ConfigError, Denied
from pypiserver_lite.rights import who
from pypiserver_lite.rights.gate import Gate
from pypiserver_lite.rights.rules import RuleBook
from pypiserver_lite.rights.who import Book, Passwords

UPDATE = RuleBook.of_flags({"update"})

# The test vector of crypt_blowfish: "U*U" with cost 5.
BLOWFISH = "$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"


@pytest.mark.parametrize("hashed", SECRET.values(), ids=SECRET.keys())
def test_every_crypt_apache_writes_opens_with_its_password_only(tmp_path: Path, hashed: str) -> None:
    gate = Gate(Passwords(write(tmp_path / "f", f"ann:{hashed}")), UPDATE)
    assert enters(gate, "ann", "secret")
    assert not enters(gate, "ann", "Secret")
    assert not enters(gate, "ann", hashed)
    assert not enters(gate, "ann", "")


@pytest.mark.parametrize("ident", ["2a", "2b", "2y"])
def test_bcrypt_opens_in_every_spelling(tmp_path: Path, ident: str) -> None:
    gate = Gate(Passwords(write(tmp_path / "f", f"ann:${ident}{BLOWFISH}")), UPDATE)
    assert enters(gate, "ann", "U*U")
    assert not enters(gate, "ann", "U*V")


def test_bcrypt_reads_72_bytes_of_a_longer_password_as_apache_does(tmp_path: Path) -> None:
    hashed = who.crypt_context().handler("bcrypt").using(ident="2y", rounds=4).hash("x" * 72)
    gate = Gate(Passwords(write(tmp_path / "f", f"ann:{hashed}")), UPDATE)
    assert enters(gate, "ann", "x" * 72)
    assert enters(gate, "ann", "x" * 80)
    assert not enters(gate, "ann", "x" * 71)


@pytest.mark.parametrize(
    "hashed",
    [
        "secret",  # plain text
        "",
        "!",
        "*",
        "!" + SHA_SECRET,
        "{PLAIN}secret",
        "{SSHA}c2VjcmV0",
        "{SHA}short",
        "rl0uE3bx0gQWs",  # DES
        "$1$abcdefgh$WHoMPTmwiyNlFBUF2FWwz0",  # plain MD5 crypt
        "$apr1$",
        "$2y$31" + BLOWFISH[3:],  # hours of work
        "$2y$05$CCCC",
        "$6$rounds=999999999$abcdefgh$" + "a" * 86,
        "$y$j9T$abc$def",
    ],
)
def test_nothing_but_the_named_formats_ever_opens(
    tmp_path: Path, hashed: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(Passwords(write(tmp_path / "f", f"ann:{hashed}", f"bob:{SHA_SECRET}")), UPDATE)
    for password in ("secret", hashed, ""):
        assert not enters(gate, "ann", password)
    assert enters(gate, "bob", "secret")
    assert [record.getMessage() for record in caplog.records if "line 1" in record.getMessage()]
    assert "secret" not in caplog.text


def test_broken_lines_are_told_once_with_their_number_and_the_others_work(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(
        b"\xef\xbb\xbf# users\r\n\r\nnonsense\r\nann:" + SHA_SECRET.encode() + b"\r\nann:x\r\n\xff:x\r\n  # end\r\n:x"
    )
    gate = Gate(Passwords(file), UPDATE)
    assert enters(gate, "ann", "secret")
    assert enters(gate, "ann", "secret")
    told = [record.getMessage() for record in caplog.records]
    assert [int(text.split("line ")[1].split(":")[0]) for text in told] == [3, 5, 6, 8]


def test_thousands_of_broken_lines_make_a_short_log(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(file, *["nonsense"] * 5000)
    Passwords(file)
    assert len(caplog.records) < 30


def test_the_first_line_of_a_user_counts_even_if_it_locks(tmp_path: Path) -> None:
    gate = Gate(Passwords(write(tmp_path / "f", "ann:!", f"ann:{SHA_SECRET}")), UPDATE)
    assert not enters(gate, "ann", "secret")


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.mark.parametrize(
    ("header", "user", "password"),
    [
        ("Basic " + b64("ann:secret"), "ann", b"secret"),
        ("basic " + b64("ann:secret"), "ann", b"secret"),
        ("BASIC   " + b64("ann:secret") + " ", "ann", b"secret"),
        ("Basic\t" + b64("ann:secret"), "ann", b"secret"),
        ("Basic " + b64("ann:secret").rstrip("="), "ann", b"secret"),
        ("Basic " + b64("ann:secret").rstrip("=") + "===", "ann", b"secret"),
        ("Basic " + b64("ann:a:b:c"), "ann", b"a:b:c"),
        ("Basic " + b64("__token__:pypi-AgE"), "__token__", b"pypi-AgE"),
        ("Basic " + b64("ann:"), "ann", b""),
        ("Basic " + b64("jörg:pä€ß"), "jörg", "pä€ß".encode()),
        ("Basic " + b64("jörg:pä".encode("latin-1")), "jörg", "pä".encode()),
        ("Basic " + b64("a b:c d"), "a b", b"c d"),
    ],
)
def test_logins_are_understood(header: str, user: str, password: bytes) -> None:
    assert who.parse_basic(header) == (user, password)


MALFORMED = [
    None,
    "",
    " ",
    "Basic",
    "Basic ",
    "Basic =",
    "Basic ====",
    "Basic a",
    "Basic !!!!",
    "Basic YW5uOnNlY3JldA== extra",
    "Basic YW5uOnNlY3JldA==,Basic YW5uOnNlY3JldA==",
    "Basic YW5u\nOnNlY3JldA==",
    "Basic YW5uOnNlY3JldA==\n",
    "Basic\nYW5uOnNlY3JldA==",
    "BasicYW5uOnNlY3JldA==",
    "Basic:YW5uOnNlY3JldA==",
    "Ba\u017fic YW5uOnNlY3JldA==",
    "Bearer YW5uOnNlY3JldA==",
    "Digest username=ann",
    "Negotiate abc",
    "ann:secret",
    "YW5uOnNlY3JldA==",
    "Basic ann:secret",
    "Basic YW5u=OnNl",
    "Basic YW5uOnNlY3JldA======",
    "Basic " + b64("ann"),
    "Basic " + b64(":secret"),
    "Basic " + b64(":"),
    "Basic " + b64("ann:sec\0ret"),
    "Basic " + b64("an\0n:secret"),
    "Basic " + b64("\0"),
    "Basic " + b64("a" * 256 + ":secret"),
    "Basic " + b64("é" * 200 + ":secret"),
    "Basic " + b64("ann:" + "x" * 1025),
    "Basic " + b64("ann:" + "é" * 600),
    "Basic " + "QUFB" * 100_000,
    "Basic " + " " * 5000 + b64("ann:secret"),
    "Basic \x00",
    "Basic \xff\xfe",
    "Basic \ud800",
    "Basic -_-_",
    "\x00" * 10,
    "=" * 4000,
]


@pytest.mark.parametrize("header", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_logins_are_challenged_and_nothing_worse(gate: Gate, header: str | None) -> None:  # A1, A2
    with pytest.raises(Denied) as caught:
        gate.check("update", header, "192.0.2.1")
    assert caught.value.challenge


@pytest.mark.parametrize("password", [b"\xff\xfe\xfd", b"\xc3", bytes(range(1, 256))])
def test_bytes_that_are_no_utf8_are_only_a_wrong_login(gate: Gate, password: bytes) -> None:
    with pytest.raises(Denied):
        gate.check("update", "Basic " + b64(b"ann:" + password), "192.0.2.1")


def test_no_refusal_quotes_the_password(gate: Gate) -> None:
    for header in (basic("ann", "hunter2"), "Basic " + b64("hunter2"), basic("", "hunter2")):
        with pytest.raises(Denied) as caught:
            gate.check("update", header, "192.0.2.1")
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: os.mkfifo(path)])
def test_a_file_that_cannot_be_used_is_one_clear_line_at_start(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "htpasswd"
    make(path)
    with pytest.raises(ConfigError, match=r"-P .*htpasswd") as caught:
        Passwords(path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_told_at_start(file: Path) -> None:
    file.chmod(0)
    with pytest.raises(ConfigError):
        Passwords(file)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ConfigError, match="larger"):
        Passwords(path)


def test_changes_count_at_once_even_with_equal_size_and_time(file: Path, gate: Gate) -> None:
    status = file.stat()
    assert enters(gate, "ann", "secret")
    for name in ("bob", "cat", "dan"):
        file.write_bytes(f"{name}:{SHA_SECRET}\n".encode())
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert not enters(gate, "ann", "secret")
        assert enters(gate, name, "secret")


def test_a_missing_file_lets_nobody_in_and_recovers_by_itself(
    file: Path, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    assert enters(gate, "ann", "secret")
    away = file.rename(file.with_name("away"))
    for _ in range(3):
        assert not enters(gate, "ann", "secret")
    assert gate.check("list", None, "192.0.2.1") is None
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    away.rename(file)
    assert enters(gate, "ann", "secret")


def test_a_folder_in_its_place_lets_nobody_in(file: Path, gate: Gate) -> None:
    file.unlink()
    file.mkdir()
    assert not enters(gate, "ann", "secret")
    file.rmdir()
    write(file, f"ann:{SHA_SECRET}")
    assert enters(gate, "ann", "secret")


def later() -> int:
    """A time at which the files of now are old enough to be trusted by their stamps."""
    return time.time_ns() + 10**10


def test_a_right_login_is_remembered_until_the_file_changes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    verify = Book.verify

    def noted(self: Book, user: str, password: bytes) -> bool:
        verified.append(user)
        return verify(self, user, password)

    monkeypatch.setattr(Book, "verify", noted)
    clock = Clock()
    gate = Gate(Passwords(file, clock=later), UPDATE, clock=clock)
    assert enters(gate, "ann", "secret")
    clock.now += 10**6
    assert gate.check("update", basic("ann", "secret"), "192.0.2.9")
    assert verified == ["ann"]
    assert not enters(gate, "ann", "other")
    assert verified == ["ann", "ann"]
    write(file, "ann:!")
    assert not enters(gate, "ann", "secret")
    assert verified == ["ann", "ann", "ann"]


def test_a_remembered_login_costs_no_second_verification() -> None:
    book = Counted({"ann": SHA_SECRET})
    for _ in range(20):
        assert enters(book.gate, "ann", "secret")
    assert book.asked == ["ann"]


def test_readers_see_old_or_new_users_while_the_file_is_replaced(file: Path) -> None:
    gate = Gate(Passwords(file), UPDATE)
    stop = threading.Event()
    wrong: list[object] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                # ann is in every version of the file.
                gate.check("update", basic("ann", "secret"), "192.0.2.1")
            except Busy:
                pass
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(150):
        write(file.with_name("next"), f"user{turn}:{SHA_SECRET}", f"ann:{SHA_SECRET}").replace(file)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert not wrong


@pytest.mark.parametrize("version", ["1.7.4", "1.8", "0.9", "nonsense", ""])
def test_the_old_passlib_is_refused_with_the_command_that_mends_it(version: str) -> None:
    with pytest.raises(ConfigError, match="pip uninstall"):
        who.require_libpass(version)


@pytest.mark.parametrize("version", ["1.9.0", "1.9.4.post1", "1.10", "2.0"])
def test_libpass_is_accepted(version: str) -> None:
    who.require_libpass(version)
