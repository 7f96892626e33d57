"""The pages in a real browser: quiet console, nothing from elsewhere, usable by keyboard, readable by everybody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import live
import pytest
from builders import make_sdist, make_wheel
from chromium import LOOKS, NEEDS_CHROMIUM, findings, looking, running_browser  # noqa: F401 - the fixture
from filed import served
from test_embedding import needs_nginx, nginx

from pypiserver_lite import make_app

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = NEEDS_CHROMIUM
PAGES = ("", "search", "search?q=acme", "search?q=zzz", *(f"project/{path}/" for path in ("acme-client/0.9", "bad")))
BAIT = "<script>alert(1)</script>\"'><img src=//evil.example/x onerror=alert(2)>\u202e"
README = f"""\
# Client

![badge](https://evil.example/b.png) {BAIT} [docs](https://docs.example.org/) <a href="javascript:alert(3)">x</a>

```python
import acme  # a line of code that is so long that it does not fit on any telephone, whichever way one turns it
```

| a | a column that is rather wide, wider than most | another one like it, only wider still, by quite a bit |
|---|---|---|
| 1 | 2 | 3 |

- [ ] to do
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    fields = ("Summary: A client for Acme", "Author-email: Ann <ann@example.org>", "License-Expression: MIT")
    needs = ("Requires-Dist: acme-core>=1", "Requires-Dist: pytest; extra == 'test'", "Requires-Python: >=3.10")
    kind = "Description-Content-Type: text/markdown"
    for number in range(12):
        make_wheel(folder, "Acme.Client", f"0.{number}", *fields, *needs, kind, body=README)
    make_sdist(folder, "Acme.Client", "0.11")
    (folder / "acme_client-0.9-py3-none-any.whl.yanked").write_text("breaks logins")
    for number in range(60):
        make_wheel(folder, f"acme-part-{number}", "1.0", "Summary: A part")
    make_wheel(folder, "acme-core", "1.0")
    bad = [f"{name}: {BAIT}" for name in ("Summary", "Author", "License", "Keywords")]
    make_wheel(folder, "bad", "1.0", *bad, kind, body=README + "x" * 5000)
    return folder


@pytest.fixture(scope="module")
def server(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Server]:
    app = make_app(packages, disable_fallback=True, cache_dir=tmp_path_factory.mktemp("cache"))
    with live.in_thread(app) as running:
        yield running


SHIFTS = """() => new Promise(done => {
  let sum = 0;
  new PerformanceObserver(list => { for (const entry of list.getEntries()) sum += entry.value; })
    .observe({type: "layout-shift", buffered: true});
  setTimeout(() => done(sum), 100);
})"""


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_quiet_accessible_and_fits(browser: Browser, server: live.Server, look: str) -> None:
    with looking(browser, server.url, **LOOKS[look]) as page:
        for path in PAGES:
            page.goto(server.url + path)
            assert findings(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            assert page.evaluate(SHIFTS) == 0, path
            assert page.evaluate("document.scripts.length") == 1
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).every(c => c < 60)")
        assert dark == (LOOKS[look]["color_scheme"] == "dark")


@pytest.mark.parametrize("look", LOOKS)
def test_a_page_that_is_not_there_helps_on(browser: Browser, server: live.Server, look: str) -> None:
    with looking(browser, server.url, spoiled=1, **LOOKS[look]) as page:
        page.goto(server.url + "project/nobody/")
        assert findings(page) == []
        assert page.title() == "Not found"
        page.get_by_role("link", name="To the home page").click()
        assert page.url == server.url


@pytest.mark.parametrize("look", LOOKS)
def test_people_sign_in_on_a_page_and_out_again(browser: Browser, packages: Path, tmp_path: Path, look: str) -> None:
    passwords = live.write_htpasswd(tmp_path / "htpasswd", ann="pw")
    app = make_app(packages, passwords=passwords, authenticate="update,list", cache_dir=tmp_path / "cache")
    with (
        live.in_thread(app) as server,
        looking(browser, server.url, spoiled=1, **LOOKS[look]) as page,
    ):
        page.goto(server.url + "project/acme-client/")
        assert page.title() == "Sign in" and findings(page) == []
        assert page.evaluate("document.activeElement.id") == "user"
        page.keyboard.type("ann")
        page.keyboard.press("Tab")
        page.keyboard.type("guessed")
        page.keyboard.press("Enter")
        page.get_by_role("alert").wait_for()
        assert findings(page) == [] and page.evaluate("document.activeElement.id") == "password"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.keyboard.type("pw")
        page.keyboard.press("Enter")
        page.get_by_role("heading", level=1, name="Acme.Client 0.11").wait_for()
        assert page.url == server.url + "project/acme-client/" and findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("heading", name="Sign in").wait_for()


def test_everything_is_done_by_keyboard(browser: Browser, server: live.Server) -> None:
    with looking(browser, server.url) as page:
        page.goto(server.url)
        page.keyboard.press("Tab")
        skip = page.locator(".skip")
        assert skip.evaluate("node => node === document.activeElement && node.getBoundingClientRect().width > 50")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.goto(server.url)
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.type("acme client")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search?q=acme+client")
        for _ in range(5):  # skip link, home, box, button, first hit
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url("**/project/acme-client/")


@pytest.mark.parametrize("host", ["127.0.0.1", "index.example"])
def test_lines_are_copied_also_where_the_clipboard_is_out_of_reach(
    browser: Browser, server: live.Server, host: str
) -> None:
    home = f"http://{host}:{server.port}/"
    with looking(browser, home) as page:
        page.goto(home + "project/acme-client/")
        assert page.evaluate("isSecureContext") == (host == "127.0.0.1")
        if host == "127.0.0.1":
            page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy pip install").click()
        page.get_by_text("Copied", exact=True).first.wait_for()
        line = page.locator("pre[data-copy]").first.inner_text()
        assert re.fullmatch(rf"pip install --index-url {re.escape(home)}simple/.* acme-client==0\.11", line)
        page.locator("input").click()
        page.keyboard.press("ControlOrMeta+V")
        assert page.locator("input").input_value() == line


def test_without_script_everything_but_the_copy_buttons_works(browser: Browser, server: live.Server) -> None:
    with looking(browser, server.url, java_script_enabled=False) as page:
        page.goto(server.url)
        page.get_by_role("searchbox").fill("part")
        page.get_by_role("button", name="Search").click()
        page.get_by_role("link", name="Next").click()
        page.get_by_role("link", name="acme-part-").first.click()
        assert re.fullmatch(r".*/project/acme-part-[0-9]+/", page.url)
        assert page.get_by_role("button", name="Copy").count() == 0


@needs_nginx
def test_behind_nginx_at_a_sub_path_every_link_leads_on(browser: Browser, server: live.Server) -> None:
    with nginx(server.url) as front:
        home = front.url + "team/py/"
        with looking(browser, home) as page:
            page.goto(home)
            page.get_by_role("searchbox").fill("client")
            page.keyboard.press("Enter")
            page.get_by_role("link", name="acme-client").click()
            page.get_by_text("older").click()
            page.get_by_role("link", name="0.1", exact=True).click()
            assert page.url == home + "project/acme-client/0.1/"
            page.get_by_role("link", name="acme-core").click()
            with page.expect_download() as download:
                page.get_by_role("link", name="acme_core-1.0-py3-none-any.whl", exact=True).click()
            assert download.value.suggested_filename == "acme_core-1.0-py3-none-any.whl"
            page.get_by_role("link", name="Package index").click()
            assert page.url == home and urlsplit(home).path == "/team/py/"
            assert findings(page) == []


def test_a_form_of_another_site_removes_nothing(browser: Browser, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "packages", "ours")
    app = make_app(tmp_path / "packages", passwords=".", authenticate=".", cache_dir=tmp_path / "cache")

    def page(target: str) -> str:
        fields = {":action": "remove_pkg", "name": "ours", "version": "1.0"}
        inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
        kind = 'method="post" enctype="multipart/form-data"'
        return f'<!doctype html><form action="{target}" {kind}>{inputs}<button>A prize</button></form>'

    def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [page(environ["QUERY_STRING"]).encode()]

    context = browser.new_context()
    with live.in_thread(app) as index, live.in_thread(site) as elsewhere:
        for host in ("127.0.0.1", "index.example"):  # the same site at another port, and another site
            visitor = context.new_page()
            visitor.goto(elsewhere.url.replace("127.0.0.1", host) + "?" + index.url)
            with visitor.expect_navigation() as navigation:
                visitor.get_by_role("button").click()
            assert navigation.value.status == 403 and wheel.exists()
            assert "another site" in visitor.content()
    context.close()
    app.close()


@pytest.mark.parametrize("look", LOOKS)
def test_pages_of_several_indexes_lead_to_each_other(browser: Browser, tmp_path: Path, look: str) -> None:
    make_wheel(tmp_path / "prod", "acme-core", "1.0", "Summary: Core")
    (tmp_path / "look").mkdir()
    (tmp_path / "look" / "logo.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 30"/>')
    text = (
        'disable_fallback = true\ntitle = "Acme"\ndescription = "All of it."\ntemplates = "look"\nlogo = "logo.svg"\n'
    )
    text += '[index.prod]\npackages = ["prod"]\ntitle = "Production"\n[index."team/dev"]\nbases = ["prod"]\n'
    with (
        served(tmp_path, text) as app,
        live.in_thread(app) as server,
        looking(browser, server.url, **LOOKS[look]) as page,
    ):
        for path in ("", "prod/", "team/dev/", "team/dev/search?q=core", "team/dev/project/acme-core/"):
            page.goto(server.url + path)
            assert findings(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            assert page.evaluate("document.querySelector('.home img').naturalWidth") > 0
        page.get_by_role("link", name="All indexes").click()
        assert page.url == server.url and page.title() == "Acme"
        page.get_by_role("link", name="team/dev").click()
        page.get_by_role("link", name="prod", exact=True).click()
        assert page.url == server.url + "prod/" and page.title() == "Production"
