"""``queue.inactiveCount()``, ``activeCount``, ``completeCount``, ``failedCount``, ``delayedCount``"""

from django_kue import get_queue, queues
from tests.app.jobs import add, fail
from tests.app.tasks import hold
from tests.test_kue_parity.conftest import UNSERVED, let_go
from tests.worker_process import finished, marks, wait_for


def test_each_state_has_its_count(worker):
    finished(add.enqueue(1))
    finished(fail.enqueue())
    add.using(delay=60).enqueue(1)
    add.using(delay=60).enqueue(1).cancel()
    held = hold.enqueue("counted")
    wait_for(lambda: marks("counted"), what="the run")

    assert get_queue().counts() == {
        "delayed": 1, "waiting": 0, "active": 1, "completed": 1, "failed": 1, "cancelled": 1,
    }  # fmt: skip
    let_go("release-counted")
    held.wait(timeout=10)


def test_waiting_jobs_of_all_priorities_count_and_removed_ones_do_not():
    jobs = [add.using(queue=UNSERVED, priority=number).enqueue(1) for number in (-5, 0, 0, 5)]
    jobs[1].remove()
    jobs[3].cancel()

    assert get_queue(UNSERVED).counts()["waiting"] == 2


def test_the_count_of_a_type_is_its_queues():
    """``queue.inactiveCount('email', fn)``"""
    add.using(queue=UNSERVED).enqueue(1)

    assert get_queue(UNSERVED).counts()["waiting"] == 1
    assert get_queue("email").counts()["waiting"] == 0


def test_the_count_of_all_types_is_their_sum():
    """``queue.inactiveCount(fn)``"""
    add.using(queue=UNSERVED).enqueue(1)
    add.using(queue="email", delay=60).enqueue(1)

    assert sum(queue.counts()["delayed"] + queue.counts()["waiting"] for queue in queues()) == 2
