"""Projects that show nothing are left out of lists: soon, never wrongly, and without a new list for nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from packaging.utils import NormalizedName

from pypiserver_lite.emptied import Emptied
from pypiserver_lite.errors import Unavailable

NAMES = tuple(map(NormalizedName, ("a", "b", "c")))


def until_found(emptied: Emptied, names: tuple[NormalizedName, ...], state: object, expected: object) -> None:
    """Ask until the list is as it should be in the end."""
    deadline = time.monotonic() + 60
    while emptied.without(names, state) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert emptied.without(names, state) == expected


def test_what_shows_nothing_is_left_out_and_comes_back_with_the_next_state() -> None:
    empty, state = {"b"}, object()
    emptied = Emptied(lambda name: name not in empty)
    until_found(emptied, NAMES, state, ("a", "c"))
    assert emptied.without(NAMES, state) is emptied.without(NAMES, state)
    listed, later = emptied.without(NAMES, state), object()
    assert emptied.without(NAMES, later) is listed
    empty.clear()
    # What was found before is not believed: the very next list has it.
    assert emptied.without(NAMES, object()) == NAMES


def test_a_project_of_which_nobody_can_say_is_listed() -> None:
    def shows(name: NormalizedName) -> bool:
        if name == "a":
            raise Unavailable("not now")
        return name != "b"

    until_found(Emptied(shows), NAMES, object(), ("a", "c"))


def test_a_slow_look_at_all_holds_nobody_up() -> None:
    go_on, asked = threading.Event(), threading.Event()

    def shows(name: NormalizedName) -> bool:
        asked.set()
        go_on.wait(60)
        return name != "b"

    emptied, state = Emptied(shows), object()
    assert emptied.without(NAMES, state) is NAMES
    assert asked.wait(60)
    assert emptied.without(NAMES, state) is NAMES
    go_on.set()
    until_found(emptied, NAMES, state, ("a", "c"))


def test_names_without_empty_ones_are_the_very_list() -> None:
    emptied, state = Emptied(lambda name: True), object()
    until_found(emptied, NAMES, state, NAMES)
    assert emptied.without(NAMES, state) is NAMES


def test_of_however_many_that_show_nothing_none_is_listed() -> None:
    many = tuple(NormalizedName(f"hidden-{number}") for number in range(5000))
    names = (*NAMES, *many)
    empty, state, asked = set(many), object(), 0
    go_on, here = threading.Event(), threading.current_thread()
    go_on.set()

    def shows(name: NormalizedName) -> bool:
        nonlocal asked
        if threading.current_thread() is here:
            asked += 1
        else:
            go_on.wait(60)
        return name not in empty

    emptied = Emptied(shows)
    until_found(emptied, names, state, NAMES)
    # From here on nothing is found in the background: only what is looked at for a list comes back.
    go_on.clear()
    asked, later = 0, object()
    assert emptied.without(names, later) == NAMES and asked < len(many) / 2
    empty.clear()
    before: Sequence[NormalizedName] = NAMES
    for _ in range(3):
        asked, later = 0, object()
        listed = emptied.without(names, later)
        assert set(before) <= set(listed) and len(listed) > len(many) / 4 and asked < len(many) / 2
        assert emptied.without(names, later) is emptied.without(names, later)
        before = listed
    go_on.set()
    until_found(emptied, names, later, names)
