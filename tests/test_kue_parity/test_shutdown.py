"""``queue.shutdown(timeout, fn)``: SIGTERM, and ``--shutdown-timeout`` seconds for what runs."""

import signal

from django_kue import get_queue
from tests.app.jobs import add
from tests.app.tasks import hold
from tests.test_kue_parity.conftest import UNSERVED, let_go
from tests.worker_process import marks, wait_for

held = hold.using(queue=UNSERVED)


def test_running_jobs_end_and_no_new_ones_are_taken(start_worker):
    worker = start_worker("--shutdown-timeout", "30")
    job = held.enqueue("orderly")
    wait_for(lambda: marks("orderly"), what="the run")

    worker.send(signal.SIGTERM)
    worker.wait_log("stopping")
    late = add.using(queue=UNSERVED).enqueue(1)
    let_go("release-orderly")

    assert worker.wait() == 0, worker.log
    assert job.refresh().state == "completed"
    assert late.refresh().state == "waiting"


def test_what_is_not_done_at_the_deadline_goes_back_to_the_queue(start_worker):
    """Kue marked it as failed."""
    worker = start_worker("--shutdown-timeout", "0.3")
    job = held.enqueue("deadline")
    wait_for(lambda: marks("deadline"), what="the run")
    worker.send(signal.SIGTERM)

    assert worker.wait() == 0, worker.log
    again = job.refresh()
    assert (again.state, again.attempts_made, again.crashes) == ("waiting", 0, 0)
    assert get_queue(UNSERVED).counts()["active"] == 0
