"""The thread that fetches runs short jobs itself; when one turns out long, another thread fetches."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from django_kue.worker import leading
from django_kue.worker.buffer import LEAD, Buffer
from django_kue.worker.leading import Leadership
from tests.app import jobs
from tests.worker_process import WorkerProcess, all_finished, broke, finished, marks, wait_for


@pytest.fixture
def worker() -> Iterator[Callable[[int], WorkerProcess]]:
    """One process with so many threads, that has found the queue's jobs to be short."""
    running = []

    def start(threads: int) -> WorkerProcess:
        one = WorkerProcess("--processes", "1", "--threads", str(threads), KUE_TEST_SHORT="0.01")
        running.append(one.start().wait_started())
        all_finished(jobs.noop.enqueue_many([()] * 300))
        return one

    yield start
    for one in running:
        assert not broke(one.log), one.log[-3000:]
        one.__exit__(None, None, None)


def name_of_thread() -> str:
    return str(finished(jobs.tell_thread.enqueue()).result)


def test_short_jobs_are_run_by_the_thread_that_fetches(worker: Callable[[int], WorkerProcess]) -> None:
    worker(3)
    names = Counter(name_of_thread() for _ in range(25))
    assert max(names.values()) > 12, f"one after the other led, where one should mostly: {names}"


def test_jobs_beside_a_long_one_go_on_and_the_next_leader_runs_short_ones(
    worker: Callable[[int], WorkerProcess],
) -> None:
    worker(2)
    long = jobs.nap.enqueue(3, "long")
    wait_for(lambda: marks("long"), what="the long job's start")
    begun = time.monotonic()
    all_finished(jobs.noop.enqueue_many([()] * 200))
    assert time.monotonic() - begun < 1.5
    assert marks("long") == ["start"], "all the others are over before it is"
    assert finished(long).result == "rested"


def test_as_many_long_jobs_as_there_are_threads_run_at_once_and_no_more(
    worker: Callable[[int], WorkerProcess],
) -> None:
    worker(2)
    put = [jobs.nap.enqueue(0.5, "many") for _ in range(6)]
    all_finished(put)
    assert most_at_once(marks("many")) == 2


def test_one_thread_runs_one_job_at_a_time_whoever_leads(worker: Callable[[int], WorkerProcess]) -> None:
    worker(1)
    for _ in range(3):  # after each long one another thread leads
        put = [*jobs.nap.enqueue_many([(0.0, "one")] * 5), jobs.nap.enqueue(0.2, "one")]
        all_finished([*put, *jobs.noop.enqueue_many([()] * 300)])
    assert most_at_once(marks("one")) == 1
    assert len(marks("one")) == 36


def most_at_once(told: list[str]) -> int:
    """How many jobs had begun and not ended, by their marks."""
    running = [0]
    for mark in told:
        running.append(running[-1] + (1 if mark == "start" else -1))
    return max(running)


# ── by hand ──


def test_nobody_leads_and_runs_a_job_when_no_thread_sleeps() -> None:
    buffer = Buffer()
    leadership = Leadership(buffer)
    leadership.take()
    assert not leadership.begin()


def test_a_leader_that_was_quick_stays_leader() -> None:
    with taker() as (buffer, taken):
        leadership = Leadership(buffer)
        leadership.take()
        assert leadership.begin()
        leadership.watch()
        assert leadership.is_held()
        assert leadership.end()
        buffer.put(["next"], 1)
        wait_for(lambda: taken == ["next"])


def test_a_sleeping_thread_takes_nothing_while_the_leader_runs_a_job() -> None:
    with taker() as (buffer, taken):
        leadership = Leadership(buffer)
        leadership.take()
        assert leadership.begin()
        buffer.put(["barred"], 1)
        time.sleep(0.05)
        assert taken == []
        assert leadership.end()
        wait_for(lambda: taken == ["barred"])


def test_the_barred_thread_leads_when_the_leader_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "LATE", 0.0)
    with taker() as (buffer, taken):
        leadership = Leadership(buffer)
        leadership.take()
        assert leadership.begin()
        time.sleep(0.001)
        leadership.watch()
        wait_for(lambda: taken == [LEAD])
        assert not leadership.is_held()
        assert not leadership.end(), "so that it becomes one of the others"
        leadership.watch()
        buffer.put(["next"], 1)
        wait_for(lambda: taken == [LEAD, "next"], what="only one was called to lead, and nobody is barred")


@contextmanager
def taker() -> Iterator[tuple[Buffer, list[object]]]:
    """A buffer, and what a thread has taken from it; the thread is asleep to begin with."""
    buffer, taken = Buffer(), []

    def take() -> None:
        while (item := buffer.take()) is not None:
            taken.append(item)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    wait_for(lambda: buffer.idle == 1)
    yield buffer, taken
    buffer.close()
    thread.join(5)
    assert not thread.is_alive()
