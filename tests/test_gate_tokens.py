"""Tokens at the gate: how they are sent, what passes, and what a wrong one costs whom."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

import pytest
from logins import SHA_SECRET, Clock, basic, enters, file_of_ann, write  # noqa: F401 - fixtures

from pypiserver_lite.config.indexes import Rule
from pypiserver_lite.errors import Denied, Invalid, TooMany
from pypiserver_lite.model import User
from pypiserver_lite.records import Event, Records
from pypiserver_lite.rights.gate import Gate
from pypiserver_lite.rights.htpasswd import set_password
from pypiserver_lite.rights.rules import RuleBook
from pypiserver_lite.rights.who import Passwords, parse_credentials

WRONG = "pypl_" + "x" * 43
BOOK = RuleBook.of_flags(["list", "update"])


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "state" / "records.sqlite3")


def headers(user: str, secret: str) -> list[str]:
    """The ways in which clients send a token of a user, or with a name of its own."""
    ways = [basic("__token__", secret), basic(user, secret), basic(secret, ""), basic(secret, "x-oauth-basic")]
    return [*ways, f"Bearer {secret}", f"bearer  {secret} "]


def test_a_token_is_taken_however_it_is_sent(file: Path, records: Records) -> None:
    _, anns = records.tokens.create("ci", by="root", user="ann")
    _, robots = records.tokens.create("robot", by="root", may=["upload"])
    gate = Gate(Passwords(file), BOOK, tokens=records.tokens)
    for header in headers("ann", anns):
        for user in (gate.check("update", header, "192.0.2.1"), gate.recall(header)):
            assert user is not None and user.name == user.shown == "ann"
            assert user.token is not None and user.token.name == "ci"
    for header in headers("robot", robots):
        user = gate.check("update", header, "192.0.2.1")
        assert user is not None and user.shown == "token:robot"
        with pytest.raises(Denied) as caught:
            gate.check("list", header, "192.0.2.1")
        assert not caught.value.challenge and "is for upload only" in str(caught.value)
    for header in (basic("bob", anns), basic("ann", robots), basic("ann", f"{anns}x"), *headers("ann", WRONG)):
        with pytest.raises(Denied, match=r"this token is not known here") as caught:
            gate.check("update", header, "192.0.2.1")
        assert caught.value.challenge and gate.recall(header) is None


def test_a_token_for_something_else_is_told_so_whatever_its_user_may(file: Path, records: Records) -> None:
    book = RuleBook([Rule(who=("ann",), may=frozenset({"upload"}), place="line")])
    gate = Gate(Passwords(file), book, tokens=records.tokens)
    for name, may, said in (("a", ["yank"], "this token is for yank only"), ("b", None, "no rule of this index")):
        _, secret = records.tokens.create(name, by="root", user="ann", may=may)
        for action in ("update", "form", "remove") if may else ("remove",):
            with pytest.raises(Denied, match=said):
                gate.check(action, basic("__token__", secret), "192.0.2.1")


def test_a_token_of_a_user_ends_with_the_user(file: Path, records: Records) -> None:
    _, anns = records.tokens.create("ci", by="root", user="ann")
    gate = Gate(Passwords(file), BOOK, tokens=records.tokens)
    assert gate.who(basic("__token__", anns), "192.0.2.1") is not None
    write(file, "ann:!")  # locked
    with pytest.raises(Denied):
        gate.who(basic("__token__", anns), "192.0.2.1")
    write(file, f"bob:{SHA_SECRET}")
    with pytest.raises(Denied):
        gate.who(basic("__token__", anns), "192.0.2.1")


def test_without_a_password_file_tokens_of_no_user_are_enough(records: Records) -> None:
    gate = Gate(None, RuleBook.of_flags(["update"]), tokens=records.tokens)
    with pytest.raises(Denied, match=r"-P FILE") as caught:
        gate.check("update", None, "192.0.2.1")
    assert not caught.value.challenge  # there is nothing that could be sent
    _, robots = records.tokens.create("robot", by="root", may=["upload"])
    _, anns = records.tokens.create("ci", by="root", user="ann")
    assert gate.check("update", basic("__token__", robots), "192.0.2.1") is not None
    for header in (None, basic("__token__", anns), basic("ann", "secret")):
        with pytest.raises(Denied):
            gate.check("update", header, "192.0.2.1")
    with pytest.raises(Denied) as caught:
        gate.check("update", None, "192.0.2.1")
    assert caught.value.challenge


def test_a_right_token_passes_where_others_guess_and_wrong_ones_cost_nobody_anything(
    file: Path, records: Records
) -> None:
    _, anns = records.tokens.create("ci", by="root", user="ann")
    told: list[tuple[str, str, str]] = []
    clock = Clock()
    gate = Gate(
        Passwords(file),
        BOOK,
        tokens=records.tokens,
        clock=clock,
        tell=lambda *what: told.append(what),
    )
    for number in range(1000):
        with pytest.raises(Denied):
            gate.check("update", basic("ann", WRONG[:-4] + f"{number:04}"), "192.0.2.1")
    assert 10 <= len(told) <= 30 and told[0] == ("wrong token", "ann", "192.0.2.1")
    assert all(WRONG[:10] not in str(what) for what in told)
    clock.now += 61
    with pytest.raises(Denied):
        gate.check("update", basic("ann", WRONG), "192.0.2.1")
    assert len(told) > 20  # and later ones are told again
    assert enters(gate, "ann", "secret")
    for number in range(Gate.ADDRESS_FAILURES):
        assert not enters(gate, f"user{number}", "guess")
    with pytest.raises(TooMany):
        gate.check("update", basic("bob", "guess"), "192.0.2.1")
    assert gate.check("update", basic("__token__", anns), "192.0.2.1") is not None


def test_a_form_takes_passwords_alone(file: Path, records: Records) -> None:
    _, anns = records.tokens.create("ci", by="root", user="ann")
    gate = Gate(Passwords(file), BOOK, tokens=records.tokens)
    assert gate.login("ann", "secret", "192.0.2.1") == User(name="ann")
    for user, password in (
        ("ann", anns),
        ("__token__", anns),
        (anns, ""),
        ("ann", "wrong"),
        ("", "secret"),
        ("a\0", "x"),
    ):
        with pytest.raises(Denied):
            gate.login(user, password, "192.0.2.1")
    with pytest.raises(Denied):
        gate.login("ann:secret", "", "192.0.2.1")  # a colon is in no user's name


def test_no_password_looks_like_a_token(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="tokens do"):
        set_password(tmp_path / "htpasswd", "ann", "pypl_mine")


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer x", f"Bearer {WRONG} x", f"Bearer a{WRONG}", f"Digest {WRONG}", "Bearer pypl_" + "x" * 5000],
)
def test_what_is_no_token_is_no_login_either(header: str) -> None:
    with pytest.raises(Denied) as caught:
        parse_credentials(header)
    assert caught.value.challenge and "pypl" not in str(caught.value)


def test_no_token_reaches_log_or_trail_wherever_it_was_put(
    tmp_path: Path, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = tmp_path / "audit.jsonl"
    with closing(Records(tmp_path / "records.sqlite3", audit_log=lines)) as records, caplog.at_level(logging.DEBUG):
        _, good = records.tokens.create("ci", by="root", user="ann")
        places = [("192.0.2.1", header) for header in headers("ann", WRONG)]
        slips = [basic(good, "secret"), basic(good, good), basic(good, "__token__"), basic(good[:-1], "")]
        places += [(f"198.51.100.{at}", header) for at, header in enumerate(slips)]
        gate = Gate(Passwords(file), BOOK, tokens=records.tokens, tell=records.trail.wrong_login)
        for address, header in places:
            with pytest.raises(Denied):
                gate.check("update", header, address)
        with pytest.raises(Denied):
            gate.login(good, "secret", "203.0.113.1")  # in the field for a name
        with records.trail.change(Event(action="yank", who="ann", reason=f"see {good}", client=f"ci/{good}")):
            pass
        records.flush()
        told = [caplog.text, lines.read_text(), str(records.trail.find())]
    for text in told:
        assert "wrong token" in text and "wrong password" in text and "see pypl_***" in text
        assert good[5:25] not in text and WRONG not in text
