"""A real browser that watches over what its pages do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the group 'browser')")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (the group 'browser')")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page, Request

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_CHROMIUM = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"),
    pytest.mark.xdist_group("browser"),
]
"""The marks of a module with a browser: the group keeps its tests in one worker, which starts one."""

FLAGS = [
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--disable-dev-shm-usage"),
    "--host-resolver-rules=MAP index.example 127.0.0.1",
    # Its sandbox does not work for root, as whom containers run.
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
]
LOOKS: dict[str, dict[str, Any]] = {
    "wide and light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "narrow and dark": {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}, "has_touch": True},
}


@pytest.fixture(scope="module", name="browser")
def running_browser() -> Iterator[Browser]:
    """A Chromium for all tests of a module."""
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@contextmanager
def looking(browser: Browser, home: str, *, spoiled: int = 0, **look: Any) -> Iterator[Page]:
    """A page in which nothing may go wrong: no word on the console, no failed or foreign request, no dialog.

    `spoiled` answers of the server may be refusals, which the console always mentions.
    """
    context = browser.new_context(**look)
    context.set_default_timeout(10_000)
    page = context.new_page()
    said: list[str] = []
    failed: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        failed.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def note(request: Request) -> None:
        # Whoever walks on, or gets a file instead of a page, ends what was still on its way.
        if request.failure != "net::ERR_ABORTED":
            failed.append(f"failed: {request.url} {request.failure}")

    def check(request: Request) -> None:
        if not request.url.startswith(home):
            failed.append(f"elsewhere: {request.url}")

    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: failed.append(f"error: {error}"))
    page.on("dialog", dismiss)
    page.on("requestfailed", note)
    page.on("request", check)
    try:
        yield page
        assert failed == []
        refused = [text for text in said if "the server responded with a status of 40" in text]
        assert (len(refused), [text for text in said if text not in refused]) == (spoiled, [])
    finally:
        context.close()


def findings(page: Page) -> list[str]:
    """What axe finds that keeps somebody from using the page."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
