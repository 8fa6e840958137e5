"""A real worker measures what it runs, and tells all of it before it ends."""

from __future__ import annotations

import signal

import pytest

from django_kue import get_queue, metrics
from django_kue.workers import workers
from tests.app import jobs
from tests.worker_process import WorkerProcess, all_finished, finished, in_state, wait_for


def test_all_runs_of_a_worker_are_in_the_series_when_it_has_stopped() -> None:
    get_queue().pause()
    put = jobs.noop.enqueue_many([()] * 300)
    broken = [jobs.fail.enqueue(), jobs.fail.enqueue()]
    twice = jobs.fail_twice.enqueue("measured")
    long = jobs.nap.enqueue(0.3)
    with WorkerProcess("--processes", "2") as worker:
        worker.wait_started()
        get_queue().resume()
        all_finished([*put, *broken, twice, long])
        assert worker.stop() == 0
    found = metrics.series("24h", "default")
    assert (sum(found.completed), sum(found.failed), sum(found.retried)) == (302, 2, 2)
    waits = [value for value in found.wait_p50 if value is not None]
    assert waits
    assert all(0.0 < value < 30 for value in waits)
    by_name = {one.name: one for one in metrics.functions("24h", "default")}
    assert by_name[jobs.noop.name].runs == 300
    assert by_name[jobs.fail.name].failed == 2
    assert (by_name[jobs.fail_twice.name].retried, by_name[jobs.fail_twice.name].completed) == (2, 1)
    ended = long.refresh()
    assert ended.finished_at is not None
    assert ended.started_at is not None
    took = (ended.finished_at - ended.started_at).total_seconds()
    assert took >= 0.3
    assert by_name[jobs.nap.name].p50 == pytest.approx(took, rel=0.42)
    assert by_name[jobs.nap.name].total == pytest.approx(took, abs=0.2)


def test_a_living_worker_tells_within_seconds_and_notes_how_many_wait() -> None:
    with WorkerProcess("--processes", "1", "--threads", "1") as worker:
        worker.wait_started()
        finished(jobs.noop.enqueue())
        wait_for(lambda: sum(metrics.series("1h", "default").completed) == 1, what="the run's measurement")
        assert worker.stop() == 0


def test_a_busy_worker_says_how_busy_it_is_and_what_memory_it_uses() -> None:
    with WorkerProcess("--processes", "1", "--threads", "2", "--coroutines", "3") as worker:
        worker.wait_started()
        in_state(jobs.nap.enqueue(8.0), "active")
        [found] = wait_for(lambda: [one for one in workers() if one.busy], what="a busy worker")
        assert (found.busy, found.slots, found.processes[0].busy, found.processes[0].slots) == (1, 5, 1, 5)
        assert 0.5 * 2**20 < found.processes[0].memory < found.memory < 2**31

        def shares() -> list[float]:
            return [one for one in metrics.series("1h").utilisation if one]

        wait_for(shares, what="the worker's utilisation")
        assert all(0 < share <= 0.5 for share in shares())
        worker.send(signal.SIGKILL)


def test_a_run_that_ends_with_its_process_is_counted() -> None:
    with WorkerProcess("--processes", "1", "--threads", "1") as worker:
        worker.wait_started()
        finished(jobs.stubborn.enqueue("measured"))
        found = wait_for(lambda: [one for one in [metrics.series("1h", "default")] if sum(one.failed)])
        assert sum(found[0].failed) == 1
        assert worker.stop() == 0
