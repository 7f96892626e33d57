"""Tokens and the verbs about them: made once, known at once, and gone at once in every process."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import live
import pytest
from builders import make_wheel
from live import run

from pypiserver_lite.errors import Conflict, Invalid, Missing
from pypiserver_lite.records import Records, Token
from pypiserver_lite.records.ledger import Ledger
from pypiserver_lite.records.tokens import MOST, Tokens

DAY = 86400


class Clock:
    now = 20_000.0 * DAY

    def __call__(self) -> float:
        return self.now

    def moment(self, days: float = 0) -> datetime:
        return datetime.fromtimestamp(self.now, timezone.utc) + timedelta(days=days)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "records.sqlite3"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger(path)) as ledger:
        yield ledger


@pytest.fixture
def tokens(ledger: Ledger, clock: Clock) -> Tokens:
    return Tokens(ledger, clock=clock)


def test_a_token_is_found_by_its_secret_alone_which_nothing_keeps(tokens: Tokens, path: Path, clock: Clock) -> None:
    assert not tokens.any() and tokens.find("pypl_" + "a" * 43) is None
    made, secret = tokens.create(
        "ci", by="cli:root", may=["yank", "upload"], indexes=["prod"], projects=["acme-*", "b"], expires=clock.moment(1)
    )
    assert made == Token(
        id=made.id,
        name="ci",
        user=None,
        may=frozenset({"upload", "yank"}),
        indexes=("prod",),
        projects=("acme-*", "b"),
        created=clock.moment(),
        by="cli:root",
        expires=clock.moment(1),
        used=None,
    )
    assert re.fullmatch("pypl_[A-Za-z0-9_-]{43}", secret) and hash(made)
    assert tokens.find(secret) == made and tokens.any()
    for wrong in (
        "",
        secret[:-1],
        secret + "a",
        secret.swapcase(),
        "pypl_" + "\ud800" * 43,
        "x" * 10_000,
        f"{secret}\n",
    ):
        assert tokens.find(wrong) is None
    data = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert secret.encode() not in data and secret[5:].encode() not in data
    assert hashlib.sha256(secret.encode()).digest() in data


def test_a_token_that_is_over_is_not_found_and_leaves_its_name(tokens: Tokens, clock: Clock) -> None:
    _, secret = tokens.create("ci", by="x", user="ann", expires=clock.moment(1))
    clock.now += DAY - 1
    assert tokens.find(secret) is not None
    with pytest.raises(Conflict, match="token ci of ann"):
        tokens.create("ci", by="x", user="ann")
    clock.now += 1
    assert tokens.find(secret) is None and len(tokens.list()) == 1
    _, another = tokens.create("ci", by="x", user="ann")
    assert tokens.find(another) is not None and len(tokens.list()) == 1


def test_a_user_has_no_more_tokens_and_a_token_no_more_words_than_fit_in_every_process(
    tokens: Tokens, clock: Clock
) -> None:
    for projects in (["a" * 100] * 21, ["a" * 2049]):
        with pytest.raises(Invalid, match="2048 characters"):
            tokens.create("ci", by="x", user="ann", indexes=["prod"], projects=projects)
    for number in range(MOST):
        tokens.create(f"t{number}", by="x", user="ann", expires=clock.moment(1) if number < 2 else None)
    for day in (0, 1, 30):  # those that are over count too, as long as they are kept
        clock.now += DAY * day
        if day < 30:
            with pytest.raises(Conflict, match="revoke one first"):
                tokens.create("more", by="x", user="ann")
    tokens.create("more", by="x", user="ann")
    assert len(tokens.list("ann")) == MOST - 1
    tokens.create("t0", by="x", user="bob", projects=["a" * 20] * 97)
    for number in range(MOST + 1):
        tokens.create(f"t{number}", by="x", may=["upload"])


def test_names_are_a_users_own(tokens: Tokens) -> None:
    tokens.create("ci", by="x", may=["upload"])
    tokens.create("ci", by="x", user="ann")
    tokens.create("ci", by="x", user="bob")
    with pytest.raises(Conflict, match="of no user"):
        tokens.create("ci", by="x", may=["upload"])
    assert [token.user for token in tokens.list("ann")] == ["ann"] and len(tokens.list()) == 3
    assert [token.shown for token in tokens.list()] == ["token:ci", "ann", "bob"]


@pytest.mark.parametrize("name", ["", "-a", "a b", "a:b", "a" * 65, "é", "a\n", "token:a"])
def test_a_name_that_cannot_be_is_refused(tokens: Tokens, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        tokens.create(name, by="x", user="ann")


def test_a_token_of_no_user_says_what_it_may_and_none_ends_before_it_began(tokens: Tokens, clock: Clock) -> None:
    with pytest.raises(Invalid, match="what it may"):
        tokens.create("ci", by="x")
    with pytest.raises(Invalid, match="future"):
        tokens.create("ci", by="x", user="ann", expires=clock.moment())
    assert tokens.list() == []


def test_another_process_knows_of_a_token_and_of_its_end_at_the_next_question(tokens: Tokens, path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        other = Tokens(ledger)
        made, secret = tokens.create("ci", by="x", user="ann")
        found = other.find(secret)
        assert found is not None and found == made
        assert other.find(secret) is found  # from memory
        assert tokens.revoke(made.id) == replace(made)
        assert other.find(secret) is None and tokens.find(secret) is None
    with pytest.raises(Missing):
        tokens.revoke(made.id)


def test_the_day_of_the_last_use_is_written_once_a_day(tokens: Tokens, clock: Clock) -> None:
    said: list[int] = []
    tokens._later = lambda: said.append(1)
    _, secret = tokens.create("ci", by="x", user="ann")
    for _ in range(3):
        assert tokens.find(secret) is not None
    assert tokens.list()[0].used is None and len(said) == 1
    tokens.flush()
    assert tokens.list()[0].used == date(2024, 10, 4)
    clock.now += DAY
    tokens.find(secret)
    tokens.flush()
    assert tokens.list()[0].used == date(2024, 10, 5) and len(said) == 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of settings, of an index with a user."""
    live.write_htpasswd(tmp_path / "htpasswd", ann="pw")
    (tmp_path / "packages").mkdir()
    (tmp_path / "pypiserver-lite.toml").write_text(
        'packages = ["packages"]\npasswords = "htpasswd"\ndisable_fallback = true\n[index.prod]\npackages = ["prod"]\n'
    )
    make_wheel(tmp_path / "prod")
    return tmp_path


def records(folder: Path) -> Records:
    return Records(folder / "packages" / ".pypiserver-lite" / "records.sqlite3")


def test_the_verb_makes_lists_and_revokes(folder: Path) -> None:
    made = run(
        *(folder, "token", "create", "ci", "--may", "upload", "--may", "yank,remove", "--index", "/prod/"),
        *("--project", "acme-*", "--expires", "90d"),
    ).good()
    secret = made.splitlines()[0]
    assert re.fullmatch("pypl_[A-Za-z0-9_-]{43}", secret)
    assert "ci of no user, may remove upload yank, in prod, for acme-*, until 20" in made and "not shown again" in made
    run(folder, "token", "create", "ci", "--user", "ann").good()
    with closing(records(folder)) as kept:
        assert kept.tokens.find(secret) is not None
    listed = run(folder, "token", "list").good()
    assert listed.count("never used") == listed.count("last used 20") == 1
    assert "ci of ann, may all that its user may" in listed
    assert secret not in listed
    (one,) = json.loads(run(folder, "token", "list", "--user", "ann", "--json").good())
    assert (one["name"], one["user"], one["may"], one["indexes"]) == ("ci", "ann", None, [])
    assert "ci: revoked" in run(folder, "token", "revoke", "ci").good()
    assert "there is one of ann" in run(folder, "token", "revoke", "ci").bad()
    with closing(records(folder)) as kept:
        assert kept.tokens.find(secret) is None
        events = [(event.action, event.outcome, event.reason) for event in kept.trail.find()]
        assert all(event.who.startswith("cli:") for event in kept.trail.find())
    assert events == [
        ("token-revoke", "done", "ci of no user"),
        ("token-create", "done", "ci of ann"),
        ("token-create", "done", "ci of no user"),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create"], "takes the name"),
        (["list", "ci"], "takes no name"),
        (["create", "ci"], "what it may"),
        (["create", "ci", "--may", "uplaod"], "did you mean 'upload'"),
        (["create", "ci", "--user", "eve"], "no password file has a user 'eve'"),
        (["create", "ci", "--may", "upload", "--index", "prd"], "did you mean 'prod'"),
        (["create", "ci", "--may", "upload", "--project", "a b/c"], "--project: 'b/c'"),
        (["create", "ci", "--may", "upload", "--project", ","], "--project: it is empty"),
        (["create", "ci", "--may", "upload", "--expires", "soon"], "--expires: 'soon'"),
        (["create", "ci", "--may", "upload", "--expires", "2020-01-01"], "future"),
        (["list", "--expires", "1d"], "are for token create"),
        (["revoke", "ci"], "there is no token 'ci' of no user"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_no_token_is_made(folder: Path, words: list[str], said: str) -> None:
    assert said in run(folder, "token", *words).bad()
    with closing(records(folder)) as kept:
        assert kept.tokens.list() == []


def test_passwd_leaves_no_token_to_the_next_user_of_a_name(folder: Path) -> None:
    live.write_htpasswd(folder / "theirs", ann="pw")
    with (folder / "pypiserver-lite.toml").open("a") as file:
        file.write('passwords = "theirs"\n')

    def names() -> list[str]:
        return [one["name"] for one in json.loads(run(folder, "token", "list", "--user", "ann", "--json").good())]

    for name, index in (("ours", "/"), ("theirs", "prod"), ("both", "/,prod")):
        words = [word for one in index.split(",") for word in ("--index", one)]
        run(folder, "token", "create", name, "--user", "ann", *words).good()
    run(folder, "passwd", "htpasswd", "ann", "--stdin", text="another\n").good()
    assert names() == ["both", "ours", "theirs"]
    run(folder, "passwd", "htpasswd", "ann", "--delete").good()
    assert names() == ["theirs"]
    (folder / "theirs").write_text("")  # a line that went by hand
    run(folder, "passwd", "theirs", "ann", "--stdin", text="pw\n").good()
    assert names() == []
    assert "of ann, whose tokens end: ours both" in run(folder, "audit").good()
