"""Who gets in, and what it costs to try (STANDARDS 14, SECURITY-CHECKLIST 6)."""

from __future__ import annotations

import base64
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from pypiserver_lite.errors import Busy, ConfigError, Denied, TooMany
from pypiserver_lite.rights import who
from pypiserver_lite.rights.gate import Gate
from pypiserver_lite.rights.may import Rules
from pypiserver_lite.rights.who import Book, Passwords

# Written by Apache's htpasswd and openssl passwd for the password "secret"; {SHA} follows from RFC 3174.
SECRET = {
    "apr1": "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
    "sha512": "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
    "sha256": "$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.",
    "sha1": "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
}
# The test vector of crypt_blowfish: "U*U" with cost 5.
BLOWFISH = "$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
SHA_SECRET = SECRET["sha1"]
README = Path(__file__).parents[1] / "README.rst"


def basic(user: str, password: str, encoding: str = "utf-8") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode(encoding)).decode()


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "htpasswd", f"ann:{SHA_SECRET}")


@pytest.fixture
def gate(file: Path) -> Gate:
    return Gate(Passwords(file), Rules(frozenset({"update"})))


def enters(gate: Gate, user: str, password: str, address: str = "192.0.2.1") -> bool:
    try:
        found = gate.check("update", basic(user, password), address)
    except Denied as error:
        assert error.challenge
        return False
    assert found is not None and found.name == user
    return True


# -- formats (A8) -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hashed", SECRET.values(), ids=SECRET.keys())
def test_every_crypt_apache_writes_opens_with_its_password_only(tmp_path: Path, hashed: str) -> None:
    gate = Gate(Passwords(write(tmp_path / "f", f"ann:{hashed}")), Rules(frozenset({"update"})))
    assert enters(gate, "ann", "secret")
    assert not enters(gate, "ann", "Secret")
    assert not enters(gate, "ann", hashed)
    assert not enters(gate, "ann", "")


@pytest.mark.parametrize("ident", ["2a", "2b", "2y"])
def test_bcrypt_opens_in_every_spelling(tmp_path: Path, ident: str) -> None:
    gate = Gate(Passwords(write(tmp_path / "f", f"ann:${ident}{BLOWFISH}")), Rules(frozenset({"update"})))
    assert enters(gate, "ann", "U*U")
    assert not enters(gate, "ann", "U*V")


def test_bcrypt_reads_72_bytes_of_a_longer_password_as_apache_does(tmp_path: Path) -> None:
    hashed = who.crypt_context().handler("bcrypt").using(ident="2y", rounds=4).hash("x" * 72)
    gate = Gate(Passwords(write(tmp_path / "f", f"ann:{hashed}")), Rules(frozenset({"update"})))
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
    gate = Gate(Passwords(write(tmp_path / "f", f"ann:{hashed}", f"bob:{SHA_SECRET}")), Rules(frozenset({"update"})))
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
    gate = Gate(Passwords(file), Rules(frozenset({"update"})))
    assert enters(gate, "ann", "secret")
    assert enters(gate, "ann", "secret")
    told = [record.getMessage() for record in caplog.records]
    assert [int(text.split("line ")[1].split(":")[0]) for text in told] == [3, 5, 6, 8]


def test_thousands_of_broken_lines_make_a_short_log(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(file, *["nonsense"] * 5000)
    Passwords(file)
    assert len(caplog.records) < 30


def test_the_first_line_of_a_user_counts_even_if_it_locks(tmp_path: Path) -> None:
    gate = Gate(Passwords(write(tmp_path / "f", "ann:!", f"ann:{SHA_SECRET}")), Rules(frozenset({"update"})))
    assert not enters(gate, "ann", "secret")


# -- the header (A2, A3, A4) ------------------------------------------------------------------------------------------


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


# -- rights (A5, A6) --------------------------------------------------------------------------------------------------


def test_without_passwords_uploads_are_refused_and_the_text_says_how_to_allow_them() -> None:  # A6
    gate = Gate(None, Rules(frozenset({"update"})))
    for header in (None, basic("ann", "secret"), "nonsense"):
        with pytest.raises(Denied, match=r"-P FILE.*-P \. -a \.") as caught:
            gate.check("update", header, "192.0.2.1")
        assert not caught.value.challenge
    assert gate.rules.needs_login("update")
    assert gate.check("list", None, "192.0.2.1") is None


def test_openness_has_to_be_asked_for(file: Path) -> None:  # A6
    assert Gate(None, Rules(frozenset(), open=True)).check("update", None, "192.0.2.1") is None
    with pytest.raises(Denied):
        Gate(None, Rules(frozenset())).check("update", None, "192.0.2.1")
    with pytest.raises(Denied) as caught:
        Gate(Passwords(file), Rules(frozenset({"list"}))).check("update", None, "192.0.2.1")
    assert caught.value.challenge
    with pytest.raises(Denied) as caught:
        Gate(None, Rules(frozenset({"list"}), open=True)).check("list", None, "192.0.2.1")
    assert not caught.value.challenge


def test_each_action_has_its_own_right(file: Path) -> None:  # A5
    for protected in ({"update"}, {"list", "update"}, {"download", "list", "update"}):
        gate = Gate(Passwords(file), Rules(frozenset(protected)))
        for action in ("update", "download", "list"):
            assert gate.rules.needs_login(action) == (action in protected)
            if action in protected:
                with pytest.raises(Denied):
                    gate.check(action, None, "192.0.2.1")
            else:
                # A client that sends credentials unasked is not turned away for them.
                assert gate.check(action, basic("ann", "wrong"), "192.0.2.1") is None


# -- the file, over time ----------------------------------------------------------------------------------------------


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
    gate = Gate(Passwords(file, clock=later), Rules(frozenset({"update"})), clock=clock)
    assert enters(gate, "ann", "secret")
    clock.now += 10**6
    assert gate.check("update", basic("ann", "secret"), "192.0.2.9")
    assert verified == ["ann"]
    assert not enters(gate, "ann", "other")
    assert verified == ["ann", "ann"]
    write(file, "ann:!")
    assert not enters(gate, "ann", "secret")
    assert verified == ["ann", "ann", "ann"]


class Counted(Book):
    """A book that counts what it verifies, and does so only when it may."""

    def __init__(self, hashes: Mapping[str, str | None], workers: int = 100) -> None:
        super().__init__(hashes)
        self.asked: list[str] = []
        self.may = threading.Event()
        self.may.set()
        self.gate = Gate(Shown(self), Rules(frozenset({"update"})), workers=workers)

    def verify(self, user: str, password: bytes) -> bool:
        self.asked.append(user)
        assert self.may.wait(30)
        return super().verify(user, password)


class Shown(Passwords):
    """A password file that is always this book."""

    def __init__(self, book: Book) -> None:
        self.shown = book

    def book(self) -> Book:
        return self.shown


def test_a_remembered_login_costs_no_second_verification() -> None:
    book = Counted({"ann": SHA_SECRET})
    for _ in range(20):
        assert enters(book.gate, "ann", "secret")
    assert book.asked == ["ann"]


def test_readers_see_old_or_new_users_while_the_file_is_replaced(file: Path) -> None:
    gate = Gate(Passwords(file), Rules(frozenset({"update"})))
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


# -- guessing ---------------------------------------------------------------------------------------------------------


def test_unknown_users_cost_what_known_ones_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = who.crypt_context().handler("bcrypt").using(rounds=4).hash("secret")
    book = Passwords(write(tmp_path / "f", f"ann:{hashed}", f"bob:{SHA_SECRET}", f"cat:{hashed}")).book()
    tried: list[str] = []

    def matches(password: bytes, against: str) -> bool:
        tried.append(against)
        return True

    monkeypatch.setattr(who, "_matches", matches)
    assert book.verify("ann", b"wrong")
    assert not book.verify("nobody", b"wrong")
    assert tried == [hashed, hashed]


def test_guessing_costs_the_guessed_user_at_that_address_and_nobody_else(file: Path) -> None:
    clock = Clock()
    write(file, f"ann:{SHA_SECRET}", f"bob:{SHA_SECRET}", f"cat:{SHA_SECRET}")
    gate = Gate(Passwords(file), Rules(frozenset({"update"})), clock=clock)
    assert enters(gate, "ann", "secret")
    for turn in range(Gate.FAILURES):
        assert not enters(gate, "ann", f"guess{turn}")
        assert not enters(gate, "bob", f"guess{turn}")
    for password in ("guess", "secret"):
        with pytest.raises(TooMany) as caught:
            gate.check("update", basic("bob", password), "192.0.2.1")
        assert caught.value.retry_after == Gate.WINDOW / Gate.FAILURES
    # An office behind the same address: who was in stays in, and who was not comes in.
    assert enters(gate, "ann", "secret")
    assert enters(gate, "cat", "secret")
    assert enters(gate, "bob", "secret", "192.0.2.2")
    clock.now += caught.value.retry_after
    assert not enters(gate, "ann", "guess")
    with pytest.raises(TooMany):
        gate.check("update", basic("ann", "guess"), "192.0.2.1")
    clock.now += Gate.WINDOW
    for turn in range(Gate.FAILURES):
        assert not enters(gate, "ann", f"other{turn}")


def test_an_address_that_tries_many_names_has_to_wait_and_others_do_not(file: Path) -> None:
    clock = Clock()
    write(file, f"ann:{SHA_SECRET}", f"bob:{SHA_SECRET}")
    gate = Gate(Passwords(file), Rules(frozenset({"update"})), clock=clock)
    assert enters(gate, "ann", "secret")
    for turn in range(Gate.ADDRESS_FAILURES):
        assert not enters(gate, f"user{turn}", "guess")
    with pytest.raises(TooMany) as caught:
        gate.check("update", basic("one more", "guess"), "192.0.2.1")
    assert caught.value.retry_after == 1
    assert enters(gate, "ann", "secret")
    assert enters(gate, "bob", "secret", "192.0.2.2")
    clock.now += caught.value.retry_after
    assert not enters(gate, "one more", "guess")


@pytest.mark.parametrize(
    "user", ["eve", "e\nve", "e've\r\n2026|x|wrong login from 203.0.113.9 of user 'x'", "\x1b[2Jé"]
)
def test_a_wrong_login_is_one_line_that_names_address_and_user(
    gate: Gate, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not enters(gate, user, "hunter2", "192.0.2.7")
    with pytest.raises(Denied):
        gate.check("update", basic("ann", "hunter2"), "fe80::1%\n")
    mine, odd = (f"x|{record.name}|{record.levelname}|1|{record.getMessage()}" for record in caplog.records)
    bars = re.search(r"failregex = (.+)", README.read_text("utf-8"))
    assert bars is not None
    found = re.match(bars[1].replace("<ADDR>", "(?P<address>[0-9.]+)"), mine)
    assert found is not None and found["address"] == "192.0.2.7"
    assert mine.endswith(ascii(user))
    for line in (mine, odd):
        assert line.isascii() and line.isprintable() and "hunter2" not in line


def test_a_whole_ipv6_network_is_one_guesser(gate: Gate) -> None:
    for turn in range(Gate.FAILURES):
        assert not enters(gate, "eve", "guess", f"2001:db8:1:2:{turn}::{turn}")
    with pytest.raises(TooMany):
        gate.check("update", basic("eve", "guess"), "2001:db8:1:2:ffff::1")
    assert not enters(gate, "eve", "guess", "2001:db8:1:3::1")


def test_a_mapped_address_is_the_address_it_maps(gate: Gate) -> None:
    for _ in range(Gate.FAILURES):
        assert not enters(gate, "eve", "guess", "::ffff:192.0.2.1")
    with pytest.raises(TooMany):
        gate.check("update", basic("eve", "guess"), "192.0.2.1")


@pytest.mark.parametrize("address", ["", "unix:", "fe80::1%eth0", "x" * 10_000, "\x00", "\ud800"])
def test_any_text_may_stand_for_an_address(gate: Gate, address: str) -> None:
    for _ in range(Gate.FAILURES):
        assert not enters(gate, "eve", "guess", address)
    with pytest.raises(TooMany):
        gate.check("update", basic("eve", "guess"), address)


def test_tables_stay_small_whoever_asks(file: Path) -> None:
    gate = Gate(Passwords(file), Rules(frozenset({"update"})))
    for turn in range(6000):
        assert not enters(gate, "eve", str(turn), f"10.0.{turn >> 8}.{turn & 255}")
    tables = gate._by_address, gate._by_user, gate._desk._own, gate._desk._wide, gate._desk._block
    assert all(table._debts.weight <= 3 * 2**20 for table in tables)
    book = gate._passwords.book() if gate._passwords else None
    assert book is not None and not gate._desk._here
    for turn in range(6000):
        book.remember(turn.to_bytes(4, "big"))
    assert sum(book.knows(turn.to_bytes(4, "big")) for turn in range(6000)) <= 4096
    assert book.knows((5999).to_bytes(4, "big"))


def finished(tasks: Sequence[Future[bool]], count: int) -> bool:
    """Whether so many of them end, within a time in which all would."""
    deadline = time.monotonic() + 20
    while sum(task.done() for task in tasks) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return sum(task.done() for task in tasks) == count


@pytest.mark.parametrize("same", [True, False])
def test_logins_that_wait_hold_no_more_than_half_of_the_workers(same: bool) -> None:
    book = Counted({"ann": SHA_SECRET, "bob": SHA_SECRET}, workers=8)
    assert enters(book.gate, "ann", "secret")
    book.may.clear()
    with ThreadPoolExecutor(8) as workers:
        guesses = [
            workers.submit(enters, book.gate, "bob", "guess" if same else f"guess{number}", f"198.51.100.{number}")
            for number in range(8)
        ]
        # Four are turned away while the others are held.
        assert finished(guesses, 4)
        assert enters(book.gate, "ann", "secret", "198.51.100.1")
        assert book.gate.check("list", None, "198.51.100.1") is None
        book.may.set()
    outcomes = [guess.exception() for guess in guesses]
    assert sum(isinstance(outcome, Busy) for outcome in outcomes) == 4
    assert len(book.asked) == (2 if same else 5)


def test_a_flood_from_one_address_leaves_places_to_others() -> None:
    book = Counted({"ann": SHA_SECRET, "bob": SHA_SECRET}, workers=8)
    book.may.clear()
    with ThreadPoolExecutor(9) as workers:
        flood = [workers.submit(enters, book.gate, f"user{number}", "guess") for number in range(8)]
        assert finished(flood, 6)
        other = workers.submit(enters, book.gate, "bob", "secret", "192.0.2.2")
        book.may.set()
        assert other.result(30)
    assert sum(isinstance(guess.exception(), Busy) for guess in flood) == 6


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logins are verified singly, whatever this machine has, and none gives up waiting."""
    monkeypatch.setattr(Gate, "AT_ONCE", 1)
    monkeypatch.setattr(Gate, "PATIENCE", 60.0)


def held(book: Counted, workers: ThreadPoolExecutor, logins: Sequence[tuple[str, str]]) -> list[Future[bool]]:
    """Wrong logins of user and address that have all come to the book, the first of which is being verified."""
    tasks = []
    for count, (user, address) in enumerate(logins, 1):
        tasks.append(workers.submit(enters, book.gate, user, "guess", address))
        here = book.gate._desk._here
        deadline = time.monotonic() + 20
        while len(here) + sum(task.done() for task in tasks) < count and time.monotonic() < deadline:
            time.sleep(0.01)
    return tasks


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize(("count", "failed"), [(2, False), (2, True), (20, True)])
def test_a_new_login_is_next_however_many_addresses_guess(count: int, failed: bool) -> None:
    book = Counted({"ann": SHA_SECRET}, workers=16)
    addresses = [f"198.51.100.{number}" for number in range(count)]
    for address in addresses if failed else ():
        assert not enters(book.gate, "eve", "guess", address)
    book.may.clear()
    book.asked.clear()
    with ThreadPoolExecutor(10 * count + 1) as workers:
        # Those that guess hold half of the workers at most, and a quarter once they are known for it.
        flood = held(book, workers, [(f"{turn}{address}", address) for turn in range(10) for address in addresses])
        assert finished(flood, 10 * count - (4 if failed else 8)) and len(book.asked) == 1
        new = workers.submit(enters, book.gate, "ann", "secret", "192.0.2.2")
        assert finished([*flood, new], 10 * count - (4 if failed else 7))
        deadline = time.monotonic() + 20
        while not any(one.network.own == "192.0.2.2" for one in book.gate._desk._here) and not new.done():
            assert time.monotonic() < deadline
        book.may.set()
        assert new.result(30)
    assert book.asked[1] == "ann"
    assert book.gate._desk._here == []


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize("mistyped", [False, True])
@pytest.mark.parametrize(
    ("seen", "guessers", "user"),
    [("198.51.0.1", "198.51.{}.7", "192.0.2.2"), ("2001:db8:ffff::", "2001:db8:{}::7", "2001:db9::1")],
)
def test_a_new_login_is_next_though_each_guess_comes_from_another_address(
    seen: str, guessers: str, user: str, mistyped: bool
) -> None:
    book = Counted({"ann": SHA_SECRET}, workers=16)
    for guess in range(5):
        assert not enters(book.gate, f"eve{guess}", "guess", seen)
    assert not mistyped or not enters(book.gate, "ann", "secert", user)
    book.may.clear()
    book.asked.clear()
    with ThreadPoolExecutor(25) as workers:
        flood = held(book, workers, [(f"user{number}", guessers.format(number + 1)) for number in range(24)])
        assert finished(flood, 16)
        new = workers.submit(enters, book.gate, "ann", "secret", user)
        assert finished([*flood, new], 17)  # a guess has to go
        assert not new.done()
        book.may.set()
        assert new.result(30)
    assert book.asked[1] == "ann"


@pytest.mark.usefixtures("one_at_a_time")
def test_a_network_next_to_those_that_guess_comes_after_others() -> None:
    book = Counted({"ann": SHA_SECRET})
    assert not enters(book.gate, "eve", "guess", "2001:db8:1:2::1")
    book.may.clear()
    book.asked.clear()
    with ThreadPoolExecutor(5) as workers:
        held(
            book,
            workers,
            [
                ("first", "192.0.2.1"),
                ("same", "2001:db8:1:2::2"),
                ("near", "2001:db8:1:3::1"),
                ("far", "2001:db8:2:3::1"),
            ],
        )
        book.may.set()
    assert book.asked == ["first", "far", "near", "same"]


def test_many_connections_of_one_user_are_verified_once() -> None:
    book = Counted({"ann": SHA_SECRET})
    book.may.clear()
    with ThreadPoolExecutor(50) as connections:
        entries = [connections.submit(enters, book.gate, "ann", "secret") for _ in range(50)]
        book.may.set()
        assert all(entry.result(30) for entry in entries)
    assert book.asked == ["ann"]


# -- the library ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.7.4", "1.8", "0.9", "nonsense", ""])
def test_the_old_passlib_is_refused_with_the_command_that_mends_it(version: str) -> None:
    with pytest.raises(ConfigError, match="pip uninstall"):
        who.require_libpass(version)


@pytest.mark.parametrize("version", ["1.9.0", "1.9.4.post1", "1.10", "2.0"])
def test_libpass_is_accepted(version: str) -> None:
    who.require_libpass(version)
