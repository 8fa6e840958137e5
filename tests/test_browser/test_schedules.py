"""The schedules' pages under somebody's hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.contrib.admin.utils import quote

from django_kue import get_queue, schedules
from tests.app.jobs import add, leave, noop
from tests.test_engine.hands import Hands, completed_kept
from tests.worker_process import WorkerProcess, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

LIST = "/admin/django_kue/schedule/"


def page_of(name: str) -> str:
    return f"{LIST}{quote(name)}/change/"


def test_a_schedule_is_added_by_hand_and_a_worker_runs_it(page: Page, worker: WorkerProcess) -> None:
    page.goto(LIST)
    page.get_by_role("link", name="Add schedule").click()
    page.get_by_label("Name").fill("each second")
    page.get_by_label("Function").select_option(leave.name)
    page.get_by_label("Arguments").fill('{"name": "tick", "value": 1}')
    page.get_by_label("Cron expression").fill("30 2 * * mon")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_text("At 02:30 on Monday (Europe/Berlin)").wait_for()
    page.get_by_label("Cron expression").fill("")
    page.get_by_label("Or every").fill("1")
    page.get_by_label("Unit").select_option(label="seconds")
    page.get_by_text("Every second").wait_for()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Schedule each second: Added.").wait_for()
    page.locator("ol.kue-strip .kue-completed").first.wait_for(timeout=20_000)


def test_run_now_and_pause_show_on_the_page_at_once_without_leaving_it(page: Page) -> None:
    schedules.create("north", add, every=86_400, args=[1])
    page.goto(page_of("north"))
    page.evaluate("window.stayed = true")
    page.get_by_role("button", name="Run now").click()
    page.get_by_text("Run now, as job").wait_for()
    page.locator("ol.kue-strip .kue-waiting").wait_for()
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_text("This schedule is paused").wait_for()
    page.get_by_role("button", name="Resume").wait_for()
    assert page.evaluate("window.stayed") is True
    assert schedules.get("north").is_paused


def test_the_list_keeps_itself_up_to_date_and_what_is_ticked_stays_ticked(page: Page) -> None:
    for name in ("a", "b", "c"):
        schedules.create(name, noop, every=86_400)
    page.goto(LIST)
    box = page.get_by_role("checkbox", name="b", exact=True)
    box.check()
    job = schedules.run_now("b")
    hands = Hands("default")
    hands.take_one()
    hands.settle(job.id.partition(".")[2], completed_kept(None))
    page.locator("ol.kue-strip .kue-completed").wait_for(timeout=15_000)
    assert box.is_checked()
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_text("1 schedule paused.").wait_for()
    assert [one.name for one in schedules.all() if one.is_paused] == ["b"]
    page.get_by_role("checkbox", name="Tick all on this page").check()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Yes, delete").click()
    page.get_by_text("3 schedules deleted.").wait_for()
    assert schedules.all() == []


def test_all_of_the_list_is_reached_by_keys_and_a_strip_is_no_stop_of_them(page: Page) -> None:
    schedules.create("north", noop, every=86_400)
    for _ in range(5):
        schedules.run_now("north")
    page.goto(LIST)
    page.get_by_role("link", name="Add schedule").focus()
    stops = []
    for _ in range(9):
        page.keyboard.press("Tab")
        stops.append(
            page.evaluate("document.activeElement.name || document.activeElement.textContent.trim()")
        )
    assert stops[:4] == ["action"] * 4
    assert "_selected" in stops
    assert "north" in stops
    assert not any("waiting," in stop for stop in stops)
    assert get_queue("default").counts()["waiting"] == 5


def test_nothing_of_a_schedule_is_off_a_phones_screen(page: Page) -> None:
    schedules.create("north", noop, cron="30 2 * * mon")
    for _ in range(20):
        schedules.run_now("north")
    page.set_viewport_size({"width": 360, "height": 780})
    page.goto(LIST)
    assert page.locator("ol.kue-strip li").count() == 20
    for square in page.locator("ol.kue-strip li").all():
        box = square.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
    wait_for(lambda: page.get_by_text("02:30:00").first.is_visible(), 5, "the next run")
