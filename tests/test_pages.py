"""The pages for people: what they show, to whom, how safely, and how they are changed."""

from __future__ import annotations

import re
import shlex
import time
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import live
import pytest
from builders import make_sdist, make_wheel
from example_site.site import ExampleSite
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from wsgi_client import Answer, Client

import pypiserver_lite
from pypiserver_lite import ConfigError, make_app
from pypiserver_lite.metadata import About
from pypiserver_lite.web import readme
from pypiserver_lite.web.descriptions import Descriptions

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # an old library, but the one that reads HTML as its standard says
    import html5lib

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
README = """\
# Client

Talks to **Acme**. [Docs](https://docs.example.org/) and [a file](docs/x.md), see [below](#use).

![a badge](https://badges.example.org/b.png)

## Use

```python
import acme
```

- [x] done

| a | b |
|---|:-:|
| 1 | 2 |
"""
FIELDS = [
    "Summary: A client for Acme",
    "Author-email: Ann Lee <ann@example.org>",
    "Maintainer: Bob",
    "License-Expression: MIT",
    "Keywords: acme,client",
    "Classifier: Topic :: Software Development",
    "Project-URL: Source, https://code.example.org/acme",
    "Project-URL: Trap, javascript:alert(1)",
    "Requires-Python: >=3.10",
    "Requires-Dist: Acme_Core>=1.0",
    'Requires-Dist: elsewhere[x]<3; python_version >= "3.8"',
    'Requires-Dist: pytest>=8; extra == "test"',
    "Provides-Extra: test",
    "Description-Content-Type: text/markdown; charset=UTF-8",
]


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    for version in ("0.9", "1.0", "2.0rc1"):
        make_wheel(folder, "Acme.Client", version, *FIELDS, body=README)
    make_sdist(folder, "Acme.Client", "1.0")
    make_wheel(folder, "acme-core", "1.0", "Summary: What all of Acme needs")
    (folder / "acme_client-0.9-py3-none-any.whl.yanked").write_text("breaks <logins>")
    return folder


@pytest.fixture
def client(packages: Path, tmp_path: Path) -> Iterator[Client]:
    app = make_app(packages, cache_dir=tmp_path / "cache", fallback_url="http://upstream.invalid/simple/")
    yield Client(app)
    app.close()


def field(answer: Answer, name: str) -> str:
    """A header field of an answer, empty if it has none."""
    return answer.headers[name] or ""


class Seen(HTMLParser):
    """What a page holds: its links, what it loads, its words, its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: dict[str, dict[str, str]] = {}
        self.loaded: list[str] = []
        self.forms: list[str] = []
        self.attributes: set[tuple[str, str]] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.attributes |= {(tag, key) for key in given}
        if "href" in given and tag == "a":
            self.links[given["href"]] = given
        self.loaded += [given[key] for key in ("src", "srcset", "data", "poster") if key in given]
        self.loaded += [given["href"]] if tag == "link" else []
        self.forms += [given["action"]] if tag == "form" else []

    def handle_data(self, data: str) -> None:
        self.words += data

    @property
    def text(self) -> str:
        return " ".join(self.words.split())


def see(client: Client, path: str, status: int = 200, **headers: str) -> Seen:
    return Seen(client.get(path, status, Accept=BROWSER, **headers).text)


PAGES = ["/", "/search", "/search?q=acme", "/search?q=nothing", "/project/acme-client/", "/project/acme-client/0.9/"]


@pytest.mark.parametrize("path", [*PAGES, "/project/none/", "/nothing/here"])
def test_every_page_is_valid_html_that_loads_only_from_here(client: Client, path: str) -> None:
    answer = client.get(path, None, Accept=BROWSER)
    html5lib.HTMLParser(strict=True).parse(answer.text)
    assert field(answer, "Content-Type") == "text/html; charset=utf-8"
    assert re.search(r"<html lang=\"en\">.*<title>[^<]+</title>.*<main.*<h1>", answer.text, re.DOTALL)
    seen = Seen(answer.text)
    assert seen.loaded and not any(urlsplit(link).netloc or link.startswith("/") for link in seen.loaded)
    assert not any(key == "style" or key.startswith("on") for _, key in seen.attributes)
    policy = field(answer, "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy
    assert field(answer, "X-Content-Type-Options") == "nosniff"
    for link in seen.loaded:
        assert answer.follow(link).status == 200


def test_home_tells_how_to_use_it_at_its_own_address(client: Client) -> None:
    seen = see(client, "/", Host="pypi.acme.example:8443")
    for program in ("pip install", "uv add", "poetry source add", "pdm config"):
        assert program in seen.text
    assert "http://pypi.acme.example:8443/simple/ PROJECT" in seen.text
    assert "--trusted-host pypi.acme.example " in seen.text  # pip insists on it without TLS
    assert "2 projects" in seen.text and "Uploads are switched off" in seen.text
    assert "http://upstream.invalid/simple/" in seen.text
    assert seen.forms == ["search"]


def test_home_shows_how_to_publish_where_that_is_possible(packages: Path, tmp_path: Path) -> None:
    client = Client(make_app(packages, passwords=".", authenticate=".", cache_dir=tmp_path, disable_fallback=True))
    seen = see(client, "/", Host="localhost:8080")
    for command in ("twine upload --repository-url", "uv publish --publish-url", "pdm publish --repository"):
        assert f"{command} http://localhost:8080/" in seen.text
    assert "--trusted-host" not in seen.text and "Upstream" not in seen.text


def eventually(check: Any) -> None:
    """Facts are read in the background; what they say appears soon."""
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_was_uploaded_last_is_on_the_home_page_and_found_by_its_summary(client: Client, packages: Path) -> None:
    make_wheel(packages, "newcomer", "3.1", "Summary: Sings of Summer")
    eventually(lambda: "newcomer 3.1" in see(client, "/").text)
    eventually(lambda: "project/newcomer/" in see(client, "/search?q=summer").links)
    assert "Sings of Summer" in see(client, "/search?q=newcomer").text
    (packages / "newcomer-3.1-py3-none-any.whl").unlink()
    assert "newcomer" not in see(client, "/").text
    assert "project/newcomer/" not in see(client, "/search?q=newcomer").links


def test_search_pages_follow_each_other(packages: Path, tmp_path: Path) -> None:
    for number in range(60):
        make_wheel(packages, f"many-{number:02}", "1.0")
    client = Client(make_app(packages, cache_dir=tmp_path / "cache"))
    found: list[str] = []
    path = "/search?q=many"
    for _ in range(3):
        answer = client.get(path)
        found += re.findall(r'<a href="project/(many-[0-9]+)/"', answer.text)
        following = re.search(r'<a href="([^"]+)" rel="next">', answer.text)
        path = urljoin("/search", following[1].replace("&amp;", "&")) if following else ""
    assert found == [f"many-{number:02}" for number in range(60)] and not path
    for odd in ("0", "-1", "99999999999", "x", "١", ""):
        client.get(f"/search?q=many&page={odd}")


def test_search_echoes_words_as_text(client: Client) -> None:
    seen = see(client, '/search?q=<script>alert("1")</script>')
    assert '<script>alert("1")</script>' in seen.text
    client.get("/search?q=%FF%00%0A&page=%FF")


def test_a_project_shows_what_its_newest_release_says(client: Client) -> None:
    seen = see(client, "/project/acme-client/")
    assert seen.text.startswith("Acme.Client 1.0")  # the newest that pip takes; 2.0rc1 is not final
    for words in ("A client for Acme", "Ann Lee", "Bob", "MIT", "acme, client", "Talks to Acme.", ">=3.10"):
        assert words in seen.text
    assert "pip install --index-url http://127.0.0.1/simple/ acme-client==1.0" in seen.text
    assert {"../../project/acme-client/2.0rc1/", "../../project/acme-client/0.9/"} <= seen.links.keys()
    assert "0.9 yanked" in seen.text and "breaks <logins>" in seen.text
    source = seen.links["https://code.example.org/acme"]
    assert set(source["rel"].split()) >= {"nofollow", "noopener"}
    assert not [link for link in seen.links if link.startswith("javascript:")]


def test_dependencies_are_links_within_the_index_and_only_there(client: Client) -> None:
    seen = see(client, "/project/acme-client/")
    assert "../../project/acme-core/" in seen.links
    assert not [link for link in seen.links if "elsewhere" in link or "pytest" in link]
    assert 'elsewhere[x] <3; python_version >= "3.8"' in seen.text
    assert "With [test] pytest >=8" in seen.text


def test_files_have_their_hashes_and_lead_to_the_file(client: Client, packages: Path) -> None:
    answer = client.get("/project/acme-client/1.0/")
    seen = Seen(answer.text)
    for name in ("acme_client-1.0-py3-none-any.whl", "acme_client-1.0.tar.gz"):
        assert answer.follow(f"../../../packages/{name}").body == (packages / name).read_bytes()
        assert f"../../../packages/{name}" in seen.links
        assert f"sha256:{live.sha256(packages / name)}" in seen.text
    assert answer.follow("../../../packages/acme_client-1.0-py3-none-any.whl.metadata").status == 200
    assert "from this index" in seen.text


def test_a_yanked_or_old_release_says_so(client: Client) -> None:
    seen = see(client, "/project/acme-client/0.9/")
    assert "yanked, for this reason: breaks <logins>." in seen.text
    assert "The newest release is 1.0" in seen.text


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/project/acme-client", "acme-client/"),
        ("/project/Acme.Client/", "../acme-client/"),
        ("/project/Acme_Client/1.0/", "../../acme-client/1.0/"),
        ("/project/acme-client/1.0", "1.0/"),
        ("/project/acme-client/1.0.0/", "../1.0/"),
        ("/project/acme-client/v2.0-rc.1/", "../2.0rc1/"),
    ],
)
def test_other_spellings_lead_to_the_page(client: Client, path: str, location: str) -> None:
    answer = client.get(path, 301)
    assert field(answer, "Location") == location
    assert answer.follow(location).status == 200


@pytest.mark.parametrize("path", ["/simple/{}", "/project/{}", "/project/acme-client/{}", "/project/Acme.Client/{}/"])
def test_no_redirect_repeats_what_can_be_no_name(client: Client, path: str) -> None:
    for odd in ("x" * 5000, "x" * 300, "a%0d%0ab"):
        answer = client.request(path.format(odd), status=None)
        assert answer.status == 404 or len(answer.headers["Location"]) < 300, path


def test_an_index_address_without_simple_still_finds_a_project_called_project(client: Client) -> None:
    assert field(client.get("/project/", 302), "Location") == "../simple/project/"


def test_the_json_api_says_the_same(client: Client) -> None:
    facts = client.get("/pypi/acme-client/json").json
    info = facts["info"]
    assert (info["name"], info["version"], info["summary"]) == ("Acme.Client", "1.0", "A client for Acme")
    assert info["author_email"] == "Ann Lee <ann@example.org>" and info["license_expression"] == "MIT"
    assert info["project_urls"] == {"Source": "https://code.example.org/acme"}
    assert len(info["requires_dist"]) == 3 and info["requires_python"] == ">=3.10"
    assert info["description"].startswith("# Client") and info["description_content_type"].startswith("text/markdown")
    assert list(facts["releases"]) == ["2.0rc1", "1.0", "0.9"] and len(facts["urls"]) == 2
    old = client.get("/pypi/acme-client/0.9/json").json
    assert old["info"]["yanked"] is True and old["info"]["yanked_reason"] == "breaks <logins>"
    assert "releases" not in old
    client.get("/pypi/acme-client/7.0/json", 404)


def shown(text: str, kind: str) -> str:
    """A description as its page has it."""
    return Descriptions().html(About(fields={}, description=text, description_type=kind))


def test_markdown_becomes_a_part_of_the_page() -> None:
    part = readme.render(README, "text/markdown") or ""
    html5lib.HTMLParser(strict=True).parseFragment(part)
    assert re.search(r"<h3[^>]*>Client</h3>", part) and re.search(r"<h4[^>]*>Use</h4>", part)
    assert '<a href="https://docs.example.org/" rel="nofollow noopener">Docs</a>' in part
    assert "<img" not in part and "a badge" in part  # pictures of other hosts are not loaded
    assert "docs/x.md" not in part and "a file" in part  # would lead nowhere from here
    anchor = re.search(r'<a href="#([^"]+)"[^>]*>below</a>', part)
    assert anchor and f'id="{anchor[1]}"' in part
    assert "☑ done" in part and '<td class="center">2</td>' in part and '<span class="kn">import</span>' in part


def test_restructured_text_is_the_kind_of_a_description_that_names_none() -> None:
    for kind in ("text/x-rst", ""):
        part = shown("Title\n=====\n\nSome *words*, `a link <https://example.org/>`_.\n", kind)
        assert "<em>words</em>" in part and '<a href="https://example.org/" rel="nofollow noopener">' in part
        assert "<b>" not in shown("Words.\n\n.. raw:: html\n\n   <b>x</b>\n", kind)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("# not *marked* <b>", "text/plain"), ("# x <b>", "application/x-odd"), ("Broken\n==\n\n``<b>\n", "text/x-rst")],
)
def test_what_cannot_be_rendered_is_shown_as_it_is(text: str, kind: str) -> None:
    assert shown(text, kind) == '<pre class="plain">' + text.replace("<", "&lt;").replace(">", "&gt;") + "</pre>"
    assert shown(" \n", kind) == ""


BAIT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{1}}%0a\u202e\u200b\u0007é𝔘"
HOSTILE = [
    *(f"{name}: {BAIT}" for name in ("Summary", "Author", "Maintainer", "License", "Keywords", "Classifier")),
    f"Author-email: {BAIT} <a@b.c>, javascript:alert(3)",
    f"Project-URL: {BAIT}, https://example.org/?a=<b>\"'",
    f"Project-URL: x{BAIT}, https://example.org/ok",
    "Project-URL: Other, //evil.example/",
    "Home-page: data:text/html,x",
    "Download-URL: \tjavascript:alert(4)",
    f"Requires-Dist: {BAIT}",
    "Requires-Dist: " + "(" * 5000,
    f"Requires-Python: {BAIT}",
]
RAW = """
<svg onload=alert(1)><script>alert(2)</script></svg><style>*{display:none}</style><iframe src=//evil.example></iframe>
<a href="javascript:alert(3)" id="main" onclick=x>a</a><form action=//evil.example><input name=q></form>
<img src="//evil.example/x.png" alt="picture"><base href="//evil.example/"><meta http-equiv=refresh content=0>
<p id="files">x</p><p align="center" class="note" style="position:fixed">y</p><!-- <main> --><div></main></body>
"""


@pytest.mark.parametrize("kind", ["text/markdown", "text/x-rst", "text/plain", "text/html", BAIT])
def test_hostile_metadata_stays_text(kind: str, tmp_path: Path) -> None:
    traps = "`x <javascript:alert(5)>`_\n\n.. include:: /etc/passwd\n"
    body = RAW.replace("\n", "\n\n") + traps if kind == "text/x-rst" else RAW
    make_wheel(tmp_path / "p", "bad", "1.0", *HOSTILE, f"Description-Content-Type: {kind}", body=body)
    (tmp_path / "p" / "bad-1.0-py3-none-any.whl.yanked").write_text(BAIT)
    client = Client(make_app(tmp_path / "p", cache_dir=tmp_path / "c", disable_fallback=True))
    for path in ("/project/bad/", "/search?q=script", "/"):
        answer = client.get(path)
        html5lib.HTMLParser(strict=True).parse(answer.text)
        seen = Seen(answer.text)
        assert all(link.startswith(("-/", "../../-/")) for link in seen.loaded)
        assert len(re.findall("<script", answer.text)) == 1  # ours
        assert not any(key == "style" or key.startswith("on") for _, key in seen.attributes)
        assert not {tag for tag, _ in seen.attributes} & {"iframe", "svg", "base", "object", "embed"}
        assert all(re.match(r"(https?:|mailto:)[^\"<>\s]+$|[^:]*$", link) for link in seen.links)
        assert seen.forms in (["search"], ["../../search"])
        assert "\a" not in answer.text and "root:" not in answer.text
    ids = re.findall(r' id="([^"]+)"', client.get("/project/bad/").text)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kind", ["text/markdown", "text/x-rst", "text/plain"])
def test_an_enormous_description_costs_a_bounded_time(kind: str, tmp_path: Path) -> None:
    make_wheel(tmp_path / "p", "big", "1.0", f"Description-Content-Type: {kind}", body="<b>*a* `b` [" * 600_000)
    client = Client(make_app(tmp_path / "p", cache_dir=tmp_path / "c", disable_fallback=True))
    began = time.monotonic()
    answer = client.get("/project/big/")
    assert time.monotonic() - began < 5
    assert "<b>*a*" not in answer.text and len(answer.body) < 10 * 2**20


@pytest.mark.parametrize("text", ["[" * 50_000, "> " * 20_000 + "x", "*a " * 15_000, "`" * 50_000, "<div>" * 10_000])
@pytest.mark.parametrize("kind", ["text/markdown", "text/x-rst"])
def test_no_nesting_breaks_the_page(kind: str, text: str) -> None:
    began = time.monotonic()
    html5lib.HTMLParser().parseFragment(shown(text, kind)[:1000])
    assert time.monotonic() - began < 20


def test_a_line_to_copy_cannot_run_more_than_it_says(tmp_path: Path) -> None:
    make_sdist(tmp_path / "p", "ours", "1.0", filename="ours-1.0$(touch owned);`x`'\".tar.gz")
    client = Client(make_app(tmp_path / "p", cache_dir=tmp_path / "c", disable_fallback=True))
    facts = client.get("/pypi/ours/json").json
    version = facts["info"]["version"]
    seen = see(client, "/project/ours/")
    line = next(part for part in re.findall(r"poetry add .*", seen.words))
    assert shlex.split(line) == ["poetry", "add", f"ours=={version}"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_not_sent_twice_and_a_head_says_what_a_get_says(client: Client, path: str) -> None:
    answer = client.get(path)
    assert client.get(path, 304, If_None_Match=field(answer, "ETag")).body == b""
    assert field(answer, "Cache-Control") == "no-cache"
    assert sorted(client.head(path).headerlist) == sorted(answer.headerlist)
    if len(answer.body) > 1000:
        assert client.get(path, Accept_Encoding="gzip").unpacked == answer.body


def test_a_change_is_seen_by_the_next_request(client: Client, packages: Path) -> None:
    before = client.get("/project/acme-client/")
    make_wheel(packages, "acme-client", "3.0", "Summary: Another one", "Requires-Dist: late-comer")
    after = client.get("/project/acme-client/", If_None_Match=field(before, "ETag"))
    assert "Another one" in after.text and "project/late-comer/" not in after.text
    make_wheel(packages, "late-comer", "1.0")
    assert "project/late-comer/" in client.get("/project/acme-client/").text
    (packages / "acme_client-3.0-py3-none-any.whl.yanked").write_text("sorry")
    assert "3.0 yanked" in see(client, "/project/acme-client/").text


def test_styles_and_scripts_are_kept_for_ever_under_their_own_version(client: Client) -> None:
    (link,) = (link for link in see(client, "/").loaded if "style.css" in link)
    assert "immutable" in field(client.get(f"/{link}"), "Cache-Control")
    answer = client.get("/-/style.css")
    assert field(answer, "Cache-Control") == "no-cache" and answer.content_type == "text/css"
    client.get("/-/style.css", 304, If_None_Match=field(answer, "ETag"))
    assert client.get("/-/copy.js").content_type == "text/javascript"
    for missing in ("home.tpl", "__init__.py", "..", "../home.tpl", "%2e%2e%2fhome.tpl", ""):
        client.get(f"/-/{missing}", 404)


def test_pages_follow_the_right_to_list(packages: Path, tmp_path: Path) -> None:
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="pw")
    settings: dict[str, Any] = {"passwords": passwords, "authenticate": "update,list", "cache_dir": tmp_path / "c"}
    client = Client(make_app(packages, **settings))
    refusals = set()
    for path in (*PAGES, "/project/none/", "/project/acme-client", "/project/acme-client/7/"):
        assert "-/sign-in" in field(client.get(path, 303, Accept=BROWSER), "Location")
        answer = client.get(path, 401, Accept=BROWSER, Authorization="Basic YW5uOndyb25n")
        assert field(answer, "WWW-Authenticate").startswith("Basic ")
        html5lib.HTMLParser(strict=True).parse(answer.text)
        assert not re.search("acme|0\\.1\\.0|upstream", answer.text, re.IGNORECASE)
        refusals.add(re.sub(r"(\.\./)+|\./", "", answer.text))
        assert client.get(path, 401).content_type == "text/plain"
    assert len(refusals) == 1  # what is here and what is not look the same
    client.get("/-/style.css")
    page = client.get("/project/acme-client/", Authorization="Basic YW5uOnB3")
    assert field(page, "Cache-Control") == "private, no-cache"


def test_people_get_a_page_and_programs_a_line(client: Client) -> None:
    for path in ("/project/none/", "/project/acme-client/9/", "/project/-x-/", "/nothing/here/at/all"):
        answer = client.get(path, 404, Accept=BROWSER)
        html5lib.HTMLParser(strict=True).parse(answer.text)
        assert "Not found" in answer.text
        for accept in ("*/*", "text/html", "application/json", ""):
            assert client.get(path, 404, Accept=accept).content_type == "text/plain"
    assert client.get("/simple/-x-/", 404, Accept=BROWSER).content_type == "text/plain"
    assert "installers are sent to the upstream" in see(client, "/project/none/", 404).text


def test_a_project_that_lives_upstream_is_shown_the_same_way(packages: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "ours", "ours", "1.0", "Requires-Dist: acme-core")
    upstream = make_app(packages, disable_fallback=True, cache_dir=tmp_path / "up")
    with live.in_thread(upstream) as server:
        url = server.simple.replace("http://", "http://user:hidden@")
        settings: dict[str, Any] = {"fallback_mode": "proxy", "fallback_url": url, "cache_dir": tmp_path / "c"}
        app = make_app(tmp_path / "ours", private=["acme-secret"], **settings)
        client = Client(app)
        seen = see(client, "/project/acme-client/")
        for words in ("Acme.Client 1.0", "A client for Acme", "Talks to Acme.", "from the upstream", "0.9 yanked"):
            assert words in seen.text
        assert "../../project/acme-core/" in see(client, "/project/ours/").links
        assert "reserved" in see(client, "/project/acme-secret/", 404).text
        home = see(client, "/")
        assert server.simple in home.text and "request" in home.text
        assert "hidden" not in home.text
        app.close()


def test_a_file_says_whether_it_is_kept_and_a_page_whether_the_upstream_still_answers(
    packages: Path, tmp_path: Path
) -> None:
    upstream = make_app(packages, disable_fallback=True, cache_dir=tmp_path / "up")
    settings: dict[str, Any] = {"fallback_mode": "cache", "cache_dir": tmp_path / "c", "cache_ttl": 0}
    (tmp_path / "ours").mkdir()
    with live.in_thread(upstream) as server:
        client = Client(make_app(tmp_path / "ours", fallback_url=server.simple, **settings))
        assert see(client, "/project/acme-core/").text.count("from the upstream") == 1
        client.get("/packages/acme_core-1.0-py3-none-any.whl")
        eventually(lambda: "from the cache" in see(client, "/project/acme-core/").text)
    seen = see(client, "/project/acme-core/")
    assert "The upstream does not answer" in seen.text and "acme-core==1.0" in seen.text
    client.application.close()


@pytest.mark.parametrize("prefix", ["", "/team/py"])
def test_a_site_of_ones_own_adds_pages_and_styles_that_work_under_a_prefix(
    packages: Path, tmp_path: Path, prefix: str
) -> None:
    app = ExampleSite(packages, disable_fallback=True, cache_dir=tmp_path / "c")
    other = make_app(tmp_path, disable_fallback=True, cache_dir=tmp_path / "c")
    with live.in_thread(DispatcherMiddleware(other, {prefix: app}) if prefix else app) as server:
        seen, due = {}, [f"{prefix}/"]
        while due:
            path = due.pop()
            answer = live.ask(server, path, Accept=BROWSER)
            assert answer.status == 200, path
            seen[path] = answer
            if not answer.headers["content-type"].startswith("text/html"):
                continue
            page = Seen(answer.text)
            for link in (*page.links, *page.loaded, *page.forms):
                target = urljoin(path, link.split("#")[0])
                assert urlsplit(target).netloc or target.startswith(("mailto:", f"{prefix}/")), (path, link)
                if target.startswith(f"{prefix}/") and target not in seen and target not in due:
                    due.append(target)
        home, about = seen[f"{prefix}/"].text, seen[f"{prefix}/about/"].text
        assert (
            "<h1>Packages of Example</h1>" in home and f"{server.url}{prefix[1:]}{'/' if prefix else ''}simple/" in home
        )
        assert "packages@example.org" in about and any("logo.svg" in path for path in seen)
        assert b"#102040" in next(answer.body for path, answer in seen.items() if "style.css" in path)
        assert f"{prefix}/project/acme-client/" in seen  # the pages it does not change are there too
    app.close()
    other.close()


def test_pages_of_the_operator_may_have_styles_inside(packages: Path, tmp_path: Path) -> None:
    welcome = tmp_path / "welcome.tpl"
    welcome.write_text(
        "<style>h1 { color: red }</style><h1>{{NUMPKGS}} {{URL}} {{VERSION}} {{PACKAGES}} {{SIMPLE}}</h1>"
    )
    client = Client(make_app(packages, welcome=welcome, cache_dir=tmp_path / "c"))
    answer = client.get("/")
    assert f"2 http://127.0.0.1/ {pypiserver_lite.__version__} packages/ simple/</h1>" in answer.text
    assert "style-src 'self' 'unsafe-inline';" in field(answer, "Content-Security-Policy")
    assert "unsafe-inline" not in field(client.get("/search"), "Content-Security-Policy")


@pytest.mark.parametrize("name", ["home", "search", "project", "error", "layout", "lines"])
def test_a_template_that_is_broken_or_fails_is_named_at_the_start(packages: Path, tmp_path: Path, name: str) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    for text, told in (("a\n% for\nb", "invalid syntax"), ("a\n{{no_such_thing}}", "no_such_thing")):
        (templates / f"{name}.tpl").write_text(text)
        with pytest.raises(ConfigError, match=rf"{name}\.tpl, line [0-9]+: .*({told})"):
            make_app(packages, templates=templates, cache_dir=tmp_path / "c")


def test_the_comment_of_each_template_names_all_its_variables() -> None:
    folder = live.SOURCE / "templates"
    layout = (folder / "layout.tpl").read_text().split("%>")[0]
    app = make_app(folder, disable_fallback=True)
    home = app.human.home_variables("http://127.0.0.1/")
    comment = (folder / "home.tpl").read_text().split("%>")[0]
    assert [name for name in home if not re.search(rf"\b{name}\b", comment + layout)] == []
    app.close()
