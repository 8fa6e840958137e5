"""The page of one job in real Chromium: what moves on it, and what stays where the reader left it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse

from django_kue import Job
from django_kue.jobs import JobError
from tests.app import jobs as app_jobs
from tests.conftest import redis_client
from tests.test_admin.test_job_page import TRACEBACK
from tests.test_engine.hands import Hands

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


AT_END = """() => {
    const log = document.getElementById("kue-log");
    return log.scrollHeight - log.scrollTop - log.clientHeight < 8;
}"""


def url(job: Job) -> str:
    return reverse("admin:django_kue_job_change", args=[job.id.replace("_", "_5F")])


def log(job: Job, *texts: str) -> None:
    lines = [f"{time.time() * 1000:.0f}|{text}" for text in texts]
    redis_client().rpush(f"kue:{{default}}:l:{job.key}", *lines)


def active() -> Job:
    job = app_jobs.add.enqueue(1, 2)
    Hands().take_one()
    return job


def failed() -> Job:
    job = app_jobs.add.enqueue(1, 2)
    hand = Hands()
    hand.settle(hand.take_one(), b"f|1|" + JobError("bank.errors.Refused", "no money", TRACEBACK).as_text())
    return job


def test_new_log_lines_appear_and_the_filter_holds_for_them(page: Page) -> None:
    from playwright.sync_api import expect

    job = active()
    log(job, "first apple", "first pear")
    page.goto(url(job))
    page.get_by_label("Only lines with").fill("APPLE")
    expect(page.locator("#kue-log li:visible")).to_have_count(1)
    log(job, "second apple", "second pear")
    expect(page.locator("#kue-log li:visible")).to_have_count(2, timeout=15_000)
    expect(page.locator("#kue-log li")).to_have_count(4)
    page.get_by_label("Only lines with").fill("")
    expect(page.locator("#kue-log li:visible")).to_have_count(4)
    page.get_by_label("Only lines with").fill("plum")
    expect(page.get_by_text("No line contains this text.")).to_be_visible()


def test_the_log_follows_its_end_until_somebody_scrolls_up(page: Page) -> None:
    from playwright.sync_api import expect

    job = active()
    log(job, *[f"line {number}" for number in range(200)])
    page.goto(url(job))
    page.wait_for_function(AT_END)
    log(job, "one more")
    expect(page.locator("#kue-log li")).to_have_count(201, timeout=15_000)
    page.wait_for_function(AT_END)
    page.evaluate("document.getElementById('kue-log').scrollTop = 100")
    expect(page.get_by_label("Follow the end")).not_to_be_checked()
    log(job, "and another")
    expect(page.locator("#kue-log li")).to_have_count(202, timeout=15_000)
    assert page.evaluate("document.getElementById('kue-log').scrollTop") == 100


def test_lines_that_came_too_fast_leave_a_marked_gap_and_no_line_twice(page: Page) -> None:
    from playwright.sync_api import expect

    job = active()
    log(job, "the first line")
    page.goto(url(job))
    log(job, *[f"line {number}" for number in range(500)])
    expect(page.get_by_text("lines came too fast")).to_be_visible(timeout=15_000)
    expect(page.locator("#kue-log li")).to_have_count(202)
    page.get_by_role("button", name="Cancel", exact=True).click()  # its answer is the whole page
    expect(page.get_by_text("it was asked to stop").first).to_be_visible()
    log(job, "the last line")
    expect(page.get_by_text("the last line")).to_be_visible(timeout=15_000)
    expect(page.locator("#kue-log li")).to_have_count(203)


def test_own_frames_alone_can_be_shown_and_all_are_copied(page: Page) -> None:
    from playwright.sync_api import expect

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(url(failed()))
    page.get_by_role("button", name="Own frames only").click()
    expect(page.get_by_text("site-packages").first).to_be_hidden()
    expect(page.get_by_text("/srv/shop/payments/jobs.py").first).to_be_visible()
    page.get_by_role("button", name="Copy traceback").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == TRACEBACK.strip()


def test_copying_works_where_there_is_no_clipboard(page: Page) -> None:
    """As on plain http: the older command takes its place."""
    from playwright.sync_api import expect

    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto(url(failed()))
    page.get_by_role("button", name="Copy the ID").click()
    expect(page.get_by_role("button", name="Copy the ID")).to_have_text("Copied")


def test_a_priority_that_is_being_typed_is_left_alone_and_then_changed(page: Page) -> None:
    from playwright.sync_api import expect

    job = app_jobs.add.using(delay=3600).enqueue(1, 2)
    page.goto(url(job))
    page.get_by_text("Change priority…").click()
    field = page.get_by_label("Priority, from −100 to 100")
    field.fill("7")
    job.promote()
    page.wait_for_timeout(5_000)  # two rounds
    expect(field).to_have_value("7")
    field.press("Enter")
    expect(page.get_by_text("The job’s priority is 7 now.")).to_be_visible()
    assert job.refresh().priority == 7


def test_everything_can_be_read_and_pressed_without_scripts(
    page: Page, browser: Browser, live_server: Any
) -> None:
    from playwright.sync_api import expect

    job = failed()
    log(job, "a line")
    context = browser.new_context(
        java_script_enabled=False, base_url=live_server.url, storage_state=page.context.storage_state()
    )
    plain = context.new_page()
    plain.goto(url(job))
    expect(plain.get_by_text("a line", exact=True)).to_be_visible()
    expect(plain.get_by_text("site-packages").first).to_be_visible()
    expect(plain.get_by_role("button", name="Copy traceback")).to_have_count(0)
    plain.get_by_role("button", name="Retry", exact=True).click()
    expect(plain.get_by_text("The job will run again.")).to_be_visible()
    context.close()


@pytest.mark.parametrize("width", [360, 1360])
def test_nothing_overflows(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    job = app_jobs.noop.using(title="T" * 180).enqueue("x" * 500)
    log(job, "y" * 500)
    hand = Hands()
    text = f'  File "/srv/{"long/" * 60}jobs.py", line 1, in f\n    code\nE: {"z" * 500}'
    hand.settle(hand.take_one(), b"f|1|" + JobError("E" * 200, "m" * 500, text).as_text())
    page.goto(url(job))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
