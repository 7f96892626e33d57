"""``explain``: whose a name is and why, every file with what hides it, and which files fit; and no secret."""

from __future__ import annotations

import json
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import live
import pytest
from builders import make_sdist, make_wheel
from hypothesis import given
from packaging.utils import NormalizedName
from policed import Clock, governed, have, listed, of_upstream, policed_upstream, put, served  # noqa: F401 - a fixture
from test_arrangements import FOO, chain, layers, page
from test_verdicts import a_file
from wsgi_client import Client

from pypiserver_lite.cli import main
from pypiserver_lite.errors import Invalid
from pypiserver_lite.index import Index, Way
from pypiserver_lite.policy.explain import explain
from pypiserver_lite.policy.fits import Target
from pypiserver_lite.policy.remembered import Remembered

CHAIN = """
packages = ["root"]
private = ["acme-*"]
upstreams = ["public"]
[upstream.public]
url = "http://someone:s3cret@{host}/simple/"
never = ["never-*"]
[policy]
cooldown = "7d"
deny = ["evil"]
[index.dev]
packages = ["dev"]
bases = ["/"]
[index.dev.policy]
wheels_only = true
merge = ["both"]
"""


@pytest.fixture
def text(tmp_path: Path, upstream: faulty.FaultyUpstream) -> str:
    """A chain of two indexes with something of everything."""
    have(tmp_path / "root", "ours", "1.0")
    have(tmp_path / "root", "ours", "1.0", make=make_sdist)
    have(tmp_path / "root", "ours", "2.0", age=1)
    have(tmp_path / "dev", "ours", "1.0")
    have(tmp_path / "dev", "both", "1.0")
    for name, version in (("theirs", "1.0"), ("both", "1.0"), ("both", "2.0"), ("evil", "1.0"), ("never-this", "1.0")):
        put(upstream, tmp_path / "made", name, version)
    return CHAIN.format(host=f"127.0.0.1:{upstream.port}")


def asked(client: Client, name: str, root: str = "/", **more: str) -> Any:
    """What the interface for programs says."""
    query = "&".join(f"{key}={value}" for key, value in {"name": name, **more}.items())
    return client.get(f"{root}-/api/explain?{query}").json


def test_every_file_is_there_with_what_hides_it(tmp_path: Path, text: str) -> None:
    with served(tmp_path, text) as client:
        said = asked(client, "Ours", "/dev/")
        assert said["owner"] == {"kind": "folder", "why": "the folder of dev has it, so no upstream is asked for it"}
        files = [
            (file["filename"], file["index"], [hidden["rule"] for hidden in file["hidden"]]) for file in said["files"]
        ]
        assert files == [
            ("ours-2.0-py3-none-any.whl", "/", ["cooldown"]),
            ("ours-1.0.tar.gz", "/", ["wheels_only"]),
            ("ours-1.0-py3-none-any.whl", "dev", []),
            ("ours-1.0-py3-none-any.whl", "/", ["order"]),
        ]
        assert [file["filename"] for file in said["files"] if file["shown"]] == listed(client, "ours", "/dev/")
        assert said["files"][3]["hidden"][0]["reason"] == "ours-1.0-py3-none-any.whl of the folder of dev comes first"
        assert [file["version"] for file in asked(client, "ours", "/dev/", version="2")["files"]] == ["2.0"]


@pytest.mark.parametrize(
    ("name", "root", "kind", "why"),
    [
        ("ours", "/", "folder", "the folder of / has it, so no upstream is asked for it"),
        ("theirs", "/", "upstream", "no folder has it, the upstream public does"),
        ("theirs", "/dev/", "upstream", "no folder has it, the upstream public does"),
        ("both", "/dev/", "merged", "the folder of dev has it, the upstream public too, and 'merge' shows both"),
        ("evil", "/", "hidden", "not here, and never asked upstream, by deny: evil is denied ('evil')"),
        (
            "acme-x",
            "/",
            "nowhere",
            "not here, and never asked upstream: acme-x is reserved for this index (--private 'acme-*'), and has no "
            "files here",
        ),
        ("never-this", "/", "nowhere", "no folder has it, nor any upstream that is asked for it"),
        ("nobodys", "/", "nowhere", "no folder has it, nor any upstream that is asked for it"),
    ],
)
def test_whose_a_name_is(name: str, root: str, kind: str, why: str, tmp_path: Path, text: str) -> None:
    with served(tmp_path, text) as client:
        assert asked(client, name, root)["owner"] == {"kind": kind, "why": why}


@pytest.mark.parametrize(
    ("private", "merge", "name"),
    [
        ("acme-*", "*-cpu", "acme-torch-cpu"),
        ("acme-[ab]*", "acme-[bc]*", "acme-b-x"),
        ("Acme_?x", "acme.Q?", "acme-qx"),
        ("*-Internal", "our.*", "our-secret-internal"),
    ],
)
@pytest.mark.parametrize("root", ["/", "/dev/"])
def test_what_is_private_is_not_merged_however_the_patterns_cross(
    private: str, merge: str, name: str, root: str, tmp_path: Path, upstream: faulty.FaultyUpstream
) -> None:
    """Of patterns that neither hold each other nor are the same, which no check of the settings can find."""
    put(upstream, tmp_path / "made", name, "99.0")
    rules = f'private = ["{private}"]\n{{}}\nupstreams = ["public"]'
    rules += '\n[upstream.public]\nurl = "{}"\nmode = "proxy"'.replace("{}", upstream.url)
    dev = '\n[index.dev]\npackages = ["dev"]\nbases = ["/"]'  # 'private' at the top holds there too
    policy = f'\nmerge = ["{merge}"]'
    text = rules.format("") + (f"\n[policy]{policy}{dev}" if root == "/" else f"{dev}\n[index.dev.policy]{policy}")
    (tmp_path / "dev").mkdir()
    with served(tmp_path, text) as client:
        assert client.get(f"{root}simple/{name}/", 404)
        assert asked(client, name, root)["owner"]["why"].startswith("not here, and never asked upstream: ")
    have(tmp_path / "dev", name, "1.0")
    with served(tmp_path, text.replace("private", 'packages = ["dev"]\nprivate', 1) if root == "/" else text) as client:
        assert listed(client, name, root) == [f"{name.replace('-', '_')}-1.0-py3-none-any.whl"]
        said = asked(client, name, root)
        assert "so no upstream is asked for it" in said["owner"]["why"]
        index = root.strip("/") or "/"
        assert f"{index} has it as 'private', so its 'merge' is not for this name" in said["steps"]
    assert upstream.paths() == []


def test_nobody_is_asked_who_is_not_asked_for_the_page(
    tmp_path: Path, text: str, upstream: faulty.FaultyUpstream
) -> None:
    with served(tmp_path, text) as client:
        for name in ("ours", "evil", "acme-x", "never-this"):
            for root in ("/", "/dev/"):
                assert asked(client, name, root)["steps"]
    assert upstream.paths() == []


def test_a_password_of_an_upstream_is_told_to_nobody(
    tmp_path: Path, text: str, upstream: faulty.FaultyUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.fault("/simple/broken/", faulty.status(500))
    with served(tmp_path, text) as client:
        for name in ("theirs", "nobodys", "broken", "both"):
            for root in ("/", "/dev/"):
                answer = client.get(f"{root}-/api/explain?name={name}")
                assert "s3cret" not in answer.text and "someone" not in answer.text
                assert name != "broken" or answer.json["owner"]["kind"] == "unknown"
    for name in ("theirs", "nobodys", "broken"):
        assert main(["explain", name, "--config", str(tmp_path / "index.toml")]) == 0
        said = capsys.readouterr()
        assert "s3cret" not in said.out + said.err


def test_not_even_where_clients_are_sent_with_one() -> None:
    way = Way(name="up", serves=lambda name: True, source=None, address="https://me:s3cret@example.test/simple/")
    explanation = explain(Index(ways=[way]), FOO)
    assert explanation.kind == "elsewhere"
    assert [step.text for step in explanation.steps] == [
        "clients are sent to the upstream up, https://example.test/simple/"
    ]


def test_it_is_for_those_who_may_list(tmp_path: Path, text: str) -> None:
    live.write_htpasswd(tmp_path / "htpasswd", alice="secret")
    have(tmp_path / "hidden", "secret-thing", "1.0", age=1)
    have(tmp_path / "hidden", "ours", "3.0", age=1)
    have(tmp_path / "open", "ours", "0.5")
    behind = f"""{text}
[index.closed]
packages = ["hidden"]
passwords = "htpasswd"
authenticate = ["list", "download", "update"]
[index.closed.policy]
cooldown = "7d"
[index.open]
packages = ["open"]
bases = ["closed"]
"""
    with served(tmp_path, behind) as client:
        client.get("/closed/-/api/explain?name=ours", 401)
        # Who may list the one alone does not hear what the other hides.
        said = asked(client, "ours", "/open/")
        assert [file["filename"] for file in said["files"]] == ["ours-0.5-py3-none-any.whl"]
        assert "closed" not in json.dumps(said)
        assert "ours-3.0" not in client.get("/open/project/ours/").text
        nothing, secret = asked(client, "no-such-thing", "/open/"), asked(client, "secret-thing", "/open/")
        assert json.dumps(secret).replace("secret-thing", "no-such-thing") == json.dumps(nothing)
        assert nothing["owner"]["kind"] == "nowhere"
        # Nor by asking for it.
        for path in ("simple/{}/", "project/{}/", "packages/{}/x-1.0-py3-none-any.whl"):
            texts = [client.get("/open/" + path.format(name), 404).text for name in ("secret-thing", "no-such-thing")]
            assert texts[0].replace("secret-thing", "no-such-thing") == texts[1]
        for name in ("ours-3.0", "ours-4.0"):
            assert "hidden" not in client.get(f"/open/packages/ours/{name}-py3-none-any.whl", 404).text
        assert "secret" not in client.get("/open/simple/").text
    # What the other one shows to its own, and this one hides, is the other one's affair too.
    have(tmp_path / "hidden", "ours", "2.5")
    with served(tmp_path, f"{behind}[index.open.policy]\nsize = '1B'\n") as client:
        assert client.get("/open/simple/ours/", 404).text.startswith("ours-0.5-py3-none-any.whl is hidden here by size")


def test_nobody_hears_what_a_base_that_he_may_not_list_hides_reserves_or_has(
    tmp_path: Path, upstream: faulty.FaultyUpstream
) -> None:
    live.write_htpasswd(tmp_path / "htpasswd", alice="secret")
    for name, version in (("ours", "1.0"), ("ours", "2.0"), ("denied", "1.0")):
        have(tmp_path / "low", name, version)
    for name, version in (("ours", "1.0"), ("ours", "9.0"), ("ghost", "1.0"), ("shown", "1.0")):
        have(tmp_path / "closed", name, version)
    put(upstream, tmp_path / "made", "upghost", "1.0")
    closed = 'passwords = "htpasswd"\nauthenticate = ["list", "download", "update"]\n'
    text = f"""disable_fallback = true
[upstream.inside]
url = "{upstream.url}"
[index.low]
packages = ["low"]
[index.filter]
bases = ["low"]
{closed}[index.filter.policy]
deny = ["ours>=2", "denied"]
[index.closed]
packages = ["closed"]
upstreams = ["inside"]
private = ["gone-*"]
{closed}[index.closed.policy]
deny = ["ours>=9", "ghost", "upghost"]
[index.top]
bases = ["filter"]
[index.all]
bases = ["closed", "low"]
"""
    names = ("ghost", "upghost", "gone-x", "denied")
    with served(tmp_path, text) as client:

        def called(root: str, method: str, *parameters: str) -> Any:
            body = xmlrpc.client.dumps(parameters, method).encode()
            return xmlrpc.client.loads(client.post(f"{root}RPC2", body, "text/xml").body)[0][0]

        # The index that hides counts as well as the one that has it.
        said = asked(client, "ours", "/top/")
        assert [file["filename"] for file in said["files"]] == listed(client, "ours", "/top/")
        assert "filter" not in json.dumps(said) and "2.0" not in client.get("/top/project/ours/").text
        assert said["owner"]["why"] == "the folder of low has it, so no upstream is asked for it"
        # Whose the files are that are shown is the other index's affair too.
        said = asked(client, "ours", "/all/")
        told = [(file["filename"], file["index"], file["shown"]) for file in said["files"]]
        assert told == [
            ("ours-2.0-py3-none-any.whl", "low", True),
            ("ours-1.0-py3-none-any.whl", None, True),
            ("ours-1.0-py3-none-any.whl", "low", False),
        ]
        assert said["owner"] == {"kind": "base", "why": "a base has it, so no upstream is asked for it"}
        assert said["files"][2]["hidden"][0]["reason"] == "ours-1.0-py3-none-any.whl of a base comes first"
        assert "closed" not in json.dumps([said, asked(client, "shown", "/all/")])
        for root, hidden in (("/all/", names[:3]), ("/top/", names[3:])):
            nothing = json.dumps(asked(client, "nobodys", root))
            for name in hidden:
                assert json.dumps(asked(client, name, root)).replace(name, "nobodys") == nothing
                assert called(root, "package_releases", name) == called(root, "release_urls", name, "1.0") == []
                assert called(root, "release_data", name, "1.0") == {}
                client.get(f"{root}simple/{name}/", 404)


def test_who_may_download_and_not_list_hears_nothing_of_hidden_files(tmp_path: Path) -> None:
    live.write_htpasswd(tmp_path / "htpasswd", alice="secret")
    have(tmp_path / "packages", "foo", "1.0")
    have(tmp_path / "packages", "foo", "2.0", age=1)
    text = 'packages = ["packages"]\nupstreams = []\npasswords = "htpasswd"\nauthenticate = ["list", "update"]\n'
    with served(tmp_path, f'{text}[policy]\ncooldown = "7d"\n') as client:
        client.get("/packages/foo/foo-1.0-py3-none-any.whl")
        hidden = client.get("/packages/foo/foo-2.0-py3-none-any.whl", 404).text
        assert hidden.replace("2.0", "3.0") == client.get("/packages/foo/foo-3.0-py3-none-any.whl", 404).text


def test_a_question_that_is_none_is_refused(tmp_path: Path) -> None:
    make_wheel(tmp_path / "packages", "foo")
    with served(tmp_path, 'packages = ["packages"]\nupstreams = []\n') as client:
        client.get("/-/api/explain", 400)
        client.get("/-/api/explain?name=foo&python=two", 400)
        client.get("/-/api/explain?name=foo&platform=a/b", 400)
        client.get("/-/api/explain?name=..", 404)
        assert asked(client, "foo", python="3.9")["files"][0]["fits"] is True


def test_the_project_page_has_a_folded_list_of_what_is_hidden(tmp_path: Path, text: str) -> None:
    with served(tmp_path, text) as client:
        page = client.get("/dev/project/ours/").text
        assert "3 files are hidden here" in page
        assert "ours-2.0-py3-none-any.whl" in page and "cooldown: uploaded 20" in page and "wheels_only" in page
        assert "hidden here" not in client.get("/dev/project/both/").text.replace("1 file is hidden here", "")
        have(tmp_path / "root", "ours", "3.0", age=2)
        assert "4 files are hidden here" in client.get("/dev/project/ours/").text


def test_the_page_follows_what_comes_to_an_upstream_and_is_hidden(
    tmp_path: Path, upstream: faulty.FaultyUpstream
) -> None:
    text = f'upstreams = ["up"]\n[upstream.up]\nurl = "{upstream.url}"\nttl = 0\n[policy]\ncooldown = "7d"\n'
    put(upstream, tmp_path / "made", "foo", "1.0")
    put(upstream, tmp_path / "made", "foo", "2.0", upload_time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    with served(tmp_path, text) as client:
        assert "1 file is hidden here" in client.get("/project/foo/").text
        put(upstream, tmp_path / "made", "foo", "3.0", upload_time=None)
        assert "2 files are hidden here" in client.get("/project/foo/").text


def test_the_verb_looks_at_folders_and_the_cache_and_asks_nobody(
    tmp_path: Path, text: str, upstream: faulty.FaultyUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> str:
        assert main(["explain", "--config", str(tmp_path / "index.toml"), *words]) == 0
        return capsys.readouterr().out

    with served(tmp_path, text) as client:
        assert listed(client, "theirs") == ["theirs-1.0-py3-none-any.whl"]
    upstream.requests.clear()
    assert said("ours", "--index", "dev").splitlines() == [
        "ours in the index dev: the folder of dev has it, so no upstream is asked for it",
        "  the folder of dev has 1 file",
        "  the folder of / has 3 files",
        "ours-2.0-py3-none-any.whl  hidden",
        next(line for line in said("ours").splitlines() if "by /, cooldown: uploaded" in line),
        "ours-1.0.tar.gz  hidden",
        "    by dev, wheels_only: it is no wheel",
        "ours-1.0-py3-none-any.whl  shown",
        "ours-1.0-py3-none-any.whl  hidden",
        "    by dev, order: ours-1.0-py3-none-any.whl of the folder of dev comes first",
    ]
    assert "theirs-1.0-py3-none-any.whl  shown" in said("theirs")
    assert "no page of it is kept" in said("nobodys")
    assert json.loads(said("ours==1", "--json"))["files"][0]["filename"] == "ours-1.0.tar.gz"
    assert upstream.paths() == []
    assert main(["explain", "--config", str(tmp_path / "index.toml"), "ours==9"]) == 1
    assert "has no release 9 here" in capsys.readouterr().err
    assert main(["explain", "--config", str(tmp_path / "index.toml"), "ours", "--index", "dve"]) == 2
    assert "did you mean 'dev'" in capsys.readouterr().err
    assert main(["explain", "ours", "--in", str(tmp_path / "root"), "--disable-fallback"]) == 0
    assert "ours-2.0-py3-none-any.whl  shown" in capsys.readouterr().out


def test_the_words_of_others_reach_no_terminal_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = make_wheel(tmp_path / "packages", "foo", "1.0", "Requires-Python: >=3.99")
    wheel.with_name(f"{wheel.name}.yanked").write_text("\x1b[2Jgone")
    words = ["explain", "foo", "--in", str(tmp_path / "packages"), "--disable-fallback", "--python", "3.12"]
    assert main([*words, "--cache-dir", str(tmp_path / "cache")]) == 0
    said = capsys.readouterr().out
    assert "shown, yanked (" in said and "does not fit: it requires Python >=3.99" in said and "\x1b" not in said


def test_the_verb_remembers_nothing_as_seen(
    tmp_path: Path, text: str, upstream: faulty.FaultyUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    put(upstream, tmp_path / "made", "undated", "1.0", upload_time=None)
    with served(tmp_path, text.replace('cooldown = "7d"', "")) as client:
        assert listed(client, "undated")
        undated = of_upstream(client, "undated")
    with (tmp_path / "index.toml").open("w") as file:
        file.write(f'cache_dir = "cache"\n{text}')
    for _ in range(2):
        assert main(["explain", "undated", "--config", str(tmp_path / "index.toml")]) == 0
    remembered, later = Remembered(tmp_path / "cache" / "policies.sqlite3"), time.time() + 9
    assert set(remembered.seen(undated.files, later, origin=undated.origin).values()) == {later}
    remembered.close()
    assert "by /, cooldown: first seen 20" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tags", "requires", "python", "platform", "why"),
    [
        ("py3-none-any", None, "3.9", "win_amd64", None),
        ("py3-none-any", ">=3.10", "3.9", None, "it requires Python >=3.10"),
        ("py3-none-any", ">=3.10", None, "win_amd64", None),
        ("py3-none-any", ">=3.9.5", "3.9", None, "it requires Python >=3.9.5"),
        ("py3-none-any", ">=3.9.5", "3.9.7", None, None),
        ("py3-none-any", "nonsense", "3.9", None, None),
        ("py2.py3-none-any", None, "3.9", "win_amd64", None),
        ("py2-none-any", None, "3.9", None, "it is for py2-none"),
        ("cp39-cp39-win_amd64", None, "3.9", "win_amd64", None),
        ("cp39-cp39-win_amd64", None, "3.9", None, None),
        ("cp39-cp39-win_amd64", None, None, "win_amd64", None),
        ("cp39-cp39-win_amd64", None, "3.10", "win_amd64", "it is for cp39-cp39"),
        ("cp39-cp39-win32", None, "3.9", "win_amd64", "it is for win32"),
        ("cp38-abi3-win_amd64", None, "3.12", "win_amd64", None),
        ("cp312-cp312t-win_amd64", None, "3.12", "win_amd64", "it is for cp312-cp312t"),
        ("cp313-cp313t-win_amd64", None, "3.13t", "win_amd64", None),
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", None, "3.11", "manylinux_2_28_x86_64", None),
        ("cp311-cp311-manylinux1_x86_64", None, "3.11", "manylinux2014_x86_64", None),
        (
            "cp311-cp311-manylinux_2_28_x86_64",
            None,
            "3.11",
            "manylinux2014_x86_64",
            "it is for manylinux_2_28_x86_64",
        ),
        ("cp311-cp311-musllinux_1_1_x86_64", None, "3.11", "musllinux_1_2_x86_64", None),
        ("cp311-cp311-macosx_10_9_x86_64", None, "3.11", "macosx_14_0_arm64", "it is for macosx_10_9_x86_64"),
        ("cp311-cp311-macosx_11_0_universal2", None, "3.11", "macosx_14_0_arm64", None),
    ],
)
def test_which_files_fit(tags: str, requires: str | None, python: str | None, platform: str | None, why: Any) -> None:
    file = a_file(filename=f"foo-1.0-{tags}.whl", requires_python=requires)
    assert Target(python, platform).refuses(file) == why


def test_sdists_fit_everywhere_and_eggs_nowhere() -> None:
    target = Target("3.12", "win_amd64")
    assert target.refuses(a_file(filename="foo-1.0.tar.gz")) is None
    assert target.refuses(a_file(filename="foo-1.0-py3.9.egg")) == "it is an egg, which installers do not take any more"


@pytest.mark.parametrize(("python", "platform"), [("2.7", None), ("3", None), ("3.9.1.2", None), (None, "no way")])
def test_what_is_no_python_or_platform_is_refused(python: str | None, platform: str | None) -> None:
    with pytest.raises(Invalid):
        Target(python, platform)


@given(layers)
def test_what_is_said_to_be_shown_is_what_the_page_shows(parts: Any) -> None:
    clock = Clock()
    policed = [None if said is None else governed(clock, **said) for _, _, said, _ in parts]
    index, _ = chain(parts, policed)
    shown = page(index)
    explanation = explain(index, NormalizedName(FOO))
    told = [seen for seen in explanation.files if not seen.hidden]
    assert sorted(seen.file.filename for seen in told) == sorted(shown)
    assert all(seen.file == shown[seen.file.filename] for seen in told)
