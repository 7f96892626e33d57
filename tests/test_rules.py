"""What the rules of an index say: to whom, of what, and by which of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from packaging.utils import NormalizedName

from pypiserver_lite.config.indexes import Rule
from pypiserver_lite.config.values import RIGHTS, parse_people, parse_rights, parse_whom
from pypiserver_lite.model import User
from pypiserver_lite.rights.rules import ACTIONS, CHANGES, RuleBook

ACME, OTHER = NormalizedName("acme-tools"), NormalizedName("other")
ALL = frozenset(RIGHTS)


@dataclass(frozen=True)
class Token:
    """What a token says."""

    name: str = "ci"
    user: str | None = None
    may: frozenset[str] | None = None
    indexes: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()


def rule(who: str, may: str = "", may_not: str = "", projects: str = "", indexes: str = "") -> Rule:
    """A rule, each of its lists as words."""
    return Rule(
        who=tuple(who.split()),
        may=parse_rights(may) if may else frozenset(),
        may_not=parse_rights(may_not) if may_not else frozenset(),
        projects=tuple(projects.split()),
        indexes=tuple(indexes.split()),
        place="line",
    )


def user(name: str, token: Token | None = None) -> User:
    return User(name=name, token=token)


ANN, BOB, EVE = user("ann"), user("bob"), user("eve")
GROUPS = {"release": ["ann", "ci"], "empty": []}


def may(book: RuleBook, who: User | None, project: NormalizedName | None = ACME, **owned: object) -> set[str]:
    """All that somebody may do with a project that `owned`: by whom."""
    owners = owned.get("by", frozenset())
    assert owners is None or isinstance(owners, frozenset)
    return {action for action in ACTIONS if book.decide(who, action, project, lambda: owners).allowed}


@pytest.mark.parametrize(
    ("rules", "who", "project", "allowed"),
    [
        ([], ANN, ACME, ""),
        ([rule("*", "list download")], None, ACME, "list download"),
        ([rule("*", "list download")], ANN, ACME, "list download"),
        ([rule("users", "list")], None, ACME, ""),
        ([rule("users", "list")], BOB, ACME, "list"),
        ([rule("ann", "yank")], BOB, ACME, ""),
        ([rule("ann bob", "yank")], BOB, ACME, "yank"),
        ([rule("Ann", "yank")], ANN, ACME, ""),
        ([rule("@release", "upload")], ANN, ACME, "upload push"),
        ([rule("@release", "upload")], BOB, ACME, ""),
        ([rule("@empty", "upload")], ANN, ACME, ""),
        ([rule("@unheard", "upload")], ANN, ACME, ""),
        # The first that names the action decides.
        ([rule("ann", may_not="list"), rule("*", "list download")], ANN, ACME, "download"),
        ([rule("*", "list"), rule("ann", may_not="list")], ANN, ACME, "list"),
        ([rule("ann", "list", "download"), rule("*", "*")], ANN, ACME, "list upload yank remove push"),
        # Projects are compared as they are normalised.
        ([rule("ann", "yank", projects="Acme_*")], ANN, ACME, "yank"),
        ([rule("ann", "yank", projects="acme.tools other")], ANN, ACME, "yank"),
        ([rule("ann", "yank", projects="acme")], ANN, ACME, ""),
        ([rule("ann", "yank", projects="acme-*")], ANN, OTHER, ""),
        ([rule("ann", may_not="yank", projects="acme-*"), rule("ann", "yank")], ANN, OTHER, "yank"),
        # What is about some projects says nothing of the index as a whole.
        ([rule("ann", "*", projects="*")], ANN, None, ""),
        ([rule("ann", "*")], ANN, None, "list download upload yank remove push admin"),
        # Others' indexes are others'.
        ([rule("ann", "list", indexes="prod")], ANN, ACME, ""),
        ([rule("ann", "list", indexes="prod /")], ANN, ACME, "list"),
        # Upload is enough to push to here, and nothing else is.
        ([rule("ann", "push")], ANN, ACME, "push"),
        ([rule("ann", may_not="push"), rule("ann", "upload")], ANN, ACME, "upload push"),
        # Nobody administers without a login, or because anybody may everything.
        ([rule("*", "*")], None, ACME, "list download upload yank remove push"),
        ([rule("*", "*")], ANN, None, "list download upload yank remove push"),
        ([rule("users", "*")], ANN, None, "list download upload yank remove push admin"),
    ],
)
def test_the_first_rule_that_names_an_action_decides(
    rules: list[Rule], who: User | None, project: NormalizedName | None, allowed: str
) -> None:
    assert may(RuleBook(rules, GROUPS), who, project) == set(allowed.split())


def test_owners_may_what_owners_may_and_a_name_is_the_firsts_who_publishes_it() -> None:
    book = RuleBook([rule("owner", "upload yank"), rule("users", "list")])
    assert may(book, ANN, by=frozenset({"ann", "bob"})) == {"upload", "yank", "push", "list"}
    assert may(book, EVE, by=frozenset({"ann", "bob"})) == {"list"}
    assert may(book, EVE, by=frozenset()) == {"list"}  # it has files, and nobody knows whose
    assert may(book, EVE, by=None) == {"list", "upload", "push"}  # and so may be pushed to here, but not be yanked
    assert may(book, None, by=None) == set()
    assert book.decide(EVE, "upload", ACME, lambda: None).by_owning
    assert book.decide(ANN, "upload", ACME, lambda: frozenset({"ann"})).by_owning
    assert not book.decide(ANN, "list", ACME, lambda: frozenset({"ann"})).by_owning
    # Of a name that is nobody's nothing is said by what owners may not.
    book = RuleBook([rule("owner", may_not="upload"), rule("users", "upload")])
    assert book.decide(ANN, "upload", ACME, lambda: None).allowed
    assert not book.decide(ANN, "upload", ACME, lambda: frozenset({"ann"})).allowed
    # Rules are asked in order: who owns it is looked up only if it matters.
    book = RuleBook([rule("users", "upload"), rule("owner", "upload yank")])

    def never() -> frozenset[str]:
        raise AssertionError

    assert book.decide(ANN, "upload", ACME, never).allowed
    assert not book.decide(None, "upload", ACME, never).allowed


def test_a_name_that_is_free_is_to_who_may_not_list_it_as_one_that_is_here() -> None:
    rules = [rule("ann", may_not="list", projects="secret-*"), rule("owner", "upload"), rule("users", "list")]
    secret, book = NormalizedName("secret-tools"), RuleBook(rules)
    for who in ("ann", "bob"):
        for token in (None, Token(user=who, may=frozenset({"upload"}))):  # what its user may list is what counts
            asks = user(who, token)
            free, here = (book.decide(asks, "upload", secret, lambda: None), book.decide(asks, "upload", secret))
            assert free.by_owning == (who == "bob") and not here.allowed and (who == "bob" or free == here)
            assert book.decide(asks, "upload", ACME, lambda: None).by_owning
    book = RuleBook([*rules, rule("ann", "upload")])
    assert book.decide(ANN, "upload", secret, lambda: None).allowed
    assert book.decide(ANN, "upload", secret, lambda: None) == book.decide(ANN, "upload", secret)


def test_words_are_no_users() -> None:
    # Somebody in the password file may be called so; that makes them nobody else.
    book = RuleBook([rule("owner", "upload"), rule("users", "list"), rule("@release", "yank")], GROUPS)
    assert may(book, user("owner"), by=frozenset({"ann"})) == {"list"}
    assert may(book, user("@release")) == {"list"}
    assert may(book, user("users")) == {"list"}


def test_admins_may_everything_and_without_rules_nobody_else_administers() -> None:
    book = RuleBook([rule("*", may_not="*")], admins=["ann"])
    assert may(book, ANN) == set(ACTIONS) and may(book, ANN, None) == set(ACTIONS)
    assert may(book, BOB) == set() and may(book, None) == set()
    book = RuleBook.of_flags(["update"], admins=["ann"])
    assert may(book, ANN, None) == set(ACTIONS)
    assert may(book, BOB, None) == set(ACTIONS) - {"admin"}


@pytest.mark.parametrize(
    ("protected", "is_open", "anybody", "users"),
    [
        (["update"], False, "list download", "*"),
        ([], False, "list download", "*"),
        (["list"], False, "download", "*"),
        (["update", "download", "list"], False, "", "*"),
        ([], True, "*", "*"),
        (["list"], True, "download upload yank remove push", "*"),
    ],
)
def test_flags_say_what_they_said(protected: list[str], is_open: bool, anybody: str, users: str) -> None:
    book = RuleBook.of_flags(protected, open=is_open)
    allowed = parse_rights(anybody) if anybody else frozenset()
    assert may(book, None) == allowed - {"admin"}
    assert may(book, ANN) == parse_rights(users) - {"admin"}
    assert book.open >= allowed - {"admin"}
    assert ("update" in book.open) == is_open
    assert book.view(None) is None  # who passed the gate sees all
    assert book.decide(ANN, "upload", ACME).by == ("no -a update" if is_open else "-a update")


def test_a_token_narrows_what_its_user_may() -> None:
    book = RuleBook([rule("*", "list", projects="pub-*"), rule("ann", "*"), rule("bob", "list")])

    def ann(**said: object) -> User:
        return user("ann", Token(user="ann", **said))  # type: ignore[arg-type]

    assert may(book, ann()) == set(ACTIONS)
    assert may(book, ann(may=frozenset({"upload"}))) == {"upload", "push"}
    assert may(book, ann(may=frozenset({"upload"}), projects=("acme-*",))) == {"upload", "push"}
    assert may(book, ann(may=frozenset({"upload"}), projects=("acme-*",)), OTHER) == set()
    assert may(book, ann(indexes=("prod",))) == set()
    assert may(book, ann(indexes=("prod", "/"))) == set(ACTIONS)
    assert may(book, user("bob", Token(user="bob", may=frozenset({"upload", "list"})))) == {"list"}
    # What anybody may without it is not taken away by it.
    assert may(book, ann(may=frozenset({"upload"})), NormalizedName("pub-lib")) == {"upload", "push", "list"}
    # One that is limited to projects administers nothing.
    assert may(book, ann(projects=("*",)), None) == set()


def test_a_token_of_no_user_has_exactly_what_it_says() -> None:
    book = RuleBook([rule("users", "*")], admins=["ci", "token:ci"])

    def robot(**said: object) -> User:
        return user("token:ci", Token(**said))  # type: ignore[arg-type]

    assert may(book, robot()) == set()  # it has to say
    assert may(book, robot(may=frozenset({"upload"}))) == {"upload", "push"}
    assert may(book, robot(may=ALL, projects=("acme-*",))) == set(ACTIONS) - {"admin"}
    assert may(book, robot(may=ALL, projects=("acme-*",)), OTHER) == set()
    assert may(book, robot(may=ALL, indexes=("prod",))) == set()
    assert may(RuleBook([rule("*", may_not="list")]), robot(may=frozenset({"list"}))) == {"list"}
    assert may(RuleBook([rule("*", "list")]), robot(may=frozenset({"upload"}))) == {"list", "upload", "push"}


PEOPLE = [None, ANN, BOB, EVE, user("ann", Token(user="ann", projects=("acme-*",))), user("token:ci", Token(may=ALL))]
BOOKS = [
    [rule("*", "list")],
    [rule("users", "list")],
    [rule("*", "list", projects="pub-*"), rule("ann", "list")],
    [rule("bob", may_not="list", projects="acme-*"), rule("*", "list")],
    [rule("bob", may_not="list", projects="acme-*"), rule("users", "list", projects="acme-* pub-*")],
    [rule("*", "list", projects="pub-*"), rule("*", may_not="list", projects="pub-secret"), rule("ann", "list")],
    [rule("*", may_not="list", projects="pub-secret"), rule("*", "list", projects="pub-*"), rule("@release", "list")],
    [rule("ann", may_not="list"), rule("*", "list")],
    [rule("owner", "upload"), rule("*", "list download", projects="acme-*")],
]
NAMES = [NormalizedName(name) for name in ("acme-tools", "pub-lib", "pub-secret", "other")]


@pytest.mark.parametrize("rules", BOOKS)
@pytest.mark.parametrize("who", PEOPLE, ids=["nobody", "ann", "bob", "eve", "ann-token", "token"])
def test_a_view_shows_exactly_what_may_be_listed(rules: list[Rule], who: User | None) -> None:
    book = RuleBook(rules, GROUPS)
    view, listed = book.view(who), [name for name in NAMES if book.decide(who, "list", name).allowed]
    if view is not None:
        assert [name for name in NAMES if view.shows(name)] == listed
        assert view.nobody == (who is None)
        assert hash(view) == hash(RuleBook(rules, GROUPS).view(who))
    elif book.reaches(who, "list"):
        assert listed == NAMES
    for action in ACTIONS:
        if any(book.decide(who, action, name, lambda: None).allowed for name in [*NAMES, None]):
            assert book.reaches(who, action)
        if action in book.open:
            assert all(book.decide(who, action, name).allowed for name in NAMES)
    assert book.reaches(who, "update") == any(book.reaches(who, change) for change in CHANGES)


def test_who_sees_the_same_has_the_same_view() -> None:
    book = RuleBook([rule("ann bob", "list", projects="acme-*"), rule("eve", "list")])
    assert book.view(ANN) == book.view(BOB) is not None
    assert book.view(EVE) is None
    assert book.view(None) is not None and not book.view(None).parts  # type: ignore[union-attr]


def test_what_is_open_is_open_for_everybody() -> None:
    assert RuleBook([rule("*", "list")]).open == {"list"}
    assert RuleBook([rule("*", "upload")]).open == {"upload", "push"}
    assert RuleBook([rule("bob", may_not="list"), rule("*", "list")]).open == set()
    assert RuleBook([rule("bob", "list"), rule("*", "list")]).open == {"list"}
    assert RuleBook([rule("*", "list", projects="*")]).open == set()
    assert RuleBook([rule("*", "*")]).open == {*ACTIONS, "update", "form"} - {"admin"}
    assert RuleBook.of_flags((), open=True).open == {*ACTIONS, "update", "form", "reload"} - {"admin"}


def test_settings_are_read_again_for_admins_or_where_there_are_none_for_those_who_may_upload() -> None:
    assert RuleBook.of_flags(["update"]).reaches(ANN, "reload")
    assert not RuleBook.of_flags(["update"]).reaches(None, "reload")
    assert not RuleBook.of_flags(["update"], admins=["bob"]).reaches(ANN, "reload")
    assert RuleBook.of_flags((), open=True, admins=["bob"]).reaches(BOB, "reload")
    assert "reload" not in RuleBook.of_flags((), open=True, admins=["bob"]).open
    assert not RuleBook([rule("*", "*")]).reaches(ANN, "reload")
    assert RuleBook([rule("ann", "admin")]).reaches(ANN, "reload")
    assert not RuleBook([rule("ann", "admin", projects="*")]).reaches(ANN, "reload")


@pytest.mark.parametrize("word", ["updat", "update", "*,lists", "", " "])
def test_actions_that_are_none_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"is none of|names no action"):
        parse_rights(word)


def test_people_are_named_as_the_password_file_does() -> None:
    assert parse_people(["Ann Lee", "bob"]) == ("Ann Lee", "bob")
    assert parse_whom(["*", "users", "owner", "@release", "Ann Lee"])[-1] == "Ann Lee"
    for wrong in ("", "a:b", "a\nb", "@release", "*", "users", "owner", ()):
        with pytest.raises(ValueError, match=r"no name of a user|names nobody"):
            parse_people(wrong)
    for wrong in ("", "a:b", "@", ()):
        with pytest.raises(ValueError, match=r"no name of a|names nobody"):
            parse_whom(wrong)


@pytest.mark.parametrize("whose", [None, "ann"])
def test_a_token_for_some_projects_administers_nothing(whose: str | None) -> None:
    book = RuleBook([rule("users", "list")], admins=["ann"])
    limited = user("ann", Token(user=whose, may=frozenset({"admin"}), projects=("acme-*",)))
    whole = user("ann", Token(user=whose, may=frozenset({"admin"})))
    assert book.reaches(whole, "admin") and not book.reaches(limited, "admin")
    assert "some projects" in book.why_not(limited, "admin")
