"""Upstreams that a file of settings names: their keys, who shares them, and which names they are asked for."""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faulty_upstream as faulty
import forward_proxy
import live
import pytest
from builders import make_wheel, metadata
from filed import asked, config_of, served, written
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from packaging.utils import canonicalize_name
from wsgi_client import Client

from pypiserver_lite import ConfigError, make_app, site
from pypiserver_lite.patterns import Names

JSON = "application/vnd.pypi.simple.v1+json"
SECRET = "s3cret-Kalligraphie"


@pytest.fixture
def upstream() -> Iterator[faulty.FaultyUpstream]:
    """An upstream without anything."""
    with faulty.upstream() as server:
        yield server


def offer(server: faulty.FaultyUpstream, folder: Path, name: str, version: str = "1.0", **facts: Any) -> str:
    """A wheel with its metadata and a signature there; its file name."""
    wheel = make_wheel(folder / "made", name, version)
    server.add(name, wheel.name, wheel.read_bytes(), metadata=metadata(name, version), gpg_sig=True, **facts)
    server.stored[f"/files/{wheel.name}.asc"] = faulty.Stored(b"signed")
    return wheel.name


def table(server: faulty.FaultyUpstream, *lines: str, name: str = "theirs") -> str:
    """An upstream's table."""
    return "\n".join([f"[upstream.{name}]", f'url = "{server.url}"', *lines, ""])


THEIRS = 'upstreams = ["theirs"]\n'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('ca = "none.pem"', "upstream.theirs.ca"),
        ('netrc = "none"', "upstream.theirs.netrc"),
        ('hosts = ["a/b"]', "upstream.theirs.hosts"),
        ('url = "http://[::1/"', "upstream.theirs.url"),
        ('proxy = "http://127.0.0.1:0/"', "upstream.theirs.proxy"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place_in_the_file(lines: str, said: str, tmp_path: Path) -> None:
    url = "" if "url" in lines else 'url = "http://127.0.0.1:9/"\n'
    path = written(tmp_path, f'[index.side]\nupstreams = ["theirs"]\n[upstream.theirs]\n{url}{lines}\n')
    with pytest.raises(ConfigError) as caught:
        make_app(config=path)
    number = path.read_text().splitlines().index(lines) + 1
    assert str(caught.value).startswith(f"{path}, line {number}: {said}")
    assert "--" not in str(caught.value)


def test_clients_hear_of_the_key_but_not_of_the_file(upstream: faulty.FaultyUpstream, tmp_path: Path) -> None:
    upstream.fault("*", faulty.redirect("http://other.example.test/simple/foo/"))
    with asked(tmp_path, THEIRS + table(upstream)) as client:
        said = client.get("/simple/foo/", 502).text
    assert "(see upstream.theirs.hosts)" in said
    assert str(tmp_path) not in said


def test_a_password_goes_to_the_upstreams_own_origin_alone_and_is_shown_nowhere(
    upstream: faulty.FaultyUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    login = "Basic " + base64.b64encode(f"who:{SECRET}".encode()).decode()
    upstream.password = login
    (tmp_path / "pw").write_text(SECRET + "\n")
    with faulty.upstream() as storage:
        own = offer(upstream, tmp_path, "own")
        path = storage.add("far", "far-1.0.tar.gz", b"far away")
        upstream.add("far", "far-1.0.tar.gz", b"far away", url=f"{storage.base}{path[1:]}")
        text = THEIRS + table(upstream, 'username = "who"', 'password_file = "pw"')
        with served(tmp_path, text) as app:
            client = Client(app)
            assert client.get(f"/packages/own/{own}").body
            assert client.get("/packages/far/far-1.0.tar.gz").body == b"far away"
            assert all(request.headers.get("authorization") == login for request in upstream.requests)
            assert all("authorization" not in request.headers for request in storage.requests)
            upstream.password = "another"
            refused = client.get("/simple/new/", 502)
            assert "other credentials" in refused.text
            pages = [refused.text, client.get("/").text, client.get("/health", Accept="application/json").text]
            (remote,) = app.app("/").site.remotes
            shown = [*pages, caplog.text, repr(app.config), repr(remote), repr(app.app("/").site.ways())]
            assert not [text for text in shown if SECRET in text or login[6:] in text]


def test_a_password_is_said_once(tmp_path: Path) -> None:
    text = '[upstream.theirs]\nurl = "http://a:b@127.0.0.1:9/"\nusername = "who"\npassword = "s"\n'
    with pytest.raises(ConfigError, match=r"line \d+: upstream.theirs.username: .*leave out one"):
        config_of(tmp_path, text)


def test_each_asks_through_its_own_proxy_and_believes_its_page_for_its_own_time(
    upstream: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    offer(upstream, tmp_path, "foo")
    upstream.stored["/other/foo/"] = upstream.stored["/simple/foo/"]
    with forward_proxy.proxy({f"127.0.0.1:{upstream.port}": upstream.port}) as proxy:
        text = (
            THEIRS
            + table(upstream, f'proxy = "{proxy.url}"', "ttl = 0", 'mode = "proxy"')
            + f'[upstream.other]\nurl = "{upstream.base}other/"\nttl = 1000\n'
            + '[index.side]\nupstreams = ["other"]\n'
        )
        with asked(tmp_path, text) as client:
            for _ in range(3):
                client.get("/simple/foo/")
                client.get("/side/simple/foo/")
            assert upstream.count("/simple/foo/") == 3
            assert upstream.count("/other/foo/") == 1
            assert len(proxy.asked) == 3


def test_each_has_a_budget_of_its_own_and_flags_one_for_all(upstream: faulty.FaultyUpstream, tmp_path: Path) -> None:
    with faulty.upstream() as other:
        upstream.add("foo", "foo-1.0.zip", bytes(100_000))
        other.add("bar", "bar-1.0.zip", bytes(100_000))
        other.add("large", "large-1.0.zip", bytes(10**7))

        def seconds(client: Client, *names: str) -> float:
            """How long they take together."""
            before = time.monotonic()
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda name: client.get(f"/packages/{name}/{name}-1.0.zip").body, names))
            return time.monotonic() - before

        text = table(upstream, 'rate = "50kB"') + table(other, 'rate = "50MB"', name="other")
        with asked(tmp_path, f'upstreams = ["theirs", "other"]\n{text}') as client:
            assert seconds(client, "foo") > 1.5
            assert seconds(client, "large") < 60  # it would be 200 at the other's rate
        flags = "packages = ['.']\nfallback_mode = 'proxy'\nfallback_rate = '50kB'\n"
        flags += f"fallback_url = {[upstream.url, other.url]}\n"
        with asked(tmp_path / "flags", flags) as client:
            assert seconds(client, "foo", "bar") > 3


def test_upstreams_share_the_places_of_those_who_wait_for_them_after_a_reload_too(
    upstream: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    lock, inside = threading.Lock(), 0

    def fault(handler: faulty.Handler) -> None:
        nonlocal inside
        with lock:
            inside += 1
        go_on.wait(60)
        handler.answer(404, b"", {})

    def at_once(client: Client, name: str) -> int:
        """How many of ten who ask for new names ask the upstream when the others have been told to come back."""
        nonlocal inside
        inside = 0
        go_on.clear()
        with ThreadPoolExecutor(10) as pool:
            askers = [pool.submit(client.get, f"/simple/{name}{number}/", None) for number in range(10)]
            deadline = time.monotonic() + 30
            while sum(one.done() for one in askers) + inside < 10 and time.monotonic() < deadline:
                time.sleep(0.01)
            found = inside
            go_on.set()
        return found

    go_on = threading.Event()
    upstream.fault("*", fault)
    text = "threads = 16\n" + THEIRS + table(upstream, 'mode = "proxy"')
    with served(tmp_path, text) as app:
        assert at_once(Client(app), "foo") == 8  # half of the threads
        written(tmp_path, f'{text}{table(upstream, name="other")}[index.more]\nbases = ["/"]\nupstreams = ["other"]\n')
        app.reload()
        assert at_once(Client(app), "bar") == 4


def test_fifty_indexes_over_one_upstream_share_all_that_it_costs(
    upstream: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = offer(upstream, tmp_path, "foo")
    names = [f"team{number}" for number in range(50)]
    text = table(upstream) + "".join(f'[index.{name}]\nupstreams = ["theirs"]\n' for name in names)
    with served(tmp_path, text) as app:
        client = Client(app)
        remotes = {remote for name in names for remote in app.app(name).site.remotes}
        assert len(remotes) == 1
        for name in names:
            assert client.get(f"/{name}/simple/foo/", Accept=JSON).json["files"][0]["filename"] == wheel
            assert client.get(f"/{name}/packages/foo/{wheel}").body
        assert upstream.paths().count("/simple/foo/") == 1
        assert upstream.paths().count(f"/files/{wheel}") == 1
        assert [health.name for health in app.site_of("team7").health()] == ["theirs"]


def test_a_chain_of_silent_upstreams_answers_within_pips_patience(tmp_path: Path) -> None:
    with faulty.upstream() as one, faulty.upstream() as two, faulty.upstream() as three:
        for server in (one, two, three):
            server.fault("*", faulty.hang(60))
        text = (
            table(one, 'mode = "proxy"', name="one")
            + table(two, f'mirrors = ["{three.url}"]', name="two")
            + '[index.base]\nupstreams = ["two"]\n[index.top]\nbases = ["base"]\nupstreams = ["one"]\n'
        )
        with asked(tmp_path, text) as client:
            for index in ("top", "base"):
                before = time.monotonic()
                client.get(f"/{index}/simple/foo/", 504)
                assert time.monotonic() - before < 14.5


def test_who_is_asked_after_others_that_were_quick_has_the_time_of_a_page(
    upstream: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    """A large page on a slow line; a third of the time for each would be too little."""
    offer(upstream, tmp_path, "foo")
    upstream.stored["/simple/foo/"].delay = 4.5
    gone = "http://127.0.0.1:9/"
    several = f'[upstream.several]\nurl = "{gone}"\nmirrors = ["{gone}m/", "{upstream.url}"]\n'
    with faulty.upstream() as one, faulty.upstream() as two:
        text = (
            "".join(table(server, name=name) for server, name in ((one, "one"), (two, "two"), (upstream, "three")))
            + several
            + '[index.chain]\nupstreams = ["one", "two", "three"]\n[index.mirrored]\nupstreams = ["several"]\n'
        )
        with asked(tmp_path, text) as client:
            for index in ("chain", "mirrored"):
                assert client.get(f"/{index}/simple/foo/").body


def test_a_reload_goes_on_with_upstreams_that_stay_as_they_were(
    upstream: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    offer(upstream, tmp_path, "foo")
    with served(tmp_path, THEIRS + table(upstream, 'mode = "proxy"')) as app:
        client = Client(app)
        client.get("/simple/foo/")
        written(tmp_path, THEIRS + table(upstream, 'mode = "proxy"') + '[index.more]\nupstreams = ["theirs"]\n')
        app.reload()
        client.get("/simple/foo/")
        client.get("/more/simple/foo/")
        assert upstream.count("/simple/foo/") == 1
        client.get("/simple/bar/", 404)
        assert upstream.connections == 1
        written(tmp_path, "nonsense = 1\n")
        with pytest.raises(ConfigError):
            app.reload()
        written(tmp_path, THEIRS + table(upstream, 'mode = "proxy"') + '[index.more]\npackages = ["none"]\n')
        with pytest.raises(ConfigError):
            app.reload()
        client.get("/simple/baz/", 404)
        assert upstream.connections == 1
        written(tmp_path, THEIRS + table(upstream, 'mode = "proxy"', 'never = ["bar"]'))
        app.reload()
        client.get("/simple/foo/")
        assert upstream.count("/simple/foo/") == 2


NAMES = ("acme-lib", "acme", "lib", "their-lib", "their")
SPELLED = ("acme-*", "Acme_Lib", "acme*", "*-lib", "their.lib", "lib", "*", "t*")
PATTERNS = st.lists(st.sampled_from(SPELLED), max_size=2)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(only=PATTERNS, never=PATTERNS, more_never=PATTERNS, mode=st.sampled_from(["proxy", "cache"]))
def test_only_and_never_hold_for_pages_files_metadata_and_signatures_alike(
    only: list[str], never: list[str], more_never: list[str], mode: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume(not set(map(canonicalize_name, only)) & set(map(canonicalize_name, never)))  # which is refused
    folder = tmp_path_factory.mktemp("routed")
    with faulty.upstream() as one, faulty.upstream() as other:
        files = {name: offer(one, folder, name) for name in NAMES}
        for name in NAMES:
            offer(other, folder / "other", name)
        text = (
            'upstreams = ["one", "other"]\n'
            + table(one, *([f"only = {only}"] if only else []), f"never = {never}", f'mode = "{mode}"', name="one")
            + table(other, f"never = {more_never}", f'mode = "{mode}"', name="other")
        )
        with asked(folder / "index", text) as client:
            for name in NAMES:
                normalized = canonicalize_name(name)
                first = (not only or Names(only).has(normalized)) and not Names(never).has(normalized)
                second = not first and not Names(more_never).has(normalized)
                one.requests.clear()
                other.requests.clear()
                # What belongs to a file first: a page that was asked for before must not matter.
                for side in (".metadata", ".asc", ""):
                    client.get(f"/packages/{name}/{files[name]}{side}", 200 if first or second else 404)
                client.get(f"/simple/{name}/", 200 if first or second else 404)
                assert bool(one.requests) is first
                assert bool(other.requests) is second


def test_a_redirect_upstream_hides_files_of_those_behind_it_too(
    upstream: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    wheel = offer(upstream, tmp_path, "foo")
    text = (
        '[upstream.sent]\nurl = "http://127.0.0.1:9/sent/"\nmode = "redirect"\n'
        + table(upstream)
        + '[index.one]\nupstreams = ["sent"]\n[index.two]\nupstreams = ["theirs"]\n'
        + '[index.top]\nbases = ["one", "two"]\n[index.flat]\nupstreams = ["sent", "theirs"]\n'
    )
    with asked(tmp_path, text) as client:
        for index in ("top", "flat"):
            assert client.get(f"/{index}/simple/foo/", 302).headers["Location"] == "http://127.0.0.1:9/sent/foo/"
            for side in ("", ".metadata", ".asc"):
                client.get(f"/{index}/packages/foo/{wheel}{side}", 404)
        assert upstream.requests == []
        client.get(f"/two/packages/foo/{wheel}")


def test_clients_go_to_the_first_redirect_upstream_that_serves_the_name(tmp_path: Path) -> None:
    text = (
        'upstreams = ["corp", "public", "last"]\n'
        '[upstream.corp]\nurl = "http://127.0.0.1:9/corp"\nmode = "redirect"\nonly = ["acme-*"]\n'
        '[upstream.public]\nurl = "http://127.0.0.1:9/public"\nmode = "redirect"\nnever = ["secret"]\n'
        '[upstream.last]\nurl = "http://127.0.0.1:9/last"\nmode = "redirect"\nonly = ["acme-*", "foo"]\n'
    )
    with asked(tmp_path, text) as client:
        assert client.get("/simple/acme-lib/", 302).headers["Location"] == "http://127.0.0.1:9/corp/acme-lib/"
        assert client.get("/simple/foo/", 302).headers["Location"] == "http://127.0.0.1:9/public/foo/"
        client.get("/simple/secret/", 404)


def test_merged_names_of_a_redirect_upstream_come_from_here_and_others_are_redirected(
    upstream: faulty.FaultyUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = offer(upstream, tmp_path, "foo", "2.0")
    make_wheel(tmp_path / "own", "foo", "1.0")
    with asked(
        tmp_path, 'packages = ["own"]\n' + THEIRS + table(upstream, 'mode = "redirect"') + '[policy]\nmerge = ["foo"]\n'
    ) as client:
        listed = [file["filename"] for file in client.get("/simple/foo/", Accept=JSON).json["files"]]
        assert listed == ["foo-1.0-py3-none-any.whl", theirs]
        data = client.get(f"/packages/foo/{theirs}").body
        assert hashlib.sha256(data).digest() == hashlib.sha256(upstream.stored[f"/files/{theirs}"].body).digest()
        assert client.get("/simple/bar/", 302).headers["Location"] == f"{upstream.url}bar/"
    assert caplog.text.count("what a policy governs or merges is asked for by this server") == 1


def test_a_redirect_upstream_that_no_policy_reaches_is_never_asked(
    upstream: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    with served(tmp_path, THEIRS + table(upstream, 'mode = "redirect"') + '[index.side]\nbases = ["/"]\n') as app:
        assert app.app("/").site.remotes == ()
        assert site.threads(app.config) == 16


@pytest.mark.parametrize("tool", ["pip", pytest.param("uv", marks=pytest.mark.clients)])
def test_clients_install_over_routed_upstreams(tool: str, tmp_path: Path, shell: live.Shell) -> None:
    with faulty.upstream() as corp, faulty.upstream() as public:
        lib = make_wheel(tmp_path / "made", "acme-lib", "1.0", "Requires-Dist: their-lib")
        corp.add("acme-lib", lib.name, lib.read_bytes())
        evil = make_wheel(tmp_path / "evil", "acme-lib", "99.0")
        public.add("acme-lib", evil.name, evil.read_bytes())
        offer(public, tmp_path, "their-lib")
        text = (
            'upstreams = ["public", "corp"]\n'
            + table(corp, 'only = ["acme-*"]', name="corp")
            + table(public, 'never = ["acme-*"]', name="public")
        )
        with served(tmp_path, text) as app, live.in_thread(app) as server:
            if tool == "pip":
                shell.pip("install", "--target", tmp_path / "t", "--index-url", server.simple, "acme-lib").good()
            else:
                at = ("--target", str(tmp_path / "t"), "--default-index", server.simple)
                shell.uv("pip", "install", *at, "acme-lib").good()
            assert live.installed(tmp_path / "t") == {"acme-lib": "1.0", "their-lib": "1.0"}
            assert not [path for path in public.paths() if "acme" in path]
            assert not [path for path in corp.paths() if "their" in path]


def test_policies_reach_what_a_redirect_upstream_has_and_leave_other_indexes_alone(
    upstream: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    old = offer(upstream, tmp_path, "foo", "1.0", upload_time="2020-01-01T00:00:00Z")
    young = offer(upstream, tmp_path, "foo", "2.0", upload_time="2999-01-01T00:00:00Z")
    text = (
        THEIRS
        + table(upstream, 'mode = "redirect"')
        + '[index.careful]\nbases = ["/"]\n[index.careful.policy]\nuntil = "2021-01-01"\n'
    )
    with asked(tmp_path, text) as client:
        assert client.get("/simple/foo/", 302).headers["Location"] == f"{upstream.url}foo/"
        client.get(f"/packages/foo/{old}", 404)  # a client that was sent there gets it there
        listed = client.get("/careful/simple/foo/", Accept=JSON).json["files"]
        assert [file["filename"] for file in listed] == [old]
        for side in ("", ".metadata", ".asc"):
            assert client.get(f"/careful/packages/foo/{old}{side}").body
            client.get(f"/careful/packages/foo/{young}{side}", 404)
        assert f"/files/{young}" not in upstream.paths()


def test_an_address_that_says_nothing_leaves_its_mirror_the_time_to_answer(
    upstream: faulty.FaultyUpstream, tmp_path: Path
) -> None:
    with faulty.upstream() as mirror:
        wheel = offer(mirror, tmp_path, "foo")
        upstream.fault("*", faulty.hang(60))
        mirror.stored["/simple/foo/"].delay = 4.5
        with asked(tmp_path, THEIRS + table(upstream, f'mirrors = ["{mirror.url}"]')) as client:
            assert client.get("/simple/foo/", Accept=JSON).json["files"][0]["filename"] == wheel
