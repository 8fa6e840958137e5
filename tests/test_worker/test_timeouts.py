"""A timeout really stops code: softly, then by ending the process; and never hits another job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from django_kue import JobFailed
from tests.app import abuse, jobs
from tests.worker_process import (
    WorkerProcess,
    all_finished,
    broke,
    counts,
    finished,
    is_running,
    marks,
    wait_for,
    wait_marks,
)


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess("--processes", "1", "--threads", "4") as worker:
        yield worker.wait_started()


@pytest.fixture(autouse=True)
def begin(worker: WorkerProcess) -> None:
    worker.bookmark()


def test_a_function_is_stopped_at_its_timeout(worker: WorkerProcess) -> None:
    child = worker.child()
    begun = time.monotonic()
    job = finished(jobs.overlong.enqueue(30, "soft"))
    assert 0.5 <= time.monotonic() - begun < 1.0
    assert (job.state, job.error.type) == ("failed", "django_kue.errors.JobTimeout")
    assert job.error.message == "it ran longer than its timeout of 0.5 s"
    assert "time.sleep(0.01)" in job.error.traceback  # where it was stopped
    assert marks("soft") == ["start"]
    assert worker.child() == child


def test_a_coroutine_is_cancelled_at_its_timeout(worker: WorkerProcess) -> None:
    child = worker.child()
    job = finished(abuse.aoverlong.enqueue(30, "asoft"))
    assert (job.state, job.error.type) == ("failed", "django_kue.errors.JobTimeout")
    assert marks("asoft") == ["start", "cancelled"]
    assert worker.child() == child


def test_a_timeout_uses_an_attempt_and_is_tried_again() -> None:
    job = finished(jobs.overlong.using(attempts=2).enqueue(30, "again"))
    assert (job.state, job.attempts_made) == ("failed", 2)
    assert marks("again") == ["start", "start"]
    assert [run.outcome for run in job.runs()] == ["retried", "failed"]


def test_using_sets_a_timeout_of_its_own() -> None:
    assert finished(jobs.overlong.using(timeout=5).enqueue(0.7, "longer")).state == "completed"
    assert finished(jobs.nap.using(timeout=0.2).enqueue(0.6)).error.type == "django_kue.errors.JobTimeout"


@pytest.mark.parametrize("function", [abuse.answer, abuse.aanswer], ids=["function", "coroutine"])
def test_what_code_raises_in_answer_to_its_timeout_counts(function: Any) -> None:
    discarded = finished(function.enqueue("discarded", "discard"))
    assert (discarded.state, discarded.attempts_made) == ("failed", 1)
    assert discarded.error.message == "it would never end"
    own = finished(function.enqueue("own", "own"))
    assert (own.state, own.attempts_made, own.error.type) == ("failed", 1, "tests.app.abuse.GaveUp")
    retried = function.enqueue("retried", "retry")
    wait_for(lambda: retried.refresh().state == "delayed")
    assert [(run.outcome, run.delay) for run in retried.runs()] == [("retried", 120)]


@pytest.mark.parametrize("function", [abuse.swallow, abuse.swallow_all])
def test_code_that_swallows_the_timeout_and_returns_has_timed_out_all_the_same(function: Any) -> None:
    """Also what can't be stored."""
    job = finished(function.enqueue("swallowed"))
    assert (job.state, job.error.type) == ("failed", "django_kue.errors.JobTimeout")
    assert marks("swallowed") == ["JobTimeout"]


@pytest.mark.parametrize(
    ("function", "limit"),
    [
        (jobs.stubborn, 0.5),
        pytest.param(abuse.sleep_in_c, 0.5, marks=pytest.mark.slow),
        pytest.param(abuse.astubborn, 0.3, marks=pytest.mark.slow),
        (abuse.ablocking, 0.3),
    ],
    ids=["swallows all", "sleeps in C", "swallows its cancellation", "blocks the loop"],
)
def test_code_that_cant_be_stopped_costs_its_process(
    worker: WorkerProcess, function: object, limit: float
) -> None:
    child = worker.child()
    neighbour = jobs.nap.enqueue(2.0, "neighbour")
    wait_marks("neighbour")
    begun = time.monotonic()
    job = function.enqueue("stubborn")  # type: ignore[attr-defined]
    wait_marks("stubborn")
    wait_for(lambda: not is_running(child), limit + 1.0, "the end of the process")
    job = finished(job, 1.5)
    assert time.monotonic() - begun < limit + 1.5
    assert (job.state, job.error.type, job.attempts_made) == ("failed", "django_kue.errors.JobTimeout", 1)
    assert (finished(neighbour).state, neighbour.refresh().attempts_made) == ("completed", 1)
    assert marks("neighbour") == ["start", "start", "end"]
    assert worker.child() != child
    assert neighbour.refresh().crashes == 0
    assert "doesn't stop at its timeout" in worker.new_log


@pytest.mark.slow
def test_code_that_cant_be_stopped_is_tried_again_while_attempts_are_left(worker: WorkerProcess) -> None:
    job = finished(jobs.stubborn.using(attempts=2).enqueue("twice"), 10)
    assert (job.state, job.attempts_made, job.crashes) == ("failed", 2, 0)
    assert marks("twice") == ["start", "start"]
    with pytest.raises(JobFailed, match="timeout"):
        job.wait(1)


def test_code_that_holds_the_gil_is_ended_too(worker: WorkerProcess) -> None:
    child = worker.child()
    job = finished(abuse.hold_gil.using(timeout=0.5).enqueue(20, "gil"), 3)
    assert (job.state, job.error.type) == ("failed", "django_kue.errors.JobTimeout")
    assert not is_running(child)


@pytest.mark.parametrize("count", [100, pytest.param(300, marks=pytest.mark.slow)])
def test_a_timeout_that_comes_late_never_hits_the_next_job(worker: WorkerProcess, count: int) -> None:
    """Runs that end just when their time is over, on four threads: each job has one outcome of its own."""
    child = worker.child()
    durations = [0.04 + 0.02 * (number % 50) / 50 for number in range(count)]
    hammered = abuse.about.enqueue_many(list(zip(durations, range(count), strict=True)))
    others = abuse.about.using(timeout=None, priority=1).enqueue_many([(0.002, n) for n in range(300)])
    hammered, others = all_finished(hammered, 60), all_finished(others, 60)
    assert worker.child() == child, worker.new_log
    assert {job.state for job in others} == {"completed"}
    assert [job.result for job in others] == list(range(300))
    for number, job in enumerate(hammered):
        if job.state == "completed":
            assert job.result == number
        else:
            assert job.error.type == "django_kue.errors.JobTimeout", job.error
    assert {job.state for job in hammered} == {"completed", "failed"}  # some of each, else nothing was tried
    assert sum(counts().values()) == count + 300
    wait_for(lambda: worker.new_log.count("attempt 1/1") >= count + 300, 2, lambda: worker.new_log[-500:])
    assert worker.new_log.count("attempt 1/1") == count + 300
    assert not broke(worker.new_log), worker.new_log[-3000:]


def test_who_ends_a_process_never_asks_the_projects_own_backoff_function(worker: WorkerProcess) -> None:
    job = finished(jobs.stubborn_with_own_backoff.enqueue("own backoff"))
    assert (job.state, job.attempts_made) == ("failed", 2)
    assert [run.delay for run in job.runs()] == [0.01, 0]
    asked = set(marks("backoff"))
    assert asked
    assert str(worker.pid) not in asked


def test_a_backoff_function_that_hangs_costs_its_process_and_not_its_worker(worker: WorkerProcess) -> None:
    job = finished(jobs.with_hanging_backoff.enqueue())
    assert (job.state, job.result) == ("completed", 2)  # with no attempt left it isn't asked
    assert finished(jobs.add.enqueue(1)).result == 3
