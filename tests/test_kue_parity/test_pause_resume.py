"""``ctx.pause()`` and ``ctx.resume()``: for a queue, in Redis, and so for all workers at once."""

from django_kue import get_queue
from tests.app.jobs import add
from tests.app.tasks import hold
from tests.test_kue_parity.conftest import UNSERVED, let_go
from tests.worker_process import marks, wait_for


def test_a_paused_queues_jobs_wait_and_run_when_it_is_resumed(worker):
    """Kue paused one worker of one process."""
    queue = get_queue("email")
    assert queue.pause()
    job = add.using(queue="email").enqueue(1, 2)

    add.enqueue(1).wait(timeout=10)  # other queues go on, so that the worker had its chance
    assert (job.refresh().state, queue.is_paused) == ("waiting", True)

    assert queue.resume()
    assert job.wait(timeout=10) == 3
    assert not queue.is_paused


def test_a_running_job_ends_although_its_queue_is_paused(worker):
    job = hold.using(queue="email").enqueue("paused")
    wait_for(lambda: marks("paused"), what="the run")
    get_queue("email").pause()
    let_go("release-paused")

    assert job.wait(timeout=10) == "released"
    get_queue("email").resume()


def test_pausing_twice_is_pausing_once():
    queue = get_queue(UNSERVED)

    assert [queue.pause(), queue.pause()] == [True, False]
    assert [queue.resume(), queue.resume()] == [True, False]


def test_a_worker_that_starts_later_heeds_the_pause(start_worker):
    get_queue(UNSERVED).pause()
    job = add.using(queue=UNSERVED).enqueue(1)

    assert start_worker("--burst").wait() == 0
    assert job.refresh().state == "waiting"
