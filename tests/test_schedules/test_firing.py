"""A tick that has come: its job, once, whoever fires it; what's left out; and what's noted of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from django_kue import Job, ScheduleError, get_queue, ids, schedules, signals
from django_kue.moments import moment
from django_kue.schedules import Tick, firing, shelf
from django_kue.schedules.record import decode
from django_kue.ticks import DAY, MINUTE
from tests.app import jobs
from tests.conftest import redis_client
from tests.test_engine.hands import Hands, completed, completed_kept, failed, is_rung
from tests.test_schedules.conftest import Make
from tests.test_schedules.hands import (
    at_once,
    next_ms,
    now_ms,
    record_of,
    scheduler,
    set_next,
    tick,
    ticks_of,
)

Told = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def told() -> Iterator[Told]:
    """What receivers of the schedules' signals are told."""
    heard: Told = []

    def on_fired(sender: Any, **kwargs: Any) -> None:
        heard.append(("fired", {"sender": sender, **kwargs}))

    def on_missed(sender: Any, **kwargs: Any) -> None:
        heard.append(("missed", {"sender": sender, **kwargs}))

    signals.schedule_fired.connect(on_fired)
    signals.schedule_missed.connect(on_missed)
    yield heard
    signals.schedule_fired.disconnect(on_fired)
    signals.schedule_missed.disconnect(on_missed)


def minutely(name: str = "minutely", **options: Any) -> schedules.Schedule:
    return schedules.create(name, jobs.add, every=60, args=(1,), **options)


def last_minute() -> int:
    """The last tick of :func:`minutely`."""
    return now_ms() // MINUTE * MINUTE


def outcomes(name: str = "minutely") -> list[str]:
    return [one.outcome for one in schedules.get(name).last_runs]


# ── one tick ──


def test_a_tick_is_a_job_and_the_next_tick_is_set_with_it(told: Told) -> None:
    minutely()
    due = last_minute()
    set_next("minutely", due)

    tick()

    [key] = redis_client().hkeys("kue:{default}:d")
    job = Job.get(f"default.{key.decode()}")
    assert (job.name, job.args, job.state, job.schedule) == (jobs.add.name, (1,), "waiting", "minutely")
    assert job.created_at == moment(due)
    assert next_ms("minutely") == due + MINUTE
    assert is_rung()
    [(word, said)] = told
    assert (word, said["sender"], said["job"].id, said["tick"]) == ("fired", jobs.add, job.id, moment(due))
    assert said["job"].schedule == said["schedule"].name == "minutely"
    assert said["schedule"].next_run == moment(due + MINUTE)


def test_before_its_time_nothing_is_fired() -> None:
    minutely()

    tick()

    assert ticks_of() == []


def test_redis_refuses_a_tick_that_is_not_due_by_its_clock() -> None:
    minutely()
    place = shelf.place_of("minutely")
    assert place.stored.next_ms is not None

    firing.fire_due(place._replace(now_ms=place.stored.next_ms + 5), at_once)  # a clock that's ahead

    assert ticks_of() == []
    assert next_ms("minutely") == place.stored.next_ms


def test_who_comes_second_fires_nothing() -> None:
    minutely()
    set_next("minutely", last_minute())
    place = shelf.place_of("minutely")

    firing.fire_due(place, at_once)
    firing.fire_due(place, at_once)

    assert len(ticks_of()) == 1


def test_many_schedulers_at_once_fire_each_tick_once() -> None:
    minutely(catch_up="all")
    first = last_minute() - 49 * MINUTE
    set_next("minutely", first)
    place = shelf.place_of("minutely")
    threads = [threading.Thread(target=firing.fire_due, args=(place, at_once)) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ticks_of() == [first + n * MINUTE for n in range(50)]


def test_a_clock_that_was_set_back_repeats_no_tick() -> None:
    minutely()
    due = last_minute()
    set_next("minutely", due)
    tick()
    get_queue().empty()

    set_next("minutely", due)  # as if the clock had been set back, and somebody had computed it anew
    tick()

    assert ticks_of() == []
    assert next_ms("minutely") == due + MINUTE


def test_a_clock_that_was_wrong_by_hours_and_is_right_again_stops_no_schedule() -> None:
    minutely()
    due, far = last_minute(), last_minute() + 300 * DAY
    record = decode(record_of("minutely")).with_head(l=far)  # fired while Redis's clock was ahead
    redis_client().hset("kue:{default}:sc", "minutely", record.encode())
    redis_client().zadd("kue:{default}:sz", {"minutely": far + MINUTE})

    tick()

    coming = next_ms("minutely")
    assert coming is not None
    assert coming <= now_ms() + MINUTE
    set_next("minutely", due)
    tick()
    assert ticks_of() == [due]
    assert schedules.get("minutely").last_tick == moment(due)


def test_a_clock_that_was_set_back_a_little_is_waited_for() -> None:
    minutely()
    ahead = last_minute() + 10 * MINUTE
    record = decode(record_of("minutely")).with_head(l=ahead)
    redis_client().hset("kue:{default}:sc", "minutely", record.encode())
    redis_client().zadd("kue:{default}:sz", {"minutely": ahead + MINUTE})

    tick()

    assert next_ms("minutely") == ahead + MINUTE
    set_next("minutely", last_minute())  # as if somebody had computed it anew
    tick()
    assert ticks_of() == []


def test_a_schedule_whose_next_tick_was_lost_has_it_again() -> None:
    minutely()
    minutely("resting")
    schedules.pause("resting")
    redis_client().delete("kue:{default}:sz")

    tick()

    assert next_ms("minutely") == last_minute() + MINUTE
    assert next_ms("resting") is None


def test_a_schedule_that_was_made_anew_does_not_repeat_a_tick_whose_job_is_there() -> None:
    minutely()
    due = last_minute()
    set_next("minutely", due)
    tick()
    schedules.delete("minutely")
    minutely()
    set_next("minutely", due)

    tick()

    assert get_queue().counts()["waiting"] == 1


def test_a_schedule_that_was_changed_meanwhile_is_not_fired_as_it_was() -> None:
    minutely()
    set_next("minutely", last_minute())
    place = shelf.place_of("minutely")
    schedules.update("minutely", args=(2,))

    firing.fire_due(place, at_once)

    assert ticks_of() == []


def test_a_paused_queue_gets_its_ticks_and_wakes_nobody() -> None:
    minutely()
    set_next("minutely", last_minute())
    get_queue().pause()
    redis_client().delete("kue:{default}:k")

    tick()

    assert len(ticks_of()) == 1
    assert not is_rung()


def test_options_of_the_job_hold_for_its_ticks(make_job: Make) -> None:
    def report(region: str) -> None: ...

    function = make_job(
        report, priority="high", title="Report {region}", queue="email", search_keys=("region",), expires=60
    )
    schedules.create("r", function, every=60, args=["north"])
    set_next("r", last_minute(), "email")

    tick()

    [job] = get_queue("email").find(region="north")
    assert (job.priority, job.title, job.queue) == (10, "Report north", "email")


def test_a_schedules_own_queue_wins_over_the_functions() -> None:
    schedules.create("o", jobs.add, every=60, args=[1], queue="other")
    set_next("o", last_minute(), "other")

    tick()

    assert len(ticks_of("other")) == 1


def test_encrypted_arguments_are_read_only_where_they_belong(settings: Any) -> None:
    from cryptography.fernet import Fernet

    settings.KUE = {
        **settings.KUE,
        "ENCRYPTION_KEYS": [Fernet.generate_key().decode()],
        "ONLY_ENCRYPTED": True,
    }
    schedules.create("secret", jobs.leave, every=60, args=["name", "s3cret"])
    assert b"s3cret" not in redis_client().hget("kue:{default}:sc", "secret")
    assert schedules.get("secret").args == ("name", "s3cret")
    set_next("secret", last_minute())

    tick()

    [key] = redis_client().hkeys("kue:{default}:d")
    assert Job.get(f"default.{key.decode()}").args == ("name", "s3cret")
    settings.KUE = {**settings.KUE, "ENCRYPTION_KEYS": [Fernet.generate_key().decode()]}
    with pytest.raises(ScheduleError, match="no key"):
        schedules.run_now("secret")


def test_middleware_is_around_a_tick_and_what_it_sends_along_travels(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "MIDDLEWARE": ["tests.test_schedules.stage.Stamped"]}
    minutely()
    set_next("minutely", last_minute())

    tick()

    [key] = redis_client().hkeys("kue:{default}:d")
    assert Job.get(f"default.{key.decode()}").headers == {"stamp": "here"}


# ── what's left out ──


def test_after_an_outage_the_last_tick_is_fired_and_the_others_are_told(told: Told) -> None:
    minutely()
    due = last_minute()
    set_next("minutely", due - 3 * MINUTE)

    tick()

    assert ticks_of() == [due]
    assert next_ms("minutely") == due + MINUTE
    assert [word for word, _ in told] == ["missed", "fired"]
    assert told[0][1]["ticks"] == [moment(due - n * MINUTE) for n in (3, 2, 1)]
    assert told[0][1]["reason"] == "outage"
    [fired, missed] = schedules.get("minutely").last_runs
    assert (fired.at, fired.outcome) == (moment(due), "waiting")
    assert missed == Tick(moment(due - MINUTE), "", "missed", count=3)


def test_all_are_fired_where_that_is_asked_for(told: Told) -> None:
    minutely(catch_up="all")
    due = last_minute()
    set_next("minutely", due - 3 * MINUTE)

    tick()

    assert ticks_of() == [due - n * MINUTE for n in (3, 2, 1, 0)]
    assert [word for word, _ in told] == ["fired"] * 4


def test_none_is_fired_where_that_is_asked_for(told: Told) -> None:
    schedules.create("daily", jobs.add, every=86_400, args=(1,), catch_up="none")
    due = now_ms() // DAY * DAY
    set_next("daily", due - DAY if now_ms() - due > 2 * MINUTE else due - 2 * DAY)

    tick()

    late = now_ms() - due > MINUTE
    assert ticks_of() == ([] if late else [due])
    assert next_ms("daily") == due + DAY
    assert told[0][0] == "missed"
    assert outcomes("daily")[-1] == "missed"


def test_a_run_starts_while_the_one_before_is_still_on() -> None:
    minutely()
    set_next("minutely", last_minute() - MINUTE)
    firing.fire_due(shelf.place_of("minutely")._replace(now_ms=last_minute() - MINUTE), at_once)

    tick()

    assert len(ticks_of()) == 2


def test_unless_overlap_is_false(told: Told) -> None:
    minutely(overlap=False)
    due = last_minute()
    set_next("minutely", due - MINUTE)
    firing.fire_due(shelf.place_of("minutely")._replace(now_ms=due - MINUTE), at_once)
    hands = Hands()
    hands.take()

    tick()

    assert ticks_of() == [due - MINUTE]
    assert next_ms("minutely") == due + MINUTE
    assert outcomes() == ["overlapped", "active"]
    assert told[-1][0] == "missed"
    assert (told[-1][1]["reason"], told[-1][1]["ticks"]) == ("overlap", [moment(due)])
    with pytest.raises(ScheduleError, match="still running"):
        schedules.run_now("minutely")
    hands.settle_all(completed())
    assert schedules.run_now("minutely").state == "waiting"


def test_a_run_that_outlasts_many_ticks_keeps_them_all_out() -> None:
    minutely(overlap=False, catch_up="all")
    job = schedules.run_now("minutely")
    hands = Hands()
    hands.take()
    set_next("minutely", last_minute() - 29 * MINUTE)

    tick()

    assert ticks_of() == [ids.created_ms(job.id.partition(".")[2])]
    [left_out, running] = schedules.get("minutely").last_runs
    assert left_out == Tick(moment(last_minute()), "", "overlapped", count=30)
    assert running.job_id == job.id
    hands.settle_all(completed())
    set_next("minutely", last_minute())
    redis_client().hset("kue:{default}:sc", "minutely", decode(record_of("minutely")).with_head(l=0).encode())
    tick()
    assert outcomes() == ["waiting", "overlapped", "completed"]


def test_a_job_that_was_removed_while_it_ran_still_runs_for_overlap() -> None:
    minutely(overlap=False)
    job = schedules.run_now("minutely")
    hands = Hands()
    hands.take()
    job.remove()

    with pytest.raises(ScheduleError, match="still running"):
        schedules.run_now("minutely")

    hands.settle_all(completed())
    schedules.run_now("minutely")


def test_a_failed_job_that_somebody_runs_again_is_still_on() -> None:
    minutely(overlap=False)
    job = schedules.run_now("minutely")
    hands = Hands()
    hands.take()
    hands.settle_all(failed())
    job.retry()

    with pytest.raises(ScheduleError, match="still running"):
        schedules.run_now("minutely")


def test_a_tick_whose_unique_key_is_held_makes_no_job(make_job: Make, told: Told) -> None:
    def sync() -> None: ...

    function = make_job(sync, unique=True)
    first = function.enqueue()
    schedules.create("s", function, every=60)
    due = last_minute()
    set_next("s", due)

    tick()

    assert get_queue().counts()["waiting"] == 1
    assert outcomes("s") == ["duplicate"]
    assert told == [("missed", {**told[0][1], "reason": "unique", "ticks": [moment(due)]})]
    assert schedules.run_now("s").id == first.id


# ── what's noted ──


def test_each_outcome_is_noted_and_the_last_success_stays() -> None:
    minutely()
    before = moment(now_ms())
    hands = Hands()
    for outcome in (completed_kept(None), failed()):
        schedules.run_now("minutely")
        hands.take()
        hands.settle_all(outcome)
    schedules.run_now("minutely").cancel()
    schedules.run_now("minutely").remove()
    active = schedules.run_now("minutely")
    hands.take()

    found = schedules.get("minutely")

    assert outcomes() == ["active", "removed", "cancelled", "failed", "completed"]
    assert [one.is_manual for one in found.last_runs] == [True] * 5
    assert found.last_run is not None
    assert found.last_run.job_id == active.id
    assert found.last_success == found.last_runs[-1].ended_at
    assert found.last_success is not None
    assert found.last_success >= before


def test_outcomes_and_the_last_success_outlive_their_jobs(make_job: Make) -> None:
    def forgotten() -> None: ...

    schedules.create("f", make_job(forgotten, keep=0), every=60)
    hands = Hands()
    schedules.run_now("f")
    hands.take()

    hands.settle_all(completed_kept(0))

    assert redis_client().hlen("kue:{default}:d") == 0
    assert outcomes("f") == ["completed"]
    assert schedules.get("f").last_success is not None


def test_of_the_last_ticks_twenty_are_kept() -> None:
    minutely(catch_up="all")
    set_next("minutely", last_minute() - 30 * MINUTE)

    tick()

    assert len(ticks_of()) == 31
    assert len(schedules.get("minutely").last_runs) == 20
    assert schedules.get("minutely").last_tick == moment(last_minute())


@pytest.mark.foreign_data
def test_foreign_data_about_a_schedule_stop_no_end_of_a_job() -> None:
    minutely()
    schedules.run_now("minutely")
    hands = Hands()
    hands.take()
    client = redis_client()
    client.delete("kue:{default}:sr:minutely")
    client.set("kue:{default}:sr:minutely", "foreign")

    hands.settle_all(completed())

    assert get_queue().counts()["completed"] == 1


@pytest.mark.foreign_data
def test_a_record_that_cant_be_read_is_left_alone_and_stops_no_other(caplog: Any) -> None:
    minutely()
    minutely("broken")
    minutely("elsewhere")
    for name in ("minutely", "broken", "elsewhere"):
        set_next(name, last_minute())
    redis_client().hset("kue:{default}:sc", "broken", "v1|x|garbage")
    foreign = replace(decode(record_of("elsewhere")), overrides={"rule": "cron Mars/Base 0 0 * * *"})
    redis_client().hset("kue:{default}:sc", "elsewhere", foreign.encode())

    tick()

    assert len(ticks_of()) == 1
    assert [one.name for one in schedules.all()] == ["minutely"]
    assert "'broken'" in caplog.text
    assert "'elsewhere'" in caplog.text


@pytest.mark.foreign_data
def test_a_key_of_a_wrong_type_stops_the_schedules_of_its_queue_and_no_other(caplog: Any) -> None:
    minutely()
    minutely("other", queue="other")
    for queue, name in (("default", "minutely"), ("other", "other")):
        set_next(name, last_minute(), queue)
    redis_client().delete("kue:{default}:sc")
    redis_client().set("kue:{default}:sc", "foreign")

    tick()

    assert (ticks_of(), len(ticks_of("other"))) == ([], 1)
    assert "schedules of queue default" in caplog.text


# ── what can't be fired ──


def test_what_cant_be_fired_here_stays_due_and_is_said_once_a_minute(make_job: Make, caplog: Any) -> None:
    from django_kue import registry

    def known(a: int) -> None: ...

    function = make_job(known)
    schedules.create("k", function, every=60, args=[1])
    due = last_minute()
    set_next("k", due)
    registry.unregister(function)
    worker = scheduler()

    worker.tick()
    worker.tick()

    assert caplog.text.count("isn't known here") == 1
    assert next_ms("k") == due
    registry.register(function)
    tick()
    assert ticks_of() == [due]


def test_arguments_that_no_longer_fit_leave_the_tick_due(make_job: Make, caplog: Any) -> None:
    def changing(a: int) -> None: ...

    schedules.create("c", make_job(changing), every=60, args=[1])
    set_next("c", last_minute())

    def changing(a: int, b: int) -> None: ...  # type: ignore[no-redef]

    from django_kue import declared, registry

    old = registry.get("tests.changing")
    assert old is not None
    registry.unregister(old)
    make_job(changing)

    tick()

    assert ticks_of() == []
    assert "missing a required argument" in caplog.text
    assert declared.problems() == []
