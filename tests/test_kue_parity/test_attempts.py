"""``.attempts(n)``: how often a job may run in all."""

import pytest

from django_kue import get_queue
from tests.app.jobs import fail
from tests.app.tasks import discards, flaky
from tests.test_kue_parity.conftest import UNSERVED
from tests.worker_process import finished, marks


def test_a_job_has_one_attempt_unless_you_say_otherwise(worker):
    job = finished(fail.enqueue())

    assert (job.attempts, job.attempts_made, job.state) == (1, 1, "failed")


def test_a_job_runs_until_it_is_good_or_its_attempts_are_used_up(worker):
    good, bad = flaky.enqueue("good", 3), flaky.enqueue("bad", 4)

    assert good.wait(timeout=10) == 3
    assert finished(bad).error.message == "attempt 3 failed"
    assert marks("good") == marks("bad") == ["1", "2", "3"]
    assert (good.refresh().attempts_made, bad.refresh().attempts_made) == (3, 3)


def test_attempts_are_also_an_option_of_one_job_and_of_a_queue(worker):
    assert finished(flaky.using(attempts=1).enqueue("once", 2)).attempts_made == 1
    assert finished(fail.using(queue="email").enqueue()).attempts_made == 3


def test_every_failed_run_is_kept_with_its_error(worker):
    """Kue kept the last one."""
    job = finished(flaky.enqueue("kept", 4))

    assert [(run.attempt, run.outcome, run.error.message) for run in job.runs()] == [
        (1, "retried", "attempt 1 failed"),
        (2, "retried", "attempt 2 failed"),
        (3, "failed", "attempt 3 failed"),
    ]


def test_a_job_can_give_up_before_its_attempts_are_used_up(worker):
    job = finished(discards.enqueue())

    assert (job.attempts_made, job.error.message) == (1, "the order was deleted")


@pytest.mark.parametrize("attempts", [0, -1, 1.5, "3", True])
def test_a_number_of_attempts_that_makes_no_sense_is_an_error(attempts):
    with pytest.raises((TypeError, ValueError), match="attempts"):
        flaky.using(attempts=attempts)


def test_a_job_that_waits_for_its_next_attempt_is_in_the_queue(start_worker):
    flaky.using(queue=UNSERVED, backoff=3600).enqueue("later", 2)

    assert start_worker("--burst").wait() == 0
    assert get_queue(UNSERVED).counts()["delayed"] == 1
