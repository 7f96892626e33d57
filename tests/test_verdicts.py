"""The rules of a policy: what each hides, which comes first, and that nothing gets past them."""

from __future__ import annotations

import dataclasses
import math
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import NormalizedName

from pypiserver_lite.config.indexes import PolicySettings
from pypiserver_lite.config.settings import POLICY_KEYS
from pypiserver_lite.metadata import parse
from pypiserver_lite.model import File
from pypiserver_lite.policy.licences import Allowed, Said
from pypiserver_lite.policy.verdicts import NOTHING, ORDER, Known, Rules

NOW = datetime(2026, 10, 1, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
MIT = Said(expression="MIT")


def policy(**said: Any) -> Rules:
    """Rules as the file of settings says them."""
    return Rules(PolicySettings(**{key: POLICY_KEYS[key].parse(value) for key, value in said.items()}))


def a_file(version: str = "1.0", filename: str = "", *, name: str = "foo", **more: Any) -> File:
    """A file of a project that was uploaded long ago."""
    facts: dict[str, Any] = {"size": 1000, "uploaded": NOW - 100 * DAY, **more}
    filename = filename or f"{name}-{version}-py3-none-any.whl"
    return File(filename=filename, project=NormalizedName(name), version=version, **facts)


def rule(rules: Rules, file: File, known: Known = NOTHING, now: datetime = NOW) -> str | None:
    """The name of the rule that hides a file."""
    verdict = rules.verdict(file, now.timestamp(), known)
    return verdict.rule if verdict else None


@pytest.mark.parametrize(
    ("said", "file", "expected"),
    [
        ({}, a_file(), None),
        ({"deny": ["bar"]}, a_file(), None),
        ({"deny": ["Foo"]}, a_file(), "deny"),
        ({"deny": ["f*"]}, a_file(), "deny"),
        ({"deny": ["foo>=2"]}, a_file("1.9"), None),
        ({"deny": ["foo>=2"]}, a_file("2.0"), "deny"),
        ({"deny": ["foo>=2"]}, a_file("2.1.dev3"), "deny"),
        ({"deny": ["foo==2.0"]}, a_file("2.0+local"), "deny"),
        ({"deny": ["foo>=2"]}, a_file("what-ever"), "deny"),  # a version that cannot be compared
        ({"allow": ["foo"]}, a_file(), None),
        ({"allow": ["foo<2", "foo==3.*"]}, a_file("3.1"), None),
        ({"allow": ["foo<2", "foo==3.*"]}, a_file("2.1"), "allow"),
        ({"allow": ["foo<2"]}, a_file("what-ever"), "allow"),
        ({"allow": []}, a_file(), "allow"),
        ({"wheels_only": True}, a_file(), None),
        ({"wheels_only": True}, a_file(filename="foo-1.0.tar.gz"), "wheels_only"),
        ({"wheels_only": True}, a_file(filename="foo-1.0-py3.9.egg"), "wheels_only"),
        ({"prereleases": False}, a_file("1.0.post1"), None),
        ({"prereleases": False}, a_file("1.0rc1"), "prereleases"),
        ({"prereleases": False}, a_file("1.0.dev1"), "prereleases"),
        ({"prereleases": False}, a_file("what-ever"), "prereleases"),
        ({"size": "1kB"}, a_file(), None),
        ({"size": "1kB"}, a_file(size=1001), "size"),
        ({"size": "1kB"}, a_file(size=None), "size"),
        ({"until": "2026-09-01"}, a_file(), None),
        ({"until": "2026-09-01"}, a_file(uploaded=datetime(2026, 9, 1, tzinfo=timezone.utc)), None),
        ({"until": "2026-09-01"}, a_file(uploaded=datetime(2026, 9, 1, 0, 0, 1, tzinfo=timezone.utc)), "until"),
        ({"cooldown": "7d"}, a_file(uploaded=NOW - 7 * DAY), None),
        ({"cooldown": "7d"}, a_file(uploaded=NOW - 7 * DAY + timedelta(seconds=1)), "cooldown"),
        ({"licences": ["MIT"]}, a_file(), "licences"),  # it is not known
    ],
)
def test_what_each_rule_hides(said: dict[str, Any], file: File, expected: str | None) -> None:
    assert rule(policy(**said), file) == expected


EVERY: dict[str, Any] = {
    "deny": ["foo"],
    "allow": ["bar"],
    "wheels_only": True,
    "prereleases": False,
    "size": "1B",
    "until": "2020-01-01",
    "cooldown": "900d",
    "licences": ["MIT"],
}
WORST = a_file("1.0rc1", "foo-1.0rc1.tar.gz")


def test_the_first_in_order_is_the_reason_and_all_are_told() -> None:
    assert tuple(EVERY) == ORDER
    for at, name in enumerate(ORDER):
        rules = policy(**{key: EVERY[key] for key in ORDER[at:]})
        assert rule(rules, WORST) == name
        assert tuple(verdict.rule for verdict in rules.of(WORST.project).verdicts(WORST, NOW.timestamp())) == ORDER[at:]


def test_an_exemption_beats_every_rule_until_its_day_is_over() -> None:
    rules = policy(**EVERY, exempt=["foo==1.0rc1 until 2026-10-01"])
    end = datetime(2026, 10, 2, tzinfo=timezone.utc)
    assert rule(rules, WORST, now=end - timedelta(seconds=1)) is None
    assert rule(rules, WORST, now=end) == "deny"
    assert rule(rules, a_file("1.0rc2")) == "deny"
    # While it lasts, the project is not hidden as a whole.
    assert rules.hides(WORST.project, end.timestamp() - 1) is None
    assert (
        rules.hides_until(NOW.timestamp()) == end.timestamp() == rules.of(WORST.project).lasts(WORST, NOW.timestamp())
    )
    assert str(rules.hides(WORST.project, end.timestamp())) == "deny: foo is denied ('foo')"


def test_an_upload_time_that_cannot_be_counts_from_when_a_file_was_first_seen() -> None:
    rules = policy(cooldown="7d", until="2026-09-28")
    for uploaded in (None, NOW + DAY):
        file = a_file(uploaded=uploaded)
        assert rule(rules, file) == "until"
        assert rule(rules, file, Known((NOW - 5 * DAY).timestamp())) == "cooldown"
        assert rule(rules, file, Known((NOW - 7 * DAY).timestamp())) is None
        said = rules.verdict(file, NOW.timestamp(), Known((NOW - 5 * DAY).timestamp()))
        assert said is not None
        assert said.reason == (
            "first seen 2026-09-26 12:00 UTC, its upload time is not known, shown from 2026-10-03 12:00 UTC on"
        )
    assert rule(rules, a_file(uploaded=None), Known((NOW + DAY).timestamp())) == "until"


def test_a_file_is_shown_when_it_is_said_to_be() -> None:
    file = a_file(uploaded=NOW - 7 * DAY + timedelta(seconds=1))
    rules = policy(cooldown="7d")
    verdict = rules.verdict(file, NOW.timestamp())
    assert verdict is not None and verdict.reason.endswith("shown from 2026-10-01 12:01 UTC on")
    assert rule(rules, file, now=NOW + timedelta(minutes=1)) is None


@pytest.mark.parametrize(
    ("lines", "allowed", "shown"),
    [
        (["License-Expression: MIT"], ["MIT"], True),
        (["License-Expression: mit"], ["MIT"], True),
        (["License-Expression: MIT OR GPL-3.0-only"], ["MIT"], True),
        (["License-Expression: MIT AND GPL-3.0-only"], ["MIT"], False),
        (["License-Expression: MIT AND (GPL-3.0-only OR Apache-2.0)"], ["MIT", "Apache-2.0"], True),
        (["License-Expression: Apache-2.0 WITH LLVM-exception"], ["Apache-2.0"], True),
        (["License-Expression: GPL-3.0-only AND MIT"], ["GPL-3.0-only AND MIT"], True),
        (["License-Expression: MIT AND", "License: MIT"], ["MIT"], False),  # none that can be read
        (["License-Expression: GPL-3.0-only", "License: MIT"], ["MIT"], False),
        (["License: MIT License"], ["MIT"], True),
        (["License-Expression: Apache-2.0"], ["Apache License 2.0"], True),
        (["License: Apache License, Version 2.0"], ["Apache-2.0"], True),
        (["License: GPL-3.0-only", "Classifier: License :: OSI Approved :: MIT License"], ["MIT"], False),
        (["License: see LICENSE", "Classifier: License :: OSI Approved :: MIT License"], ["MIT"], True),
        (["License: BSD"], ["BSD-3-Clause"], False),
        (["License: BSD"], ["bsd"], True),
        (["Classifier: License :: OSI Approved :: MIT License"], ["MIT"], True),
        (["Classifier: License :: OSI Approved :: BSD License"], ["BSD License"], True),
        (["Classifier: License :: OSI Approved"], ["MIT"], False),
        (
            [
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
            ],
            ["MIT"],
            False,
        ),
        (["License: UNKNOWN"], ["UNKNOWN"], False),
        ([f"License-Expression: {' OR '.join(['MIT'] * 60)} AND GPL-3.0-only"], ["MIT"], False),
        ([f"License-Expression: {'(' * 500}MIT{')' * 500}"], ["MIT"], False),
        ([], ["MIT"], False),
    ],
)
def test_what_a_release_says_of_its_licence(lines: list[str], allowed: list[str], shown: bool) -> None:
    said = Said.by(parse("\n".join(["Metadata-Version: 2.4", "Name: foo", "Version: 1", *lines, ""]).encode()))
    assert (Allowed(allowed).refuses(said) is None) == shown
    assert Said.of_text(said.text()) == said


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("deny", "numpy[extra]>=1", "names an extra, which is nothing that can be hidden; write 'numpy'"),
        ("deny", "requests[socks]", "names an extra"),
        ("deny", "numpy; python_version < '3'", "neither a name or pattern of a project nor a requirement"),
        ("deny", "numpy>=abc", "neither a name or pattern"),
        ("deny", "", "neither a name or pattern"),
        ("allow", "==1", "neither a name or pattern"),
        ("exempt", "urllib3==2.7.1", "'urllib3==2.7.1' has no end; write 'NAME==VERSION until DATE'"),
        ("exempt", "urllib3==2.7.1 until 2026-13-31", "'2026-13-31' is not a date such as 2026-10-01"),
        ("exempt", " until 2026-12-31", "neither a name or pattern"),
        ("cooldown", "-1d", "not a span of time such as 7d or 12h"),
        ("until", "tomorrow", "not a date such as 2026-10-01"),
        ("licences", "", "it is empty"),
        ("size", "5 potatoes", "not a size"),
    ],
)
def test_what_cannot_be_meant_is_refused(key: str, value: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        policy(**{key: [value] if key in ("deny", "allow", "exempt", "licences") else value})


def test_a_set_of_letters_is_a_pattern() -> None:
    assert rule(policy(deny=["fo[op]*", "lib-[ab]"]), a_file()) == "deny"
    assert rule(policy(deny=["lib-[ab]"]), a_file(name="lib-b")) == "deny"
    assert rule(policy(deny=["lib-[ab]"]), a_file(name="lib-c")) is None


moments = st.none() | st.integers(-400, 400).map(lambda hours: NOW + timedelta(hours=hours))
versions = st.sampled_from(["0.9", "1.0rc1", "1.0", "1.1.dev0", "2.0", "2.0+local", "what-ever"])
endings = st.sampled_from(["-py3-none-any.whl", ".tar.gz", "-cp311-cp311-win_amd64.whl"])
names = st.sampled_from(["foo", "foo-bar", "other"])
files = st.builds(
    lambda name, version, ending, size, uploaded: a_file(
        version, f"{name}-{version}{ending}", name=name, size=size, uploaded=uploaded
    ),
    names,
    versions,
    endings,
    st.none() | st.integers(0, 2000),
    moments,
)
choices = st.lists(st.sampled_from(["foo", "foo-*", "f*", "foo>=2", "foo<1", "*", "other==2.*", "o*>1"]), max_size=3)
policies = st.fixed_dictionaries(
    {},
    optional={
        "deny": choices,
        "allow": choices,
        "wheels_only": st.booleans(),
        "prereleases": st.booleans(),
        "size": st.integers(0, 2000),
        "until": st.sampled_from(["2026-09-25", "2026-10-01T11:00:00Z", "2026-10-10"]),
        "cooldown": st.integers(0, 1_000_000),
        "licences": st.just(["MIT"]),
    },
)
exemptions = st.lists(
    st.tuples(st.sampled_from(["foo==1.0", "foo", "f*>=2", "*"]), st.sampled_from(["2026-09-30", "2026-10-01"])),
    max_size=2,
)
knowns = st.builds(
    Known,
    moments.map(lambda moment: moment.timestamp() if moment else None),
    st.sampled_from([None, MIT, Said(expression="GPL-3.0-only")]),
)


@given(policies, exemptions, files, knowns)
def test_no_combination_shows_what_any_rule_hides_unless_it_is_exempt(
    said: dict[str, Any], exempt: list[tuple[str, str]], file: File, known: Known
) -> None:
    now = NOW.timestamp()
    alone = [rule(policy(**{key: value}), file, known) for key, value in said.items()]
    alive = [choice for choice, day in exempt if day == "2026-10-01"]
    exempted = bool(alive) and rule(policy(allow=alive), file) is None
    together = policy(**said, exempt=[f"{choice} until {day}" for choice, day in exempt])
    first = next((name for name in ORDER if name in alone), None)
    assert rule(together, file, known) == (None if exempted else first)
    # What is hidden as a whole is hidden in each of its files, and governed; so is what a rule hides at any time.
    if together.hides(file.project, now):
        assert rule(together, file, known)
    if rule(together, file, known):
        assert together.governs(file.project)


@given(policies, exemptions, files, knowns, st.integers(1, 2_000_000))
def test_nothing_changes_before_the_moment_that_is_told(
    said: dict[str, Any], exempt: list[tuple[str, str]], file: File, known: Known, later: int
) -> None:
    now = NOW.timestamp()
    known = dataclasses.replace(known, seen=min(now, known.seen or now))
    rules = policy(**said, exempt=[f"{choice} until {day}" for choice, day in exempt])
    until = rules.of(file.project).lasts(file, now, known)
    assert until > now
    for moment in (now + later, math.nextafter(until, now) if until < math.inf else now + 10 * later):
        if now <= moment < until:
            assert list(rules.of(file.project).verdicts(file, moment, known)) == list(
                rules.of(file.project).verdicts(file, now, known)
            )
    whole = rules.hides_until(now)
    if now + later < whole:
        assert rules.hides(file.project, now + later) == rules.hides(file.project, now)
