"""The list of jobs keeps itself up to date, and never takes a selection away."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.app.jobs import add

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

LIST = "/admin/django_kue/job/?state__exact=delayed"
SOON = 10_000  # ms: a few rounds of two seconds


def later(title: str, delay: int = 3600) -> object:
    return add.using(delay=delay, title=title).enqueue(1)


def test_newcomers_join_a_list_that_nobody_touches_and_can_be_ticked(page: Page) -> None:
    from playwright.sync_api import expect

    later("first")
    page.goto(LIST)
    page.evaluate("window.sameDocument = true")
    later("second", 7200)
    rows = page.locator("#result_list tbody tr")
    expect(rows).to_have_count(2, timeout=SOON)
    expect(page.locator("[aria-current] .kue-count")).to_have_text("2", timeout=SOON)

    page.locator("#action-toggle").check()  # Django's own script knows the new boxes
    expect(page.locator(".action-counter")).to_have_text("2 of 2 selected")
    rows.nth(0).locator("input.action-select").uncheck()
    expect(page.locator(".action-counter")).to_have_text("1 of 2 selected")
    assert page.evaluate("window.sameDocument")


def test_a_selection_stays_and_changes_are_told(page: Page) -> None:
    from playwright.sync_api import expect

    ticked, other = later("ticked"), later("other", 5400)
    page.goto(LIST)
    page.locator("tr", has_text="ticked").locator("input.action-select").check()
    later("third", 7200)
    other.cancel()  # type: ignore[attr-defined]
    news = page.locator("[data-kue-news]")
    expect(news).to_contain_text("2 changes since this list was shown.", timeout=SOON)
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    expect(page.locator("tr.kue-gone")).to_have_text(re.compile("other"))
    expect(page.locator("input.action-select:checked")).to_have_value(ticked.id)  # type: ignore[attr-defined]

    news.get_by_role("link").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    expect(page.locator("#result_list")).to_contain_text("third")


def test_a_bulk_action_from_the_tick_to_the_message(page: Page) -> None:
    from playwright.sync_api import expect

    job = later("due in an hour")
    page.goto(LIST)
    page.locator("#action-toggle").check()
    page.locator("select[name=action]").select_option("promote_selected")
    page.locator("button[name=index]").click()  # its word differs by version
    expect(page.get_by_role("heading", name="Run 1 delayed job now?")).to_be_visible()
    page.get_by_role("button", name="Promote").click()
    expect(page.locator(".messagelist")).to_contain_text("1 job was promoted.")
    assert job.refresh().state == "waiting"  # type: ignore[attr-defined]
