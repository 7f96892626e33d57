"""What a policy hides of a project as time goes on, and what it remembers of files that it saw."""

from __future__ import annotations

import dataclasses
import gc
import math
import threading
import time
import weakref
from pathlib import Path

import pytest
from builders import metadata
from packaging.utils import NormalizedName
from policed import DAY, Clock, Nobody, a_project, governed, settings_of

from pypiserver_lite.errors import Missing, Unavailable
from pypiserver_lite.model import File, Project, Stream
from pypiserver_lite.policy.governed import Governed
from pypiserver_lite.policy.licensing import Licences, Licensing
from pypiserver_lite.policy.remembered import Remembered


def test_a_trimmed_project_is_the_same_object_until_a_clock_ticks() -> None:
    clock, source = Clock(), Nobody()
    policy = governed(clock, cooldown="7d")
    project = a_project(clock, 9 * DAY, 6 * DAY, 1 * DAY)
    trimmed, token = policy.trim(project, source), policy.token()
    assert trimmed.versions == ("1.0",)
    clock.now += DAY - 1
    assert policy.trim(project, source).versions == ("1.0",) and policy.token() is token
    first = policy.trim(project, source)
    assert policy.trim(project, source) is first
    clock.now += 1
    assert policy.token() is not token
    second = policy.trim(project, source)
    assert second.versions == ("1.0", "2.0") and policy.trim(project, source) is second
    clock.now += 5 * DAY
    assert policy.trim(project, source) is project
    assert policy.trim(project, source) is project
    # A clock that is set back counts too.
    clock.now -= 5 * DAY
    assert policy.trim(project, source).versions == ("1.0", "2.0")


@pytest.mark.parametrize(("projects", "shown", "hidden"), [(70, 500, 0), (1, 20_000, 0), (30, 900, 1)])
def test_as_much_is_kept_as_an_upstream_keeps_and_none_of_what_it_lets_go(
    projects: int, shown: int, hidden: int
) -> None:
    clock, source = Clock(), Nobody()
    policy = governed(clock, cooldown="7d")
    ages = [9 * DAY] * shown + [DAY] * hidden
    given = [a_project(clock, *ages, name=f"foo{number}") for number in range(projects)]
    found = [policy.verdicts(project, source) for project in given]
    assert all(policy.verdicts(project, source) is verdicts for project, verdicts in zip(given, found, strict=True))
    whole = weakref.ref(given.pop())
    gc.collect()
    assert whole() is None


def test_what_changes_among_hidden_files_leaves_the_page_as_it_is() -> None:
    clock, source = Clock(), Nobody()
    policy = governed(clock, cooldown="7d")
    before, after = a_project(clock, 9 * DAY, DAY), a_project(clock, 9 * DAY, 2 * DAY, 1)
    assert policy.trim(before, source) is policy.trim(after, source)


def test_names_follow_the_clock_and_are_one_object_until_then() -> None:
    clock = Clock()  # in January 2027
    policy = governed(clock, deny=["foo"], exempt=["foo==1 until 2027-02-01"])
    names = tuple(map(NormalizedName, ("bar", "foo")))
    assert policy.names(names) == names and policy.names(names) is policy.names(names)
    shown = policy.names(names)
    assert policy.names(tuple(map(NormalizedName, ("bar", "foo")))) is shown
    assert policy.names(names) is shown
    clock.now += 60 * DAY
    assert policy.names(names) == ("bar",)
    assert policy.names(names) is policy.names(names)


def test_files_of_unknown_age_count_from_the_first_look_at_them_and_once_each(tmp_path: Path) -> None:
    clock, source = Clock(), Nobody()
    remembered = Remembered(tmp_path / "policies.sqlite3")
    project = a_project(clock, None, -5 * DAY)
    policy = governed(clock, remembered, cooldown="7d")
    assert policy.trim(project, source).files == ()
    remembered.close()
    clock.now += 4 * DAY
    remembered = Remembered(tmp_path / "policies.sqlite3")
    policy = governed(clock, remembered, cooldown="7d")
    assert policy.trim(project, source).files == ()
    clock.now += 3 * DAY - 1
    assert policy.trim(project, source).files == ()
    clock.now += 1
    assert policy.trim(project, source).versions == ("1.0",)  # the other one's day came meanwhile, and is believed
    # Other bytes are another file.
    other = Project(
        name=project.name,
        files=tuple(
            File(filename=file.filename, project=file.project, version=file.version, size=11) for file in project.files
        ),
        versions=project.versions,
    )
    assert policy.trim(other, source).files == ()
    remembered.close()


def test_the_memory_is_bounded_and_forgets_what_was_used_longest_ago(tmp_path: Path) -> None:
    clock = Clock()
    projects = [a_project(clock, *[None] * 10, name=f"foo{number}") for number in range(30)]
    for project in projects:
        remembered = Remembered(tmp_path / "policies.sqlite3", most=100)
        remembered.seen(project.files, clock.now)
        remembered.close()  # so that it is written
        clock.now += 1
    remembered = Remembered(tmp_path / "policies.sqlite3", most=100)
    assert set(remembered.seen(projects[-1].files, clock.now).values()) == {1_800_000_029.0}
    seen = [moment for each in projects for moment in remembered.seen(each.files, clock.now, note=False).values()]
    known = [moment < clock.now for moment in seen]
    assert 80 <= sum(known) <= 100 and known == sorted(known)
    remembered.close()


def test_of_two_processes_the_first_sight_holds_but_none_of_the_future(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "policies.sqlite3"
    files = a_project(clock, None).files
    early, late, wrong = Remembered(path), Remembered(path), Remembered(path)
    assert wrong.seen(files, clock.now + DAY) == {"foo-1.0.tar.gz": clock.now + DAY}
    assert early.seen(files, clock.now) == {"foo-1.0.tar.gz": clock.now}
    assert late.seen(files, clock.now + 9) == {"foo-1.0.tar.gz": clock.now + 9}
    for one in (wrong, early, late):
        one.close()
    afterwards = Remembered(path)
    assert afterwards.seen(files, clock.now + 99) == {"foo-1.0.tar.gz": clock.now}
    afterwards.close()


def test_a_file_of_a_folder_without_a_digest_is_another_when_its_time_is() -> None:
    clock, memory = Clock(), Remembered(None)
    one, other = a_project(clock, -5 * DAY).files, a_project(clock, -6 * DAY).files
    assert memory.seen(one, clock.now) == {"foo-1.0.tar.gz": clock.now}
    assert memory.seen(other, clock.now + 9) == {"foo-1.0.tar.gz": clock.now + 9}
    assert memory.seen(one, clock.now + 99) == {"foo-1.0.tar.gz": clock.now}
    memory.close()


def test_licences_of_the_newest_releases_are_found_first() -> None:
    asked: list[str] = []

    class Asked(Nobody):
        def open(self, name: NormalizedName, filename: str, side: str = "") -> None:
            asked.append(filename)

    clock = Clock()
    project = a_project(clock, *[9 * DAY] * 5)
    licensing = Licensing(Remembered(None), threads=1, clock=clock)
    assert Governed(settings_of(licences=["MIT"]), licensing, clock=clock).trim(project, Asked()).files == ()
    assert asked == [f"foo-{number}.0.tar.gz" for number in (5, 4, 3, 2, 1)]


class Told:
    """A source that lets the first file be looked at when it is told to, and remembers which were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def open(self, name: NormalizedName, filename: str, side: str = "") -> Stream:
        self.asked.append(filename.removesuffix(".0.tar.gz"))
        self.begun.set()
        assert self.go.wait(60)
        data = metadata(name, "1.0", "License-Expression: MIT")
        return Stream(read=lambda start, stop: (data,), size=len(data))


def announced(clock: Clock, name: str, releases: int) -> Project:
    """A project whose core metadata can be had."""
    project = a_project(clock, *[9 * DAY] * releases, name=name)
    files = tuple(dataclasses.replace(file, core_metadata={}) for file in project.files)
    return Project(name=project.name, files=files, versions=project.versions)


def test_of_licences_the_newest_of_every_project_come_first_and_what_was_asked_for_last_before_others() -> None:
    clock, source = Clock(), Told()
    licensing = Licensing(Remembered(None), patience=0, threads=1, clock=clock)
    projects = [announced(clock, name, releases) for name, releases in (("first", 1), ("big", 500), ("a", 3), ("b", 3))]

    def ask(project: Project) -> Licences:
        return licensing.of(project, project.versions[::-1], source)

    ask(projects[0])
    assert source.begun.wait(60)
    for project in (*projects[1:], projects[2]):  # and one of them again
        answer = ask(project)
        assert answer.said == {} and answer.later == set(project.versions)
    source.go.set()
    deadline = time.monotonic() + 60
    while len(source.asked) < 207 and time.monotonic() < deadline:
        time.sleep(0.01)
    said = ",".join(source.asked[:11])
    assert said == "first-1,a-3,b-3,big-500,a-2,b-2,big-499,a-1,b-1,big-498,big-497"
    # Whoever asks once has no more than this looked at.
    assert len(source.asked) == 207 and source.asked[-1] == "big-301"
    while len(ask(projects[1]).said) < 500 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(source.asked) == len(set(source.asked)) == 507
    assert ask(projects[1]).until == math.inf


def test_a_memory_that_cannot_be_written_is_one_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "policies.sqlite3").mkdir()
    remembered, clock = Remembered(tmp_path / "policies.sqlite3"), Clock()
    files = a_project(clock, None).files
    remembered.seen(files, clock.now)
    assert remembered.seen(files, clock.now + 5) == {"foo-1.0.tar.gz": clock.now}
    remembered.close()


@pytest.mark.parametrize(("at_first", "pause"), [(None, 600), (Unavailable("not now"), 2), (Missing("none here"), 600)])
def test_what_could_not_be_found_out_of_a_licence_is_looked_for_again_after_a_while(
    at_first: Exception | None, pause: int
) -> None:
    clock, asked = Clock(), 0

    class Source:
        def open(self, name: NormalizedName, filename: str, side: str = "") -> Stream | None:
            nonlocal asked
            asked += 1
            if asked > 1:
                data = metadata("foo", "1.0", "License-Expression: MIT")
                return Stream(read=lambda start, stop: (data,), size=len(data))
            if at_first is not None:
                raise at_first
            return None

    file = dataclasses.replace(a_project(clock, 9 * DAY).files[0], core_metadata={})
    project = Project(name=file.project, files=(file,), versions=(file.version,))
    policy, source = governed(clock, licences=["MIT"]), Source()
    assert policy.trim(project, source).files == ()
    ((verdict,),) = policy.verdicts(project, source).values()
    assert verdict.undecided == isinstance(at_first, Unavailable)
    clock.now += pause - 1
    assert policy.trim(project, source).files == () and asked == 1
    clock.now += 2
    assert policy.trim(project, source) is project and asked == 2


def test_a_source_that_stays_away_is_asked_for_licences_ever_more_seldom() -> None:
    clock, asked = Clock(), 0

    class Away:
        def open(self, name: NormalizedName, filename: str, side: str = "") -> Stream | None:
            nonlocal asked
            asked += 1
            raise Unavailable("not now")

    file = dataclasses.replace(a_project(clock, 9 * DAY).files[0], core_metadata={})
    project = Project(name=file.project, files=(file,), versions=(file.version,))
    policy, times = governed(clock, licences=["MIT"]), []
    for _ in range(120):
        before = asked
        policy.trim(project, Away())
        times += [clock.now - 1_800_000_000] if asked > before else []
        clock.now += 1
    assert times == [0, 2, 6, 14, 30, 60, 90]
