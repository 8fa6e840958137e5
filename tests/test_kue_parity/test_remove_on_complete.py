"""``.removeOnComplete(true)`` is ``keep=0``; and jobs aren't kept for ever anyway."""

from datetime import timedelta

import pytest

from django_kue import JobDoesNotExist, get_queue
from tests.app.jobs import add
from tests.app.tasks import welcome
from tests.test_kue_parity.conftest import UNSERVED
from tests.test_kue_parity.test_removal import traces
from tests.worker_process import finished, wait_for


def test_a_job_with_keep_0_is_gone_when_it_is_completed(worker):
    job = welcome.using(keep=0).enqueue("tj@example.org")

    wait_for(lambda: not traces(job), timeout=20, what="the end of the job and of all that hung on it")
    with pytest.raises(JobDoesNotExist):
        job.refresh()


def test_whoever_waits_gets_the_result_nevertheless(worker):
    job = add.using(keep=0, delay=0.3).enqueue(1, 2)

    assert job.wait(timeout=10) == 3


def test_a_queue_keeps_so_many_completed_jobs(start_worker):
    """Kue kept all."""
    add.using(queue=UNSERVED).enqueue_many([(number,) for number in range(1500)])

    assert start_worker("--burst").wait() == 0
    assert 1000 <= get_queue(UNSERVED).counts()["completed"] <= 1256  # trimmed in batches of 256


def test_finished_jobs_can_be_cleaned_by_their_age(worker):
    """The loop over ``rangeByState('complete', …)``"""
    finished(add.enqueue(1))

    assert get_queue().clean("complete", older_than=timedelta(days=1)) == 0
    assert get_queue().clean("complete") == 1
    assert get_queue().counts()["completed"] == 0
