"""``queue.watchStuckJobs()`` and "prevent from stuck active jobs": leases do both."""

import os
import signal
import time

from django_kue import get_queue
from tests.app.tasks import hold
from tests.test_kue_parity.conftest import UNSERVED, let_go
from tests.worker_process import marks, wait_for

held = hold.using(queue=UNSERVED)
LEASE = 1.0


def test_a_worker_that_dies_with_all_its_processes_loses_no_job(start_worker):
    """In Kue its job stayed active for ever."""
    first = start_worker(KUE_TEST_LEASE=str(LEASE))
    job = held.enqueue("orphan")
    wait_for(lambda: marks("orphan"), what="the first run")
    second = start_worker(KUE_TEST_LEASE=str(LEASE)).wait_started()
    killed_at = time.monotonic()
    first.kill_all()

    wait_for(lambda: len(marks("orphan")) == 2, what="the second run", timeout=15)
    assert time.monotonic() - killed_at < 1.5 * LEASE + 1  # and a slow machine
    let_go("release-orphan")
    assert job.wait(timeout=10) == "released"
    assert job.refresh().attempts_made == 1
    assert second.is_alive


def test_a_process_that_dies_is_replaced_and_its_job_runs_again_at_once(start_worker):
    worker = start_worker()
    job = held.enqueue("child")
    [child] = wait_for(lambda: marks("child"), what="the first run")
    os.kill(int(child), signal.SIGKILL)

    wait_for(lambda: len(marks("child")) == 2, what="the second run")
    let_go("release-child")
    assert job.wait(timeout=10) == "released"
    assert (job.refresh().attempts_made, job.refresh().crashes) == (1, 1)
    assert [run.outcome for run in job.runs()] == ["crashed"]
    assert worker.is_alive


def test_a_job_that_keeps_killing_its_process_is_failed(start_worker):
    start_worker()
    job = held.enqueue("poison")
    for count in range(1, 4):
        wait_for(lambda count=count: len(marks("poison")) == count, what=f"run {count}")
        os.kill(int(marks("poison")[-1]), signal.SIGKILL)

    wait_for(lambda: job.refresh().state == "failed", what="the end")
    assert job.refresh().error.type == "django_kue.errors.JobCrashed"
    assert "SIGKILL" in job.refresh().error.message
    assert get_queue(UNSERVED).counts()["active"] == 0
