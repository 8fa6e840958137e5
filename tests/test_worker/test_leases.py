"""A worker that was frozen or cut off: its jobs run elsewhere, and what it says afterwards is refused."""

from __future__ import annotations

import signal
import time
from collections import Counter

import pytest

from django_kue import get_queue, ids
from django_kue.store import moves, send
from tests.app import abuse, jobs
from tests.conftest import redis_client
from tests.worker_process import (
    WorkerProcess,
    all_finished,
    broke,
    counts,
    finished,
    is_well,
    marks,
    wait_for,
    wait_marks,
)

LEASE = {"KUE_TEST_LEASE": "1"}


def test_a_frozen_worker_loses_its_jobs_and_what_it_says_afterwards_is_refused() -> None:
    options = ("--processes", "1", "--queues", "narrow")
    with (
        WorkerProcess(*options, KUE_TEST_RECEIVERS="1", **LEASE) as first,
        WorkerProcess(*options, KUE_TEST_RECEIVERS="1", **LEASE) as second,
    ):
        first.wait_started()
        second.wait_started()
        job = abuse.begun.using(queue="narrow").enqueue(2.0, "frozen", "v")
        [mark] = wait_marks("frozen")
        frozen, other = (first, second) if int(mark.split()[1]) in first.children() else (second, first)
        pids = [frozen.pid, *frozen.children()]
        for pid in pids:
            frozen.send(signal.SIGSTOP, pid)
        begun = time.monotonic()
        wait_marks("frozen", 2)
        assert time.monotonic() - begun < 1.5 * 1 + 0.5
        for pid in pids:
            frozen.send(signal.SIGCONT, pid)
        job = finished(job)
        assert (job.state, job.crashes, job.attempts_made) == ("completed", 0, 1)
        assert job.worker.split("/")[0] in other.log
        frozen.wait_log("another worker has the job now")
        other.wait_log("done ")
        assert frozen.stop() == other.stop() == 0  # whoever had more to say has said it
        assert terminal_signals() == [(job.id, "job_completed")]
        assert finished(job).worker == job.worker
    assert counts("narrow") == {"completed": 1}
    assert is_well("narrow")


def terminal_signals() -> list[tuple[str, str]]:
    import json

    found = map(json.loads, marks("signals"))
    return [
        (said["job"], said["signal"])
        for said in found
        if said["signal"] in ("job_completed", "job_failed", "job_cancelled")
    ]


@pytest.mark.slow
def test_progress_and_logs_of_a_frozen_worker_are_refused() -> None:
    with WorkerProcess("--processes", "1", "--threads", "2", **LEASE) as first:
        first.wait_started()
        job = jobs.progress.enqueue(40, 0.1)
        wait_for(lambda: job.refresh().progress > 0)
        pids = [first.pid, *first.children()]
        for pid in pids:
            first.send(signal.SIGSTOP, pid)
        with WorkerProcess("--processes", "1", **LEASE) as second:
            second.wait_log("taken back from a worker that died")
            wait_for(lambda: job.refresh().worker.split("/")[0] not in first.log)
            lines = len(job.logs())
            for pid in pids:
                first.send(signal.SIGCONT, pid)
            finished(job)
            texts = [str(line) for line in job.logs()]
            # the second run's lines are complete and in order; of the first's none came after the freeze
            assert texts[-40:] == [f"step {step} of 40" for step in range(1, 41)]
            assert len(texts) - 40 <= lines + 1
            assert job.refresh().progress == 100


@pytest.mark.slow
def test_nothing_that_a_frozen_worker_had_not_begun_is_begun_twice() -> None:
    """A long run goes on while the buffer holds unstarted ones: after the freeze they're others' jobs."""
    with WorkerProcess("--processes", "1", "--threads", "1", **LEASE) as first:
        first.wait_started()
        # many short ones first, so that it fetches ahead
        all_finished(jobs.noop.enqueue_many([() for _ in range(200)]))
        get_queue().pause()
        durations = [0.001] * 20 + [4.0] + [0.001] * 40
        put = abuse.begun.enqueue_many([(seconds, "begun", n) for n, seconds in enumerate(durations)])
        get_queue().resume()
        wait_for(lambda: any(mark.startswith("20 ") for mark in marks("begun")))
        pids = [first.pid, *first.children()]
        for pid in pids:
            first.send(signal.SIGSTOP, pid)
        with WorkerProcess("--processes", "1", "--threads", "4", **LEASE) as second:
            second.wait_log("taken back from a worker that died")
            wait_for(lambda: len(marks("begun")) >= 61)
            for pid in pids:
                first.send(signal.SIGCONT, pid)
            assert {job.state for job in all_finished(put)} == {"completed"}
            first.wait_log("another worker has the job now")
            begun = Counter(int(mark.split()[0]) for mark in marks("begun"))
            assert begun.pop(20) == 2
            twice = {number for number, count in begun.items() if count > 1}
            # what had run but wasn't yet told when the freeze came may run again; what came behind may not
            assert all(number < 20 for number in twice), twice
            assert sum(counts().values()) == 261
    assert is_well("default")


def test_a_job_that_holds_the_interpreter_longer_than_the_lease_runs_once() -> None:
    with (
        WorkerProcess("--processes", "1", **LEASE) as first,
        WorkerProcess("--processes", "1", **LEASE) as second,
    ):
        first.wait_started()
        second.wait_started()
        job = finished(abuse.hold_gil.enqueue(3.0, "held"))
        assert (job.state, job.result) == ("completed", "held")
        assert marks("held") == ["start", "end"]
        assert "taken back" not in first.log + second.log


def test_a_frozen_process_under_a_living_supervisor_keeps_its_jobs() -> None:
    """Only its supervisor's silence declares a worker dead."""
    with WorkerProcess("--processes", "1", **LEASE) as worker:
        worker.wait_started()
        job = jobs.nap.enqueue(0.5, "slept")
        wait_marks("slept")
        child = worker.child()
        worker.send(signal.SIGSTOP, child)
        until = time.monotonic() + 2.0
        wait_for(lambda: time.monotonic() > until)
        assert job.refresh().state == "active"
        worker.send(signal.SIGCONT, child)
        assert finished(job).attempts_made == 1
        assert marks("slept") == ["start", "end"]


def test_jobs_of_a_claim_whose_reply_was_lost_are_given_back() -> None:
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        name = finished(jobs.noop.enqueue()).worker  # host:pid:random/number of the process
        client = redis_client()

        def claim_behind_its_back() -> bool:
            for key in ids.new_keys(3):  # without a bell; but a sweep may ring it just then
                client.hset("kue:{default}:d", key, b'|tests.app.jobs.leave|["lost",1]')
                client.rpush("kue:{default}:w:0", key)
            client.zadd("kue:{default}:p", {"0": 0})
            turn = send(moves.turn("default", moves.owner(name), want=3, sequence=10**6, batches={}))[0]
            return len(turn.keys) == 3

        wait_for(claim_behind_its_back)
        me = client.client_id()
        for other in client.client_list():
            if int(other["id"]) != me:
                client.client_kill_filter(_id=other["id"])
        wait_marks("lost", 3, 5.0)
        assert worker.wait_log("claimed by a call whose reply was lost")
        wait_for(lambda: not counts().keys() & {"active", "waiting"}, 5.0, lambda: f"{counts()} {worker.log}")
    assert is_well("default")


def test_a_worker_that_lost_all_its_leases_goes_on() -> None:
    """FLUSHALL in the middle of a job."""
    with WorkerProcess("--processes", "1", **LEASE) as worker:
        worker.wait_started()
        wait_for(
            lambda: redis_client().hexists("kue:{default}:h", "pulse")
        )  # else it doesn't know of any data
        jobs.nap.enqueue(0.5, "flushed")
        wait_marks("flushed")
        redis_client().flushall()
        wait_marks("flushed")  # its end
        job = finished(jobs.add.enqueue(1))
        assert job.result == 3
        assert counts() == {"completed": 1}
        wait_for(lambda: "Redis has lost what it held of queue default" in worker.log)
        assert not broke(worker.log)
    assert is_well("default", apart_from="queue.unregistered")  # who enqueues says it only once


@pytest.mark.slow
def test_freezes_at_random_lose_nothing_and_end_every_job_once() -> None:
    import random

    chosen = random.Random(7)
    with WorkerProcess("--processes", "2", "--threads", "2", KUE_TEST_RECEIVERS="1", **LEASE) as first:
        first.wait_started()
        put = abuse.begun.enqueue_many([(chosen.uniform(0.001, 0.1), "many", n) for n in range(400)])
        with WorkerProcess("--processes", "1", "--threads", "2", KUE_TEST_RECEIVERS="1", **LEASE):
            for _ in range(4):
                pids = [first.pid, *first.children()]
                for pid in pids:
                    first.send(signal.SIGSTOP, pid)
                until = time.monotonic() + chosen.uniform(1.2, 2.0)
                wait_for(lambda until=until: time.monotonic() > until)
                for pid in pids:
                    first.send(signal.SIGCONT, pid)
                until = time.monotonic() + chosen.uniform(0.1, 0.5)
                wait_for(lambda until=until: time.monotonic() > until)
            assert {job.state for job in all_finished(put, 30)} == {"completed"}
            assert first.stop() == 0
        ended = Counter(terminal_signals())
        assert max(ended.values()) == 1
    assert counts() == {"completed": 400}
    assert is_well("default")


@pytest.mark.slow
def test_who_isnt_beaten_for_takes_no_more_jobs() -> None:
    """Its supervisor stands still. What it runs goes to others; it doesn't get that back, to run it twice."""
    with WorkerProcess("--processes", "1", "--threads", "4", **LEASE) as first:
        first.wait_started()
        put = abuse.begun.enqueue(8, "begun", 1)
        wait_marks("begun")
        first.send(signal.SIGSTOP, first.pid)
        first.wait_log("supervisor has stalled: no jobs are taken")
        later = jobs.noop.enqueue()
        time.sleep(1.5)
        assert later.refresh().state == "waiting"
        with WorkerProcess("--processes", "1", "--threads", "1", **LEASE) as second:
            second.wait_log("taken back from a worker that died")
            wait_marks("begun", 2)
            assert put.refresh().worker.split("/")[0] in second.log
            assert finished(put).state == "completed"
            assert finished(later).state == "completed"
        first.send(signal.SIGCONT, first.pid)
        first.wait_log("the supervisor has resumed")
        assert finished(jobs.noop.enqueue()).state == "completed"
        assert len(marks("begun")) == 2
        assert put.refresh().crashes <= 1
