"""Ids: unique without asking Redis, and enough to find a job."""

import pytest

from django_kue import Job, JobDoesNotExist, get_queue
from tests.app.jobs import add, noop
from tests.test_kue_parity.conftest import UNSERVED


def test_no_two_jobs_have_the_same_id():
    jobs = noop.using(queue=UNSERVED).enqueue_many([()] * 3000)

    assert len({job.id for job in jobs}) == 3000
    assert get_queue(UNSERVED).counts()["waiting"] == 3000


def test_an_id_names_its_queue():
    job = noop.using(queue=UNSERVED).enqueue()

    assert job.id == f"{UNSERVED}.{job.key}"
    assert get_queue(UNSERVED).get(job.id) == Job.get(job.id)
    with pytest.raises(JobDoesNotExist, match="not a job of the queue 'email'"):
        get_queue("email").get(job.id)


@pytest.mark.parametrize("text", ["", "17", "other.17", "other." + "A" * 22, "nowhere." + "A" * 22, "*"])
def test_an_id_that_is_no_jobs_is_an_error_of_one_kind(text):
    with pytest.raises(JobDoesNotExist):
        Job.get(text)


def test_a_second_job_with_the_same_arguments_can_be_kept_out():
    """Kue had packages for it."""
    once = add.using(queue=UNSERVED, unique=True)
    first = once.enqueue(1, b=2)

    assert once.enqueue(1, 2).id == first.id
    assert once.enqueue(1, 3).id != first.id
    assert get_queue(UNSERVED).counts()["waiting"] == 2
