"""What people do in a real browser: sign in, publish, change, make tokens and administer, by mouse and by keyboard."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import live
import pytest
from builders import make_sdist, make_wheel
from chromium import NEEDS_CHROMIUM, findings, looking, running_browser  # noqa: F401 - the fixture
from filed import served
from test_embedding import needs_nginx, nginx

from pypiserver_lite.rights.htpasswd import set_password
from pypiserver_lite.web import Front

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = NEEDS_CHROMIUM

LOOKS: dict[str, dict[str, Any]] = {
    "wide and light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "a telephone in the dark": {"color_scheme": "dark", "viewport": {"width": 390, "height": 800}, "has_touch": True},
}
TEXT = """
passwords = "htpasswd"
admin = ["ann"]
disable_fallback = true
packages = ["dev"]
[index.prod]
packages = ["prod"]
"""
PAGES = (
    *("", "project/acme-client/1.0/", "-/upload", "-/tokens", "-/tokens/new", "-/admin/", "-/admin/trail"),
    *("-/admin/trail?since=never", "-/admin/names", "-/admin/users", "-/admin/tokens", "-/admin/password?user=bob"),
    *("-/admin/owners/acme-client", "-/admin/owners/acme-client/add"),
    *("-/admin/delete?user=bob", *(f"-/change/{act}/acme-client/1.0" for act in ("yank", "push", "remove"))),
)

WATCH = """() => {
  window.seen = [];
  const note = (bar) => { if (bar) window.seen.push(bar.getAttribute("aria-label")); };
  const look = (list) => list.forEach((one) => one.addedNodes.forEach((node) => note(node.querySelector("progress"))));
  new MutationObserver(look).observe(document.querySelector("[data-sent]"), {childList: true});
}"""
FOCUSED = """() => {
  const one = document.activeElement;
  const label = one.labels && one.labels[0] ? one.labels[0].textContent : "";
  return (one.getAttribute("aria-label") || label || one.textContent || "").trim().replace(/\\s+/g, " ");
}"""


class Place:
    """A server with users, some projects and a trail."""

    def __init__(self, folder: Path, server: live.Recording) -> None:
        self.folder, self.url = folder, server.url
        self.app: Front = server.app


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    live.write_htpasswd(tmp_path / "htpasswd", ann="right", bob="his")
    for version in ("1.0", "2.0"):
        make_wheel(tmp_path / "dev", "acme-client", version, "Summary: A client")
    (tmp_path / "prod").mkdir()
    make_wheel(tmp_path / "dist", "fresh", "1.0")
    make_sdist(tmp_path / "dist", "fresh", "1.0")
    (tmp_path / "dist" / "notes.txt").write_text("no package")
    with served(tmp_path, TEXT) as app, live.in_thread(app) as server:
        yield Place(tmp_path, server)


@contextmanager
def signed_in(
    browser: Browser, place: Place, user: str = "ann", password: str = "right", **more: Any
) -> Iterator[Page]:
    with looking(browser, place.url, **more) as page:
        sign_in(page, place.url, user, password)
        yield page


def sign_in(page: Page, url: str, user: str = "ann", password: str = "right") -> None:
    """Fill the form, and wait for what comes then."""
    page.goto(url + "-/sign-in")
    page.get_by_label("User name").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()


def said(page: Page, words: str) -> None:
    """Wait for what was done to be said."""
    page.get_by_role("status").filter(has_text=re.compile(words, re.IGNORECASE)).first.wait_for()


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_quiet_accessible_and_fits(browser: Browser, place: Place, look: str) -> None:
    counts = place.app.site_of("/").records.counts
    for _ in range(3):
        counts.count("/", "acme-client", "acme_client-1.0-py3-none-any.whl")
    with signed_in(browser, place, spoiled=1, **LOOKS[look]) as page:
        page.goto(place.url + "-/change/yank/acme-client/2.0")
        page.get_by_label("Reason").fill("a reason that is so long that it does not fit on one line of any telephone")
        page.get_by_role("button", name="Yank").click()
        said(page, "yanked")
        assert findings(page) == []
        for path in PAGES:
            page.goto(place.url + path)
            assert findings(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            assert page.evaluate("[...document.images].every(one => one.naturalWidth > 0)"), path
            dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).every(c => c < 60)")
            assert dark == (LOOKS[look]["color_scheme"] == "dark"), path


@pytest.mark.parametrize("look", LOOKS)
def test_a_release_is_published_yanked_pushed_and_removed(browser: Browser, place: Place, look: str) -> None:
    with signed_in(browser, place, spoiled=1, **LOOKS[look]) as page:
        page.goto(place.url)
        page.get_by_role("link", name="Upload in the browser").click()
        page.get_by_label("Files").set_input_files(sorted((place.folder / "dist").iterdir()))
        page.get_by_role("button", name="Upload").click()
        page.get_by_text("'notes.txt' is not accepted").wait_for()
        assert page.get_by_text("stored").count() == 2 and findings(page) == []
        page.get_by_role("link", name="fresh-1.0-py3-none-any.whl").click()
        page.get_by_role("heading", level=1, name="fresh 1.0").wait_for()
        page.get_by_role("link", name="Yank fresh 1.0").click()
        assert page.get_by_role("listitem").filter(has_text="fresh-1.0.tar.gz").count() == 1
        page.get_by_label("Reason").fill("breaks <b>logins</b>")
        page.get_by_role("button", name="Yank").click()
        said(page, "yanked fresh-1.0")
        page.get_by_role("link", name="Back to the project").click()
        page.get_by_text("breaks <b>logins</b>").first.wait_for()
        page.get_by_role("link", name="Push fresh 1.0").click()
        page.get_by_label("To the index").select_option("prod")
        page.get_by_role("button", name="Push").click()
        said(page, "pushed")
        assert len(list((place.folder / "prod").glob("fresh-1.0*"))) >= 2
        page.get_by_role("link", name="Back to the project").click()
        page.get_by_role("link", name="Remove fresh 1.0").click()
        page.get_by_text("It is the last release").wait_for()
        page.get_by_role("button", name="Remove").click()
        said(page, "removed")
        assert not list((place.folder / "dev").glob("fresh*"))


def test_without_script_several_files_are_published_at_once(browser: Browser, place: Place) -> None:
    (place.folder / "dist" / "notes.txt").unlink()
    with signed_in(browser, place, java_script_enabled=False) as page:
        page.goto(place.url + "-/upload")
        page.get_by_label("Files").set_input_files(sorted((place.folder / "dist").iterdir()))
        page.get_by_role("button", name="Upload").click()
        page.get_by_role("link", name="fresh-1.0.tar.gz").wait_for()
        assert len(list((place.folder / "dev").glob("fresh*"))) == 2


def test_a_large_file_shows_how_far_it_is(browser: Browser, place: Place) -> None:
    large = make_wheel(place.folder / "large", "large", "1.0", payload=bytes(20_000_000))
    with signed_in(browser, place) as page:
        page.goto(place.url + "-/upload")
        page.evaluate(WATCH)
        page.get_by_label("Files").set_input_files(large)
        page.get_by_role("button", name="Upload").click()
        page.get_by_text("stored").wait_for()
        assert page.evaluate("window.seen") == [large.name]


def test_what_was_published_though_the_answer_was_lost_is_not_said_to_be_unpublished(
    browser: Browser, place: Place
) -> None:
    lost: list[str] = []

    def heard(status: str, headers: Any, exc_info: Any = None) -> Any:
        lost.append(status)

    def on_the_way(environ: Any, start_response: Any) -> Any:
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) != ("POST", "/-/upload"):
            return place.app(environ, start_response)
        b"".join(place.app(environ, heard))
        if len(lost) == 1:
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "99")])
            return []  # the connection ends before that
        page = b"<h1>Gateway Time-out</h1>"
        start_response("504 Gateway Time-out", [("Content-Type", "text/html"), ("Content-Length", str(len(page)))])
        return [page]

    fresh = place.folder / "dist" / "fresh-1.0.tar.gz"
    with live.in_thread(on_the_way) as server, browser.new_context() as context:
        page = context.new_page()
        sign_in(page, server.url)
        page.goto(server.url + "-/upload")
        for _ in range(2):
            page.get_by_label("Files").set_input_files(fresh)
            page.get_by_role("button", name="Upload").click()
            page.get_by_text("it may have been published or not").wait_for()
            assert "Time-out" not in page.get_by_role("main").inner_text()
            page.reload()
        assert lost == ["200 OK", "200 OK"] and (place.folder / "dev" / fresh.name).exists()


def test_a_token_is_made_used_and_revoked(browser: Browser, place: Place, shell: live.Shell) -> None:
    pytest.importorskip("twine", reason="twine is not installed (the group 'clients')")
    (place.folder / "dist" / "notes.txt").unlink()
    with signed_in(browser, place, "bob", "his") as page:
        page.get_by_role("link", name="bob, your tokens").click()
        page.get_by_role("link", name="Make a token").click()
        page.get_by_label("Name").fill("ci")
        page.get_by_label("upload").check()
        page.get_by_role("button", name="Make the token").click()
        said(page, "shown this once")
        assert findings(page) == []
        token = page.locator("pre").first.inner_text()

        def publish() -> live.Ran:
            files = [str(path) for path in sorted((place.folder / "dist").iterdir())]
            login = ("--username", "__token__", "--password", token, "--repository-url", place.url)
            return shell.python("-m", "twine", "upload", "--non-interactive", "--disable-progress-bar", *login, *files)

        publish().good()
        page.get_by_role("link", name="To the tokens").click()
        assert token not in page.content()
        page.get_by_role("link", name="Revoke ci").click()
        page.get_by_text("Programs that use this token are refused").wait_for()
        page.get_by_role("button", name="Revoke").click()
        said(page, "refused from now on")
        assert "401" in publish().bad() or "not known" in publish().bad()


def test_a_session_that_is_over_leads_to_the_page_for_signing_in_and_back(browser: Browser, place: Place) -> None:
    with signed_in(browser, place, spoiled=1) as page:
        page.goto(place.url + "-/change/remove/acme-client/1.0")
        set_password(place.folder / "htpasswd", "ann", "another")
        page.get_by_role("button", name="Remove").click()
        page.get_by_role("heading", name="Sign in").wait_for()
        assert (place.folder / "dev" / "acme_client-1.0-py3-none-any.whl").exists()
        page.get_by_label("User name").fill("ann")
        page.get_by_label("Password").fill("another")
        page.get_by_role("main").get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Remove").wait_for()
        # While files are sent by the script there is no dialog either.
        page.goto(place.url + "-/upload")
        set_password(place.folder / "htpasswd", "ann", "a third")
        page.get_by_label("Files").set_input_files(place.folder / "dist" / "fresh-1.0.tar.gz")
        page.get_by_role("button", name="Upload").click()
        page.get_by_text("your sign-in is over").wait_for()


def test_a_forged_form_changes_nothing(browser: Browser, place: Place) -> None:
    target = f"{place.url}-/change/remove/acme-client/1.0"

    def elsewhere(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        form = f'<form action="{target}" method="post"><input type="hidden" name="csrf" value="x">'
        link = f'<a href="{place.url}project/acme-client/">A link</a>'
        return [f"<!doctype html>{form}<button>A prize</button></form>{link}".encode()]

    wheel = place.folder / "dev" / "acme_client-1.0-py3-none-any.whl"
    with live.in_thread(elsewhere) as other, signed_in(browser, place, spoiled=1) as page:
        # From our own origin, without the token: as a hole in a page of ours would send it.
        page.goto(place.url)
        with page.expect_navigation() as navigation:
            page.evaluate(
                """target => { const form = document.createElement("form"); form.method = "post"; form.action = target;
                document.body.append(form); form.submit(); }""",
                target,
            )
        assert navigation.value is not None and navigation.value.status == 403 and wheel.exists()
        for host in ("127.0.0.1", "index.example"):
            visitor = page.context.new_page()
            visitor.goto(other.url.replace("127.0.0.1", host))
            with visitor.expect_navigation() as navigation:
                visitor.get_by_role("button").click()
            assert navigation.value is not None and navigation.value.status == 403 and wheel.exists()
            # A link from there leads to a page as somebody who is signed in sees it, if not at once.
            visitor.goto(other.url.replace("127.0.0.1", host))
            visitor.get_by_role("link").click()
            visitor.get_by_role("heading", level=1, name="acme-client").wait_for()
            visitor.close()


def test_a_page_of_another_site_neither_reads_nor_frames_what_is_here(browser: Browser, place: Place) -> None:
    paths = ["", "simple/", "simple/acme-client/", "-/tokens", "-/api/me", "packages/acme_client-1.0-py3-none-any.whl"]

    def elsewhere(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [f'<!doctype html><iframe src="{place.url}-/sign-in?again=1"></iframe>'.encode()]

    with live.in_thread(elsewhere) as other, signed_in(browser, place) as page:
        for host in ("127.0.0.1", "index.example"):
            visitor = page.context.new_page()
            visitor.goto(other.url.replace("127.0.0.1", host))
            framed = visitor.frames[1]
            framed.wait_for_load_state()
            assert framed.url.startswith("chrome-error:") and framed.locator("main").count() == 0
            for path, credentials in itertools.product(paths, ("omit", "include")):
                read = visitor.evaluate(
                    """([address, credentials]) =>
                    fetch(address, {credentials}).then((answer) => answer.text(), () => null)""",
                    [place.url + path, credentials],
                )
                assert read is None, path
            visitor.close()


def test_everything_is_done_by_keyboard(browser: Browser, place: Place) -> None:
    with looking(browser, place.url) as page:

        def reach(name: str) -> None:
            """Walk on with the tab key until what has the focus is called so."""
            for _ in range(60):
                page.keyboard.press("Tab")
                here = page.evaluate(FOCUSED)
                if here == name:
                    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                    assert outline != "none", name
                    return
            raise AssertionError(f"{name} cannot be reached")

        page.goto(place.url + "project/acme-client/1.0/")
        reach("Sign in")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Sign in").wait_for()
        page.keyboard.type("ann")  # the first field has the focus
        page.keyboard.press("Tab")
        page.keyboard.type("right")
        page.keyboard.press("Enter")
        page.get_by_role("heading", level=1, name="acme-client 1.0").wait_for()
        reach("Yank acme-client 1.0")
        page.keyboard.press("Enter")
        page.get_by_label("Reason").wait_for()
        reach("Reason, shown to those who install it")
        page.keyboard.type("too old")
        page.keyboard.press("Enter")
        said(page, "yanked")
        reach("Administration")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Administration").wait_for()
        reach("Audit trail")
        page.keyboard.press("Enter")
        page.get_by_text("too old").wait_for()
        reach("ann, your tokens")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Make a token").wait_for()
        reach("Make a token")
        page.keyboard.press("Enter")
        page.get_by_label("Name").wait_for()
        reach("Name, for example of the program that uses it")
        page.keyboard.type("ci")
        reach("upload")
        page.keyboard.press("Space")
        reach("Make the token")
        page.keyboard.press("Enter")
        said(page, "shown this once")
        reach("Sign out")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Sign in").wait_for()


def test_an_admin_sees_to_users(browser: Browser, place: Place) -> None:
    with signed_in(browser, place) as page:
        page.get_by_role("link", name="Administration").click()
        page.get_by_role("link", name="Users", exact=True).click()
        page.get_by_role("link", name="Add a user").click()
        page.get_by_label("User name").fill("cat")
        page.get_by_label("Password").fill("hers")
        page.get_by_label("The same again").fill("hers")
        page.get_by_role("button", name="Add the user").click()
        said(page, "can log in now")
        page.get_by_role("link", name="Back to the users").click()
        page.get_by_role("link", name="Delete cat").click()
        page.get_by_role("button", name="Delete").click()
        said(page, "cannot log in any more")
        assert "cat" not in (place.folder / "htpasswd").read_text()


def test_without_tls_people_sign_in_by_any_name_of_the_server(browser: Browser, place: Place) -> None:
    home = place.url.replace("127.0.0.1", "index.example")
    with looking(browser, home) as page:  # where browsers say nothing of where a request comes from
        page.goto(home + "-/tokens")
        page.get_by_label("User name").fill("bob")
        page.get_by_label("Password").fill("his")
        page.get_by_role("main").get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Your tokens").wait_for()
        page.goto(home + "-/change/yank/acme-client/1.0")
        page.get_by_role("button", name="Yank").click()
        said(page, "yanked")


@needs_nginx
def test_behind_nginx_at_a_sub_path_people_sign_in_and_change(browser: Browser, place: Place) -> None:
    with nginx(place.url) as front:
        home = front.url + "team/py/"
        with looking(browser, home) as page:
            page.goto(home + "prod/-/admin/")
            page.get_by_label("User name").fill("ann")
            page.get_by_label("Password").fill("right")
            page.get_by_role("main").get_by_role("button", name="Sign in").click()
            page.get_by_role("heading", name="Administration of prod").wait_for()
            assert page.url == home + "prod/-/admin/"
            page.get_by_role("link", name="/", exact=True).click()  # the index at the root
            page.get_by_role("link", name="Audit trail", exact=True).click()
            page.goto(home + "project/acme-client/1.0/")
            page.get_by_role("link", name="Push acme-client 1.0").click()
            page.get_by_role("button", name="Push").click()
            said(page, "pushed")
            page.get_by_role("link", name="Back to the project").click()
            assert page.url == home + "project/acme-client/1.0/"
            page.get_by_role("button", name="Sign out").click()
            page.get_by_role("link", name="Sign in").wait_for()
            assert page.url == home
