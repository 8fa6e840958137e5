"""The page of the API in Chromium: under a strict Content-Security-Policy, with nothing from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.staticfiles import finders

from django_kue import get_queue, job, registry
from tests.test_browser.test_pages import strict_policy

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.urls("tests.api_urls"),
]  # fmt: skip

# Its text is lighter than the middle between black and white.
IS_LIGHT = """() => {
  const text = getComputedStyle(document.querySelector(".info p")).color;
  return text.match(/[0-9.]+/g).slice(0, 3).map(Number).reduce((sum, one) => sum + one) > 384;
}"""


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{strict_policy.__module__}.{strict_policy.__name__}"]
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "ninja"]
    finders.get_finder.cache_clear()


@pytest.fixture
def docs(page: Page, live_server: Any) -> Page:
    """The page, when it shows all that there is. Whatever else it asks for fails the test."""
    strangers: list[str] = []
    ours = (live_server.url, "data:", "blob:")
    page.on("request", lambda asked: asked.url.startswith(ours) or strangers.append(asked.url))
    page.goto("/kue/docs")
    page.locator(".opblock").nth(18).wait_for(timeout=20_000)
    assert strangers == []
    return page


def tried(docs: Page, operation: str) -> str:
    """What the page shows after “Try it out” and “Execute”."""
    block = docs.locator(f"[id$=-{operation}]")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    for field in block.locator("tr[data-param-name=queue] input").all():
        field.fill("email")
    block.get_by_role("button", name="Execute").click()
    answer = block.locator(".live-responses-table .response")
    answer.wait_for(timeout=10_000)
    return answer.inner_text()


def test_every_operation_is_on_a_page_that_fits_a_phone_and_follows_the_dark(docs: Page) -> None:
    said = docs.locator("#api").inner_text()
    assert docs.locator(".opblock").count() == 19
    for words in ("Enqueue one job or many", "/kue/jobs/{job_id}/events", "Access."):
        assert words in said
    docs.set_viewport_size({"width": 360, "height": 780})
    assert docs.evaluate("document.documentElement.scrollWidth") == 360
    assert not docs.evaluate(IS_LIGHT)
    docs.emulate_media(color_scheme="dark")
    docs.wait_for_function(IS_LIGHT)  # colours change by and by


def test_operations_are_tried_out_by_who_is_logged_in(docs: Page) -> None:
    @job(name="shop.jobs.send_receipt", api=True)
    def send_receipt(order_id: int, copy_to: str = "") -> None: ...

    try:
        assert '"is_declared": true' in tried(docs, "get_queue")
        assert '"paused_since": "20' in tried(docs, "pause_queue"), "with the CSRF token"
        assert tried(docs, "enqueue_jobs").startswith("201"), "as the example is written"
    finally:
        registry.unregister(send_receipt)
    assert get_queue("email").is_paused
    [new] = get_queue("email").jobs("waiting")
    assert (new.name, new.args, new.priority) == ("shop.jobs.send_receipt", (17,), 10)
