"""Delays: by seconds, timedelta and moment; what is due; and who is woken for it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from django_kue import job
from django_kue.queue import Queue
from django_kue.states import State
from tests.conftest import redis_client
from tests.test_engine.hands import Hands, is_rung, job_of, put, put_one, wait_until

QUEUE = Queue("default")


@job(name="tests.later")
def later() -> None: ...


@pytest.mark.parametrize(
    "options",
    [
        {"delay": 60},
        {"delay": 60.0},
        {"delay": timedelta(minutes=1)},
        {"run_at": None},
        {"run_at": timezone.get_fixed_timezone(-150)},
    ],
    ids=["seconds", "float", "timedelta", "moment", "moment elsewhere"],
)
def test_a_delay_is_seconds_a_timedelta_or_a_moment(options: dict[str, Any]) -> None:
    if "run_at" in options:  # counted from when the test runs
        moment = timezone.now() + timedelta(seconds=60)
        options = {"run_at": moment.astimezone(options["run_at"] or UTC)}
    handle = later.using(**options).enqueue()
    stored = handle.refresh()
    for one in (handle, stored):
        assert one.state is State.DELAYED
        assert one.run_at is not None
        assert abs(one.run_at - timezone.now() - timedelta(seconds=60)) < timedelta(seconds=20)
    assert Hands().take(5) == []


@pytest.mark.parametrize("options", [{"delay": 0}, {"run_at": datetime(2020, 1, 1, tzinfo=UTC)}])
def test_a_moment_that_is_past_and_no_delay_mean_now(options: dict[str, Any]) -> None:
    handle = later.using(**options).enqueue()
    assert handle.state is handle.refresh().state is State.WAITING


def test_a_due_job_is_promoted_by_the_next_turn_and_told() -> None:
    key = put_one(delay=30)
    hands = Hands()
    assert hands.take(1) == []
    turn = wait_until(lambda: (found := hands.turn(1, switches="p")).keys and found)
    assert turn.promoted == turn.keys == [key.encode()]


def test_due_jobs_come_by_priority_and_then_by_when_they_were_due() -> None:
    second, first = put_one(delay=40), put_one(delay=20)
    high = put_one(delay=40, priority=10)
    time.sleep(0.06)  # all are due
    assert Hands().take(5) == [high, first, second]


def test_a_job_that_is_due_joins_the_back_of_its_priority() -> None:
    late = put_one(delay=1)
    waiting = put(count=2)
    time.sleep(0.005)
    assert Hands().take(5) == [*waiting, late]


def test_a_turn_says_how_long_it_is_to_the_next_delayed_job() -> None:
    put_one(delay=60_000)
    put_one(delay=5_000)
    assert 4_000 < Hands().turn(1).wait <= 5_000


def test_an_idle_worker_is_woken_for_an_earlier_delayed_job_but_not_for_a_later_one() -> None:
    put_one(delay=60_000)
    assert is_rung()
    put_one(delay=90_000)
    assert not is_rung()
    put_one(delay=30_000)
    assert is_rung()


def test_more_due_jobs_than_a_turn_promotes_come_with_the_next() -> None:
    keys = put(count=600, delay=1)
    time.sleep(0.005)
    hands = Hands()
    assert hands.run_all(50) != []
    assert sum(QUEUE.counts().values()) == QUEUE.counts()["completed"] == len(keys)


def test_a_promoted_job_waits_from_now_on() -> None:
    key = put_one(delay=3_600_000)
    job_of(key).promote()
    assert job_of(key).state is State.WAITING
    run_at = job_of(key).run_at
    assert run_at is not None
    assert abs(run_at - timezone.now()) < timedelta(seconds=20)
    assert wait_until(QUEUE.oldest_waiting) > 0


def test_delays_are_measured_by_rediss_clock_and_not_by_this_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose clock is an hour late or early gives the same delays."""
    real = time.time_ns
    for offset in (-3600, 3600):
        monkeypatch.setattr("django_kue.ids.time.time_ns", lambda offset=offset: real() + offset * 10**9)
        key = put_one(delay=5_000)
        [score] = redis_client().zmscore("kue:{default}:z", [key])
        seconds, micro = redis_client().time()
        assert 4_000 < score - (seconds * 1000 + micro // 1000) <= 5_000
        job_of(key).remove()


def test_delayed_jobs_are_listed_by_when_they_are_due() -> None:
    keys = [put_one(delay=delay) for delay in (30_000, 10_000, 20_000)]
    found = [job.key for job in QUEUE.jobs("delayed", newest_first=False)]
    assert found == [keys[1], keys[2], keys[0]]
    assert [job.key for job in QUEUE.jobs("delayed", limit=1)] == [keys[0]]
