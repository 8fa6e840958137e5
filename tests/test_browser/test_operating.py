"""What an operator does at 3 a.m., in real Chromium, without reloading anything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.app.jobs import climb
from tests.worker_process import WorkerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def test_a_job_is_watched_fails_is_retried_and_completes(page: Page, worker: WorkerProcess, tmp_path) -> None:
    from playwright.sync_api import expect

    door = tmp_path / "door"
    job = climb.enqueue(str(door))
    page.goto("/admin/django_kue/job/?state__exact=active")
    page.get_by_role("link", name=job.title).first.click()
    page.evaluate("window.sameDocument = true")

    expect(page.locator("progress").first).to_have_attribute(
        "value", re.compile(r"40(\.0+)?"), timeout=15_000
    )
    door.write_text("shut")
    expect(page.get_by_text("the door is shut").first).to_be_visible(timeout=15_000)

    door.write_text("open")
    page.get_by_role("button", name="Retry", exact=True).click()
    expect(page.locator(".kue-badge.kue-completed").first).to_be_visible(timeout=15_000)
    assert page.evaluate("window.sameDocument")  # nothing was loaded anew
    assert job.refresh().result == "up"
