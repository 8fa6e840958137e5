"""Real Chromium on a real site with a real worker. Without Chromium they're skipped, but not in CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.worker_process import WorkerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BINARIES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    binary = next(filter(None, map(shutil.which, BINARIES)), None)
    if binary is None:
        assert not os.environ.get("CI"), f"CI has to have one of {', '.join(BINARIES)}"
        pytest.skip(f"no Chromium on this machine (looked for {', '.join(BINARIES)}): NOT TESTED")
    playwright = pytest.importorskip("playwright.sync_api")
    # Playwright's own loop runs in this thread, and Django would take our tests for coroutines.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=binary, args=list(QUIET))
            yield browser
            browser.close()
    finally:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess("--processes", "1", "--threads", "4") as process:
        yield process.wait_started()


@pytest.fixture
def page(browser: Browser, live_server: Any, admin_client: Any) -> Iterator[Page]:
    """A page of somebody who's logged in as a superuser. Any error of a script fails the test."""
    context = browser.new_context(base_url=live_server.url, locale="en", timezone_id="UTC")
    context.add_cookies(
        [{"name": "sessionid", "value": admin_client.cookies["sessionid"].value, "url": live_server.url}]
    )
    context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("dialog", lambda dialog: errors.append(f"a dialog: {dialog.message}"))
    yield page
    context.close()
    assert errors == []
