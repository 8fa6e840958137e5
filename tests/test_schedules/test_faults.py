"""Schedulers and Redis are killed: no tick is missed, and none comes twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import pytest

from django_kue import get_queue, ids, schedules
from tests.app import jobs
from tests.conftest import redis_client
from tests.own_server import OwnServer, server  # noqa: F401
from tests.test_schedules.crowd import STEPS
from tests.test_schedules.hands import now_ms, set_next
from tests.worker_process import ROOT, WorkerProcess, marks, wait_for

SECOND = 1000


def fired(name: str) -> list[int]:
    """The times of a schedule's jobs that wait, in the order in which they were fired."""
    keys = [key.decode() for key in redis_client().lrange("kue:{default}:w:0", 0, -1)]
    records = redis_client().hmget("kue:{default}:d", keys) if keys else []
    own = f"t{name}|".encode()
    return [ids.created_ms(key) for key, record in zip(keys, records, strict=True) if record.startswith(own)]


@pytest.mark.parametrize("seed", [1, 2])
def test_of_a_thousand_ticks_none_is_missed_and_none_doubled_though_schedulers_are_killed_at_each_step(
    seed: int,
) -> None:
    names = [f"s{number}" for number in range(5)]
    now = now_ms() // SECOND * SECOND
    for name in names:
        schedules.create(name, jobs.noop, every=1, catch_up="all")
        set_next(name, now - 199 * SECOND)

    command = [sys.executable, "-m", "tests.test_schedules.crowd", str(seed), str(now)]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 0, done.stderr
    killed = json.loads(done.stdout)
    assert set(killed) == set(STEPS), killed
    assert sum(killed.values()) > 30, killed
    for name in names:
        found = fired(name)
        assert found[:200] == [now - n * SECOND for n in range(199, -1, -1)]
        assert {after - before for before, after in pairwise(found)} == {SECOND}


def completed() -> list[int]:
    """Ticks whose jobs have run."""
    found = get_queue().jobs("completed", limit=1000)
    return sorted(round(job.created_at.timestamp() * 1000) for job in found)


def without_gaps(ticks: list[int]) -> bool:
    return all(after - before == SECOND for before, after in pairwise(ticks))


@pytest.mark.slow
def test_when_a_whole_worker_is_killed_another_goes_on_with_the_next_tick() -> None:
    schedules.create("each", jobs.noop, every=1, catch_up="all")
    with WorkerProcess("--processes", "1") as one, WorkerProcess("--processes", "1") as other:
        one.wait_started()
        other.wait_started()
        wait_for(lambda: len(completed()) >= 2, 20, "two ticks")
        one.kill_all()
        killed = now_ms()
        wait_for(lambda: sum(tick > killed for tick in completed()) >= 2, 20, "ticks of the other worker")
        ran = completed()

    assert without_gaps(ran)
    assert len(set(ran)) == len(ran)


@pytest.mark.slow
def test_a_restart_of_redis_across_a_tick_misses_none_and_doubles_none(server: OwnServer) -> None:  # noqa: F811
    server.start()
    schedules.create("each", jobs.noop, every=1, catch_up="all")
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        wait_for(lambda: len(completed()) >= 2, 20, "two ticks")
        server.kill()
        down = _host_ms()
        wait_for(
            lambda: _host_ms() >= (down // SECOND + 1) * SECOND + 200, 5, "a tick that Redis isn't there for"
        )
        server.start()
        back = now_ms()
        wait_for(lambda: sum(tick > back for tick in completed()) >= 2, 20, "ticks after the restart")
        ran = completed()

    assert without_gaps(ran)
    assert len(set(ran)) == len(ran)
    assert any(down <= tick <= back for tick in ran)


def _host_ms() -> int:
    return round(time.time() * 1000)


def fired_signals() -> list[Any]:
    return [one for one in map(json.loads, marks("signals")) if one["signal"] == "schedule_fired"]


@pytest.mark.slow
def test_declarations_become_schedules_when_a_worker_starts_and_receivers_hear_of_their_ticks() -> None:
    declared = json.dumps({"each": {"JOB": jobs.noop.name, "EVERY": 1}})
    with WorkerProcess("--processes", "1", KUE_TEST_SCHEDULES=declared, KUE_TEST_RECEIVERS="yes"):
        told = wait_for(fired_signals, 20)
        wait_for(lambda: schedules.get("each").last_success, 20, "a success")
        found = schedules.get("each")

    assert (told[0]["sender"], told[0]["is_original"], told[0]["state"]) == (jobs.noop.name, True, "waiting")
    assert told[0]["names"] == ["schedule", "tick"]
    assert told[0]["thread"] != "kue-scheduler"  # a slow receiver delays no tick
    assert found.is_declared
    assert found.last_runs


@pytest.mark.slow
def test_a_worker_in_a_burst_fires_nothing() -> None:
    schedules.create("old", jobs.noop, every=3600)
    set_next("old", now_ms() - 1000)
    jobs.nap.enqueue(0.7)  # long enough for a scheduler to look

    with WorkerProcess("--processes", "1", "--burst") as worker:
        assert worker.wait(20) == 0

    assert len(completed()) == 1
