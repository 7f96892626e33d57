"""Several sources as one: the list of all projects is that of this very moment, for every thread."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from builders import make_wheel

from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder.store import Folder
from pypiserver_lite.index import Index


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def index_over(stack: ExitStack, *roots: Path) -> Index:
    """An index over folders that are looked at whenever they are asked."""
    folders = [Folder([root], Memory(None)) for root in roots]
    for folder in folders:
        stack.callback(folder.close)
    return Index(folders[0], bases=[Index(folder) for folder in folders[1:]])


def exchange(folder: Path, old: str, new: str) -> None:
    """A project goes and another comes: the set is another one, of the same length."""
    (folder / f"{old}-1.0-py3-none-any.whl").unlink()
    make_wheel(folder, new)


def test_the_list_follows_a_set_that_became_another_of_the_same_length(stack: ExitStack, tmp_path: Path) -> None:
    for place, name in (("one", "alpha"), ("two", "beta")):
        make_wheel(tmp_path / place, name)
    index = index_over(stack, tmp_path / "one", tmp_path / "two")
    assert index.names() == ("alpha", "beta")
    assert index.names() is index.names()
    exchange(tmp_path / "one", "alpha", "gamma")
    assert index.names() == ("beta", "gamma")


def test_no_thread_gets_the_old_list_once_the_set_is_known_to_be_another(stack: ExitStack, tmp_path: Path) -> None:
    """A thread that makes the new list is held up after each of its steps, and meanwhile another one asks."""
    for place, name in (("one", "alpha"), ("two", "beta")):
        make_wheel(tmp_path / place, name)
    names = "alpha", "gamma"
    for step in range(1000):
        index = index_over(stack, tmp_path / "one", tmp_path / "two")
        assert index.names() == tuple(sorted((names[step % 2], "beta")))
        exchange(tmp_path / "one", names[step % 2], names[1 - step % 2])
        expected = tuple(sorted((names[1 - step % 2], "beta")))
        asked: list[object] = []
        left = step

        def trace(
            frame: FrameType, event: str, argument: Any, index: Index = index, asked: list[object] = asked
        ) -> Any:
            nonlocal left
            if frame.f_code is not Index.names.__code__:
                return None
            frame.f_trace_opcodes = True
            left -= event == "opcode"
            if left < 0 and not asked:
                asked.append(index.names())
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            assert index.names() == expected
        finally:
            sys.settrace(before)
        if not asked:
            assert step > 20
            return
        assert asked == [expected], step
    raise AssertionError("it takes no end of steps")
