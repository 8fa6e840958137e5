"""``job.on('complete', …)``: what happens to one job, heard in any process."""

import pytest

from django_kue import JobDoesNotExist
from tests.app.jobs import add, fail
from tests.worker_process import finished


def test_complete_brings_the_result(worker, ear):
    job = add.using(delay=60).enqueue(1, 2)
    heard = ear(job)
    job.promote()

    assert heard.hears("completed").data == {"result": 3}
    assert heard.over() == ["promoted", "started", "completed"]


def test_failed_brings_the_error(worker, ear):
    job = fail.using(delay=60).enqueue("no paper")
    heard = ear(job)
    job.promote()

    assert heard.hears("failed").data["error"].message == "no paper"
    assert heard.over()[-1] == "failed"


def test_remove_is_an_event(ear):
    job = add.using(delay=60).enqueue(1)
    heard = ear(job)
    job.remove()

    assert heard.over() == ["removed"]


def test_cancelled_is_an_event_that_kue_did_not_have(ear):
    job = add.using(delay=60).enqueue(1)
    heard = ear(job)
    job.cancel()

    assert heard.over() == ["cancelled"]


def test_only_the_jobs_own_events_are_heard(worker, ear):
    job = add.using(delay=60).enqueue(1)
    heard = ear(job)
    add.enqueue(5).wait(timeout=10)
    job.promote()

    assert heard.over() == ["promoted", "started", "completed"]


def test_waiting_for_a_result_works_after_the_end_too(worker):
    """In Kue, who came late waited for ever."""
    job = finished(add.enqueue(1, 2))

    assert job.wait(timeout=1) == 3


def test_waiting_ends_when_the_job_is_removed(ear):
    job = add.using(delay=60).enqueue(1)
    job.remove()

    with pytest.raises(JobDoesNotExist):
        job.wait(timeout=5)


def test_waiting_ends_with_its_timeout():
    with pytest.raises(TimeoutError, match="delayed"):
        add.using(delay=60).enqueue(1).wait(timeout=0.05)
