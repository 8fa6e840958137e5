"""Numbers are told to people as their language has it, and to scripts, styles and forms as they are."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import translation

from django_kue import schedules
from tests.app import jobs as app_jobs
from tests.conftest import redis_client
from tests.test_admin import hands
from tests.test_admin.test_job_page import enqueued
from tests.test_admin.test_workers import WORKER, announce
from tests.test_engine.hands import Hands, put, retried

MANY = 1200
GROUPED = re.compile(r"(?<![\w.])\d{1,3}(\.\d{3})+(?![\w.])")  # 1.200, as Germans write it
EXAMINED = {"value", "min", "max", "step", "style", "id", "for", "href", "points", "width", "height"}
NUMBERS = {"value", "min", "max", "step"}  # of what counts


class Attributes(HTMLParser):
    """All attributes of a page that aren't for people, and those of them that are numbers."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.all: list[tuple[str, str]] = []
        self.numbers: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = [(name, value) for name, value in attrs if value is not None]
        self.all += [pair for pair in given if pair[0] in EXAMINED or pair[0].startswith("data-")]
        if tag == "progress" or ("type", "number") in given:
            self.numbers += [pair for pair in given if pair[0] in NUMBERS and pair[1] != "any"]


@pytest.fixture(autouse=True)
def german() -> Iterator[None]:
    # The client leaves the request's language on.
    with (
        override_settings(LANGUAGE_CODE="de", USE_THOUSAND_SEPARATOR=True),
        translation.override(translation.get_language()),
    ):
        yield


def url(model: str, view: str = "changelist", *args: str) -> str:
    return reverse(f"admin:django_kue_{model}_{view}", args=[quote(arg) for arg in args])


def assert_plain(response: Any) -> str:
    """The page, once its attributes have been looked at."""
    assert response.status_code == 200
    html = str(response.content.decode())
    found = Attributes(html)
    assert [pair for pair in found.all if GROUPED.search(pair[1])] == []
    for _name, value in found.numbers:
        float(value)
    return html


def told(client: Client, model: str, view: str = "changelist", *args: str) -> str:
    return assert_plain(client.get(url(model, view, *args), headers={"accept-language": "de"}))


def much_tried_job() -> str:
    """A running job with many log lines and many runs, half done."""
    job_id = enqueued(app_jobs.add, 1, attempts=3)
    key = job_id.partition(".")[2]
    hand = Hands()
    hand.settle(hand.take_one(), retried())
    hand.take_one()
    client = redis_client()
    [run] = client.lrange(f"kue:{{default}}:r:{key}", 0, -1)
    client.rpush(f"kue:{{default}}:r:{key}", *[run] * MANY)
    client.rpush(f"kue:{{default}}:l:{key}", *[b"%d|a line" % (time.time() * 1000)] * MANY)
    client.hset("kue:{default}:pr", key, "[42.5,null]")
    return job_id


def test_the_page_of_a_job_has_plain_numbers_for_its_script(boss: Client) -> None:
    html = told(boss, "job", "change", much_tried_job())

    assert 'data-kue-logs="1000"' in html, "or else the live log keeps one line"
    assert 'id="kue-run-1200"' in html
    assert '<progress class="kue-progress" max="100" value="42.50"' in html


def test_forms_about_a_job_hold_plain_numbers(boss: Client) -> None:
    job_id = hands.waiting_job(priority=-50)

    assert 'value="-50"' in told(boss, "job", "change", job_id)
    assert 'value="-50"' in told(boss, "job", "run_again", job_id)


def test_the_lists_have_plain_numbers_for_their_scripts(boss: Client) -> None:
    much_tried_job()
    put(count=MANY)
    told(boss, "job")

    assert "1.200" in told(boss, "dashboard"), "people are told it their way"
    assert "1.200" in told(boss, "queue")
    assert "1.200" in told(boss, "queue", "change", "default")
    assert "1.200" in told(boss, "queue", "empty", "default")


def test_the_page_that_asks_holds_plain_numbers(boss: Client) -> None:
    job_id = hands.waiting_job()

    html = assert_plain(
        hands.acted(boss, "set_priority_selected", [job_id], "?state__exact=waiting", confirm=False)
    )

    assert re.search(r'name="kue_until" value="\d{13}"', html)


def test_a_workers_slots_are_plain_numbers_in_its_bar(boss: Client) -> None:
    announce(done=MANY, processes=[
        {"pid": 471200, "jobs": [], "done": MANY, "memory": 60_000_000, "busy": 1100, "slots": MANY},
    ])  # fmt: skip

    for html in (told(boss, "worker"), told(boss, "worker", "change", WORKER)):
        assert 'max="1200" value="1100"' in html
        assert "1.100 von 1.200" in html


def test_an_interval_is_filled_in_as_a_plain_number(boss: Client) -> None:
    schedules.create("rare", app_jobs.add, every=60 * 1201, args=[1])
    schedules.create("swift", app_jobs.add, every=1.5, args=[1])

    told(boss, "schedule")
    told(boss, "schedule", "change", "rare")
    told(boss, "schedule", "add")
    assert 'value="1201"' in told(boss, "schedule", "edit", "rare")
    assert 'value="1.5"' in told(boss, "schedule", "edit", "swift")
