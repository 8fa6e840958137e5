"""``queue.process(type, [n,] fn)``: a worker runs the functions, several at once."""

import pytest

from django_kue import JobFailed, get_queue
from tests.app.jobs import add, anap, fail, raise_base
from tests.app.tasks import hold
from tests.test_kue_parity.conftest import let_go
from tests.worker_process import finished, marks, wait_for


def test_a_worker_runs_the_function_with_the_jobs_arguments(worker):
    assert add.enqueue(1, b=5).wait(timeout=10) == 6


def test_a_coroutine_function_is_a_job_too(worker):
    assert anap.enqueue(0).wait(timeout=10) == "rested"


def test_an_exception_fails_the_job_and_says_what_and_where(worker):
    """``done(err)``"""
    job = finished(fail.enqueue("invalid to address"))

    assert job.state == "failed"
    assert (job.error.type, job.error.message) == ("builtins.ValueError", "invalid to address")
    assert "in fail" in job.error.traceback


def test_whoever_waits_is_told_of_the_failure(worker):
    with pytest.raises(JobFailed, match="invalid to address"):
        fail.enqueue("invalid to address").wait(timeout=10)


def test_not_even_exit_in_a_job_ends_its_worker(worker):
    """Kue's worker died of an uncaught exception, and its job stayed active for ever."""
    assert finished(raise_base.enqueue("SystemExit")).error.type == "builtins.SystemExit"

    assert add.enqueue(1, 1).wait(timeout=10) == 2
    assert worker.is_alive


def test_several_jobs_run_at_once(worker):
    jobs = [hold.enqueue("together") for _ in range(4)]

    wait_for(lambda: len(marks("together")) == 4, what="four running jobs")
    let_go("release-together")
    assert [job.wait(timeout=10) for job in jobs] == ["released"] * 4


def test_concurrency_limits_how_many_of_a_queue_run_at_once(worker):
    """``queue.process(type, 2, fn)``, but over all workers together."""
    jobs = [hold.using(queue="narrow").enqueue("narrow") for _ in range(3)]

    wait_for(lambda: len(marks("narrow")) == 2, what="two running jobs")
    add.enqueue(1).wait(timeout=10)  # the worker isn't short of threads
    counts = get_queue("narrow").counts()
    assert (counts["active"], counts["waiting"]) == (2, 1)

    let_go("release-narrow")
    assert [job.wait(timeout=10) for job in jobs] == ["released"] * 3
