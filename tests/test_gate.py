"""Who may do what, and what guessing costs those who guess."""

from __future__ import annotations

import re
import time
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from logins import SHA_SECRET, Clock, Counted, Counting, basic, enters, file_of_ann, gate_of_ann, write  # noqa: F401 - fixtures

from pypiserver_lite.errors import Busy, Denied, TooMany
from pypiserver_lite.records import Records
from pypiserver_lite.rights import who
from pypiserver_lite.rights.gate import Gate
from pypiserver_lite.rights.rules import RuleBook
from pypiserver_lite.rights.who import Passwords

README = Path(__file__).parents[1] / "README.rst"


def test_without_passwords_uploads_are_refused_and_the_text_says_how_to_allow_them() -> None:  # A6
    gate = Gate(None, RuleBook.of_flags(frozenset({"update"})))
    for header in (None, basic("ann", "secret"), "nonsense"):
        with pytest.raises(Denied, match=r"-P FILE.*-P \. -a \.") as caught:
            gate.check("update", header, "192.0.2.1")
        assert not caught.value.challenge
    assert "update" not in gate.book.open
    assert gate.check("list", None, "192.0.2.1") is None


def test_openness_has_to_be_asked_for(file: Path) -> None:  # A6
    assert Gate(None, RuleBook.of_flags(frozenset(), open=True)).check("update", None, "192.0.2.1") is None
    with pytest.raises(Denied):
        Gate(None, RuleBook.of_flags(frozenset())).check("update", None, "192.0.2.1")
    with pytest.raises(Denied) as caught:
        Gate(Passwords(file), RuleBook.of_flags(frozenset({"list"}))).check("update", None, "192.0.2.1")
    assert caught.value.challenge
    with pytest.raises(Denied) as caught:
        Gate(None, RuleBook.of_flags(frozenset({"list"}), open=True)).check("list", None, "192.0.2.1")
    assert not caught.value.challenge


def test_each_action_has_its_own_right(file: Path) -> None:  # A5
    for protected in ({"update"}, {"list", "update"}, {"download", "list", "update"}):
        gate = Gate(Passwords(file), RuleBook.of_flags(frozenset(protected)))
        for action in ("update", "download", "list"):
            assert (action not in gate.book.open) == (action in protected)
            if action in protected:
                with pytest.raises(Denied):
                    gate.check(action, None, "192.0.2.1")
            else:
                # A client that sends credentials unasked is not turned away for them.
                assert gate.check(action, basic("ann", "wrong"), "192.0.2.1") is None


def test_unknown_users_cost_what_known_ones_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = who.crypt_context().handler("bcrypt").using(rounds=4).hash("secret")
    book = Passwords(write(tmp_path / "f", f"ann:{hashed}", f"bob:{SHA_SECRET}", f"cat:{hashed}")).book()
    tried: list[str] = []

    def verify(password: bytes, against: str) -> bool:
        tried.append(against)
        return True

    monkeypatch.setattr(who.crypt_context(), "verify", verify)
    assert book.verify("ann", b"wrong")
    assert not book.verify("nobody", b"wrong")
    assert tried == [hashed, hashed]


def test_guessing_costs_the_guessed_user_at_that_address_and_nobody_else(file: Path) -> None:
    clock = Clock()
    write(file, f"ann:{SHA_SECRET}", f"bob:{SHA_SECRET}", f"cat:{SHA_SECRET}")
    gate = Gate(Passwords(file), RuleBook.of_flags(frozenset({"update"})), clock=clock)
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
    gate = Gate(Passwords(file), RuleBook.of_flags(frozenset({"update"})), clock=clock)
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
    "user", ["eve", "e\nve", "e've\r\n2026|x|WARNING|1|login refused from 203.0.113.9 of user 'x'", "\x1b[2Jé"]
)
def test_a_wrong_login_is_one_line_that_names_address_and_user(
    file: Path, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(file, f"ann:{SHA_SECRET}")
    tell = Records(None).trail.wrong_login
    gate = Gate(Passwords(file), RuleBook.of_flags(frozenset({"update"})), tell=tell)
    assert not enters(gate, user, "hunter2", "192.0.2.7")
    with pytest.raises(Denied):
        gate.check("update", basic("ann", "hunter2"), "fe80::1%\n")
    mine, odd = (f"x|{record.name}|{record.levelname}|1|{record.getMessage()}" for record in caplog.records)
    bars = re.search(r"failregex = (.+)", README.read_text("utf-8"))
    assert bars is not None
    found = re.match(bars[1].replace("<ADDR>", "(?P<address>[0-9.]+)"), mine)
    assert found is not None and found["address"] == "192.0.2.7"
    assert mine.endswith(f" of user {user!a}: wrong password")
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


def test_tables_stay_small_whoever_asks(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")  # or each wrong login is held here
    passwords, within = Passwords(file), Counting(100)
    gate = Gate(passwords, RuleBook.of_flags(frozenset({"update"})), within=within)

    def held(turns: range) -> int:
        """Bytes that are held after these guesses, each from another block of addresses."""
        for turn in turns:
            assert not enters(gate, f"user{turn}", str(turn), f"{1 + (turn >> 8)}.{turn & 255}.0.1")
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = held(range(6000))
        after = held(range(6000, 9000))
    finally:
        tracemalloc.stop()
    assert after - before < 2**19, "for each table, more would be a megabyte"
    assert not within.inner
    book = passwords.book()
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
        deadline = time.monotonic() + 20
        while book.waiting.inner + sum(task.done() for task in tasks) < count and time.monotonic() < deadline:
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
        while book.waiting.inner < (5 if failed else 8):  # with the new one
            assert time.monotonic() < deadline
        book.may.set()
        assert new.result(30)
    assert book.asked[1] == "ann"
    assert book.waiting.inner == 0


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
