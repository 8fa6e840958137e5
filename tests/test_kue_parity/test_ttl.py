"""``.ttl(ms)`` is ``timeout``: how long a run may take."""

from tests.app.jobs import add, anap, nap, overlong
from tests.worker_process import finished, marks


def test_a_run_that_takes_too_long_is_failed_and_its_code_is_stopped(worker):
    """Kue failed the job and left the code running."""
    job = finished(overlong.enqueue(20, "overlong"))

    assert job.state == "failed"
    assert job.error.type == "django_kue.errors.JobTimeout"
    assert "0.5 s" in job.error.message
    assert (job.finished_at - job.started_at).total_seconds() < 5
    assert marks("overlong") == ["start"]


def test_a_coroutine_is_cancelled(worker):
    job = finished(anap.using(timeout=0.2).enqueue(20, "coroutine"))

    assert job.error.type == "django_kue.errors.JobTimeout"
    assert marks("coroutine") == ["start"]


def test_a_timed_out_run_has_further_attempts(worker):
    job = finished(overlong.using(attempts=2, timeout=0.2).enqueue(20, "twice"))

    assert marks("twice") == ["start", "start"]
    assert [run.outcome for run in job.runs()] == ["retried", "failed"]


def test_a_run_in_time_is_left_alone(worker):
    assert nap.using(timeout=5).enqueue(0.01).wait(timeout=10) == "rested"
    assert add.enqueue(1).wait(timeout=10) == 3
