"""A project with ``USE_TZ = False``: every page of the admin opens, and tells the project's own time."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.utils import quote
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format

from django_kue import Job, get_queue, job, registry, schedules
from django_kue.models import Outbox
from tests.app import jobs as app_jobs
from tests.conftest import redis_client
from tests.test_admin import hands
from tests.test_admin.test_job_page import enqueued
from tests.test_admin.test_workers import WORKER, announce
from tests.test_cli.hands import kue
from tests.test_engine.hands import Hands, completed_kept, retried
from tests.test_outbox import left_behind

KOLKATA = timedelta(hours=5, minutes=30)  # far from UTC, all year round
ZONES = pytest.mark.parametrize("use_tz", [False, True], ids=["naive", "aware"])


@pytest.fixture(autouse=True)
def kolkata() -> Iterator[None]:
    with naive():
        yield


def naive(use_tz: bool = False) -> AbstractContextManager[None]:
    return override_settings(USE_TZ=use_tz, TIME_ZONE="Asia/Kolkata")


def url(model: str, view: str = "changelist", *args: str, **query: Any) -> str:
    found = reverse(f"admin:django_kue_{model}_{view}", args=[quote(arg) for arg in args])
    return f"{found}?{urlencode(query)}" if query else found


def page(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, (address, response.status_code)
    return unescape(response.content.decode())


def posted(client: Client, address: str, **data: Any) -> str:
    """The page that a POST leads to."""
    response = client.post(address, data, follow=True)
    assert response.redirect_chain, (address, response.status_code)
    assert response.status_code == 200, address
    return unescape(response.content.decode())


def there(moment: datetime | None, spec: str = "") -> str:
    """A moment as it's told in Kolkata: its date, time and zone, or what's asked for."""
    assert moment is not None
    local = (moment.astimezone(UTC) + KOLKATA).replace(tzinfo=None)
    return local.strftime(spec) if spec else f"{date_format(local, 'DATE_FORMAT')}, {local:%H:%M:%S} IST"


def assert_times_are_local(html: str) -> None:
    """Each date that's to be read is what its ``datetime`` says, in Kolkata."""
    times = re.findall(r'<time(?: class="[^"]*")? datetime="([^"]+)"(?: title="([^"]+)")?>([^<]*)<', html)
    told = [(stamp, title or text) for stamp, title, text in times]
    assert told
    for stamp, text in told:
        moment = datetime.fromisoformat(stamp)
        assert text in (there(moment), there(moment, "%H:%M:%S")), stamp


def retried_job() -> str:
    """A job that failed once, runs again, and writes a log."""
    job_id = enqueued(app_jobs.add, 1, attempts=3)
    hand = Hands()
    hand.settle(hand.take_one(), retried())
    hand.take_one()
    line = b"%d|so far so good" % (time.time() * 1000)
    redis_client().rpush(f"kue:{{default}}:l:{job_id.partition('.')[2]}", line)
    return job_id


JOBS: dict[str, Callable[[], str]] = {
    "waiting": hands.waiting_job,
    "delayed": hands.delayed_job,
    "active": hands.active_job,
    "completed": hands.completed_job,
    "failed": hands.failed_job,
    "cancelled": hands.cancelled_job,
    "active, with runs and a log": retried_job,
}


# ── jobs ──


@ZONES
@pytest.mark.parametrize("state", JOBS)
def test_a_jobs_page_tells_its_times(boss: Client, state: str, use_tz: bool) -> None:
    with naive(use_tz):
        job_id = JOBS[state]()

        html = page(boss, url("job", "change", job_id))

    assert_times_are_local(html)
    assert there(Job.get(job_id).created_at) in html


@ZONES
def test_a_log_line_is_told_by_the_projects_clock(boss: Client, use_tz: bool) -> None:
    with naive(use_tz):
        job_id = retried_job()

        html = page(boss, url("job", "change", job_id))

    [line] = Job.get(job_id).logs()
    assert f">{there(line.at, '%H:%M:%S')}</time> <span>so far so good</span>" in html


def test_a_step_that_is_still_to_come_is_ahead(boss: Client) -> None:
    assert "kue-ahead" in page(boss, url("job", "change", hands.delayed_job()))
    assert "kue-ahead" not in page(boss, url("job", "change", hands.failed_job()))


@ZONES
@pytest.mark.parametrize(
    "query",
    [
        {},
        *({"state__exact": state} for state in JOBS if "," not in state),
        {"queue__exact": "default"},
        {"state__exact": "failed", "name__exact": "tests.app.jobs.fail"},
        {"state__exact": "failed", "q": "broke"},
        {"_facets": "True"},
        {"state__exact": "failed", "_facets": "True", "o": "3"},
    ],
    ids=urlencode,
)
def test_the_list_of_jobs_tells_its_times(boss: Client, query: dict[str, str], use_tz: bool) -> None:
    with naive(use_tz):
        hands.one_of_each()

        assert_times_are_local(page(boss, url("job", **query)))


@ZONES
def test_dates_that_are_chosen_are_the_projects(boss: Client, use_tz: bool) -> None:
    with naive(use_tz):
        job_id = hands.failed_job()
        moment = Job.get(job_id).finished_at
        assert moment is not None
        since = timezone.localtime(moment) - timedelta(minutes=1)
        if not use_tz:
            since = since.replace(tzinfo=None)

        def between(*bounds: datetime) -> list[str]:
            at__gte, at__lt = bounds
            query = {"state__exact": "failed", "at__gte": str(at__gte), "at__lt": str(at__lt)}
            return hands.listed(boss, f"?{urlencode(query)}")

        assert between(since, since + timedelta(hours=1)) == [job_id]
        assert between(since - timedelta(hours=1), since) == []
        assert "Today (1)" in page(boss, url("job", state__exact="failed", _facets="True"))
        [today] = re.findall(r'href="([^"]+)"[^>]*>\s*Today', page(boss, url("job", state__exact="failed")))
        assert hands.listed(boss, today) == [job_id]


def test_verbs_and_work_on_many_jobs_are_done(boss: Client) -> None:
    job_id = hands.failed_job()
    assert "waiting" in posted(boss, url("job", "change", job_id), _retry="1")
    assert page(boss, url("job", "history", job_id))
    assert page(boss, url("job", "delete", job_id))
    other = hands.failed_job(queue="email")
    response = hands.acted(boss, "retry_selected", [other], "?state__exact=failed")
    assert response.status_code == 302
    assert Job.get(other).state == "waiting"


# ── run again ──


def test_a_job_is_run_again(boss: Client) -> None:
    job_id = hands.completed_job()
    address = url("job", "run_again", job_id)
    page(boss, address)

    html = posted(boss, address, arguments='{"a": 40}', queue="default", priority="0", delay="3600")

    assert "This is the new job." in html
    assert_times_are_local(html)
    [new] = get_queue("default").jobs("delayed")
    assert new.run_at is not None
    assert abs(new.run_at - new.created_at - timedelta(hours=1)) < timedelta(seconds=5)
    assert there(new.run_at) in html


def test_a_held_unique_key_is_told_from_a_new_job(boss: Client) -> None:
    unique = job(name="tests.without_time_zones.unique", unique=True)(lambda a: None)
    try:
        first = enqueued(unique, 1)
        time.sleep(0.005)  # ids tell milliseconds; the next one has to be another's
        fields = {"arguments": '{"a": 1}', "queue": "default", "priority": "0", "delay": "0"}
        held = posted(boss, url("job", "run_again", first), **fields)
        new = posted(boss, url("job", "run_again", first), **(fields | {"arguments": '{"a": 2}'}))
    finally:
        registry.unregister(unique)
    assert "Another job holds the unique key" in held
    assert "This is the new job." in new


# ── boards ──


@ZONES
@pytest.mark.parametrize("window", ["5m", "1h", "24h", "7d"])
def test_the_dashboard_tells_its_times(boss: Client, window: str, use_tz: bool) -> None:
    with naive(use_tz):
        hands.one_of_each()
        announce()

        html = page(boss, url("dashboard", window=window))

        assert boss.get(reverse("admin:django_kue_dashboard_data")).status_code == 200
        assert page(boss, reverse("admin:index"))
    assert "it broke" in html
    assert_times_are_local(html)


@ZONES
def test_the_queues_pages_tell_since_when_one_is_paused(boss: Client, use_tz: bool) -> None:
    with naive(use_tz):
        hands.one_of_each()
        posted(boss, url("queue", "pause", "default"))

        page(boss, url("queue"))
        html = page(boss, url("queue", "change", "default"))
        page(boss, url("queue", "history", "default"))
        page(boss, url("queue", "empty", "default"))

    assert_times_are_local(html)
    assert "Paused since:" in html
    assert "finished" in posted(boss, url("queue", "clean", "default"), state="failed", amount="1", unit="60")


@ZONES
def test_the_workers_pages_tell_their_times(boss: Client, use_tz: bool) -> None:
    with naive(use_tz):
        hands.active_job(worker=f"{WORKER}/1")
        [running] = get_queue("default").jobs("active")
        announce(processes=[{"pid": 4712, "jobs": [running.id]}])

        pages = [page(boss, url("worker")), page(boss, url("worker", "change", WORKER))]
        page(boss, url("worker", "history", WORKER))

    for html in pages:
        assert there(running.started_at) in html
        assert there(datetime.fromtimestamp(1_700_000_000, UTC)) in html
        assert_times_are_local(html)


# ── schedules ──


@pytest.fixture
def hourly() -> str:
    """A schedule that ran once."""
    schedules.create("hourly", app_jobs.add, every=3600, args=[1])
    ran = schedules.run_now("hourly")
    hand = Hands(ran.queue)
    hand.settle(hand.take_one(), completed_kept(None, 3))
    return "hourly"


@ZONES
@pytest.mark.parametrize("view", ["changelist", "change", "edit", "delete", "history", "add"])
def test_the_schedules_pages_open_and_tell_their_times(
    boss: Client, hourly: str, view: str, use_tz: bool
) -> None:
    with naive(use_tz):
        html = page(boss, url("schedule", view, *([] if view in ("changelist", "add") else [hourly])))

    if view in ("changelist", "change"):
        assert there(schedules.get(hourly).next_run) in html
        assert_times_are_local(html)
    if view == "add":
        assert 'value="Asia/Kolkata"' in html


def test_a_cron_schedule_comes_by_its_own_clock_and_the_projects_stands_beside(boss: Client) -> None:
    schedules.create("nightly", app_jobs.add, cron="30 2 * * *", timezone="Europe/Berlin", args=[1])

    html = page(boss, url("schedule", "change", "nightly"))

    next_run = schedules.get("nightly").next_run
    assert ", 02:30:00 CE" in html
    assert f">{there(next_run)}</time>" in html


def test_a_schedule_is_added_run_paused_and_resumed(boss: Client) -> None:
    when = {"cron": "30 2 * * mon", "timezone": "", "catch_up": "last", "overlap": "on", "unit": "60"}
    posted(
        boss, url("schedule", "add"),
        name="weekly", function="tests.app.jobs.add", arguments='{"a": 1}', queue="", **when,
    )  # fmt: skip
    assert schedules.get("weekly").timezone == "Asia/Kolkata"

    assert "Run now, as job" in posted(boss, url("schedule", "run", "weekly"))
    html = posted(boss, url("schedule", "pause", "weekly"))
    assert there(schedules.get("weekly").paused_at) in html
    posted(boss, url("schedule", "resume", "weekly"))
    assert not schedules.get("weekly").is_paused


def test_running_a_schedule_now_tells_a_held_unique_key_from_a_new_job(boss: Client) -> None:
    unique = job(name="tests.without_time_zones.due", unique=True)(lambda: None)
    try:
        schedules.create("due", unique, every=3600)
        assert "Run now, as job" in posted(boss, url("schedule", "run", "due"))
        time.sleep(0.005)  # ids tell milliseconds
        assert "Another job holds the unique key" in posted(boss, url("schedule", "run", "due"))
    finally:
        registry.unregister(unique)


@ZONES
def test_a_rule_that_is_typed_is_told_in_its_own_zone_and_an_interval_in_the_projects(
    boss: Client, use_tz: bool
) -> None:
    def next_of(**query: str) -> str:
        answer = boss.get(url("schedule", "preview", **query))
        return str(json.loads(answer.content)["next"])

    with naive(use_tz):
        assert next_of(every="1", unit="3600").endswith(":30:00 IST")
        assert next_of(cron="30 2 * * *").endswith("02:30:00 IST")
        assert "02:30:00 CE" in next_of(cron="30 2 * * *", timezone="Europe/Berlin")


# ── the outbox ──


@ZONES
@pytest.mark.django_db(transaction=True)
def test_the_outbox_tells_its_times(boss: Client, use_tz: bool) -> None:
    with naive(use_tz):
        [left] = left_behind()

        html = page(boss, url("outbox"))
        page(boss, url("outbox", "history", str(Outbox.objects.get().pk)))

    assert left.id in html
    assert "10 s ago" in html
    assert_times_are_local(html)


# ── the terminal ──


@ZONES
def test_the_command_line_reads_and_tells_the_projects_time(use_tz: bool) -> None:
    with naive(use_tz):
        job_id = hands.failed_job()
        shown = kue("show", job_id)
        enqueued_at = kue("enqueue", "tests.app.jobs.add", "--args", "[1]", "--run-at", "2031-05-01T09:30")

    assert shown.code == enqueued_at.code == 0
    assert there(Job.get(job_id).created_at, "%Y-%m-%d %H:%M:%S") in shown.out
    [delayed] = get_queue("default").jobs("delayed")
    assert delayed.run_at == datetime(2031, 5, 1, 4, tzinfo=UTC)
