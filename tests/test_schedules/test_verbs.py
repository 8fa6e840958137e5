"""Schedules that are made, read and steered at run time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_kue import Job, ScheduleDoesNotExist, ScheduleError, get_queue, schedules
from django_kue.schedules import shelf
from django_kue.ticks import Cron, Every
from tests.app import jobs
from tests.conftest import redis_client
from tests.test_schedules.conftest import Make
from tests.test_schedules.hands import ms, next_ms, now_ms, record_of, set_next, tick

BERLIN = "Europe/Berlin"


def nightly(name: str = "nightly", **options: Any) -> schedules.Schedule:
    return schedules.create(name, jobs.add, **{"cron": "30 2 * * *", "args": (1,), **options})


def test_a_schedule_is_made_and_read() -> None:
    made = nightly(timezone=BERLIN, kwargs={"b": 3}, overlap=False, catch_up="all")

    assert made == schedules.get("nightly") == schedules.all()[0]
    assert (made.name, made.queue, made.function) == ("nightly", "default", jobs.add.name)
    assert (made.args, made.kwargs) == ((1,), {"b": 3})
    assert (made.rule, made.cron, made.every) == (Cron("30 2 * * *", BERLIN), "30 2 * * *", None)
    assert (made.words, made.timezone) == ("At 02:30 every day (Europe/Berlin)", BERLIN)
    assert (made.catch_up, made.overlap) == ("all", False)
    assert (made.is_declared, made.is_paused, made.is_off) == (False, False, False)
    assert (made.last_runs, made.last_run, made.last_success, made.last_tick) == ((), None, None, None)
    assert made.next_run is not None
    assert made.next_runs(1)[0] == made.next_run
    assert "default" in get_queue().name


def test_its_next_runs_are_in_its_own_time_zone_across_a_change_of_clocks() -> None:
    made = nightly(timezone=BERLIN)

    runs = made.next_runs(3, after=datetime(2026, 3, 28, tzinfo=UTC))

    assert [str(run) for run in runs] == [
        "2026-03-28 02:30:00+01:00", "2026-03-29 03:00:00+02:00", "2026-03-30 02:30:00+02:00",
    ]  # fmt: skip


def test_the_projects_time_zone_is_the_default(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"

    assert nightly().timezone == "Asia/Tokyo"


def test_a_function_may_be_named() -> None:
    assert schedules.create("n", jobs.add.name, every=60, args=[1]).every == 60


def test_the_queue_of_using_holds_and_other_options_are_refused() -> None:
    assert schedules.create("n", jobs.add.using(queue="email"), every=60, args=[1]).queue == "email"
    with pytest.raises(ScheduleError, match="give the others to @job"):
        schedules.create("m", jobs.add.using(priority="high"), every=60, args=[1])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"cron": "61 2 * * *"}, "bad minute"),
        ({"cron": 5}, "must be text"),
        ({"cron": None}, "either cron"),
        ({"every": 60}, "either cron"),
        ({"cron": None, "every": 0.1}, "one second"),
        ({"cron": None, "every": "5m"}, "isn't a duration"),
        ({"cron": None, "every": 60, "timezone": BERLIN}, "leave timezone out"),
        ({"timezone": "Nowhere"}, "no time zone"),
        ({"args": ()}, "missing a required argument"),
        ({"args": (1, 2, 3)}, "too many positional"),
        ({"args": (object(),)}, "argument 'a'"),
        ({"args": "1"}, "write \\('1',\\)"),
        ({"args": 5}, "write \\(5,\\)"),
        ({"kwargs": [1]}, "isn't a dict"),
        ({"timezone": UTC}, 'for example "Europe/Berlin"'),
        ({"function": len}, "isn't a job; write a function with @job"),
        ({"function": None}, "isn't a job"),
        ({"args": ("x" * 300_000,)}, "MAX_ARGUMENTS"),
        ({"queue": "nowhere"}, "No queue 'nowhere' is declared"),
        ({"catch_up": "some"}, "one of 'last'"),
        ({"overlap": 1}, "True or False"),
        ({"name": "a,b"}, "without commas"),
        ({"name": ""}, "1 to 200"),
        ({"name": "a\nb"}, "printable"),
        ({"function": "tests.nothing"}, "no job is called"),
    ],
)
def test_a_mistake_is_told_with_its_reason_and_nothing_is_stored(
    options: dict[str, Any], reason: str
) -> None:
    given = {"name": "n", "function": jobs.add, "cron": "30 2 * * *", "args": (1,), **options}

    with pytest.raises(ScheduleError, match=reason):
        schedules.create(given.pop("name"), given.pop("function"), **given)

    assert schedules.all() == []


def test_a_name_is_given_once_over_all_queues() -> None:
    nightly()

    with pytest.raises(ScheduleError, match="already"):
        nightly(queue="email")


def test_of_two_who_make_one_name_in_two_queues_at_once_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    both_have_looked = threading.Barrier(2, timeout=5)
    real = shelf.places_of

    def looking(name: str) -> Any:
        found = real(name)
        with suppress(threading.BrokenBarrierError):  # the other may not come this far
            both_have_looked.wait(0.5)
        return found

    def make(queue: str) -> str:
        try:
            return nightly(queue=queue).queue
        except ScheduleError:
            return ""

    monkeypatch.setattr(shelf, "places_of", looking)
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(make, ["default", "email"]))

    assert sorted(made)[0] == ""
    assert [one.queue for one in schedules.all()] == [queue for queue in made if queue]


def test_who_took_too_long_to_make_one_takes_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    real = shelf.add

    def late(*arguments: Any) -> bool:
        redis_client().delete("{kue}:mk:nightly")  # as when its time is over
        return real(*arguments)

    monkeypatch.setattr(shelf, "add", late)

    with pytest.raises(ScheduleError, match="already"):
        nightly()

    assert schedules.all() == []


@pytest.mark.parametrize("name", ["a" * 201, "\ud800", "", None, 5, b"nightly"])
def test_nobody_has_a_name_that_is_none(name: Any) -> None:
    nightly()

    with pytest.raises(ScheduleDoesNotExist):
        schedules.get(name)


def test_an_interval_has_no_time_zone_to_change() -> None:
    nightly("each", cron=None, every=60)

    with pytest.raises(ScheduleError, match="leave timezone out"):
        schedules.update("each", timezone=BERLIN)


@pytest.mark.parametrize("verb", [schedules.get, schedules.pause, schedules.resume, schedules.run_now,
                                  schedules.delete, schedules.update, schedules.reset])  # fmt: skip
def test_a_name_that_nobody_has_is_told(verb: Any) -> None:
    nightly()

    with pytest.raises(ScheduleDoesNotExist, match="'other'"):
        verb("other")


def test_names_may_hold_whatever_is_shown() -> None:
    names = ["weekly report", "{x}:sc", "*", "Bericht für März", "a~b", "💥", "'\"<b>"]
    for name in names:
        nightly(name)

    assert [one.name for one in schedules.all()] == sorted(names)
    for name in names:
        assert schedules.run_now(name).schedule == name
        assert len(schedules.get(name).last_runs) == 1


def test_a_pause_fires_nothing_and_is_not_caught_up() -> None:
    schedules.create("m", jobs.add, every=60, args=[1])
    set_next("m", now_ms() - 600_000)

    paused = schedules.pause("m")

    assert paused.is_paused
    assert paused.next_run is None
    assert not paused.is_off
    tick()
    assert get_queue().counts()["waiting"] == 0
    resumed = schedules.resume("m")
    tick()
    assert not resumed.is_paused
    assert resumed.next_run is not None
    assert ms(resumed.next_run) > now_ms() - 1000
    assert get_queue().counts()["waiting"] == 0


def test_pausing_and_resuming_twice_changes_nothing() -> None:
    nightly()
    schedules.pause("nightly")
    record = record_of("nightly")

    schedules.pause("nightly")
    assert record_of("nightly") == record

    schedules.resume("nightly")
    record = record_of("nightly")
    schedules.resume("nightly")
    assert record_of("nightly") == record


def test_run_now_makes_one_job_and_leaves_the_ticks_as_they_are() -> None:
    nightly()
    schedules.pause("nightly")

    job = schedules.run_now("nightly")

    assert job == Job.get(job.id)
    assert (job.schedule, job.args, job.state) == ("nightly", (1,), "waiting")
    found = schedules.get("nightly")
    assert found.is_paused
    assert [(one.job_id, one.is_manual) for one in found.last_runs] == [(job.id, True)]
    assert found.last_tick is None


def test_only_what_is_given_is_changed() -> None:
    nightly(timezone=BERLIN)
    before = next_ms("nightly")

    changed = schedules.update("nightly", catch_up="none")
    assert (changed.catch_up, changed.cron, changed.args) == ("none", "30 2 * * *", (1,))
    assert next_ms("nightly") == before

    assert schedules.update("nightly", cron="0 4 * * *").rule == Cron("0 4 * * *", BERLIN)
    assert next_ms("nightly") != before
    assert schedules.update("nightly", timezone="UTC").rule == Cron("0 4 * * *", "UTC")
    assert schedules.update("nightly", every=timedelta(minutes=5)).rule == Every(300_000)
    assert schedules.update("nightly", args=(5,), kwargs={"b": 6}).kwargs == {"b": 6}
    assert schedules.update("nightly", overlap=False).overlap is False
    assert next_ms("nightly") == Every(300_000).after(now_ms())


def test_a_wrong_change_changes_nothing() -> None:
    nightly()
    record = record_of("nightly")

    for wrong in ({"cron": "x"}, {"args": ()}, {"catch_up": "x"}, {"every": 0}, {"overlap": "no"}):
        with pytest.raises(ScheduleError):
            schedules.update("nightly", **wrong)  # type: ignore[arg-type]

    assert record_of("nightly") == record


def test_changing_a_paused_schedule_leaves_it_paused() -> None:
    nightly()
    schedules.pause("nightly")

    changed = schedules.update("nightly", every=60)

    assert changed.is_paused
    assert next_ms("nightly") is None


def test_a_schedule_is_deleted_with_all_that_hangs_on_it_and_its_jobs_stay() -> None:
    nightly()
    job = schedules.run_now("nightly")

    schedules.delete("nightly")

    assert schedules.all() == []
    assert not [key for key in redis_client().keys("kue:{default}:s*") if b":sd" not in key]
    assert Job.get(job.id).state == "waiting"


def test_two_people_who_change_it_at_once_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    nightly()
    real, others = shelf.places_of, iter([lambda: schedules.update("nightly", catch_up="all")])

    def with_another(name: str) -> Any:
        found = real(name)
        if other := next(others, None):
            other()
        return found

    monkeypatch.setattr(shelf, "places_of", with_another)
    changed = schedules.update("nightly", overlap=False)

    assert (changed.catch_up, changed.overlap) == ("all", False)


def test_the_twins_for_asyncio_do_the_same() -> None:
    @async_to_sync
    async def steer() -> Any:
        await schedules.acreate("a", jobs.add, every=60, args=[1])
        await schedules.apause("a")
        await schedules.aupdate("a", every=120)
        await schedules.aresume("a")
        job = await schedules.arun_now("a")
        found = await schedules.aget("a")
        assert await schedules.aall() == [found]
        await schedules.adelete("a")
        return job, found

    job, found = steer()

    assert job.schedule == "a"
    assert found.every == 120
    assert schedules.all() == []


@pytest.fixture
def model_row(db: None) -> Iterator[Any]:
    from django.contrib.auth.models import User

    return User.objects.create_user("kim")


def test_a_model_instance_may_be_among_the_arguments(model_row: Any, make_job: Make) -> None:
    def greet(user: Any) -> None: ...

    schedules.create("g", make_job(greet), every=60, args=[model_row])
    set_next("g", now_ms() - 10)

    tick()

    [key] = redis_client().hkeys("kue:{default}:d")
    assert Job.get(f"default.{key.decode()}").args == (model_row,)
