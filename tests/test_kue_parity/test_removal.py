"""``job.remove()`` and ``kue.Job.remove(id)``: a job is gone, with all that hung on it."""

import pytest

from django_kue import Job, JobDoesNotExist, get_queue
from tests.app.jobs import add, until_cancelled
from tests.app.tasks import convert_video, flaky, welcome
from tests.conftest import redis_client
from tests.test_kue_parity.conftest import UNSERVED
from tests.worker_process import finished, marks, wait_for


def traces(job: Job) -> list[str]:
    """Keys of Redis in which the job's own key still stands."""
    client = redis_client()
    readers = {
        b"hash": lambda key: client.hgetall(key),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": lambda key: client.smembers(key),
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"string": lambda key: client.get(key),
        b"none": lambda key: None,  # it has gone since
    }
    return [
        key.decode()
        for key in client.scan_iter(match="*kue*")
        if not key.endswith(b":workers")  # what they ran at their last heartbeat
        and job.key in f"{key} {readers[client.type(key)](key)}"
    ]


def test_a_removed_job_does_not_exist_any_more():
    job = add.using(queue=UNSERVED).enqueue(1)
    Job.get(job.id).remove()

    for verb in (job.refresh, job.remove, job.cancel, job.retry):
        with pytest.raises(JobDoesNotExist):
            verb()


@pytest.mark.parametrize("delay", [0, 60])
def test_a_job_that_did_not_run_leaves_nothing(delay):
    job = welcome.using(queue=UNSERVED, delay=delay, unique=True).enqueue("tj@example.org")
    assert traces(job)
    job.remove()

    assert traces(job) == []


def test_a_finished_job_leaves_nothing_neither_logs_nor_runs_nor_search_keys(worker):
    """Kue's search index and its list of helper entries grew for ever."""
    jobs = [convert_video.enqueue(3), flaky.enqueue("gone", 4), welcome.enqueue("tj@example.org")]
    for job in jobs:
        assert traces(finished(job))
        job.remove()

    assert [traces(job) for job in jobs] == [[], [], []]
    assert get_queue().find(to="tj@example.org") == []


def test_a_running_job_is_gone_at_once_and_its_run_is_told_to_stop(worker):
    job = until_cancelled.enqueue(20, "removed")
    wait_for(lambda: marks("removed"), what="the run")
    job.remove()

    with pytest.raises(JobDoesNotExist):
        job.refresh()
    wait_for(lambda: marks("removed") == ["start", "cancelled"], what="the end of the run")
    wait_for(lambda: traces(job) == [], what="the end of its slot")


def test_removing_many_jobs():
    """Kue's script for old jobs: a loop over ``rangeByState``"""
    add.using(queue=UNSERVED).enqueue_many([(number,) for number in range(10)])
    add.using(queue=UNSERVED, delay=60).enqueue(1)

    assert get_queue(UNSERVED).empty() == 11
    assert set(get_queue(UNSERVED).counts().values()) == {0}
