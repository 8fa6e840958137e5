"""A worker runs jobs: their order, what they return and raise, and how often they're tried."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from django_kue import Backoff, failures, get_queue
from tests.app import abuse, jobs
from tests.worker_process import (
    WorkerProcess,
    all_finished,
    broke,
    counts,
    finished,
    marks,
    wait_for,
    wait_marks,
)


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess("--processes", "1", "--threads", "1") as worker:
        yield worker.wait_started()


@pytest.fixture(autouse=True)
def is_unharmed(worker: WorkerProcess) -> Iterator[None]:
    """None of this costs a process."""
    worker.bookmark()
    child = worker.child()
    yield
    assert worker.child() == child, worker.new_log
    assert not broke(worker.new_log), worker.new_log[-3000:]


def test_a_job_completes_with_its_result() -> None:
    job = finished(jobs.add.enqueue(40))
    assert (job.state, job.result, job.attempts_made, job.progress) == ("completed", 42, 1, 100)
    assert job.created_at <= job.started_at <= job.finished_at


def test_a_coroutine_function_completes_with_its_result() -> None:
    job = finished(jobs.anap.enqueue(0.01))
    assert (job.state, job.result) == ("completed", "rested")
    assert marks("anap") == ["start", "end"]


def test_higher_priorities_run_first_and_within_one_first_in_first_out() -> None:
    queue = get_queue()
    queue.pause()
    put = [
        jobs.leave.using(priority=priority).enqueue("order", f"{priority}-{number}")
        for number in range(4)
        for priority in ("low", 0, "critical", 7, -100, 100)
    ]
    queue.resume()
    all_finished(put)
    order = [100, "critical", 7, 0, "low", -100]
    assert marks("order") == [f"{priority}-{number}" for priority in order for number in range(4)]


def test_many_jobs_in_a_row_keep_their_order() -> None:
    put = jobs.leave.enqueue_many([("row", number) for number in range(300)])
    all_finished(put)
    assert marks("row") == [str(number) for number in range(300)]


def test_a_delayed_job_isnt_early() -> None:
    job = finished(jobs.noop.using(delay=0.3).enqueue())
    assert job.started_at - job.created_at >= timedelta(seconds=0.299)
    assert job.started_at - job.created_at < timedelta(seconds=0.6)


def test_an_expired_job_isnt_run() -> None:
    queue = get_queue()
    queue.pause()
    job = jobs.leave.using(expires=0.05).enqueue("expired", 1)
    late = jobs.leave.enqueue("expired", "later")
    expired_at = time.time() + 0.06
    wait_for(lambda: time.time() > expired_at)
    queue.resume()
    finished(late)
    job = finished(job)
    assert (job.state, job.error.type) == ("cancelled", "django_kue.errors.JobExpired")
    assert marks("expired") == ["later"]


def test_the_context_knows_its_job() -> None:
    job = finished(abuse.who_am_i.enqueue())
    assert job.result["id"] == job.id
    assert job.result["state"] == "active"
    assert job.result["attempt"] == 1
    assert job.result["worker"].startswith(job.worker.split("/")[0])


# ── attempts ──


def test_a_job_without_more_attempts_fails_with_its_error() -> None:
    job = finished(jobs.fail.enqueue("no luck"))
    assert (job.state, job.attempts_made) == ("failed", 1)
    assert (job.error.type, job.error.message) == ("builtins.ValueError", "no luck")
    assert "in fail\n" in job.error.traceback
    assert "django_kue/worker" not in job.error.traceback  # only the job's own frames


def test_a_job_is_tried_again_until_it_succeeds() -> None:
    job = finished(jobs.fail_twice.enqueue("twice"))
    assert (job.state, job.result, job.attempts_made) == ("completed", 3, 3)
    assert marks("twice") == ["1", "2", "3"]
    assert [(run.outcome, run.error.message) for run in job.runs()] == [
        ("retried", "attempt 1"), ("retried", "attempt 2"),
    ]  # fmt: skip


def test_using_gives_a_job_more_attempts() -> None:
    job = finished(jobs.fail.using(attempts=3).enqueue())
    assert (job.state, job.attempts_made) == ("failed", 3)
    assert [run.outcome for run in job.runs()] == ["retried", "retried", "failed"]


@pytest.mark.parametrize(
    ("backoff", "gaps"),
    [
        (None, [0, 0, 0]),
        (0.1, [0.1, 0.1, 0.1]),
        (timedelta(milliseconds=50), [0.05, 0.05, 0.05]),
        (Backoff.fixed(0.1), [0.1, 0.1, 0.1]),
        (Backoff.exponential(0.05), [0.05, 0.1, 0.2]),
        (Backoff.exponential(0.05, max=0.08), [0.05, 0.08, 0.08]),
    ],
)
def test_each_backoff_waits_as_long_as_it_says(backoff: object, gaps: list[float]) -> None:
    finished(abuse.fail_and_mark.using(backoff=backoff).enqueue("gaps"))
    times = [float(value) for value in marks("gaps")]
    for before, after, gap in zip(times, times[1:], gaps, strict=False):
        assert gap - 0.002 <= after - before < gap + 0.25
    assert len(times) == 4


def test_jitter_shortens_or_keeps_a_delay() -> None:
    job = finished(abuse.fail_and_mark.using(backoff=Backoff.exponential(0.1, jitter=0.5)).enqueue("jitter"))
    delays = [run.delay for run in job.runs()[:-1]]
    assert all(0 < delay < full * 1.5 + 0.001 for delay, full in zip(delays, (0.1, 0.2, 0.4), strict=True))


def test_the_decorators_exponential_backoff_holds() -> None:
    job = finished(abuse.exponentially.enqueue("exp"))
    assert [run.delay for run in job.runs()[:-1]] == [0.05, 0.1, 0.2]


def test_a_backoff_function_is_asked_with_the_attempt() -> None:
    job = finished(abuse.with_function.enqueue("function"))
    assert [run.delay for run in job.runs()] == [0.05, 0.1, 0]


def test_a_backoff_function_that_raises_fails_the_job_with_its_error() -> None:
    job = finished(abuse.with_broken_function.enqueue("broken"))
    assert (job.state, job.attempts_made, job.error.message) == ("failed", 1, "no such table")
    assert marks("broken") == ["run"]


def test_retry_and_discard_steer_a_job() -> None:
    job = finished(jobs.retry_then_discard.enqueue("steered"))
    assert marks("steered") == ["1", "2"]
    assert (job.state, job.error.type, job.error.message) == ("failed", "django_kue.errors.Discard", "enough")
    assert [run.delay for run in job.runs()] == [0.01, 0]


def test_retry_with_no_attempt_left_fails() -> None:
    job = finished(abuse.retry_always.enqueue())
    assert (job.state, job.attempts_made, job.error.type) == ("failed", 2, "django_kue.errors.Retry")


@pytest.mark.parametrize(("kind", "runs"), [("retry", 3), ("discard", 1), ("other", 1)])
def test_retry_on_and_discard_on_choose_what_is_tried_again(kind: str, runs: int) -> None:
    job = finished(abuse.picky.enqueue("picky", kind))
    assert (job.state, job.attempts_made) == ("failed", runs)
    assert len(marks("picky")) == runs


def test_a_coroutine_function_is_discarded_and_retried_as_any_other() -> None:
    assert finished(abuse.adiscard.enqueue("adiscard")).attempts_made == 1
    assert finished(abuse.araise.enqueue()).attempts_made == 2


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_what_usually_ends_a_process_ends_only_the_run(name: str) -> None:
    job = finished(jobs.raise_base.enqueue(name))
    assert (job.state, job.error.type) == ("failed", f"builtins.{name}")


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt"])
def test_what_usually_ends_a_loop_ends_only_the_coroutine(name: str) -> None:
    beside = abuse.abegun.enqueue(0.5, "beside", "safe")
    wait_marks("beside")
    job = finished(abuse.araise.using(attempts=1).enqueue(name))
    assert (job.state, job.error.type) == ("failed", f"builtins.{name}")
    assert finished(beside).result == "safe"
    assert len(marks("beside")) == 1


def test_a_coroutine_that_stops_the_loop_stops_nothing() -> None:
    assert finished(abuse.astop_loop.enqueue()).state == "completed"
    assert finished(jobs.anap.enqueue(0.01)).state == "completed"


# ── what can't be stored or shown ──


@pytest.mark.parametrize(
    ("kind", "message"),
    [("object", "object"), ("huge", "MAX_RESULT"), ("nan", "NaN"), ("keys", "key"), ("deep", "")],
)
@pytest.mark.parametrize("function", [abuse.return_it, abuse.areturn_it], ids=["sync", "async"])
def test_a_result_that_cant_be_stored_fails_the_job(function: object, kind: str, message: str) -> None:
    job = finished(function.enqueue(kind))  # type: ignore[attr-defined]
    assert job.state == "failed"
    assert message.lower() in job.error.message.lower()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("unspeakable", "(its text can't be shown: RuntimeError)"),
        ("exiting", "(its text can't be shown: SystemExit)"),
        ("cycle", "first"),
        ("recursion", "maximum recursion depth exceeded"),
        ("memory", "no more"),
        ("surrogate", "lone ? surrogate and \0 nul"),
    ],
)
def test_an_exception_that_is_hard_to_show_fails_the_job(kind: str, message: str) -> None:
    job = finished(abuse.raise_it.enqueue(kind))
    assert job.state == "failed"
    assert job.error.message.startswith(message)


def test_an_exception_whose_cause_cannot_be_read_is_stored_all_the_same() -> None:
    class Hostile(Exception):
        @property
        def __cause__(self) -> None:  # type: ignore[override]
            raise RuntimeError

    error = failures.describe(Hostile("no"))
    assert (error.message, error.traceback) == ("no", "(the traceback can't be shown: RuntimeError)")


@pytest.mark.parametrize("kind", ["message", "traceback"])
def test_an_error_of_megabytes_is_cut_and_marked_so(kind: str) -> None:
    job = finished(abuse.raise_it.enqueue(kind))
    assert job.state == "failed"
    assert len(job.error.message) < 17_000
    assert len(job.error.traceback) < 66_000
    assert "characters are cut here" in job.error.traceback


def test_running_out_of_memory_fails_the_attempt_only() -> None:
    job = finished(abuse.use_up_memory.enqueue(64))
    assert (job.state, job.error.type) == ("failed", "builtins.MemoryError")
    assert finished(jobs.add.enqueue(1)).result == 3


def test_nothing_is_left_behind() -> None:
    all_finished([jobs.noop.enqueue() for _ in range(3)])
    assert counts() == {"completed": 3}
