"""What is kept within bounds, done once for many, and bounded while it waits."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from packaging.utils import NormalizedName

from pypiserver_lite.errors import Busy
from pypiserver_lite.kept import Kept, Turnstile
from pypiserver_lite.model import Project


def test_a_thing_is_made_once_for_all_who_ask_and_the_oldest_go() -> None:
    kept = Kept[bytes](len, most_bytes=4000, waiting=Turnstile(2))
    begun, made, source = threading.Event(), [], object()

    def make() -> bytes:
        made.append(1)
        begun.wait(10)
        return bytes(1000)

    with ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(kept.get, ("a",), (source,), make) for _ in range(9)]
        # One makes it, two wait, and nobody else is held up with them.
        deadline = time.monotonic() + 20
        refused, waiting = wait(asked, 0)
        while len(refused) < 6 and time.monotonic() < deadline:
            refused, waiting = wait(asked, 0.01)
        assert all(isinstance(one.exception(), Busy) for one in refused) and len(waiting) == 3
        begun.set()
        assert len({id(one.result(20)) for one in waiting}) == 1
    assert len(made) == 1
    with pytest.raises(ZeroDivisionError):
        kept.get(("b",), (source,), lambda: bytes(1 // 0))
    for letter in "bcd":
        kept.get((letter,), (source,), lambda: bytes(1000))
    assert kept.weight < 4000
    kept.get(("a",), (source,), make)
    assert len(made) == 2  # it had to go
    kept.get(("a",), (object(),), make)
    assert len(made) == 3


def test_what_is_made_of_a_project_does_not_keep_it() -> None:
    kept, project = Kept[bytes](len), Project(name=NormalizedName("foo"))
    gone = weakref.ref(project)
    assert kept.get(("a",), (project,), lambda: b"page") == kept.get(("a",), (project,), lambda: b"other") == b"page"
    del project
    assert gone() is None
    assert kept.get(("a",), (Project(name=NormalizedName("foo")),), lambda: b"anew") == b"anew"


def test_what_is_used_stays_and_the_keys_count_too() -> None:
    kept = Kept[bytes](len, most_bytes=20_000)
    for number in range(10):
        kept.put(number, bytes(1000))
    for number in range(10, 200):
        assert kept.find(0) == bytes(1000)
        kept.put(number, bytes(1000))
        assert kept.weight <= 20_000
    assert kept.find(1) is None and kept.find(199) is not None
    for number in range(100):
        kept.put(("a" * 1000, number), b"")
    assert kept.weight <= 20_000 and kept.find(("a" * 1000, 99)) == b"" and kept.find(("a" * 1000, 50)) is None


def test_what_is_larger_than_the_bound_is_kept_alone() -> None:
    kept = Kept[bytes](len, most_bytes=20_000)
    kept.put("small", b"a")
    kept.put("large", bytes(30_000))
    assert kept.find("large") == bytes(30_000) and kept.find("small") is None
    kept.put("small", b"a")
    assert kept.find("large") is None and kept.weight < 20_000


def test_a_store_whose_lock_was_held_by_another_thread_works_in_a_forked_process() -> None:
    kept, begun, go_on = Kept[bytes](len), threading.Event(), threading.Event()
    kept.put("a", b"a")

    class Slow:
        """A key for which everything in the store waits."""

        def __hash__(self) -> int:
            begun.set()
            go_on.wait(60)
            return 1

    def go_on_here() -> None:
        kept.after_fork()
        kept.put("b", b"b")

    other = threading.Thread(target=kept.put, args=(Slow(), b"c"), daemon=True)
    here = threading.Thread(target=go_on_here, daemon=True)
    other.start()
    assert begun.wait(60)  # as at the moment of a fork
    here.start()
    here.join(20)
    found = kept.find("a"), kept.find("b")
    go_on.set()
    assert not here.is_alive() and found == (None, b"b")
    other.join(20)


def test_several_kinds_of_slow_work_do_not_fill_all_places_together() -> None:
    all_kinds = Turnstile(3)
    logins, digests = Turnstile(2, within=all_kinds), Turnstile(2, within=all_kinds)
    logins.enter()
    logins.enter()
    digests.enter()
    with pytest.raises(Busy):
        digests.enter()  # there is a place of its kind, but none of all
    with pytest.raises(Busy):
        logins.enter()
    logins.leave()
    digests.enter()
    for turnstile in (logins, digests, digests):
        turnstile.leave()
    for _ in range(3):
        all_kinds.enter()


def test_another_kind_of_slow_work_may_begin_while_others_are_under_way() -> None:
    """Settings that are read again make new ones; whoever is through an old one still gives its place back."""
    all_kinds = Turnstile(1)
    with all_kinds.inside():
        other = Turnstile(1, within=all_kinds)
        with pytest.raises(Busy):
            other.enter()
    with other.inside(), pytest.raises(Busy), all_kinds.inside():
        pass


def test_a_turnstile_lets_so_many_through_and_says_so_to_the_rest() -> None:
    turnstile = Turnstile(2)
    with turnstile.inside(), turnstile.inside(), pytest.raises(Busy), turnstile.inside():
        pass
    with turnstile.inside():
        pass


def test_pieces_hold_their_place_until_they_are_read_or_nobody_will() -> None:
    turnstile = Turnstile(1)

    def fails() -> Iterator[bytes]:
        raise OSError

    def breaks() -> Iterator[bytes]:
        yield b"a"
        raise OSError

    with pytest.raises(OSError):
        turnstile.through(fails)
    with pytest.raises(OSError) as kept:  # with all that led to it
        list(turnstile.through(breaks))
    with turnstile.inside():
        del kept
    assert list(turnstile.through(lambda: iter([b"a", b"b"]))) == [b"a", b"b"]
    begun = turnstile.through(lambda: iter([b"a", b"b"]))
    assert next(begun) == b"a"
    with pytest.raises(Busy):
        turnstile.through(lambda: iter([]))
    begun.close()  # type: ignore[attr-defined]  # a generator
    unread = turnstile.through(lambda: iter([b"a"]))
    del unread
    closed = turnstile.through(lambda: iter([b"a"]))
    closed.close()  # type: ignore[attr-defined]
    with turnstile.inside():
        pass


def test_a_place_is_given_back_once_whoever_lets_go_of_it() -> None:
    turnstile = Turnstile(3)
    pieces = [turnstile.through(lambda: iter([b"a"])) for _ in range(3)]
    threads = [threading.Thread(target=lambda piece=piece: list(piece)) for piece in pieces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pieces.clear()
    with turnstile.inside(), turnstile.inside(), turnstile.inside(), pytest.raises(Busy), turnstile.inside():
        pass
