"""Declarations: what code and settings say, what's wrong with them, and how they become schedules."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from django_kue import ScheduleError, declared, schedule, schedules
from django_kue.decorators import JobFunction
from django_kue.schedules import reconciling, shelf
from django_kue.schedules.record import decode
from django_kue.ticks import MINUTE, Cron, Every
from tests.app import jobs
from tests.conftest import redis_client
from tests.test_schedules.conftest import Make
from tests.test_schedules.hands import next_ms, now_ms, record_of, scheduler, set_next, tick, ticks_of

BERLIN = "Europe/Berlin"


def report(region: str = "all") -> None: ...


def problems() -> list[str]:
    return [message.msg for message in run_checks(tags=["django_kue"]) if message.id == "django_kue.E010"]


# ── what's declared ──


def test_a_job_declares_its_schedule(make_job: Make) -> None:
    make_job(report, cron="*/5 * * * *")

    tick()

    found = schedules.get("tests.report")
    assert (found.rule, found.is_declared, found.queue) == (Cron("*/5 * * * *", "UTC"), True, "default")


def test_by_an_interval_too(make_job: Make) -> None:
    make_job(report, every=timedelta(minutes=5))

    tick()

    assert schedules.get("tests.report").rule == Every(300_000)


def test_a_function_has_several_schedules_with_arguments(make_job: Make) -> None:
    function = make_job(report)
    for region in ("north", "south"):
        same = schedule(
            cron="30 2 * * mon", args=(region,), name=f"weekly {region}", timezone=BERLIN, queue="email",
            overlap=False, catch_up="all",
        )(function)  # fmt: skip
        assert same is function

    tick()

    found = schedules.get("weekly south")
    assert (found.args, found.timezone, found.queue) == (("south",), BERLIN, "email")
    assert (found.overlap, found.catch_up) == (False, "all")
    assert [one.name for one in schedules.all()] == ["weekly north", "weekly south"]


def test_settings_declare_schedules() -> None:
    said = {"JOB": jobs.add.name, "EVERY": 60, "ARGS": [1], "KWARGS": {"b": 5}, "QUEUE": "other"}
    with override_settings(KUE={"QUEUES": {"other": {}}, "SCHEDULES": {"adding": said}}):
        tick()

        found = schedules.get("adding")

    assert (found.args, found.kwargs, found.queue, found.is_declared) == ((1,), {"b": 5}, "other", True)


def test_schedule_is_written_above_job() -> None:
    with pytest.raises(TypeError, match="above @job"):
        schedule(every=60)(report)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"cron": "61 * * * *"}, "bad minute"),
        ({"cron": "0 0 30 2 *"}, "bad day-of-month"),
        ({}, "either cron"),
        ({"cron": "0 0 * * *", "every": 60}, "either cron"),
        ({"every": 0}, "one second"),
        ({"every": 60, "timezone": BERLIN}, "leave timezone out"),
        ({"cron": "0 0 * * *", "timezone": "Nowhere/Town"}, "no time zone 'Nowhere/Town'"),
        ({"every": 60, "args": (1, 2)}, "too many positional arguments"),
        ({"every": 60, "kwargs": {"regoin": 1}}, "'regoin'"),
        ({"every": 60, "args": (object(),)}, "argument 'region'"),
        ({"every": 60, "args": ("north")}, "write ('north',)"),
        ({"every": 60, "args": 5}, "args=5 isn't a list of arguments; write (5,)"),
        ({"every": 60, "kwargs": ["north"]}, "isn't a dict of arguments by name"),
        ({"cron": "0 0 * * *", "timezone": 1}, 'write for example "Europe/Berlin"'),
        ({"every": 60, "queue": "emial"}, "Did you mean 'email'"),
        ({"every": 60, "catch_up": "first"}, "one of 'last'"),
        ({"every": 60, "name": "a|b"}, "without commas"),
        ({"every": 60, "name": "weekly", "kwargs": {"regoin": 1}}, "'regoin'"),
    ],
)
def test_a_mistake_is_an_error_of_check_with_the_reason(
    make_job: Make, options: dict[str, Any], reason: str
) -> None:
    schedule(**options)(make_job(report))

    [message] = problems()

    which = f", {options['name']!r}" if "name" in options else ""  # of several on one function
    assert message.startswith(f"@schedule on tests.report{which}: ")
    assert reason in message
    with pytest.raises(SystemCheckError, match=r"django_kue\.E010"):
        call_command("check")


def test_a_mistake_in_the_cron_of_a_job_is_one_at_once(make_job: Make) -> None:
    with pytest.raises(ValueError, match="isn't a cron expression: it has five"):
        make_job(report, cron="* * *")
    with pytest.raises(ValueError, match="@job: cron and every exclude each other"):
        make_job(report, cron="@daily", every=60)


def test_two_schedules_of_one_name_are_an_error(make_job: Make) -> None:
    function = make_job(report)
    schedule(every=60)(function)
    schedule(every=90)(function)

    assert len(problems()) == 2
    assert "2 schedules are called 'tests.report'" in problems()[0]
    assert declared.plans() == {}


def test_settings_that_name_no_job_are_an_error() -> None:
    with override_settings(KUE={"SCHEDULES": {"x": {"JOB": "shop.nothing", "EVERY": 60}}}):
        assert "no job is called 'shop.nothing'" in problems()[0]


def test_a_module_that_is_imported_once_more_declares_nothing_twice(make_job: Make) -> None:
    make_job(report, every=60)
    make_job(report, every=90)

    assert problems() == []
    assert declared.plans()["tests.report"].rule == Every(90_000)


# ── reconciling ──


def declare(make_job: Make, **options: Any) -> JobFunction[Any, Any]:
    """One release's declaration of the schedule "s", in place of the one before."""
    for wish in list(declared._wishes.values()):
        if wish.name == "s":
            assert not isinstance(wish.function, str)
            declared.forget(wish.function)
    function = make_job(report)
    schedule(name="s", **options)(function)
    return function


def undeclare() -> None:
    declared._wishes.clear()


def let_stamps_grow_old() -> None:
    """As if no worker had stamped its declarations for longer than that's allowed."""
    for queue in ("default", "email"):
        record = record_of("s", queue)
        if record is not None:
            old = decode(record).with_head(z=now_ms() - reconciling.GONE - 1000)
            head = ",".join(sorted(letter + text for letter, text in old.head.items()))
            redis_client().hset(f"kue:{{{queue}}}:sc", "s", head.encode() + b"|" + record.partition(b"|")[2])


@pytest.fixture(autouse=True)
def nothing_else_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "_wishes", {})


def test_a_changed_declaration_holds_from_the_next_start_of_a_worker(make_job: Make) -> None:
    declare(make_job, cron="0 4 * * *")
    tick()
    declare(make_job, cron="0 5 * * *", args=("north",))

    tick()

    assert (schedules.get("s").cron, schedules.get("s").args) == ("0 5 * * *", ("north",))
    assert next_ms("s") == Cron("0 5 * * *", "UTC").after(now_ms())


def test_a_declaration_that_changes_all_but_its_rule_keeps_its_next_tick(make_job: Make) -> None:
    declare(make_job, every=60)
    tick()
    due = now_ms() // MINUTE * MINUTE
    set_next("s", due)
    declare(make_job, every=60, args=("north",))

    tick()

    assert ticks_of() == [due]


def test_a_tick_that_is_due_when_its_rule_changes_is_not_lost(make_job: Make) -> None:
    declare(make_job, every=60)
    tick()
    due = now_ms() // MINUTE * MINUTE
    set_next("s", due)
    declare(make_job, cron="0 0 29 2 *")  # nobody fired it while the new release was deployed

    tick()

    assert ticks_of() == [due]
    assert next_ms("s") == Cron("0 0 29 2 *", "UTC").after(now_ms())


def test_what_people_have_set_stays_when_a_declaration_changes(make_job: Make) -> None:
    declare(make_job, cron="0 4 * * *")
    tick()
    schedules.update("s", cron="0 7 * * *", overlap=False)
    schedules.pause("s")
    declare(make_job, cron="0 5 * * *")

    tick()

    found = schedules.get("s")
    assert found.is_paused
    assert (found.cron, found.overlap, found.overrides) == ("0 7 * * *", False, ("rule", "overlap"))
    assert schedules.reset("s").cron == "0 5 * * *"
    assert schedules.get("s").is_paused
    assert schedules.resume("s").next_run is not None


def test_setting_back_by_hand_what_is_declared_is_no_override(make_job: Make) -> None:
    declare(make_job, cron="0 4 * * *")
    tick()
    schedules.update("s", cron="0 7 * * *")

    assert schedules.update("s", cron="0 4 * * *").overrides == ()


def test_arguments_of_a_declared_schedule_belong_to_its_declaration(make_job: Make) -> None:
    declare(make_job, every=60)
    tick()

    with pytest.raises(ScheduleError, match="its arguments belong to its declaration"):
        schedules.update("s", args=("north",))
    with pytest.raises(ScheduleError, match="would come back"):
        schedules.delete("s")


def test_a_name_that_is_declared_is_not_given_away(make_job: Make) -> None:
    declare(make_job, every=60)

    with pytest.raises(ScheduleError, match="already"):
        schedules.create("s", jobs.add, every=60, args=[1])


def test_a_schedule_that_was_made_at_run_time_is_taken_over_by_its_declaration(make_job: Make) -> None:
    schedules.create("s", jobs.add, every=60, args=[1])
    schedules.pause("s")
    declare(make_job, every=90)

    tick()

    found = schedules.get("s")
    assert (found.function, found.rule, found.is_declared, found.is_paused) == (
        "tests.report", Every(90_000), True, True,
    )  # fmt: skip


# two releases side by side: each has a scheduler that was started while its declaration stood in the code


def test_of_two_releases_the_newest_declaration_holds_and_nobody_sets_it_back(make_job: Make) -> None:
    declare(make_job, every=60, args=("old",))
    old = scheduler()
    old.tick()
    declare(make_job, every=60, args=("new",))
    new = scheduler()
    new.tick()

    for one in (old, new, old):
        one._reconcile_at = 0
        one.tick()

    declare(make_job, every=60, args=("old",))
    tick()  # a worker of the old release that's started again
    assert schedules.get("s").args == ("new",)


def test_only_a_worker_that_declares_it_just_so_fires_it(make_job: Make) -> None:
    declare(make_job, every=60, args=("old",))
    old = scheduler()
    old.tick()
    declare(make_job, every=60, args=("new",))
    new = scheduler()
    new.tick()
    due = now_ms() // MINUTE * MINUTE
    set_next("s", due)

    old.tick()
    assert ticks_of() == []

    new.tick()
    assert ticks_of() == [due]


def test_after_a_rollback_the_older_declaration_holds_again_once_the_newer_ones_workers_are_gone(
    make_job: Make,
) -> None:
    declare(make_job, every=60)
    tick()
    declare(make_job, every=90)
    tick()
    declare(make_job, every=60)
    tick()
    assert schedules.get("s").rule == Every(90_000)

    let_stamps_grow_old()
    tick()

    assert schedules.get("s").rule == Every(60_000)


def test_a_declaration_that_is_removed_is_off_once_no_worker_has_it(make_job: Make) -> None:
    declare(make_job, every=60)
    old = scheduler()
    old.tick()
    undeclare()
    set_next("s", now_ms() - 10)

    tick()  # of the new release
    assert ticks_of() == []
    assert not schedules.get("s").is_off  # the old release's worker may still be there

    let_stamps_grow_old()
    tick()

    found = schedules.get("s")
    assert found.is_off
    assert found.undeclared_since is not None
    assert next_ms("s") is None
    schedules.delete("s")
    assert schedules.all() == []


def test_as_long_as_a_worker_of_the_older_release_is_there_it_goes_on(make_job: Make) -> None:
    declare(make_job, every=60)
    old = scheduler()
    old.tick()
    undeclare()
    new = scheduler()
    let_stamps_grow_old()
    old._reconcile_at = 0
    old.tick()  # it stamps

    new.tick()

    assert not schedules.get("s").is_off


def test_a_declaration_that_comes_back_is_on_again_with_what_people_have_set(make_job: Make) -> None:
    declare(make_job, every=60)
    tick()
    schedules.update("s", overlap=False)
    due = now_ms() // MINUTE * MINUTE
    set_next("s", due - MINUTE)
    let_stamps_grow_old()
    undeclare()
    tick()
    declare(make_job, every=60)

    tick()

    found = schedules.get("s")
    assert (found.is_off, found.undeclared_since, found.overlap) == (False, None, False)
    assert ticks_of() == [due]  # the last of those since: catch_up


def test_a_flushed_redis_gets_its_declarations_back(make_job: Make) -> None:
    declare(make_job, every=60)
    worker = scheduler()
    worker.tick()
    redis_client().flushall()

    worker.tick()

    assert schedules.get("s").next_run is not None


def test_a_worker_declares_only_for_the_queues_that_it_serves(make_job: Make) -> None:
    declare(make_job, every=60, queue="email")

    tick("default")
    assert schedules.all() == []

    tick("default", "email")
    assert schedules.get("s").queue == "email"


# moving to another queue


def test_a_schedule_moves_with_its_declaration_and_fires_in_one_queue_only(make_job: Make) -> None:
    declare(make_job, every=60)
    old = scheduler()
    old.tick()
    schedules.update("s", overlap=False)
    due = now_ms() // MINUTE * MINUTE
    set_next("s", due)
    declare(make_job, every=60, queue="email")

    tick()
    old._reconcile_at = 0
    old.tick()

    assert record_of("s", "default") is None
    assert (ticks_of("default"), ticks_of("email")) == ([], [due])
    assert (schedules.get("s").queue, schedules.get("s").overlap) == ("email", False)
    declare(make_job, every=60)
    tick()  # the old release is started again
    assert schedules.get("s").queue == "email"


def test_a_move_that_was_given_up_and_is_declared_back_loses_nothing(make_job: Make) -> None:
    declare(make_job, every=60)
    tick()
    schedules.update("s", overlap=False)
    schedules.pause("s")
    declare(make_job, every=60, queue="email")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shelf, "add", dying)
        tick()
    declare(make_job, every=60)

    tick()  # of the older release, which was rolled back to

    found = schedules.get("s")
    assert (found.queue, found.is_paused, found.overlap) == ("default", True, False)
    assert next_ms("s") is None
    assert schedules.resume("s").next_run is not None


def dying(*arguments: Any) -> bool:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["it's switched off", "it's made there"])
def test_whoever_dies_while_it_moves_leaves_no_tick_missed_and_none_doubled(
    make_job: Make, step: str
) -> None:
    declare(make_job, every=60)
    tick()
    due = now_ms() // MINUTE * MINUTE
    set_next("s", due)
    declare(make_job, every=60, queue="email")
    put = shelf.put

    def dying(*arguments: Any) -> bool:
        if step == "it's switched off" or arguments[1] is None:
            raise KeyboardInterrupt
        return put(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shelf, "add" if step == "it's switched off" else "put", dying)
        tick()
    assert [one.is_off for one in schedules.all()] == [step == "it's switched off"]

    tick()

    assert record_of("s", "default") is None
    assert (ticks_of("default"), ticks_of("email")) == ([], [due])
