"""``kue schedules``, and what the doctor says of schedules."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from django_kue import get_queue, schedules
from django_kue.doctor import Finding, Level, examine
from django_kue.ticks import MINUTE
from tests.app import jobs
from tests.conftest import redis_client
from tests.test_cli.hands import ROOT, kue
from tests.test_engine.hands import Hands, completed_kept
from tests.test_schedules.conftest import Make
from tests.test_schedules.hands import now_ms, set_next, tick


@pytest.fixture(autouse=True)
def a_schedule() -> None:
    schedules.create(
        "nightly", jobs.add, cron="30 2 * * *", timezone="Europe/Berlin", args=(1,), kwargs={"b": 5}
    )


def found(code: str) -> Finding:
    [finding] = [finding for finding in examine() if finding.code == code]
    return finding


def test_schedules_are_listed() -> None:
    schedules.create("m", jobs.add, every=60, args=[1], queue="email")
    schedules.run_now("nightly")
    hands = Hands()
    hands.take()
    hands.settle_all(completed_kept(None))
    schedules.pause("m")

    lines = kue("schedules").lines

    assert lines[0].split() == ["SCHEDULE", "WHEN", "QUEUE", "FUNCTION", "NEXT", "LAST", "SUCCESS"]
    assert lines[1].split()[:7] == ["m", "Every", "minute", "email", jobs.add.name, "paused", "–"]
    assert "At 02:30 every day (Europe/Berlin)" in lines[2]
    assert "completed" in lines[2]


def test_where_there_are_none_it_says_so() -> None:
    schedules.delete("nightly")

    assert kue("schedules").out == "There are no schedules. @job(cron=…) declares one.\n"
    assert kue("schedules", "--json").json == []


def test_one_is_told_with_its_next_runs_and_its_last_ticks() -> None:
    job = schedules.run_now("nightly")

    out = kue("schedules", "nightly").out

    assert "At 02:30 every day (Europe/Berlin), 30 2 * * *" in out
    assert '"b": 5' in out
    assert out.count("02:30:00 CE") >= 4
    assert f"{job.id}" in out
    assert "(run now)" in out


def test_as_json_it_has_all_that_is_known() -> None:
    [told] = kue("schedules", "--json").json

    assert told["name"] == "nightly"
    assert (told["cron"], told["timezone"], told["every"]) == ("30 2 * * *", "Europe/Berlin", None)
    assert told["arguments"] == {"a": 1, "b": 5}
    assert datetime.fromisoformat(told["next_run"]) > datetime.now(UTC)
    assert kue("schedules", "nightly", "--json").json == told


def test_the_page_names_each_key() -> None:
    schedules.run_now("nightly")
    [told] = kue("schedules", "--json").json
    page = (ROOT / "docs/reference/command-line.md").read_text("utf-8")
    [row] = re.findall(r"^\| `schedules` \|(.*)\|$", page, re.M)
    assert re.findall(r'"(\w+)"', row) == [*told, *told["last_runs"][0]]


def test_orders() -> None:
    assert kue("schedules", "--pause", "nightly").out == "nightly is paused.\n"
    assert schedules.get("nightly").is_paused
    assert kue("schedules", "--resume", "nightly").out == "nightly is running.\n"
    assert kue("schedules", "--run-now", "nightly").out == "nightly runs now.\n"
    assert get_queue().counts()["waiting"] == 1
    said = kue("schedules", "--delete", "nothing", "nightly")
    assert (said.out, said.code) == ("nightly is deleted.\n", 1)
    assert "No schedule is called 'nothing'" in said.err


def test_a_name_that_nobody_has_is_told() -> None:
    said = kue("schedules", "nothing")

    assert said.code == 1
    assert "No schedule is called 'nothing'" in said.err


# ── the doctor ──


@pytest.mark.django_db
def test_schedules_that_are_on_time_are_well() -> None:
    assert found("schedule.good").what == "1 schedule, none of them late."


@pytest.mark.django_db
def test_without_schedules_the_doctor_says_nothing_of_them() -> None:
    schedules.delete("nightly")

    assert not [finding for finding in examine() if finding.code.startswith("schedule.")]


@pytest.mark.django_db
def test_one_that_is_late_is_an_error_and_the_remedy_is_a_worker() -> None:
    set_next("nightly", now_ms() - 10 * MINUTE)

    finding = found("schedule.late")

    assert finding.level is Level.ERROR
    assert finding.what == "Schedule 'nightly' should have run 10 min ago."
    assert "manage.py runworker --queues default" in finding.remedy


@pytest.mark.django_db
def test_one_that_no_worker_has_taken_up_is_a_warning(make_job: Make) -> None:
    def report() -> None: ...

    make_job(report, cron="0 4 * * *", queue="email")

    finding = found("schedule.untaken")

    assert finding.level is Level.WARNING
    assert finding.what == "Schedule 'tests.report' is declared, and no worker has taken it up."
    assert "manage.py runworker --queues email" in finding.remedy
    tick()
    assert not [one for one in examine() if one.code == "schedule.untaken"]


@pytest.mark.django_db
def test_one_that_is_not_declared_any_more_may_be_deleted() -> None:
    record = redis_client().hget("kue:{default}:sc", "nightly")
    redis_client().hset("kue:{default}:sc", "nightly", b"dabc," + record)
    tick()

    assert "--delete 'nightly'" in found("schedule.undeclared").remedy
