"""Redis goes away, stands still, forgets its scripts, or refuses: workers wait, come back, and lose nothing.

Each test has a server of its own, to do with as it likes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from django_kue import EnqueueError
from tests.app import abuse, jobs
from tests.own_server import OwnServer, lines, persistently, rest
from tests.worker_process import (
    WorkerProcess,
    all_finished,
    broke,
    counts,
    finished,
    is_well,
    marks,
    wait_for,
)


def test_a_worker_waits_for_a_redis_that_is_absent_at_its_start(server: OwnServer) -> None:
    with WorkerProcess("--processes", "1") as worker:
        line = worker.wait_log("waiting for it")
        assert "WARNING" in line
        assert "Redis is unavailable" in line
        rest(1.0)
        assert worker.log.count("waiting for it") == 1
        assert not broke(worker.log)
        server.start()
        assert finished(jobs.add.enqueue(1)).result == 3
        assert worker.stop() == 0


def test_a_worker_that_still_waits_for_redis_can_be_stopped(server: OwnServer) -> None:
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_log("waiting for it")
        begun = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - begun < 3


def test_redis_killed_and_restarted_loses_nothing(server: OwnServer, notes: Path) -> None:
    """kill −9 with every write on disk: what was acknowledged is there, what ran is told later."""
    server.start()
    with WorkerProcess("--processes", "2", "--threads", "2") as worker:
        worker.wait_started()
        put = abuse.note.enqueue_many([(str(notes), n, 0.02) for n in range(300)])
        running = abuse.anote.enqueue(str(notes), "async", 1.0)
        for _ in range(2):
            count = len(lines(notes))
            wait_for(lambda count=count: len(lines(notes)) >= min(300, count + 60))
            server.kill()
            rest(0.5)
            server.start()
        assert {job.state for job in all_finished([*put, running], 30)} == {"completed"}
        runs = Counter(lines(notes))
        assert len(runs) == 301
        # an outcome is told when Redis is back; only a claim whose reply was lost, never run, goes back
        assert sum(count - 1 for count in runs.values()) == 0
        assert worker.log.count("trying again") <= 3 * 3 * 2  # said, not shouted
        assert "Redis is back" in worker.log
        assert "died" not in worker.log
        assert worker.stop() == 0
    assert is_well("default")


@pytest.mark.slow
def test_an_outage_longer_than_the_lease_costs_no_run_that_goes_on(server: OwnServer, notes: Path) -> None:
    """Amnesty: the living get time to report before anybody is declared dead."""
    server.start()
    with (
        WorkerProcess("--processes", "1", KUE_TEST_LEASE="4") as first,
        WorkerProcess("--processes", "1", KUE_TEST_LEASE="4") as second,
    ):
        first.wait_started()
        second.wait_started()
        finished(jobs.noop.enqueue())
        running = abuse.anote.enqueue(str(notes), "outage", 8.0)
        wait_for(lambda: lines(notes))
        server.freeze()
        rest(5.5)
        server.thaw()
        assert finished(running, 20).state == "completed"
        assert lines(notes) == ["outage"]
        assert running.refresh().attempts_made == 1


@pytest.mark.slow
def test_a_frozen_redis_makes_nobody_lose_a_job(server: OwnServer, notes: Path) -> None:
    server.start()
    with WorkerProcess("--processes", "2", "--threads", "2") as worker:
        worker.wait_started()
        put = abuse.note.enqueue_many([(str(notes), n, 0.005) for n in range(200)])
        wait_for(lambda: len(lines(notes)) >= 20)
        server.freeze()
        rest(3.0)
        server.thaw()
        begun = time.monotonic()
        assert {job.state for job in all_finished(put, 20)} == {"completed"}
        assert finished(jobs.add.enqueue(1)).result == 3
        assert time.monotonic() - begun < 8
        assert sorted(map(int, lines(notes))) == list(range(200))
        assert worker.stop() == 0
    assert is_well("default")


def test_sigterm_ends_a_worker_in_time_though_redis_stands_still(server: OwnServer, notes: Path) -> None:
    server.start()
    with WorkerProcess("--processes", "1", "--shutdown-timeout", "2") as worker:
        worker.wait_started()
        abuse.anote.enqueue(str(notes), "running", 100.0)
        wait_for(lambda: lines(notes))
        server.freeze()
        begun = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - begun < 5.0
        server.thaw()


def test_who_stops_without_redis_says_which_jobs_it_leaves(server: OwnServer, notes: Path) -> None:
    server.start()
    options = ("--processes", "1", "--shutdown-timeout", "4")
    with WorkerProcess(*options) as worker:
        worker.wait_started()
        long = abuse.anote.enqueue(str(notes), "running", 100.0)
        completed = abuse.note.enqueue(str(notes), "completed", 1.0)
        failed = abuse.note_and_fail.enqueue(str(notes), "failed", 1.0)
        wait_for(lambda: len(lines(notes)) == 3)
        server.freeze()
        rest(2)
        assert worker.stop() == 0
        log = worker.log
        server.thaw()
    again = "but Redis is away: if it stays away, the job runs again when its lease runs out"
    assert f"{long.id} was running, {again}" in log
    assert f"{completed.id} had completed, {again}" in log
    assert f"{failed.id} ended, {again}" in log


def test_a_user_who_may_not_wait_for_bells_is_told_so_now_and_then(server: OwnServer) -> None:
    server.start()
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        server.client.acl_setuser("default", enabled=True, commands=["-bzpopmin"])
        rest(3)
        assert finished(jobs.add.enqueue(1), 20).result == 3
        assert worker.log.count("'bzpopmin'") == 1
        assert "Redis is back" not in worker.log
        server.client.acl_setuser("default", enabled=True, commands=["+bzpopmin"])
        worker.wait_log("Redis is back", 20)
        assert finished(jobs.add.enqueue(1)).result == 3


def test_enqueue_gives_up_at_its_timeout_when_redis_stands_still(server: OwnServer, settings: Any) -> None:
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 0.5}
    server.start()
    jobs.noop.enqueue()
    server.freeze()
    begun = time.monotonic()
    with pytest.raises(EnqueueError, match="not enqueued|may have been stored"):
        jobs.noop.enqueue()
    assert time.monotonic() - begun < 2.0
    server.thaw()


def test_redis_that_forgets_its_scripts_all_the_time(server: OwnServer) -> None:
    server.start()
    with WorkerProcess("--processes", "2", "--threads", "2") as worker:
        worker.wait_started()
        put = []
        for n in range(25):
            put += jobs.leave.enqueue_many([("flush", 10 * n + i) for i in range(10)])
            server.client.script_flush()
            rest(0.03)
        assert {job.state for job in all_finished(put)} == {"completed"}
        assert sorted(map(int, marks("flush"))) == list(range(250))
        assert "ERROR" not in worker.log
        assert "NOSCRIPT" not in worker.log


def test_clients_killed_all_the_time(server: OwnServer, notes: Path) -> None:
    server.start()
    with WorkerProcess("--processes", "1", "--threads", "2") as worker:
        worker.wait_started()
        put = []
        for n in range(20):
            put += persistently(
                lambda n=n: abuse.note.enqueue_many([(str(notes), 10 * n + i, 0.01) for i in range(10)])
            )
            client = server.client
            me = client.client_id()
            for other in client.client_list():
                if int(other["id"]) != me:
                    client.client_kill_filter(_id=other["id"])
            rest(0.05)
        assert {job.state for job in all_finished(put, 30)} == {"completed"}
        assert sorted(map(int, lines(notes))) == list(range(200))
        assert not counts().get("active")
        assert worker.stop() == 0
    assert is_well("default")


@pytest.mark.parametrize(
    "how",
    [
        "readonly",
        pytest.param("noreplicas", marks=pytest.mark.slow),
        pytest.param("misconf", marks=pytest.mark.slow),
    ],
)
def test_a_redis_that_refuses_writes_for_now_is_waited_for(server: OwnServer, notes: Path, how: str) -> None:
    server.start()
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        running = abuse.anote.enqueue(str(notes), "running", 0.5)
        wait_for(lambda: lines(notes))
        refuse(server, how)
        with pytest.raises(redis.ResponseError, match="READONLY|read only|NOREPLICAS|MISCONF"):
            server.client.set("probe", 1)
        rest(1.5)
        accept(server, how)
        assert finished(running).state == "completed"
        assert finished(persistently(lambda: jobs.add.enqueue(1))).result == 3
        assert lines(notes) == ["running"]
        assert not broke(worker.log)
        assert "died" not in worker.log
        assert worker.log.count("INFO    Redis is back") <= 1, "and not before"
        assert worker.log.count("WARNING Redis is unavailable") <= 2, "each reason once"
        assert worker.stop() == 0


def refuse(server: OwnServer, how: str) -> None:
    client = server.client
    if how == "readonly":
        client.replicaof("127.0.0.1", 1)
    elif how == "noreplicas":
        client.config_set("min-replicas-to-write", 1)
    else:
        client.config_set("appendonly", "no")
        client.config_set("save", "3600 1000000")
        shutil.rmtree(server.folder)
        client.bgsave()
        wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")


def accept(server: OwnServer, how: str) -> None:
    client = server.client
    if how == "readonly":
        client.replicaof("NO", "ONE")
    elif how == "noreplicas":
        client.config_set("min-replicas-to-write", 0)
    else:
        client.config_set("stop-writes-on-bgsave-error", "no")


@pytest.mark.slow
def test_a_redis_that_is_busy_with_somebodys_script_is_waited_for(server: OwnServer) -> None:
    server.start("--busy-reply-threshold", "100")
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        finished(jobs.noop.enqueue())
        busy = server.client
        endless = subprocess.Popen(
            ["redis-cli", "-p", str(server.port), "eval", "while true do end", "0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        rest(1.5)
        busy.script_kill()
        endless.wait(10)
        assert finished(persistently(lambda: jobs.add.enqueue(1))).result == 3
        assert not broke(worker.log)
        assert "died" not in worker.log


@pytest.mark.slow
def test_a_redis_that_still_loads_is_waited_for(server: OwnServer) -> None:
    server.start("--appendonly", "no")
    for n in range(600):
        server.client.set(f"filler-{n}", "x")
    server.client.save()
    server.kill()
    slow = (
        "--appendonly",
        "no",
        "--key-load-delay",
        "10000",
        "--loading-process-events-interval-bytes",
        "1024",
    )
    server.start_without_waiting(*slow)
    with WorkerProcess("--processes", "1") as worker:
        assert re.search("[Ll]oading|Timeout", worker.wait_log("waiting for it"))
        assert finished(persistently(lambda: jobs.add.enqueue(1)), 20).result == 3
        assert not broke(worker.log)


def test_memory_that_is_full_stops_no_acknowledgement_and_no_heartbeat(
    server: OwnServer, notes: Path
) -> None:
    server.start()
    with WorkerProcess("--processes", "1", KUE_TEST_LEASE="1") as worker:
        worker.wait_started()
        running = abuse.anote.enqueue(str(notes), "full", 2.5)
        wait_for(lambda: lines(notes))
        client = server.client
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        with pytest.raises(EnqueueError, match="(?i)memory|OOM"):
            jobs.noop.enqueue()
        rest(1.8)
        assert running.refresh().state == "active"  # its lease was renewed all the time
        wait_for(lambda: not counts().get("active"), 5, lambda: worker.log[-2000:])
        client.config_set("maxmemory", 0)
        job = finished(running)
        assert (job.attempts_made, job.crashes) == (1, 0)


@pytest.mark.slow
def test_a_restart_without_persistence_leaves_nothing_stuck(server: OwnServer, notes: Path) -> None:
    server.start("--appendonly", "no")
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        abuse.anote.enqueue(str(notes), "lost", 1.5)
        wait_for(lambda: lines(notes))
        wait_for(lambda: server.client.hexists("kue:{slow}:h", "pulse"))  # the last queue that's swept …
        rest(0.2)  # … and the worker has heard of it
        server.kill()
        server.start("--appendonly", "no")
        assert finished(persistently(lambda: jobs.add.enqueue(1))).result == 3
        rest(1.5)
        assert counts() == {"completed": 1}
        wait_for(lambda: "Redis has lost what it held of queue default" in worker.log)
        assert not broke(worker.log)
    assert is_well("default", apart_from="queue.unregistered")  # who enqueues says it only once
